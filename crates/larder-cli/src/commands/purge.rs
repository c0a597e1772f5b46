//! `larder cache purge`: removes the entries whose keys match.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;

use crate::confirm::{ConfirmArgs, Removal};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::progress::{self, Total};
use crate::session::Session;

/// Entries removed between two looks for Ctrl-C.
const PAGE_KEYS: usize = 500;

/// Prints how many entries were removed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which keys: `*` any bytes, `?` one byte, `[a-z]` one of these, `\` takes the next one literally
    pattern: OsString,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    args.confirm.check_removal(session.global)?;
    session.needs_listing(
        "`larder cache delete KEY` removes an entry by its name, `larder cache clear` all of the cache",
    )?;
    let pattern = args.pattern.as_bytes();
    let removal = Removal::of(session, pattern).await?;
    if args.confirm.dry_run {
        return removal.show(session);
    }
    if !args.confirm.yes && removal.entries != Some(0) {
        removal.ask(session)?;
    }
    let bar = progress::bar(
        session.global,
        "purge",
        Total::Entries(removal.entries.unwrap_or(0)),
    );
    let removed = remove(session, pattern, &bar).await?;
    bar.finish_and_clear();
    let printed = json!({"cache": session.cache.name(), "removed": removed, "dry_run": false});
    session.output.result(removed, &printed)?;
    Ok(Exit::Ok)
}

async fn remove(session: &Session<'_>, pattern: &[u8], bar: &ProgressBar) -> Outcome<u64> {
    let mut interrupt = Interrupt::listen()?;
    let mut cursor = None;
    let mut removed = 0;
    loop {
        match remove_page(session, pattern, cursor).await {
            Ok((count, next)) => {
                removed += count;
                cursor = next;
            }
            Err(failure) if removed == 0 => return Err(failure),
            Err(failure) => {
                let done = format!("{removed} entries were removed before");
                return Err(failure.after(&done).exits(Exit::Partial));
            }
        }
        bar.set_position(removed);
        if cursor.is_none() {
            return Ok(removed);
        }
        if interrupt.has_come().await {
            let message = format!("interrupted: {removed} entries were removed");
            return Err(Failure::interrupted(message));
        }
    }
}

async fn remove_page(
    session: &Session<'_>,
    pattern: &[u8],
    cursor: Option<Bytes>,
) -> Outcome<(u64, Option<Bytes>)> {
    let cache = &session.cache;
    let (keys, next) = cache.keys_page(pattern, cursor, PAGE_KEYS).await?;
    let removed = cache
        .delete_many(keys.iter().map(|scanned| &scanned.key))
        .await?;
    Ok((removed, next))
}
