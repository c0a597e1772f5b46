//! Locks, semaphores and rate limiters, on any store that has a [`LockStore`].
//!
//! The store decides who holds what, by its own clock. Here is what is the same for all stores: waiting, renewal, and
//! what a holder may believe about its lease. Knows no concrete store.
//!
//! ```text
//! Lock (options) --attempt--> LockGuard <--watchdog (renews at a third of the TTL, says when a lease is lost)
//! ```
//! # What a lock promises
//! At most one holder at a time as long as the store keeps its data and no holder is stopped for longer than its TTL
//! without noticing. Both happen; so every grant has a [`fence`](LockGuard::fence), greater than all before, and what
//! the lock protects should refuse a smaller one than it has seen: then two holders never harm it. After
//! M. Kleppmann, *How to do distributed locking* (2016). `docs/locks.md` has recipes and what is not promised.

mod attempt;
mod builder;
mod door;
mod event;
mod guard;
mod held;
mod limiter;
mod stats;
mod usual;
mod watchdog;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::timeout;

pub use self::builder::Lock;
pub use self::event::LockEvent;
pub use self::guard::{LockGuard, Lost};
pub use self::limiter::Limiter;
pub use self::stats::{Histogram, LockStats};
pub use crate::lease::{
    Answer, Ask, HOLD_TIMES, HOLD_TIMES_MS, HolderStatus, IDLE_MS, Listener, LockStatus, LockStore,
    MAX_PERMITS, MAX_WAITERS, Owner, Rate, Taken,
};

use self::builder::Sort;
use self::door::Door;
use self::stats::Counters;
use self::usual::Usual;
use self::watchdog::Watchdog;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{KeyRef, Namespace};

/// How many events a slow listener may be behind before it misses some.
const EVENTS: usize = 1024;
/// How long a shutdown waits for the store.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// How long it waits for attempts to end, which they do when they are polled.
const LEAVE: Duration = Duration::from_millis(200);

/// The locks, semaphores and rate limiters of one application on one store. Cheap to clone.
///
/// Clones share what is counted and one background task, which renews leases. Names are 1 B to 1 KiB; locks,
/// semaphores and limiters of the same name have nothing to do with each other.
#[derive(Clone)]
pub struct Locks {
    inner: Arc<Inner>,
}

struct Inner {
    store: Option<Arc<dyn LockStore>>,
    store_name: &'static str,
    clock: Clock,
    locks: Namespace,
    semaphores: Namespace,
    limiters: Namespace,
    watchdog: Watchdog,
    counters: Counters,
    usual: Usual,
    events: broadcast::Sender<LockEvent>,
    door: Door,
}

impl Locks {
    /// Creates the locks of an application, by its prefix, on a store. Every process that gives the same prefix shares
    /// them.
    #[must_use]
    pub fn new(store: Arc<dyn LockStore>, prefix: &str) -> Self {
        Self::on(Some(store), "locks", &Clock::system(), prefix)
    }

    /// Creates the locks on a store that may have none, and whose clock tells how leases pass.
    pub(crate) fn on(
        store: Option<Arc<dyn LockStore>>,
        store_name: &'static str,
        clock: &Clock,
        prefix: &str,
    ) -> Self {
        let inner = Inner {
            store,
            store_name,
            clock: clock.clone(),
            locks: Namespace::leases(prefix, "locks"),
            semaphores: Namespace::leases(prefix, "semaphores"),
            limiters: Namespace::leases(prefix, "limiters"),
            watchdog: Watchdog::default(),
            counters: Counters::default(),
            usual: Usual::default(),
            events: broadcast::Sender::new(EVENTS),
            door: Door::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns a lock by its name. No round trip; the name is checked when the lock is acquired.
    pub fn lock<'a>(&self, name: impl Into<KeyRef<'a>>) -> Lock {
        Lock::new(self.clone(), Sort::Lock, name.into().to_key())
    }

    /// Returns a semaphore: a lock that `permits` owners can hold at a time, 1 to [`MAX_PERMITS`].
    ///
    /// All who use the name should give the same number; if they do not, each grants by its own. A fence tells its
    /// holder from others, but what a semaphore protects cannot refuse smaller ones: other holders have them by right.
    pub fn semaphore<'a>(&self, name: impl Into<KeyRef<'a>>, permits: u32) -> Lock {
        Lock::new(self.clone(), Sort::Semaphore(permits), name.into().to_key())
    }

