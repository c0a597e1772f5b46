//! `remember` of values that are about to expire or have expired, on every store. Scenarios in which others stand still, load
//! twice or serve what they should not cite their numbers in the collection of such failures, as C1.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

#[macro_use]
#[path = "../tags/rig.rs"]
#[expect(dead_code, unused_macros, reason = "shared with the suite of tags")]
mod rig;

mod ahead;
mod faults;
mod limits;
mod loaders;
mod memos;
mod nested;
mod others;
mod peers;
mod stale;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use larder::Cache;
use larder::cache::{Counts, Remembered};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

type LoadError = std::io::Error;

const HOUR: Duration = Duration::from_secs(3600);
/// A TTL that is over before a test looks again.
const SHORT: Duration = Duration::from_millis(20);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// A loader that counts its runs.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicU32>);

impl Runs {
    fn count(&self) -> u32 {
        self.0.load(SeqCst)
    }

    /// Returns a loader of this value.
    fn of(
        &self,
        value: &'static str,
    ) -> impl FnOnce() -> std::future::Ready<Result<String, LoadError>> + Send + 'static {
        let runs = Arc::clone(&self.0);
        move || {
            runs.fetch_add(1, SeqCst);
            std::future::ready(Ok(value.to_owned()))
        }
    }

    /// Returns a loader that fails.
    fn failing(
        &self,
    ) -> impl FnOnce() -> std::future::Ready<Result<String, LoadError>> + Send + 'static {
        let runs = Arc::clone(&self.0);
        move || {
            runs.fetch_add(1, SeqCst);
            std::future::ready(Err(LoadError::other("down")))
        }
    }
}

/// Loads that begin, wait to be let go, and are counted.
#[derive(Clone)]
struct Slow {
    runs: Runs,
    begun: Arc<Notify>,
    go: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Self {
        Self {
            runs: Runs::default(),
            begun: Arc::default(),
            go: Arc::new(Semaphore::new(0)),
        }
    }

    async fn load(self, value: &str) -> Result<String, LoadError> {
        self.runs.0.fetch_add(1, SeqCst);
        self.begun.notify_one();
        self.go.acquire().await.unwrap().forget();
        Ok(value.to_owned())
    }

    /// Lets one load end.
    fn end(&self) {
        self.go.add_permits(1);
    }

    /// Asks for the key in a task, with a stale value allowed, and waits until the load runs.
    async fn start(&self, cache: &Cache, value: &'static str) -> JoinHandle<Remembered<String>> {
        let (slow, cache) = (self.clone(), cache.clone());
        let task = tokio::spawn(async move {
            let asked = cache.remember("k", move || slow.load(value));
            let asked = asked.ttl(HOUR).stale_for(HOUR).detailed();
            asked.await.unwrap()
        });
        self.begun.notified().await;
        task
    }
}

/// Leaves a value under `k` that has outlived its TTL and may be served for an hour.
async fn leave_stale(cache: &Cache) {
    let load = || async { Ok::<_, LoadError>("old".to_owned()) };
    let asked = cache.remember("k", load).ttl(SHORT).stale_for(HOUR);
    asked.await.unwrap();
    is_over(cache).await;
}

/// Waits until the TTL of `k` is over as this cache sees it: processes know the time of their server more or less exactly.
async fn is_over(cache: &Cache) {
    until(async || get(cache, "k").await.is_none()).await;
}

/// Asks for `k`, with a stale value allowed.
async fn ask<L, Fut>(cache: &Cache, load: L) -> Remembered<String>
where
    L: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<String, LoadError>> + Send + 'static,
{
    let asked = cache.remember("k", load).ttl(HOUR).stale_for(HOUR);
    asked.detailed().await.unwrap()
}

async fn get(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}

async fn counts(cache: &Cache) -> Counts {
    cache.stats().await.unwrap().process
}

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..4000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never comes to be so");
}
