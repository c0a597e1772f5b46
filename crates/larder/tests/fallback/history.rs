//! Random histories: after an acknowledged change, no read that starts later returns what the change replaced.
//!
//! Every value is the number of its write. Each operation has a start and an end on one counter; a read of a value is wrong
//! if some acknowledged change of the key began after that value's write was over, and was over before the read began.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use larder::store::{
    Capabilities, Entry, Expiry, Fallback, Memory, ScanPage, Store, StoreStats, Write,
};
use larder::testing::{Fault, FlakyStore, body, sealed};
use larder::{Glob, Namespace, Result};
use tokio::task::JoinSet;

use crate::support::{Server, Standby};

const KEYS: u8 = 6;
const TASKS: usize = 6;
const LASTS: Duration = Duration::from_secs(4);

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Did {
    /// Wrote the value of this number.
    Set(u64),
    Delete,
    /// Read this value.
    Read(u64),
}

/// What a call is to do.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Set(u64),
    Delete,
    Clear,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    instance: usize,
    key: u8,
    did: Did,
    start: u64,
    end: u64,
    is_acknowledged: bool,
}

/// What the tasks may do.
#[derive(Debug, Clone, Copy)]
struct Plan {
    deletes: bool,
    /// Callers drop one of three calls before it is over.
    gives_up: bool,
    seed: u64,
}

/// Makes random calls until the time is over, and returns what happened.
async fn work(
    (instance, store): (usize, Arc<dyn Store>),
    plan: Plan,
    time: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let space = Namespace::new("test", "history", 1);
    let mut events = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let key = random.u8(..KEYS);
        let start = time.fetch_add(1, Ordering::SeqCst);
        let patience = match plan.gives_up && random.u32(..3) == 0 {
            true => Duration::from_millis(random.u64(..6)),
            false => Duration::from_secs(60),
        };
        let kind = match random.u32(..100) {
            0..50 => Kind::Read,
            80..98 if plan.deletes => Kind::Delete,
            98.. if plan.deletes => Kind::Clear,
            _ => Kind::Set(start),
        };
        let call = tokio::time::timeout(patience, call(&*store, &space, key, kind));
        let (did, is_acknowledged) = match (call.await, kind) {
            (Ok(done), _) => done,
            (Err(_), Kind::Set(number)) => (Did::Set(number), false),
            (Err(_), Kind::Read | Kind::Delete | Kind::Clear) => (Did::Read(0), false),
        };
        let keys = match kind {
            Kind::Clear => 0..KEYS,
            Kind::Read | Kind::Set(_) | Kind::Delete => key..key + 1,
        };
        let end = time.fetch_add(1, Ordering::SeqCst);
        events.extend(keys.map(|key| Event {
            instance,
            key,
            did,
            start,
            end,
            is_acknowledged,
        }));
        if random.u32(..4) == 0 {
            tokio::time::sleep(Duration::from_micros(random.u64(..1500))).await;
        }
    }
    events
}

/// Makes one call; returns what it did, and whether it was acknowledged.
async fn call(store: &dyn Store, space: &Namespace, key: u8, kind: Kind) -> (Did, bool) {
    match kind {
        Kind::Read => {
            let read = store.get_many(space, &[&[key]]).await;
            let entry = read.ok().and_then(|mut read| read.remove(0));
            let number = entry.map(|entry| number(&entry));
            (Did::Read(number.unwrap_or(0)), true)
        }
        Kind::Set(number) => set(store, space, key, number).await,
        Kind::Delete => {
            let delete = Write::delete(std::slice::from_ref(&key));
            let deleted = store.write_many(space, &[delete]).await;
            (Did::Delete, deleted.is_ok())
        }
        Kind::Clear => (Did::Delete, store.clear(space).await.is_ok()),
    }
}

async fn set(store: &dyn Store, space: &Namespace, key: u8, number: u64) -> (Did, bool) {
    let key = [key];
    let write = Write::put(&key, sealed(&number.to_le_bytes()), Expiry::Never);
    let written = store.write_many(space, &[write]).await;
    (Did::Set(number), written.is_ok())
}

