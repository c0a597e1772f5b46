//! Local tiers of several processes on stores that tell of changes: nothing stays that another process has changed, and
//! nothing goes that nobody has. Two caches on one store stand for two processes, as they share nothing else.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "../tags/rig.rs"]
#[macro_use]
#[expect(dead_code, unused_macros, reason = "these tests need a part of it")]
mod rig;

mod causal;
mod changes;
mod copies;
mod loads;
mod reads;

use std::future::Future;
use std::time::Duration;

use larder::{Cache, Local};
use tokio::time::{Instant, sleep};

use self::rig::Rig;

const MS: Duration = Duration::from_millis(1);
/// So long that only news can end a copy.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a test for each store that tells of changes.
macro_rules! on_telling_stores {
    ($($test:ident)*) => {
        on_these_stores!([sqlite file redis redis_cluster] [$($test)*]);
    };
}
use on_telling_stores;

/// A cache with a local tier whose copies end by news only.
fn tiered(rig: &Rig) -> Cache {
    with_staleness(rig, FOR_EVER)
}

fn with_staleness(rig: &Rig, bound: Duration) -> Cache {
    let local = Local::capacity_bytes(1 << 20)
        .max_staleness(bound)
        .ttl_fraction(1.0);
    rig.builder().local(local).build().unwrap()
}

async fn get(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}

async fn local_hits(cache: &Cache) -> u64 {
    cache.stats().await.unwrap().process.local_hits
}

/// Reads until the local tier answers.
async fn warm(cache: &Cache, key: &str) {
    eventually(async || {
        let before = local_hits(cache).await;
        drop(get(cache, key).await);
        local_hits(cache).await > before
    })
    .await;
}

/// Waits until it is so.
async fn eventually<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "it never came to be");
        sleep(10 * MS).await;
    }
}
