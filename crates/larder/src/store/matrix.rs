//! What each store can do, as the table of `README.md`, and the test that it is up to date.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use super::{Capabilities, File, Memcached, Memory, Null, Redis, Sqlite, Store};

const BEGIN: &str = "<!-- begin generated: stores -->\n";
const END: &str = "<!-- end generated: stores -->";
const HEADER: &str = "\n\
    | driver | what it is | shared by | survives a restart | list, count, delete by pattern | counters | sorted sets | locks |\n\
    |---|---|---|---|---|---|---|---|\n";
const HOST: &str = "processes of a host";
const MACHINES: &str = "machines";

/// A store, and what its capabilities do not say.
struct Row {
    drivers: &'static str,
    what: &'static str,
    /// Who shares it, if it is shared.
    sharers: &'static str,
    /// How it survives, if it does.
    survival: &'static str,
    capabilities: Capabilities,
}

fn rows() -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    let row = |drivers, what, store: &dyn Store| Row {
        drivers,
        what,
        sharers: HOST,
        survival: "yes",
        capabilities: store.capabilities(),
    };
    // None of these needs a server: what a store can do is known before it connects.
    let redis = Redis::builder("redis://localhost").build_lazy().unwrap();
    let cluster = Redis::cluster(["redis://localhost"]).build_lazy().unwrap();
    let memcached = Memcached::builder("localhost:11211").build_lazy().unwrap();
    let served = |row: Row| Row {
        sharers: MACHINES,
        survival: "as the server persists",
        ..row
    };
    vec![
        row(
            "`sqlite` (default)",
            "one SQLite file, write-ahead log, size bound",
            &Sqlite::open(dir.path().join("cache.db")).unwrap(),
        ),
        row(
            "`file`",
            "one file per entry under hashed directories",
            &File::open(dir.path().join("cache")).unwrap(),
        ),
        row("`memory`", "sharded, bounded by bytes", &Memory::new()),
        served(row(
            "`redis`, `redis-sentinel`",
            "one Redis server, or the primary that sentinels name",
            &redis,
        )),
        served(row(
            "`redis-cluster`",
            "a Redis Cluster, each cache spread over its servers",
            &cluster,
        )),
        served(row("`memcached`", "one Memcached server", &memcached)),
        row(
            "`null`",
            "keeps nothing: for caches that are a local tier only",
            &Null::new(),
        ),
    ]
}

fn table() -> String {
    let lines = rows().into_iter().map(|row| {
        let can = row.capabilities;
        let or_no = |is: bool, yes| if is { yes } else { "no" };
        let cells = [
            row.drivers,
            row.what,
            if can.shared {
                row.sharers
            } else {
                "this process"
            },
            or_no(can.persistent, row.survival),
            or_no(
                can.enumeration,
                if can.discards {
                    "of the local tier"
                } else {
                    "yes"
                },
            ),
            or_no(can.counters, "atomic"),
            match (can.sorted_sets, can.native_sorted_sets) {
                (true, true) => "native",
                (true, false) => "rewritten per change",
                (false, _) => "no",
            },
            locks(&can),
        ];
        format!("| {} |\n", cells.join(" | "))
    });
    lines.fold(HEADER.to_owned(), |text, line| text + &line)
}

/// Returns what locks are worth there: without fences that last, they only make double work rare.
fn locks(can: &Capabilities) -> &'static str {
    if !can.locks {
        return "no";
    }
    if !can.durable_fences {
        return "advisory";
    }
    match (can.fair_locks, can.locks_freed_on_death) {
        (true, true) => "fair, freed on death",
        (true, false) => "fair",
        (false, true) => "freed on death",
        (false, false) => "yes",
    }
}

/// `LARDER_BLESS=1 cargo test` rewrites the README.
#[test]
fn the_readme_holds_what_the_capabilities_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the README has the marker");
    let (_, after) = rest.split_once(END).expect("the README has the end marker");
    let current = format!("{before}{BEGIN}{}\n{END}{after}", table());
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(&path, &current).unwrap();
    } else {
        assert!(
            text == current,
            "README.md is out of date; run the tests with LARDER_BLESS=1"
        );
    }
}
