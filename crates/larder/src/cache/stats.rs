//! Counters of a cache: of this process, and summed over all processes in the store.
//!
//! Counting must not slow down a local hit, so each thread adds to its own stripe. Once a second a task adds what is
//! new to counters in the store, a few small writes per process, so that the program sees what applications do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::local::LocalStats;
use super::stripe;
use crate::store::StoreStats;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Counter { $($variant,)* }

        impl Counter {
            /// All counters with the names they have in the store.
            pub(crate) const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

counters! {
    LocalHit => "hits.local",
    StoreHit => "hits.store",
    Absent => "misses.absent",
    Invalidated => "misses.invalidated",
    UnknownLayout => "misses.layout",
    Damaged => "misses.damaged",
    Schema => "misses.schema",
    Decode => "misses.decode",
    ReadError => "misses.error",
    WriteError => "errors.write",
    Set => "sets",
    Delete => "deletes",
    Load => "loads",
    LoadFailed => "loads.failed",
    Joined => "loads.joined",
    Overtaken => "loads.overtaken",
    Waited => "loads.waited",
    TimedOut => "loads.timed_out",
    Stale => "stale.served",
    Refresh => "refreshes",
    RefreshFailed => "refreshes.failed",
    RefreshSkipped => "refreshes.skipped",
    Uncached => "calls.uncached",
}

const COUNTERS: usize = Counter::ALL.len();

/// The counters of one cache in this process.
#[derive(Debug)]
pub(crate) struct Counters {
    stripes: Box<[Stripe]>,
    flushed: [AtomicU64; COUNTERS],
}

/// One thread's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTERS]);

impl Default for Counters {
    fn default() -> Self {
        Self {
            stripes: (0..=stripe::OWNED).map(|_| Stripe::default()).collect(),
            flushed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Counters {
    #[inline(always)]
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    #[inline(always)]
    pub(crate) fn add(&self, counter: Counter, by: u64) {
        let index = stripe::index();
        let cell = &self.stripes[index].0[counter as usize];
        if index < stripe::OWNED {
            // Only this thread writes this cell, so no locked instruction is needed.
            cell.store(cell.load(Relaxed) + by, Relaxed);
        } else {
            cell.fetch_add(by, Relaxed);
        }
    }

    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        self.stripes
            .iter()
            .map(|stripe| stripe.0[counter as usize].load(Relaxed))
            .sum()
    }

    /// Returns what was counted since the last call, which now belongs to the caller.
    pub(crate) fn take_new(&self, counter: Counter) -> u64 {
        let sum = self.sum(counter);
        // Never back: another caller may have taken more meanwhile.
        let before = self.flushed[counter as usize].fetch_max(sum, Relaxed);
        sum.saturating_sub(before)
    }

    /// Gives back what [`Counters::take_new`] returned and could not be delivered.
    pub(crate) fn put_back(&self, counter: Counter, by: u64) {
        self.flushed[counter as usize].fetch_sub(by, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Counts {
        Counts::from_fn(|counter| self.sum(counter))
    }
}

/// Why reads missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct MissReasons {
    /// There was no entry, or it had expired.
    pub absent: u64,
    /// A tag had made the entry invalid, and the store had not removed it yet. Stores that cannot tell count it as absent.
    pub invalidated: u64,
    /// The entry has a layout this version does not know.
    pub layout: u64,
    /// The entry's bytes were damaged.
    pub damaged: u64,
    /// The entry has another schema version.
    pub schema: u64,
    /// The entry does not decode as the asked type.
    pub decode: u64,
    /// The store failed, and the read went on without it.
    pub error: u64,
}

/// Sums of what a cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Reads answered by the local tier.
    pub local_hits: u64,
    /// Reads answered by the store.
    pub store_hits: u64,
    /// Reads that found nothing, by reason.
    pub misses: MissReasons,
    /// Writes by `remember` that failed and were absorbed.
    pub write_errors: u64,
    /// Entries written.
    pub sets: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Loader runs.
    pub loads: u64,
    /// Loader runs that failed or panicked.
    pub failed_loads: u64,
    /// Callers that were given another caller's load.
    pub joined_loads: u64,
    /// Loads that a change overtook, so that they were not stored.
    pub overtaken_loads: u64,
    /// Loads that waited for one of another process, once each.
    pub waited_loads: u64,
    /// Callers that a timeout of theirs ended before the load did.
    pub timed_out_loads: u64,
    /// Callers of `remember` that were given a stale value.
    pub stale_served: u64,
    /// Loads of values that were there: refreshed ahead, marked stale, or past their TTL.
    pub refreshes: u64,
    /// Those of them that failed or panicked.
    pub failed_refreshes: u64,
    /// Refreshes that were not begun, for 1000 were under way.
    pub skipped_refreshes: u64,
    /// Calls of functions under `#[cache]` that return no `Result` and ran uncached, since the cache failed.
    pub uncached_calls: u64,
}

impl Counts {
    pub(crate) fn from_fn(mut count: impl FnMut(Counter) -> u64) -> Self {
        Self {
            local_hits: count(Counter::LocalHit),
            store_hits: count(Counter::StoreHit),
            misses: MissReasons {
                absent: count(Counter::Absent),
                invalidated: count(Counter::Invalidated),
                layout: count(Counter::UnknownLayout),
                damaged: count(Counter::Damaged),
                schema: count(Counter::Schema),
                decode: count(Counter::Decode),
                error: count(Counter::ReadError),
            },
            write_errors: count(Counter::WriteError),
            sets: count(Counter::Set),
            deletes: count(Counter::Delete),
            loads: count(Counter::Load),
            failed_loads: count(Counter::LoadFailed),
            joined_loads: count(Counter::Joined),
            overtaken_loads: count(Counter::Overtaken),
            waited_loads: count(Counter::Waited),
            timed_out_loads: count(Counter::TimedOut),
            stale_served: count(Counter::Stale),
            refreshes: count(Counter::Refresh),
            failed_refreshes: count(Counter::RefreshFailed),
            skipped_refreshes: count(Counter::RefreshSkipped),
            uncached_calls: count(Counter::Uncached),
        }
    }

    /// Returns reads answered by either tier.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.local_hits + self.store_hits
    }

    /// Returns reads that found nothing.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let m = &self.misses;
        m.absent + m.invalidated + m.layout + m.damaged + m.schema + m.decode + m.error
    }

    /// Returns hits per read, from 0 to 1; `None` before the first read.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let reads = self.hits() + self.missed();
        (reads > 0).then(|| self.hits() as f64 / reads as f64)
    }
}

