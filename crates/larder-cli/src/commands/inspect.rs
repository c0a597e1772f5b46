//! `larder cache inspect`: prints what is stored about an entry.

use std::time::Duration;

use larder::cache::Inspection;
use larder::format_duration;
use serde::Serialize;

use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::KeyArg;
use crate::json::KeyFields;
use crate::session::Session;
use crate::table;

/// Also explains damaged entries.
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
    inspection: Inspection,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    let inspection = session.cache.inspect(&key).await?;
    let inspection = inspection.ok_or_else(|| Failure::missing(&key))?;
    let text = describe(&key, &inspection);
    let printed = Printed {
        key: KeyFields::new(&key),
        inspection,
    };
    session.output.result(text, &printed)?;
    Ok(Exit::Ok)
}

fn describe(key: &[u8], entry: &Inspection) -> String {
    let mut lines = vec![("key", escape::text(key))];
    lines.extend(header(entry));
    table::pairs(&lines)
}

/// Returns what the header of an entry says as lines.
pub(super) fn header(entry: &Inspection) -> Vec<(&'static str, String)> {
    let time = |ms: Option<u64>| {
        ms.map_or_else(
            || "forever".to_owned(),
            |ms| format_duration(Duration::from_millis(ms)),
        )
    };
    let content_type = match entry.content_type.as_str() {
        "" => "-".to_owned(),
        other => escape::text(other.as_bytes()),
    };
    let tags = match entry.tags.join(", ") {
        none if none.is_empty() => "-".to_owned(),
        some => escape::text(some.as_bytes()),
    };
    let stale_for = entry.stale_for_ms.map_or_else(
        || "-".to_owned(),
        |ms| format_duration(Duration::from_millis(ms)),
    );
    let load = Duration::from_millis(entry.load_ms.into());
    vec![
        ("kind", entry.kind.to_owned()),
        ("encoding", entry.encoding.to_owned()),
        ("compression", entry.compression.to_owned()),
        ("content type", content_type),
        ("age", format_duration(Duration::from_millis(entry.age_ms))),
        ("ttl", time(entry.ttl_ms)),
        ("left", time(entry.left_ms)),
        ("stale for", stale_for),
        ("load took", format_duration(load)),
        ("schema", entry.schema.to_string()),
        ("tags", tags),
        ("stored", table::bytes(entry.stored_bytes)),
        ("plain", table::bytes(entry.plain_bytes)),
        ("damage", entry.damage.unwrap_or("none").to_owned()),
    ]
}
