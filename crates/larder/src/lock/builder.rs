//! The options of a lock, and what they may be.

use std::time::Duration;

use tokio::runtime::Handle;

use super::attempt::{self, Plan};
use super::guard::LockGuard;
use super::{Locks, MAX_PERMITS};
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::ttl::format_duration;

/// The shortest TTL: under it, the safety margin would leave nothing.
const MIN_TTL: Duration = Duration::from_millis(50);
/// The longest.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(3600);
const DEFAULT_TTL: Duration = Duration::from_secs(30);
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// A TTL that follows the history is at least this.
const MIN_ADAPTED_TTL: Duration = Duration::from_secs(1);
/// A TTL that follows the history is so many times what nearly all holds took.
const ADAPTED_FACTOR: u64 = 3;

/// A lock or a semaphore by name, with the options of the next attempts. Cheap to clone; holds nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use std::time::Duration;
/// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
/// let lock = cache.lock("report").ttl(Duration::from_secs(30)).wait(Duration::from_secs(5));
/// let guard = lock.acquire().await?;
/// assert!(guard.is_valid() && lock.try_acquire().await?.is_none());
/// guard.release().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a lock does nothing until it is acquired"]
pub struct Lock {
    locks: Locks,
    sort: Sort,
    name: Result<Key>,
    ttl: Duration,
    adapt_up_to: Option<Duration>,
    wait: Duration,
    renew: bool,
    fair: Option<bool>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sort {
    Lock,
    Semaphore(u32),
}

impl Lock {
    pub(super) fn new(locks: Locks, sort: Sort, name: Result<Key>) -> Self {
        Self {
            locks,
            sort,
            name,
            ttl: DEFAULT_TTL,
            adapt_up_to: None,
            wait: DEFAULT_WAIT,
            renew: false,
            fair: None,
        }
    }

    /// How long the lease lasts unless it is renewed or extended: 50 ms to 24 hours, default 30 seconds. After a crash
    /// the lock is free by then at the latest.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Lets the TTL follow the history: three times what 95 % of the last 32 holds took, at least 1 second and at most
    /// `max`; without history, [`Lock::ttl`]. The history is kept in the store for 90 days after the last hold, so that
    /// a daily job has one, too. Cost: one more round trip per acquisition.
    pub fn adaptive_ttl(mut self, max: Duration) -> Self {
        self.adapt_up_to = Some(max);
        self
    }

    /// How long [`Lock::acquire`] waits: up to an hour, default 10 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Whether the lease is renewed at each third of its TTL for as long as the guard lives; default no.
    pub fn renew(mut self, on: bool) -> Self {
        self.renew = on;
        self
    }

    /// Whether attempts wait in a queue, first come first served. Otherwise a free lock goes to whoever asks next, even
    /// if others wait. Default: yes where the store can, as [`fair_locks`](crate::store::Capabilities::fair_locks) says.
    pub fn fair(mut self, on: bool) -> Self {
        self.fair = Some(on);
        self
    }

    /// Waits for the lock and returns its guard.
    ///
    /// While it waits, errors of the store are tried again. May be dropped at any time: the place in the queue, or the
    /// lock if it was just granted, is given up in the background.
    ///
    /// Cost: one round trip if the lock is free. A waiter asks again when it is woken, and at least every 2 seconds.
    ///
    /// # Errors
    /// `Timeout`: it was not granted within [`Lock::wait`]; `InvalidArgument`: a TTL or a wait out of bounds;
    /// `InvalidKey`: the name is empty or over 1 KiB; `Overloaded`: 10,000 wait already; `Unsupported`: the store has no
    /// locks, or not such; `Unavailable`: the store is down, or this process is shutting down.
    pub async fn acquire(&self) -> Result<LockGuard> {
        let plan = self.plan().await?;
        attempt::acquire(plan).await
    }

    /// Takes the lock if it is free and nobody waits for it, or with [`fair(false)`](Self::fair) if it is free.
    ///
    /// Bind the guard to a name: `if lock.try_acquire().await?.is_some() { .. }` releases the lock before the block.
    ///
    /// Cost: one round trip.
    ///
    /// # Errors
    /// As [`Lock::acquire`]; but a lock that is not free is `None`, and errors of the store are returned at once.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>> {
        let plan = self.plan().await?;
        attempt::try_acquire(plan).await
    }

