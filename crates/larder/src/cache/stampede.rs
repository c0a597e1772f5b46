//! Who loads a missing value: one caller for all processes, as far as their store can tell; and when, if it is loaded before
//! it is missing.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::freshness::Ahead;
use crate::error::{Error, Result};

/// The longest lease of a load, and the longest wait for one.
const MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest lease.
const MIN_LEASE: Duration = Duration::from_millis(100);

/// How callers of several processes share a load.
///
/// The first one to miss leaves a mark in the store, which it renews while it loads; the others wait until there is a value,
/// or the mark is gone because its process died, or their patience ends.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Stampede {
    pub(super) enabled: bool,
    pub(super) lease_ttl: Duration,
    pub(super) max_wait: Duration,
    pub(super) retry_interval: Duration,
    pub(super) ahead: Ahead,
}

impl Default for Stampede {
    fn default() -> Self {
        Self {
            enabled: true,
            lease_ttl: Duration::from_secs(10),
            max_wait: Duration::from_secs(30),
            retry_interval: Duration::from_millis(100),
            ahead: Ahead::default(),
        }
    }
}

impl Stampede {
    /// Starts with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether callers wait for the loads of other processes; default yes. In one process they wait for each other's in any
    /// case, but for those that began while another process loaded: nobody can tell what has overtaken them.
    pub fn enabled(mut self, on: bool) -> Self {
        self.enabled = on;
        self
    }

    /// How long after the last sign of life of a load another process may begin one: 100 ms to 24 h, default 10 s. A load
    /// gives a sign of life each third of it, so it may take longer than that: up to 15 minutes, after which its loader
    /// counts as stuck.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// How long to wait for the load of another process before loading without storing: up to 24 h, default 30 s.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// The longest pause between two looks at the load of another process: 1 ms to a minute, default 100 ms. The first
    /// pauses are shorter, and all are shortened at random.
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.retry_interval = interval;
        self
    }

    /// The part of its TTL, over 0 and under 1, after which a value is loaded anew in the background by the next
    /// [`Cache::remember`](super::Cache::remember) that finds it, which returns it at once; default never. The point comes up
    /// to 5 % of itself earlier, by what is written: all processes agree on it. For entries with a TTL.
    pub fn refresh_after(mut self, part: f64) -> Self {
        self.ahead.after = Some(part);
        self
    }

    /// Loads a value anew before it expires by chance, the more so the nearer the end of its TTL and the longer its last load
    /// took: XFetch, by Vattani, Chierichetti and Lowenstein. `beta`, over 0 and up to 1000, is its factor: 1 is the best
    /// where all loads take as long, more refreshes earlier. Never before the last 20 % of the TTL, and not for loads that
    /// take less than 1 ms; default never.
    pub fn xfetch(mut self, beta: f64) -> Self {
        self.ahead.beta = Some(beta);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        self.ahead.check()?;
        let refuse = |message| Err(Error::argument(message));
        if !(MIN_LEASE..=MAX).contains(&self.lease_ttl) {
            return refuse("lease_ttl must be from 100 ms to 24 h");
        }
        if self.max_wait > MAX {
            return refuse("max_wait must be at most 24 h");
        }
        let looks = Duration::from_millis(1)..=Duration::from_secs(60);
        if !looks.contains(&self.retry_interval) {
            return refuse("retry_interval must be from 1 ms to 60 s");
        }
        Ok(())
    }

    /// Begins to wait for the load of another process.
    pub(super) fn patience(&self) -> Patience {
        let wait = match self.enabled {
            true => self.max_wait,
            false => Duration::ZERO,
        };
        Patience {
            stampede: *self,
            ends: Instant::now() + wait,
            looks: 0,
        }
    }

    /// Returns how long to rest before the `look`th look, shortened at random so that callers do not look all at once.
    fn pause(&self, look: u32) -> Duration {
        let longest = Duration::from_millis(10).saturating_mul(1 << look.min(10));
        longest
            .min(self.retry_interval)
            .mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }
}

/// The patience of a caller who waits for the load of another process.
#[derive(Debug)]
pub(super) struct Patience {
    stampede: Stampede,
    ends: Instant,
    looks: u32,
}

impl Patience {
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Returns whether nobody has rested yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.looks == 0
    }

    /// Rests before the next look.
    pub(super) async fn rest(&mut self) {
        let pause = self.stampede.pause(self.looks);
        self.looks = self.looks.saturating_add(1);
        let left = self.ends.saturating_duration_since(Instant::now());
        sleep(pause.min(left)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_interval() {
        let stampede = Stampede::default();
        for (look, longest_ms) in [(0, 10), (1, 20), (3, 80), (4, 100), (u32::MAX, 100)] {
            for _ in 0..20 {
                let pause = stampede.pause(look);
                let longest = Duration::from_millis(longest_ms);
                assert!(
                    longest / 2 <= pause && pause <= longest,
                    "{look}: {pause:?}"
                );
            }
        }
    }

    #[test]
    fn bounds_are_named() {
        let cases = [
            (Stampede::new().lease_ttl(Duration::ZERO), "lease_ttl"),
            (Stampede::new().max_wait(Duration::MAX), "max_wait"),
            (
                Stampede::new().retry_interval(Duration::ZERO),
                "retry_interval",
            ),
        ];
        for (stampede, field) in cases {
            let error = stampede.check().unwrap_err();
            assert!(error.message().contains(field), "{error}");
        }
        assert!(Stampede::new().check().is_ok());
    }
}
