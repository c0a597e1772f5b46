//! `larder tag show`: the keys of the entries with a tag.

use serde_json::json;

use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::json::KeyFields;
use crate::session::Session;

/// Prints one key per line, as it is; on a terminal control characters are escaped. Exit code 3 if there is none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tag; `user:123:*` for all tags below `user:123`
    tag: String,
    /// Print at most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    if args.limit == Some(0) {
        return Err(Failure::usage("a limit of zero lists nothing"));
    }
    super::needs_tag_listing(session)?;
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut keys = session
        .cache
        .tag_keys(&args.tag, limit.saturating_add(1))
        .await?;
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    if keys.is_empty() {
        let tag = escape::text(args.tag.as_bytes());
        let message = format!("no entry depends on the tag {tag:?}");
        return Err(Failure::new(Exit::Missing, "miss", message));
    }
    if session.output.is_json() {
        let keys = keys.iter().map(|key| KeyFields::new(key.as_bytes()));
        let keys: Vec<_> = keys.collect();
        let printed = json!({"tag": args.tag, "keys": keys, "more": has_more});
        session.output.json(&printed)?;
        return Ok(Exit::Ok);
    }
    for key in &keys {
        if session.output.is_terminal() {
            session.output.line(escape::text(key.as_bytes()))?;
        } else {
            session.output.bytes(key.as_bytes())?;
            session.output.bytes(b"\n")?;
        }
    }
    if has_more {
        session.output.flush()?;
        session
            .output
            .note("there are more; --limit says how many to print");
    }
    Ok(Exit::Ok)
}
