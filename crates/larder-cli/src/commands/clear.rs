//! `larder cache clear`: empties a cache.

use serde_json::json;

use super::tag::invalidate::{self, Request};
use crate::confirm::{ConfirmArgs, Removal};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::session::Session;

/// Removes values, counters and sorted sets of this cache; other caches on the store keep theirs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the entries with this tag, as `larder tag invalidate` does, without asking; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(args: Args, session: &mut Session<'_>) -> Outcome {
    if !args.tags.is_empty() {
        let request = Request {
            tags: args.tags,
            keys: None,
            stale: false,
            dry_run: args.confirm.dry_run,
        };
        return invalidate::invalidate(request, session).await;
    }
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
