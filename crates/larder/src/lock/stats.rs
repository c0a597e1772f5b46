//! What is counted about locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::clock::duration_ms;

/// The upper bounds of the buckets of a [`Histogram`] in ms; the last bucket has none.
const BOUNDS_MS: [u64; 15] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
];

/// What a [`super::Locks`] and its clones have done and seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LockStats {
    /// How many leases are held now.
    pub held: u64,
    /// How many were granted.
    pub acquired: u64,
    /// How many of these had to be asked for more than once.
    pub contended: u64,
    /// How many attempts failed.
    pub failed: u64,
    /// How many leases ended before their holders gave them up.
    pub lost: u64,
    /// How many holds were unusually long.
    pub long_holds: u64,
    /// How long it took until a lease was granted.
    pub wait: Histogram,
    /// How long leases were held.
    pub hold: Histogram,
}

/// How often something took how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Histogram {
    /// Upper bounds in ms and how often it took at most as long, but longer than the bound before; `None`: no bound.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// How often in all.
    pub count: u64,
    /// How long in all, in ms.
    pub sum_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    acquired: AtomicU64,
    contended: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    long_holds: AtomicU64,
    wait: Times,
    hold: Times,
}

#[derive(Debug, Default)]
struct Times {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Counters {
    pub(super) fn acquired(&self, waited: Duration, was_contended: bool) {
        count(&self.acquired);
        if was_contended {
            count(&self.contended);
        }
        self.wait.add(waited);
    }

    pub(super) fn failed(&self) {
        count(&self.failed);
    }

    pub(super) fn lost(&self) {
        count(&self.lost);
    }

    pub(super) fn long_hold(&self) {
        count(&self.long_holds);
    }

    pub(super) fn held(&self, held: Duration) {
        self.hold.add(held);
    }

    pub(super) fn read(&self, held: u64) -> LockStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LockStats {
            held,
            acquired: of(&self.acquired),
            contended: of(&self.contended),
            failed: of(&self.failed),
            lost: of(&self.lost),
            long_holds: of(&self.long_holds),
            wait: self.wait.read(),
            hold: self.hold.read(),
        }
    }
}

impl Times {
    fn add(&self, time: Duration) {
        let ms = duration_ms(time);
        let bucket = BOUNDS_MS.partition_point(|bound| *bound < ms);
        count(&self.counts[bucket]);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn read(&self) -> Histogram {
        let bounds = BOUNDS_MS.iter().copied().map(Some).chain([None]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Histogram {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum_ms: self.sum_ms.load(Ordering::Relaxed),
            buckets,
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let times = Times::default();
        for ms in [0, 1, 2, 60_000, 60_001] {
            times.add(Duration::from_millis(ms));
        }
        let read = times.read();
        assert_eq!(read.buckets[0], (Some(1), 2));
        assert_eq!(read.buckets[1], (Some(2), 1));
        assert_eq!(read.buckets[14], (Some(60_000), 1));
        assert_eq!(read.buckets[15], (None, 1));
        assert_eq!((read.count, read.sum_ms), (5, 120_004));
    }
}
