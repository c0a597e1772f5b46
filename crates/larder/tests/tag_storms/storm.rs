//! Starts the processes of a storm, and judges what they did.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::cache::Builder;
use larder::store::Store;
use larder::testing::OutdatedRead;
use larder::{Cache, Local};

use crate::Kind;
use crate::child::Child;
use crate::place;
use crate::plan::Plan;
use crate::record::{Counts, Event, Judged, Record, Scope, history};
use crate::worker;

/// Names a file that gets a row for each storm.
const ROWS: &str = "LARDER_TEST_STORM_ROWS";
/// So far the clock of local copies may be behind.
const TICK_MS: u64 = 15;
/// The room of a local tier: for all keys of most storms.
const TIER_BYTES: u64 = 4 << 20;

/// What a storm came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Reads from the store that returned what was gone.
    pub(crate) outdated: Vec<OutdatedRead>,
    /// Calls that waited for a load, or a look, that had begun before what they must not miss.
    joined: Vec<OutdatedRead>,
    /// All that was noted about the value of the first of them.
    story: Vec<Event>,
}

impl Outcome {
    fn of(records: &[Record], plan: Plan) -> Self {
        let mut counts = Counts::default();
        records.iter().for_each(|record| counts.add(record.counts));
        let outdated = outdated_in(records, Judged::Reads, plan);
        let joined = outdated_in(records, Judged::Remembered, plan);
        let first = outdated.first().or(joined.first());
        Self {
            counts,
            story: first.map_or(Vec::new(), |read| story(records, read)),
            outdated,
            joined,
        }
    }

    /// Returns the part of the reads that were hits.
    pub(crate) fn hit_ratio(&self) -> f64 {
        self.counts.hits as f64 / self.counts.reads as f64
    }

    /// Returns whether nothing outdated was read.
    pub(crate) fn is_sound(&self) -> bool {
        self.outdated.is_empty() && self.joined.is_empty()
    }

    /// Checks that nothing outdated was read, and that what was measured was a cache.
    pub(crate) fn assert_sound(&self) {
        let story = &self.story;
        assert_eq!(self.outdated.first(), None, "{self}: {story:#?}");
        assert_eq!(self.joined.first(), None, "{self}: {story:#?}");
        let ratio = self.hit_ratio();
        assert!(ratio > 0.2, "a cache that mostly misses proves nothing");
        assert!(self.counts.invalidations > 0, "nothing was invalidated");
    }

    /// Prints a row of the table of all storms.
    pub(crate) fn report(&self, name: &str) {
        let row = format!("{name:<28} {self}");
        println!("{row}");
        let Some(rows) = std::env::var_os(ROWS) else {
            return;
        };
        let mut options = std::fs::OpenOptions::new();
        let mut rows = options.create(true).append(true).open(rows).unwrap();
        writeln!(rows, "{row}").unwrap();
    }
}

/// Returns which reads were outdated for longer than the local tiers may lag, or by a change of the same process.
fn outdated_in(records: &[Record], judged: Judged, plan: Plan) -> Vec<OutdatedRead> {
    let lag_ns = match plan.max_staleness_ms {
        0 => 0,
        bound_ms => (bound_ms + TICK_MS) * 1_000_000,
    };
    let mut outdated = history(records, judged, Scope::All(lag_ns)).outdated();
    if lag_ns > 0 {
        let own = |process| history(records, judged, Scope::Own(process)).outdated();
        outdated.extend((0..records.len()).flat_map(own));
    }
    outdated
}

/// Returns what was noted about a value, and about what made it outdated, around that moment.
fn story(records: &[Record], read: &OutdatedRead) -> Vec<Event> {
    let told = |event: &&Event| match event {
        Event::Depends(value, ..)
        | Event::Tagged(value, ..)
        | Event::Read(value, _)
        | Event::Remembered(value, _) => *value == read.value,
        Event::Changed(subject, began, _) => *subject == read.subject && *began == read.changed,
    };
    let events = records.iter().flat_map(|record| &record.events);
    events.filter(told).copied().collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        write!(
            f,
            "{:>10} {:>8.1} % {:>8.1} % {:>13} {:>9} {:>10} {:>9}",
            counts.operations,
            self.hit_ratio() * 100.0,
            counts.local_hits as f64 / counts.reads as f64 * 100.0,
            counts.invalidations,
            counts.lost,
            self.outdated.len(),
            self.joined.len()
        )
    }
}

/// Opens the cache of a storm.
pub(crate) fn cache(store: Arc<dyn Store>, dir: &Path, plan: Plan) -> Cache {
    let builder = Builder::shared(store).prefix(place::prefix(dir));
    let builder = match plan.max_staleness_ms {
        0 => builder,
        bound_ms => {
            let local = Local::capacity_bytes(TIER_BYTES).ttl_fraction(1.0);
            builder.local(local.max_staleness(Duration::from_millis(bound_ms)))
        }
    };
    builder.strict(true).build().unwrap()
}

/// Returns where a process puts its record.
pub(crate) fn record_of(dir: &Path, process: usize) -> PathBuf {
    dir.with_file_name(format!("record-{process}"))
}

/// Returns a directory for a store, and what keeps it; its parent is for what is said about the storm.
pub(crate) fn store_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    std::fs::create_dir(&store_dir).unwrap();
    (dir, store_dir)
}

/// Lets a storm rage on a store in a new directory.
pub(crate) fn rage(kind: Kind, plan: Plan) -> Outcome {
    let (_keeps, dir) = store_dir();
    rage_in(kind, plan, &dir)
}

/// Lets a storm rage on the store in this directory: by processes, if these can share it.
pub(crate) fn rage_in(kind: Kind, plan: Plan, dir: &Path) -> Outcome {
    let records = if kind.is_shared() {
        by_processes(kind, plan, dir)
    } else {
        by_caches(kind, plan, dir)
    };
    Outcome::of(&records, plan)
}

/// Lets caches on one store stand for processes.
fn by_caches(kind: Kind, plan: Plan, dir: &Path) -> Vec<Record> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = kind.open(dir).await;
        let caches = (0..plan.processes as usize).map(|process| {
            let cache = cache(Arc::clone(&store), dir, plan);
            worker::take_part(cache, plan, process, None, |_| ())
        });
        futures_util::future::join_all(caches).await
    })
}

fn by_processes(kind: Kind, plan: Plan, dir: &Path) -> Vec<Record> {
    plan.save(dir);
    let start = |process| Child::start("storm", kind, dir, (process, 0));
    let mut children: Vec<_> = (0..plan.processes as usize).map(start).collect();
    for child in &children {
        assert_eq!(child.hear(), "ready");
    }
    for child in &mut children {
        child.tell("go");
    }
    let finish = |(process, child): (usize, Child)| {
        child.finish();
        let file = record_of(dir, process);
        let record = Record::load(&file);
        std::fs::remove_file(file).unwrap();
        record
    };
    children.into_iter().enumerate().map(finish).collect()
}
