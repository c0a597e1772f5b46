//! `larder cache explain`: tells why a read finds or misses a key.

use std::time::Duration;

use larder::cache::{Cause, EntryState, Explanation, Happened, ReadSource};
use larder::format_duration;
use serde::Serialize;

use super::inspect;
use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::KeyArg;
use crate::json::KeyFields;
use crate::session::Session;
use crate::table;

/// Also tells of entries that a tag has made invalid, and when, as far as anybody remembers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
}

#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    key: KeyFields,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    let mut explanation = session.cache.explain(&key).await?;
    if explanation.state == EntryState::OtherSchema
        && let Some(entry) = &explanation.entry
    {
        // The program reads entries of every schema version.
        let cache = session.cache.schema(entry.schema);
        explanation = cache.explain(&key).await?;
    }
    if explanation.state == EntryState::Absent && explanation.source == ReadSource::Nowhere {
        return Err(Failure::missing(&key));
    }
    let text = describe(&key, &explanation);
    let printed = Printed {
        key: KeyFields::new(&key),
        explanation,
    };
    session.output.result(text, &printed)?;
    Ok(Exit::Ok)
}

fn describe(key: &[u8], explanation: &Explanation) -> String {
    let mut lines = vec![
        ("key", escape::text(key)),
        ("state", explanation.state.to_string()),
        ("read from", explanation.source.to_string()),
    ];
    if let Some(sentence) = sentence(explanation.state) {
        lines.push(("why", sentence.to_owned()));
    }
    for cause in &explanation.causes {
        lines.push(("because", because(cause)));
    }
    if let Some(entry) = &explanation.entry {
        lines.extend(inspect::header(entry));
    }
    table::pairs(&lines)
}

/// Returns what a state means for whoever reads the key.
fn sentence(state: EntryState) -> Option<&'static str> {
    Some(match state {
        EntryState::Stale => "it is served while a new value is loaded",
        EntryState::Invalidated => "a read misses: a tag was invalidated after it was computed",
        EntryState::Loading => "a read misses: somebody loads it at this moment",
        EntryState::Overtaken => {
            "a read misses: it is being loaded, and an invalidation has overtaken that"
        }
        EntryState::Cleared => "a read misses: the cache was cleared after it was written",
        EntryState::Expired => "a read misses: its time to live is over",
        EntryState::OtherSchema => "a read of another schema version misses",
        EntryState::Damaged => "a read misses: its bytes are damaged",
        EntryState::UnknownLayout => {
            "a read misses: another version of Larder, or another program, has written it"
        }
        _ => return None,
    })
}

fn because(cause: &Cause) -> String {
    let tag = escape::text(cause.tag.as_bytes());
    let what = match cause.happened {
        Happened::Invalidated => "was invalidated",
        Happened::MarkedStale => "was marked stale",
        _ => "was invalidated, or the store has lost it; nobody remembers when",
    };
    let ago = cause.ago_ms.map(|ms| {
        let ago = format_duration(Duration::from_millis(ms));
        format!(" {ago} ago")
    });
    format!("{tag} {what}{}", ago.unwrap_or_default())
}
