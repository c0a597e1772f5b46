//! `larder cache status`: the caches of the store at a glance.

mod servers;

use std::time::Duration;

use larder::cache::CacheStats;
use larder::store::StoreStats;
use larder::{StoreNodes, parse_duration};
use serde::Serialize;

use super::stats::{self, StoreFields};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::nodes::{self, NodeFields, Totals};
use crate::session::Session;
use crate::table::{self, Table};

/// Home and clear, for a terminal that is watched.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// Shows what all processes together did with each cache, about a second behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print everything that is counted, and what the servers of the stores say
    #[arg(long)]
    detailed: bool,
    /// Print again and again, until Ctrl-C; how often, default every second
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1", require_equals = true, value_parser = interval)]
    watch: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.message().to_owned())?;
    Ok(interval.max(Duration::from_millis(100)))
}

/// One cache and what it says.
struct Row {
    name: String,
    store: &'static str,
    configured_as: String,
    stats: CacheStats,
}

#[derive(Debug, Serialize)]
struct Printed<'a> {
    caches: Vec<CacheFields>,
    stores: Vec<StorePrinted<'a>>,
}

/// A store; with `--detailed` also its servers.
#[derive(Debug, Serialize)]
struct StorePrinted<'a> {
    #[serde(flatten)]
    store: StoreFields,
    configured_as: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeFields<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
}

#[derive(Debug, Serialize)]
struct CacheFields {
    name: String,
    store: &'static str,
    entries: Option<u64>,
    hits: u64,
    misses: u64,
    hit_ratio: Option<f64>,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let Some(interval) = args.watch else {
        return print(args, session).await;
    };
    loop {
        if session.output.is_terminal() && !session.output.is_json() {
            session.output.bytes(CLEAR_SCREEN.as_bytes())?;
        }
        print(args, session).await?;
        session.output.flush()?;
        tokio::time::sleep(interval).await;
    }
}

async fn print(args: &Args, session: &mut Session<'_>) -> Outcome {
    let rows = rows(session).await?;
    let asked = if args.detailed {
        session.larder.nodes().await
    } else {
        Vec::new()
    };
    if session.output.is_json() {
        let caches = rows.iter().map(CacheFields::new).collect();
        let stores = stores(&rows);
        let stores = stores.iter().map(|row| StorePrinted::new(row, &asked));
        let stores = stores.collect();
        session.output.json(&Printed { caches, stores })?;
        return Ok(Exit::Ok);
    }
    if args.detailed {
        return print_detailed(&rows, &asked, session);
    }
    session.output.line(caches_table(&rows).render())?;
    for row in stores(&rows) {
        let (name, store) = (row.store, describe_store(&row.stats.store));
        session
            .output
            .line(format_args!("\nstore {name}: {store}"))?;
    }
    Ok(Exit::Ok)
}

fn print_detailed(rows: &[Row], asked: &[StoreNodes], session: &mut Session<'_>) -> Outcome {
    for row in rows {
        let text = stats::describe(&row.name, row.store, &row.stats);
        session.output.line(text)?;
        session.output.line("")?;
    }
    for store in asked {
        session.output.line(servers::describe(store))?;
        session.output.line("")?;
    }
    Ok(Exit::Ok)
}

/// Asks every cache that is configured, was used on the store, or was named.
async fn rows(session: &Session<'_>) -> Outcome<Vec<Row>> {
    let mut names = session.larder.cache_names();
    match session.cache.sibling_names().await {
        Ok(siblings) => names.extend(siblings),
        Err(error) if error.kind() == larder::ErrorKind::Unsupported => {}
        Err(error) => return Err(error.into()),
    }
    names.sort();
    names.dedup();
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let cache = session.larder.partition(&name)?;
        rows.push(Row {
            store: cache.store_name(),
            configured_as: configured_store(session, &name),
            stats: cache.stats().await?,
            name,
        });
    }
    Ok(rows)
}

/// Returns the configuration's name of a cache's store; a partition is on the default cache's.
fn configured_store(session: &Session<'_>, cache: &str) -> String {
    let config = &session.larder.loaded().config;
    let settings = config.cache(cache).or_else(|| config.cache("default"));
    settings.map(|cache| cache.store).unwrap_or_default()
}

/// Returns a row of each store, however many caches are on it.
fn stores(rows: &[Row]) -> Vec<&Row> {
    let mut stores: Vec<&Row> = Vec::new();
    for row in rows {
        let mut known = stores.iter();
        if !known.any(|known| known.configured_as == row.configured_as) {
            stores.push(row);
        }
    }
    stores
}

impl<'a> StorePrinted<'a> {
    fn new(row: &'a Row, asked: &'a [StoreNodes]) -> Self {
        let mine = asked.iter().find(|store| store.store == row.configured_as);
        Self {
            store: StoreFields::new(row.store, &row.stats.store),
            configured_as: &row.configured_as,
            nodes: mine.map(|store| nodes::fields(std::slice::from_ref(store))),
            totals: mine.map(|store| Totals::of(nodes::known(store))),
        }
    }
}

impl CacheFields {
    fn new(row: &Row) -> Self {
        let total = &row.stats.total;
        Self {
            name: row.name.clone(),
            store: row.store,
            entries: row.stats.entries,
            hits: total.hits(),
            misses: total.missed(),
            hit_ratio: total.hit_ratio(),
        }
    }
}

fn caches_table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["CACHE", "STORE", "ENTRIES", "HITS", "MISSES", "HIT RATIO"]);
    for row in rows {
        let total = &row.stats.total;
        table.row(vec![
            crate::escape::text(row.name.as_bytes()),
            row.store.to_owned(),
            table::number(row.stats.entries),
            total.hits().to_string(),
            total.missed().to_string(),
            table::percent(total.hit_ratio()),
        ]);
    }
    table
}

fn describe_store(stats: &StoreStats) -> String {
    let mut text = stats
        .bytes
        .map_or_else(|| "size unknown".to_owned(), table::bytes);
    if let Some(capacity) = stats.capacity_bytes {
        text.push_str(&format!(" of {}", table::bytes(capacity)));
    }
    for (name, value) in &stats.details {
        text.push_str(&format!(", {name} {value}"));
    }
    text
}
