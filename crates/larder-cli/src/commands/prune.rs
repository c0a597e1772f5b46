//! `larder cache prune`: removes what has expired.

use serde_json::json;

use crate::confirm::ConfirmArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::session::Session;

/// Expired entries removed between two looks for Ctrl-C.
const STEP_ENTRIES: usize = 1000;

/// Frees the space of expired entries of the whole store; the store also does so by itself. Nothing that can still
/// be read is removed, so this never asks.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(args: Args, session: &mut Session<'_>) -> Outcome {
    let store = session.cache.store_name();
    if args.confirm.dry_run {
        let entries = session.cache.stats().await?.store.entries;
        let text = match entries {
            Some(entries) => {
                format!(
                    "would remove the expired ones of the {entries} entries of the store {store}"
                )
            }
            None => format!("would remove the expired entries of the store {store}"),
        };
        let printed = json!({"store": store, "entries": entries, "dry_run": true});
        session.output.result(text, &printed)?;
        return Ok(Exit::Ok);
    }
    let removed = remove(session).await?;
    let printed = json!({"store": store, "removed": removed, "dry_run": false});
    session.output.result(removed, &printed)?;
    Ok(Exit::Ok)
}

async fn remove(session: &Session<'_>) -> Outcome<u64> {
    let mut interrupt = Interrupt::listen()?;
    let mut removed = 0;
    loop {
        let step = session.cache.prune(STEP_ENTRIES).await?;
        removed += step;
        if step < STEP_ENTRIES as u64 {
            return Ok(removed);
        }
        if interrupt.has_come().await {
            let message = format!("interrupted: {removed} expired entries were removed");
            return Err(Failure::interrupted(message));
        }
    }
}
