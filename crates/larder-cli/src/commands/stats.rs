//! `larder cache stats`: everything that is counted about a cache.

use larder::cache::{CacheStats, Counts};
use larder::store::StoreStats;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::Exit;
use crate::failure::Outcome;
use crate::session::Session;
use crate::table;

/// Shows what all processes together did with the cache, about a second behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Printed {
    cache: String,
    entries: Option<u64>,
    hit_ratio: Option<f64>,
    total: Counts,
    store: StoreFields,
}

/// A store under `--json`.
#[derive(Debug, Serialize)]
pub(super) struct StoreFields {
    name: &'static str,
    entries: Option<u64>,
    bytes: Option<u64>,
    capacity_bytes: Option<u64>,
    details: Map<String, Value>,
}

impl StoreFields {
    pub(super) fn new(name: &'static str, stats: &StoreStats) -> Self {
        let details = stats.details.iter();
        Self {
            name,
            entries: stats.entries,
            bytes: stats.bytes,
            capacity_bytes: stats.capacity_bytes,
            details: details
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect(),
        }
    }
}

pub(crate) async fn run(_args: &Args, session: &mut Session<'_>) -> Outcome {
    let stats = session.cache.stats().await?;
    let (name, store) = (session.cache.name().to_owned(), session.cache.store_name());
    let text = describe(&name, store, &stats);
    let printed = Printed {
        cache: name,
        entries: stats.entries,
        hit_ratio: stats.total.hit_ratio(),
        total: stats.total,
        store: StoreFields::new(store, &stats.store),
    };
    session.output.result(text, &printed)?;
    Ok(Exit::Ok)
}

/// Returns the figures as lines.
pub(super) fn describe(name: &str, store: &str, stats: &CacheStats) -> String {
    let total = &stats.total;
    let misses = &total.misses;
    let size = stats.store.bytes.map(table::bytes);
    let capacity = stats.store.capacity_bytes.map(table::bytes);
    let unknown = || "-".to_owned();
    let mut lines = vec![
        ("cache", crate::escape::text(name.as_bytes())),
        ("entries", table::number(stats.entries)),
        ("hit ratio", table::percent(total.hit_ratio())),
        ("hits", total.hits().to_string()),
        ("  local", total.local_hits.to_string()),
        ("  store", total.store_hits.to_string()),
        ("misses", total.missed().to_string()),
        ("  absent", misses.absent.to_string()),
        ("  invalidated", misses.invalidated.to_string()),
        ("  unknown layout", misses.layout.to_string()),
        ("  damaged", misses.damaged.to_string()),
        ("  other schema", misses.schema.to_string()),
        ("  other type", misses.decode.to_string()),
        ("  store failed", misses.error.to_string()),
        ("sets", total.sets.to_string()),
        ("deletes", total.deletes.to_string()),
        ("write errors", total.write_errors.to_string()),
        ("loads", total.loads.to_string()),
        ("  failed", total.failed_loads.to_string()),
        ("  shared", total.joined_loads.to_string()),
        ("  overtaken", total.overtaken_loads.to_string()),
        ("  waited", total.waited_loads.to_string()),
        ("  timed out", total.timed_out_loads.to_string()),
        ("refreshes", total.refreshes.to_string()),
        ("  failed", total.failed_refreshes.to_string()),
        ("  skipped", total.skipped_refreshes.to_string()),
        ("served stale", total.stale_served.to_string()),
        ("uncached calls", total.uncached_calls.to_string()),
        ("store", store.to_owned()),
        ("  entries", table::number(stats.store.entries)),
        ("  size", size.unwrap_or_else(unknown)),
        ("  capacity", capacity.unwrap_or_else(unknown)),
    ];
    for (name, value) in &stats.store.details {
        lines.push((name, value.clone()));
    }
    table::pairs(&lines)
}
