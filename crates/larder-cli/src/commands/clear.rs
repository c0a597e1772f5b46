//! `larder cache clear`: empties a cache.

use serde_json::json;

use crate::confirm::{ConfirmArgs, Removal};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::session::Session;

/// Removes values, counters and sorted sets of this cache; other caches on the store keep theirs.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(args: Args, session: &mut Session<'_>) -> Outcome {
    args.confirm.check_removal(session.global)?;
    let removal = Removal::of(session, b"*").await?;
    if args.confirm.dry_run {
        return removal.show(session);
    }
    if !args.confirm.yes {
        removal.ask(session)?;
    }
    session.cache.clear().await?;
    let cache = session.cache.name().to_owned();
    let removed = removal.entries;
    if session.output.is_json() {
        let printed = json!({"cache": cache, "removed": removed, "dry_run": false});
        session.output.json(&printed)?;
    } else {
        if let Some(removed) = removed {
            session.output.line(removed)?;
        }
        session
            .output
            .note(format_args!("the cache {cache} is empty"));
    }
    Ok(Exit::Ok)
}
