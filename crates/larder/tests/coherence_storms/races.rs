//! Each key is read by one process while another one writes it. As soon as the news has come, no copy is older than its entry.

use std::time::Duration;

use larder::Cache;

use crate::moment::now;
use crate::party::Party;
use crate::{FOR_EVER, Kind, MS, PATIENCE, Site, report};

/// How long the writer waits after the read was begun, in microseconds.
const DELAYS_US: [u64; 4] = [0, 50, 200, 1000];
/// The time between two trials.
const PAUSE_NS: u64 = 2_500_000;
/// The bound where nobody tells.
const SHORT: Duration = Duration::from_millis(200);
/// So far the clock of local copies may be behind.
const TICK: Duration = Duration::from_millis(15);
/// When the reader has this, it has heard of all changes before.
const SIGN: &str = "sign";

macro_rules! races {
    ($($name:ident: $kind:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            an_overlapped_read_leaves_nothing_outdated(Kind::$kind).await;
        }
    )*};
}

races! {
    sqlite: Sqlite,
    file: File,
    redis: Redis,
    redis_cluster: RedisCluster,
    memcached: Memcached,
}

fn key(trial: u64) -> String {
    format!("race:{trial}")
}

/// Waits for a moment: at the end without sleeping, which is not exact.
async fn wait_until(moment_ns: u64) {
    let left = Duration::from_nanos(moment_ns.saturating_sub(now()));
    tokio::time::sleep(left.saturating_sub(2 * MS)).await;
    while now() < moment_ns {
        std::hint::spin_loop();
    }
}

/// The part of the reader; returns how many reads came before their writes.
pub(crate) async fn read(cache: &Cache, start_ns: u64, trials: u64) -> u64 {
    let mut early = 0;
    for trial in 0..trials {
        wait_until(start_ns + trial * PAUSE_NS).await;
        let value: Option<String> = cache.get(key(trial)).await.unwrap();
        early += u64::from(value.as_deref() == Some("0"));
    }
    early
}

/// Waits for the sign, and reads all keys twice; returns how many reads were outdated.
pub(crate) async fn outdated(cache: &Cache, trials: u64) -> u64 {
    while cache.get::<String>(SIGN).await.unwrap().as_deref() != Some("1") {
        tokio::time::sleep(MS).await;
    }
    if !cache.capabilities().coherent_local {
        tokio::time::sleep(SHORT + TICK).await;
    }
    let mut outdated = 0;
    for trial in (0..trials).chain(0..trials) {
        let value: Option<String> = cache.get(key(trial)).await.unwrap();
        outdated += u64::from(value.as_deref() != Some("1"));
    }
    outdated
}

async fn an_overlapped_read_leaves_nothing_outdated(kind: Kind) {
    let trials = report::trials(400, 2);
    let site = Site::new();
    let writer = crate::cache(kind.open(&site.store).await, &site.store, None);
    let is_told = writer.capabilities().coherent_local;
    let bound = if is_told { FOR_EVER } else { SHORT };
    let mut reader = Party::start(kind, &site.store, 1, Some(bound));
    for trial in 0..trials {
        writer.set(key(trial), "0").await.unwrap();
    }
    writer.set(SIGN, "0").await.unwrap();
    assert_eq!(reader.get(SIGN).as_deref(), Some("0"));
    let start_ns = now() + 200_000_000;
    reader.0.tell(&format!("race {start_ns} {trials}"));
    for trial in 0..trials {
        let delay_us = DELAYS_US[(trial % 4) as usize];
        wait_until(start_ns + trial * PAUSE_NS + delay_us * 1000).await;
        writer.set(key(trial), "1").await.unwrap();
    }
    let early = reader.0.hear();
    let written = std::time::Instant::now();
    writer.set(SIGN, "1").await.unwrap();
    let [hits_before, ..] = reader.stats();
    let outdated = reader.order(format!("outdated {trials}"));
    assert!(written.elapsed() < PATIENCE);
    let [hits, ..] = reader.stats();
    report::row(
        format!("overlapped read and write, {}", kind.name()),
        format!("{trials} trials, {early} reads before their writes, {outdated} outdated"),
    );
    assert_eq!(outdated, "0");
    assert!(hits > hits_before, "the tier never hits");
    let early: u64 = early.parse().unwrap();
    assert!(early > 0, "no read came before its write");
}