/// What a cache says about itself.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Of this handle's process, since it opened the cache.
    pub process: Counts,
    /// Of all processes that ever used this cache on this store; a second behind. Equal to `process` on a store of one process.
    pub total: Counts,
    /// Entries of this cache, where the store can tell.
    pub entries: Option<u64>,
    /// The local tier, where there is one.
    pub local: Option<LocalStats>,
    /// The store, all caches.
    pub store: StoreStats,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_handed_out_once() {
        let counters = Counters::default();
        counters.count(Counter::Set);
        counters.add(Counter::Load, 2);
        assert_eq!(counters.take_new(Counter::Set), 1);
        assert_eq!(counters.take_new(Counter::Load), 2);
        assert_eq!(counters.take_new(Counter::Load), 0);
        counters.put_back(Counter::Load, 2);
        assert_eq!(counters.take_new(Counter::Load), 2);
        assert_eq!(counters.snapshot().loads, 2);
    }

    #[test]
    fn rival_takers_share_what_is_new() {
        let counters = Counters::default();
        let taken = AtomicU64::new(0);
        let take = || taken.fetch_add(counters.take_new(Counter::Set), Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        counters.count(Counter::Set);
                        take();
                    }
                });
            }
        });
        take();
        assert_eq!(taken.into_inner(), 40_000);
    }

    #[test]
    fn ratio_counts_every_kind_of_miss() {
        let mut counts = Counts {
            local_hits: 2,
            store_hits: 1,
            ..Counts::default()
        };
        assert_eq!(counts.hit_ratio(), Some(1.0));
        counts.misses.decode = 1;
        assert_eq!(counts.hit_ratio(), Some(0.75));
        assert_eq!(Counts::default().hit_ratio(), None);
    }
}