    /// Waits for the lock, does the work with the fence of the grant, and releases the lock. If the lease is lost, the
    /// work is dropped where it awaits.
    ///
    /// # Errors
    /// As [`Lock::acquire`]; `LockLost`: the lease was lost before the work was done, or before it could be told.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// let rows = cache.lock("report").with_fence(|fence| async move {
    ///     // UPDATE reports SET .., fence = $fence WHERE id = $id AND fence <= $fence
    ///     assert!(fence > 0);
    ///     1
    /// }).await?;
    /// assert_eq!(rows, 1);
    /// # Ok(()) }
    /// ```
    pub async fn with_fence<W, F>(&self, work: W) -> Result<F::Output>
    where
        W: FnOnce(u64) -> F,
        F: Future,
    {
        let guard = self.acquire().await?;
        let done = tokio::select! {
            biased;
            () = guard.lost() => return Err(guard.lost_error()),
            done = work(guard.fence()) => done,
        };
        match guard.release().await {
            Err(error) if error.kind() == ErrorKind::LockLost => Err(error),
            // The work is done; dropping the guard tries to release it again.
            _ => Ok(done),
        }
    }

    /// Checks the options and asks for the history if it decides.
    async fn plan(&self) -> Result<Plan> {
        let name = self.name.clone()?;
        let inner = &self.locks.inner;
        let named = |error| inner.named(error, "lock", name.as_bytes());
        self.check().map_err(named)?;
        let store = inner.store().map_err(named)?;
        let (space, permits) = match self.sort {
            Sort::Lock => (&inner.locks, 1),
            Sort::Semaphore(permits) => (&inner.semaphores, permits),
        };
        let ttl = match self.adapt_up_to {
            None => self.ttl,
            Some(max) => {
                let known = store.hold_times(space, name.as_bytes()).await;
                adapted(&known.map_err(named)?, max).unwrap_or(self.ttl.min(max))
            }
        };
        let is_fair = self.fair.unwrap_or(store.is_fair());
        if is_fair && !store.is_fair() {
            return Err(named(Error::unsupported("a fair lock")));
        }
        Ok(Plan {
            locks: self.locks.clone(),
            runtime: Handle::current(),
            space: space.clone(),
            permits,
            ttl_ms: duration_ms(ttl),
            wait: self.wait,
            renew: self.renew,
            is_fair,
            keeps_history: self.adapt_up_to.is_some(),
            name,
        })
    }

    fn check(&self) -> Result<()> {
        check_ttl(self.ttl)?;
        bounds("wait", self.wait, Duration::ZERO, MAX_WAIT)?;
        if let Some(max) = self.adapt_up_to {
            bounds("longest adaptive ttl", max, MIN_ADAPTED_TTL, MAX_TTL)?;
        }
        match self.sort {
            Sort::Semaphore(permits) if !(1..=MAX_PERMITS).contains(&permits) => {
                let message = format!("a semaphore needs 1 to {MAX_PERMITS} permits");
                Err(Error::argument(message))
            }
            _ => Ok(()),
        }
    }
}

/// Checks a TTL.
pub(super) fn check_ttl(ttl: Duration) -> Result<()> {
    bounds("ttl", ttl, MIN_TTL, MAX_TTL)
}

fn bounds(what: &str, value: Duration, least: Duration, most: Duration) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let (least, most) = (format_duration(least), format_duration(most));
    let message = format!("the {what} of a lock must be from {least} to {most}");
    Err(Error::argument(message))
}

/// Returns the TTL that the history suggests.
fn adapted(hold_times_ms: &[u64], max: Duration) -> Option<Duration> {
    let mut sorted = hold_times_ms.to_vec();
    sorted.sort_unstable();
    let p95 = *sorted.get((sorted.len() * 95).div_ceil(100).checked_sub(1)?)?;
    let ttl = Duration::from_millis(p95.saturating_mul(ADAPTED_FACTOR));
    Some(ttl.clamp(MIN_ADAPTED_TTL, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapted_ttl_covers_nearly_all_holds_within_bounds() {
        let max = Duration::from_secs(60);
        assert_eq!(adapted(&[], max), None);
        assert_eq!(adapted(&[1], max), Some(MIN_ADAPTED_TTL));
        let mut holds = vec![2_000; 31];
        holds.push(50_000);
        assert_eq!(adapted(&holds, max), Some(Duration::from_secs(6)));
        assert_eq!(adapted(&[50_000; 32], max), Some(max));
    }
}
