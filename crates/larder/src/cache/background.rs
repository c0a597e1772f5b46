//! Loads that nobody waits for: how many there may be, when they are not tried, and the end of all loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::read::Found;
use super::stats::Counter;
use super::{Cache, Inner};
use crate::error::{Error, ErrorKind, Result};

/// More refreshes are not under way at a time in one cache: the values that are there are served on.
const MAX_REFRESHES: usize = 1000;
/// How long a value is not loaded anew after that has failed.
const PAUSE_MS: u64 = 30_000;
/// Of how many keys it is remembered that their loads have failed.
const FAILED_KEYS: usize = 1 << 14;

/// What is known of the refreshes of a cache in this process.
#[derive(Debug)]
pub(super) struct Background {
    refreshes: AtomicUsize,
    is_closed: AtomicBool,
    failed: quick_cache::sync::Cache<Box<[u8]>, Failure>,
}

/// A load of a value that was there has failed.
#[derive(Debug, Clone, Copy)]
struct Failure {
    /// Of which entry: another one is another matter.
    write_id: u64,
    at_ms: u64,
}

/// The right to refresh one value in the background, given back also with its runtime.
pub(super) struct Permit(Arc<Inner>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.background.refreshes.fetch_sub(1, SeqCst);
    }
}

impl Background {
    pub(super) fn new() -> Self {
        Self {
            refreshes: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            failed: quick_cache::sync::Cache::new(FAILED_KEYS),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }
}

impl Inner {
    /// Permits a refresh in the background; `None`: there are too many, or the cache is closed.
    pub(super) fn permit(self: &Arc<Self>) -> Option<Permit> {
        if self.background.is_closed() {
            return None;
        }
        let permit = Permit(Arc::clone(self));
        if self.background.refreshes.fetch_add(1, SeqCst) < MAX_REFRESHES {
            return Some(permit);
        }
        self.counters.count(Counter::RefreshSkipped);
        None
    }

    /// Notes that a value could not be loaded anew.
    pub(super) fn pause(&self, key: &[u8], write_id: u64) {
        let at_ms = self.clock.monotonic_ms();
        let failure = Failure { write_id, at_ms };
        self.background.failed.insert(key.into(), failure);
    }

    /// Returns whether a value is not to be loaded anew, for that has failed lately.
    pub(super) fn is_paused<V>(&self, key: &[u8], found: &Found<V>) -> bool {
        let Some(life) = found.life else { return false };
        let now_ms = self.clock.monotonic_ms();
        self.background.failed.get(key).is_some_and(|failure| {
            // A clock that was set back is not waited for.
            let since = failure.at_ms..failure.at_ms.saturating_add(PAUSE_MS);
            failure.write_id == life.write_id && since.contains(&now_ms)
        })
    }
}

impl Cache {
    /// Waits up to `grace` until no load of this cache is under way in this process, in the background or not, and what loads
    /// that met with errors may have left in the store is taken back, and then hands its counts to the store. For the end of a
    /// program: what is being loaded is stored.
    ///
    /// From the call on nothing is loaded anew as long as there is a value, be it stale; whatever is missing is loaded as
    /// ever, by clones of this handle too.
    ///
    /// # Errors
    /// `Timeout`: some loads are still under way, or what they left is being taken back, and that goes on; the store's.
    pub async fn close(&self, grace: Duration) -> Result<()> {
        let inner = &self.inner;
        inner.background.is_closed.store(true, SeqCst);
        let idle = async {
            inner.flights.idle().await;
            inner.unmarked().await;
        };
        if tokio::time::timeout(grace, idle).await.is_err() {
            let left = inner.flights.under_way();
            let message = format!("loads still under way after {grace:?}: {left}");
            return Err(Error::new(ErrorKind::Timeout, message).operation("close"));
        }
        self.flush_stats().await
    }
}