fn number(entry: &Entry) -> u64 {
    let body = body(&entry.value).unwrap();
    u64::from_le_bytes(body[..].try_into().unwrap())
}

/// Returns the reads of old values. Unless `across`, only changes by the instance that reads count.
fn stale_reads(events: &[Event], across: bool) -> Vec<Event> {
    let written: HashMap<u64, u64> = events
        .iter()
        .filter_map(|event| match event.did {
            Did::Set(number) => Some((number, event.end)),
            Did::Delete | Did::Read(_) => None,
        })
        .collect();
    let changes: Vec<&Event> = events
        .iter()
        .filter(|event| event.is_acknowledged && !matches!(event.did, Did::Read(_)))
        .collect();
    let is_stale = |read: &&Event| {
        let Did::Read(number) = read.did else {
            return false;
        };
        let Some(over) = written.get(&number) else {
            return false;
        };
        changes.iter().any(|change| {
            change.key == read.key
                && (across || change.instance == read.instance)
                && change.start > *over
                && change.end < read.start
        })
    };
    events.iter().filter(is_stale).copied().collect()
}

/// How the servers of the instances fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Faults {
    /// One server, and all of it or nothing.
    Total,
    /// As `Total`, with callers that give up.
    Impatient,
    /// One server, whose replies are also lost now and then, to one instance or the other.
    LostReplies,
}

async fn run(
    instances: Vec<Arc<dyn Store>>,
    server: Server,
    faults: Faults,
    deletes: bool,
) -> Vec<Event> {
    let (time, stop) = (
        Arc::new(AtomicU64::new(1)),
        Arc::new(AtomicBool::new(false)),
    );
    server.store.delay(Duration::from_millis(2));
    let mut tasks = JoinSet::new();
    for (instance, store) in instances.iter().enumerate() {
        for task in 0..TASKS {
            let seed = (instance * TASKS + task) as u64;
            let plan = Plan {
                deletes,
                gives_up: faults == Faults::Impatient,
                seed,
            };
            let (time, stop) = (Arc::clone(&time), Arc::clone(&stop));
            tasks.spawn(work((instance, Arc::clone(store)), plan, time, stop));
        }
    }
    let mut random = fastrand::Rng::with_seed(99);
    let until = tokio::time::Instant::now() + LASTS;
    while tokio::time::Instant::now() < until {
        if faults == Faults::LostReplies {
            server.store.chance(0.002, Fault::LoseReply);
        }
        tokio::time::sleep(Duration::from_millis(random.u64(50..300))).await;
        server.stop();
        tokio::time::sleep(Duration::from_millis(random.u64(10..250))).await;
        server.start();
    }
    stop.store(true, Ordering::SeqCst);
    let events: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let reads = |event: &&Event| matches!(event.did, Did::Read(number) if number > 0);
    let hits = events.iter().filter(reads).count();
    assert!(
        hits > 200,
        "only {hits} of {} operations were hits",
        events.len()
    );
    events
}

fn two_processes(server: &Server, standby: &Arc<dyn Store>) -> Vec<Arc<dyn Store>> {
    let open = || Fallback::new(Arc::new(server.clone()), Arc::clone(standby)).unwrap();
    vec![Arc::new(open()), Arc::new(open())]
}