    /// Returns a rate limiter; [`Limiter::per`] says how much it allows.
    pub fn limiter<'a>(&self, name: impl Into<KeyRef<'a>>) -> Limiter {
        Limiter::new(self.clone(), name.into().to_key())
    }

    /// Lists the locks in use, up to 10,000, by name. Cost: O(everything in the store); for people, not for programs.
    ///
    /// # Errors
    /// `Unsupported`: the store cannot list; `Unavailable`, `Timeout`.
    pub async fn list(&self) -> Result<Vec<LockStatus>> {
        self.list_matching(&Glob::all()).await
    }

    /// As [`Locks::list`], of names that match.
    ///
    /// # Errors
    /// As [`Locks::list`].
    pub async fn list_matching(&self, pattern: &Glob) -> Result<Vec<LockStatus>> {
        self.inner.list(&self.inner.locks, pattern).await
    }

    /// Lists the semaphores in use, as [`Locks::list`] does locks.
    ///
    /// # Errors
    /// As [`Locks::list`].
    pub async fn list_semaphores(&self) -> Result<Vec<LockStatus>> {
        self.inner.list(&self.inner.semaphores, &Glob::all()).await
    }

    /// Takes a lock from its holder, for operators; returns whether it was held. The holder's work is not stopped: it
    /// hears of its loss at its next renewal, or from a resource that compares fences.
    ///
    /// # Errors
    /// `InvalidKey`: the name is empty or over 1 KiB; `Unsupported`, `Unavailable`, `Timeout`.
    pub async fn force_release(&self, name: impl Into<KeyRef<'_>>) -> Result<bool> {
        let (name, inner) = (name.into(), &self.inner);
        let evicted = inner.store()?.evict(&inner.locks, name.checked()?).await;
        evicted
            .map(|count| count > 0)
            .map_err(|error| inner.named(error, "force_release", name.as_bytes()))
    }

    /// Returns what this handle and its clones have done and seen since they were created.
    #[must_use]
    pub fn stats(&self) -> LockStats {
        self.inner.counters.read(self.inner.watchdog.held())
    }

    /// Hears of what should not happen often: attempts that failed, lost leases, unusually long holds.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LockEvent> {
        self.inner.events.subscribe()
    }

    /// Ends all leases of this process on this store, for the end of a program: guards are lost, then released, within
    /// 2 seconds. Stop what they protect before. Later attempts are refused.
    ///
    /// # Errors
    /// `Timeout`: some leases could not be given up; they end with their TTLs.
    pub async fn shutdown(&self) -> Result<()> {
        let Inner { door, watchdog, .. } = &*self.inner;
        door.close();
        let end = async {
            let released = watchdog.release_all().await;
            // Nobody may be looking at an attempt; then it leaves when it is dropped.
            let _ = timeout(LEAVE, door.empty()).await;
            // An attempt may have been granted at last, or have left something to be given up.
            released.and(watchdog.release_all().await)
        };
        match timeout(SHUTDOWN, end).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "not all locks could be released; they end with their TTLs",
            )),
        }
    }
}

impl Inner {
    fn store(&self) -> Result<&Arc<dyn LockStore>> {
        let missing = || Error::unsupported("locks").store(self.store_name);
        self.store.as_ref().ok_or_else(missing)
    }

    async fn list(&self, space: &Namespace, pattern: &Glob) -> Result<Vec<LockStatus>> {
        const MAX_LISTED: usize = 10_000;
        let mut found = self.store()?.list(space, pattern, MAX_LISTED).await?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn named(&self, error: Error, operation: &'static str, name: &[u8]) -> Error {
        error.store(self.store_name).operation(operation).key(name)
    }

    fn now_ms(&self) -> u64 {
        self.clock.boot_ms()
    }

    /// Tells those who listen, if there are any.
    fn tell(&self, event: LockEvent) {
        event.log();
        // Without a receiver nobody wants to know.
        let _ = self.events.send(event);
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks")
            .field("space", &self.inner.locks)
            .field("store", &self.inner.store_name)
            .finish_non_exhaustive()
    }
}
