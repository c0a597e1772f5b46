//! Rate limits: token buckets in the store, filled by its clock.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Locks, Rate, Taken};
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Those who were refused again spread their next tries over up to so long.
const LONGEST_SPREAD: Duration = Duration::from_millis(500);

/// A rate limiter by name: a token bucket that all who use the name share. Cheap to clone.
///
/// Idle time fills the bucket up to [`Limiter::burst`]; nothing is reserved for those who wait. All who use the name
/// should give the same rate. A bucket that was lost with its store is full again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use std::time::Duration;
/// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
/// let api = cache.limiter("api").per(2, Duration::from_secs(60));
/// assert!(api.try_take(2).await?.allowed);
/// let refused = api.try_take(1).await?;
/// assert!(!refused.allowed && refused.retry_after_ms > 29_000);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a limiter does nothing until tokens are taken"]
pub struct Limiter {
    locks: Locks,
    name: Result<Key>,
    rate: Option<(u64, Duration)>,
    burst: Option<u64>,
    wait: Duration,
}

impl Limiter {
    pub(super) fn new(locks: Locks, name: Result<Key>) -> Self {
        Self {
            locks,
            name,
            rate: None,
            burst: None,
            wait: Duration::from_secs(10),
        }
    }

    /// How much is allowed: so many tokens in each interval; 1 to 1,000,000 in 1 ms to 24 hours. Must be given.
    pub fn per(mut self, tokens: u64, interval: Duration) -> Self {
        self.rate = Some((tokens, interval));
        self
    }

    /// How many tokens a full bucket holds, 1 to 1,000,000; default those of one interval.
    pub fn burst(mut self, tokens: u64) -> Self {
        self.burst = Some(tokens);
        self
    }

    /// How long [`Limiter::take`] waits: up to an hour, default 10 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Takes tokens if there are as many now, all or none. Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidArgument`: no rate, one out of bounds, no tokens, or more than the bucket holds; `InvalidKey`: the name is
    /// empty or over 1 KiB; `Unsupported`: the store has no limiters; `Unavailable`, `Timeout`: nothing is known, and the
    /// application must decide whether to go on.
    pub async fn try_take(&self, tokens: u64) -> Result<Taken> {
        let name = self.name.clone()?;
        let inner = &self.locks.inner;
        let named = |error| inner.named(error, "take", name.as_bytes());
        let rate = self.rate().map_err(named)?;
        if !(1..=rate.burst).contains(&tokens) {
            let message = format!(
                "{tokens} tokens can never be taken from 1 to {}",
                rate.burst
            );
            return Err(named(Error::argument(message)));
        }
        let store = inner.store().map_err(named)?;
        let taken = store.take(&inner.limiters, name.as_bytes(), &rate, tokens);
        taken.await.map_err(named)
    }

    /// Takes tokens, waiting until there are as many. Cost: one round trip for each try. May be dropped at any time.
    ///
    /// # Errors
    /// As [`Limiter::try_take`]; `Timeout`: there will not be as many within [`Limiter::wait`].
    pub async fn take(&self, tokens: u64) -> Result<()> {
        if self.wait > MAX_WAIT {
            return Err(Error::argument("the wait of a limiter must be at most 1h"));
        }
        let deadline = Instant::now() + self.wait;
        let mut spread = Duration::ZERO;
        loop {
            let taken = self.try_take(tokens).await?;
            if taken.allowed {
                return Ok(());
            }
            let soonest = Duration::from_millis(taken.retry_after_ms);
            let left = deadline.saturating_duration_since(Instant::now());
            if soonest > left {
                let message = format!("{tokens} tokens will not be there within {:?}", self.wait);
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            let pause = soonest + spread.mul_f64(fastrand::f64());
            sleep(pause.min(left)).await;
            // If others come first again, there are many of them, who must not all ask for each token.
            spread = (2 * spread).max(soonest).min(LONGEST_SPREAD);
        }
    }

    fn rate(&self) -> Result<Rate> {
        let Some((tokens, interval)) = self.rate else {
            return Err(Error::argument(
                "a limiter needs a rate: per(tokens, interval)",
            ));
        };
        let rate = Rate {
            tokens,
            interval_ms: duration_ms(interval),
            burst: self.burst.unwrap_or(tokens),
        };
        let in_bounds = (1..=Rate::MAX_TOKENS).contains(&rate.tokens)
            && (1..=Rate::MAX_TOKENS).contains(&rate.burst)
            && (1..=Rate::MAX_INTERVAL_MS).contains(&rate.interval_ms);
        if in_bounds {
            return Ok(rate);
        }
        let message = "a rate takes 1 to 1000000 tokens per 1ms to 24h, and a burst as many";
        Err(Error::argument(message))
    }
}