async fn history(kind: Standby, faults: Faults) -> Vec<Event> {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let standby = kind.open(&dir);
    run(two_processes(&server, &standby), server, faults, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_sqlite_standby_see_no_old_value_across_total_outages() {
    let events = history(Standby::Sqlite, Faults::Total).await;
    assert_eq!(
        stale_reads(&events, true)
            .first()
            .map(|read| explain(&events, read)),
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_file_standby_see_no_old_value_across_total_outages() {
    let events = history(Standby::File, Faults::Total).await;
    assert_eq!(
        stale_reads(&events, true)
            .first()
            .map(|read| explain(&events, read)),
        None
    );
}

/// Calls are dropped at every await, and the standby is slow and fails now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_old_value_is_seen_where_callers_give_up_and_the_standby_fails() {
    for kind in [Standby::Memory, Standby::Sqlite, Standby::File] {
        let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
        let standby = FlakyStore::new(kind.open(&dir), 1);
        standby.delay(Duration::from_millis(2));
        standby.chance(0.01, Fault::Refuse);
        let standby: Arc<dyn Store> = Arc::new(standby);
        let instances = two_processes(&server, &standby);
        let events = run(instances, server, Faults::Impatient, true).await;
        assert_eq!(
            stale_reads(&events, true)
                .first()
                .map(|read| explain(&events, read)),
            None,
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_sees_no_old_value_when_the_server_fails_for_it_alone() {
    for kind in [Standby::Memory, Standby::Sqlite] {
        let events = history(kind, Faults::LostReplies).await;
        assert_eq!(
            stale_reads(&events, false)
                .first()
                .map(|read| explain(&events, read)),
            None
        );
    }
}

/// The checker is no good unless it finds what the replay prevents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_replay_old_values_are_seen() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let standby = Standby::Sqlite.open(&dir);
    // It forgets nothing that it is told to delete, and only the replay tells it.
    server.set_deaf();
    let events = run(
        two_processes(&server, &standby),
        server,
        Faults::Total,
        false,
    )
    .await;
    assert!(!stale_reads(&events, true).is_empty());
    assert!(!stale_reads(&events, false).is_empty());
}

/// A fallback as it is often written: try the one, then the other.
#[derive(Debug)]
struct Naive {
    server: Server,
    standby: Memory,
}

#[async_trait]
impl Store for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn capabilities(&self) -> Capabilities {
        self.server.capabilities()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        match self.server.get_many(namespace, keys).await {
            Err(_) => self.standby.get_many(namespace, keys).await,
            read => read,
        }
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        match self.server.write_many(namespace, writes).await {
            Err(_) => self.standby.write_many(namespace, writes).await,
            written => written,
        }
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        match self.server.clear(namespace).await {
            Err(_) => self.standby.clear(namespace).await,
            cleared => cleared,
        }
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.server.stats().await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.server.scan(namespace, pattern, cursor, limit).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_fallback_serves_old_values() {
    let server = Server::new();
    let naive = Naive {
        server: server.clone(),
        standby: Memory::new(),
    };
    let events = run(vec![Arc::new(naive)], server, Faults::Total, true).await;
    assert!(!stale_reads(&events, false).is_empty());
}

/// Returns the history of the key up to the read.
fn explain(events: &[Event], read: &Event) -> String {
    let mut of_key: Vec<_> = events
        .iter()
        .filter(|event| event.key == read.key && event.start <= read.start)
        .collect();
    of_key.sort_by_key(|event| event.start);
    let recent = of_key.len().saturating_sub(40);
    let lines: Vec<_> = of_key[recent..]
        .iter()
        .map(|event| format!("{event:?}"))
        .collect();
    format!("stale: {read:?}\n{}", lines.join("\n"))
}

#[test]
fn the_checker_knows_old_from_new() {
    let event = |did, start, end| Event {
        instance: 0,
        key: 0,
        did,
        start,
        end,
        is_acknowledged: true,
    };
    let set = event(Did::Set(1), 1, 2);
    let read = event(Did::Read(1), 5, 6);
    assert!(stale_reads(&[set, read], false).is_empty());
    assert_eq!(
        stale_reads(&[set, event(Did::Delete, 3, 4), read], false).len(),
        1
    );
    assert!(stale_reads(&[set, event(Did::Delete, 3, 7), read], false).is_empty());
    assert!(stale_reads(&[set, event(Did::Set(2), 2, 4), read], false).is_empty());
    let mut elsewhere = event(Did::Set(2), 3, 4);
    elsewhere.instance = 1;
    assert!(stale_reads(&[set, elsewhere, read], false).is_empty());
    assert_eq!(stale_reads(&[set, elsewhere, read], true).len(), 1);
    let unknown = Event {
        is_acknowledged: false,
        ..event(Did::Delete, 3, 4)
    };
    assert!(stale_reads(&[set, unknown, read], true).is_empty());
}
