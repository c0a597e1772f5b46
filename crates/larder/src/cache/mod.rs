//! The cache that applications hold: typed values over a store, with an optional local tier.
//!
//! Knows stores only through the trait. Files by subject: `read`, `write`, `counter`, `listing`, `sorted_set`,
//! `raw`, `sealed`, `explain` (why a read missed), `remember` (with `asking`, `flight`, the single-flight loads, `turns` and
//! `refresh`, which share them between processes, and `freshness`), `local` (the local tier, kept up by `coherence`),
//! `inflight` (what keeps overtaken reads and loads out), `stats`, `attribute` (what `#[cache]` calls, with
//! `arguments` and `claim` for its keys).

#[cfg(feature = "macros")]
mod arguments;
mod asking;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod attribute;
mod background;
mod builder;
mod causal;
#[cfg(feature = "macros")]
mod claim;
mod cleanup;
mod coherence;
mod counter;
mod default_handle;
mod dependents;
mod explain;
mod flight;
mod flusher;
mod fly;
mod freshness;
mod groups;
mod history;
mod inflight;
mod invalidate;
mod landing;
mod listing;
mod loader;
mod loading;
mod local;
mod memo;
mod nesting;
mod ordered;
mod put;
mod raw;
mod read;
mod ready;
mod refresh;
mod remember;
mod remember_many;
mod sealed;
mod settle;
mod snapshot;
mod sorted_set;
mod stampede;
mod stats;
mod stripe;
mod tag_stats;
mod tagged;
mod tags;
mod turns;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::Notify;

pub use self::builder::Builder;
pub use self::causal::Causal;
pub use self::cleanup::{CleanupReport, CleanupTags};
pub use self::counter::Increment;
pub use self::default_handle::{default_cache, set_default_cache};
pub use self::explain::{Cause, EntryState, Explanation, Happened, ReadSource};
pub use self::invalidate::{InvalidateTags, Invalidated, InvalidatedTag};
pub use self::listing::KeyStream;
pub use self::loader::LoadContext;
pub use self::local::{Local, LocalStats};
pub use self::raw::{Inspection, RawValue, SetRaw};
pub use self::ready::MaybeReady;
pub use self::remember::{Detailed, Remember, RememberError, Remembered};
pub use self::remember_many::RememberMany;
pub use self::sealed::{Sealed, SetSealed};
pub use self::snapshot::Snapshot;
pub use self::sorted_set::{AddMembers, SortedSet};
pub use self::stampede::Stampede;
pub use self::stats::{CacheStats, Counts, MissReasons};
pub use self::tag_stats::{TagCount, TagStats};
pub use self::tagged::Tagged;
pub use self::write::{Add, Set, SetMany};

use self::background::Background;
use self::flight::Flights;
use self::groups::Groups;
use self::history::History;
use self::inflight::Inflight;
use self::local::Tier;
use self::memo::Memos;
use self::stats::{Counter, Counters};
use crate::clock::Clock;
use crate::codec::{Codec, Compression};
use crate::error::{Error, Result};
use crate::key::{KeyRef, Namespace};
use crate::lock::{Limiter, Lock, Locks};
use crate::store::{Capabilities, Register, Store};
use crate::tag::Selector;
use crate::ttl::Ttl;

/// A cache: cheap to clone, safe to share between tasks and threads.
///
/// # Guarantees
/// When a change has returned `Ok`, `set`, `delete` or `clear` for example, no later read through any clone of this handle
/// returns an older value, from the store or from the local tier, and no load that began before stores its value.
/// Reads fail open: while the store is down they miss, and the error is counted; `strict(true)` on the builder turns that off.
///
/// # Examples
/// ```
/// use larder::{Cache, MemoryStore, Ttl};
/// use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = Cache::builder(MemoryStore::new()).build()?;
/// cache.set("user:1", "Ann").ttl(Duration::from_secs(3600)).await?;
/// let name: Option<String> = cache.get("user:1").await?;
/// assert_eq!(name.as_deref(), Some("Ann"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    inner: Arc<Inner>,
    schema: u32,
    /// Local copies must be as new as they were at this monotonic time; 0: as new as ever.
    at_least_ms: u64,
}

#[derive(Debug)]
struct Inner {
    name: String,
    store: Arc<dyn Store>,
    capabilities: Capabilities,
    namespace: Namespace,
    /// The prefix and the version, as in the namespace.
    place: (String, u32),
    /// Where the counters of all caches of this prefix are summed.
    internal: Namespace,
    default_ttl: Ttl,
    codec: Codec,
    compression: Compression,
    compress_above: usize,
    jitter: f64,
    strict: bool,
    clock: Clock,
    local: Option<Tier>,
    follower: coherence::Follower,
    /// Causal tokens, with when this process met them first.
    tokens: quick_cache::sync::Cache<u64, u64>,
    inflight: Inflight,
    flights: Arc<Flights>,
    stampede: Stampede,
    stale_for: Option<Duration>,
    background: Background,
    memos: Memos,
    /// Whether tags are switched on.
    tagging: bool,
    groups: Groups,
    /// Which registers the loaders of keys named last.
    learnt: Learnt,
    /// How many tasks take back marks.
    unmarking: AtomicUsize,
    /// Woken when there is none any more.
    unmarked: Notify,
    locks: Locks,
    settler: settle::Settler,
    history: History,
    counters: Counters,
    flusher: flusher::Flusher,
}

type Learnt = quick_cache::sync::Cache<Box<[u8]>, Arc<[Register]>>;

impl Cache {
    /// Starts a cache on a store. For an `Arc<dyn Store>`, [`Builder::shared`] saves a hop per call.
    pub fn builder(store: impl Store) -> Builder {
        Builder::shared(Arc::new(store))
    }

    /// Returns a handle that writes this schema version and treats entries of any other as misses.
    ///
    /// For types whose meaning changed in a way that decoding cannot notice. Default 0. Counters that an increment
    /// creates and sorted sets have version 0.
    #[must_use]
    pub fn schema(&self, version: u32) -> Self {
        Self {
            schema: version,
            ..self.clone()
        }
    }

    /// Returns the name the cache was built with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the name of the store: `sqlite`, `memory`, ..
    #[must_use]
    pub fn store_name(&self) -> &'static str {
        self.inner.store.name()
    }

    /// Returns what the store can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities
    }

    /// Returns a lock by its name; see [`Lock`] for its options, and `docs/locks.md` for what it promises.
    ///
    /// Locks belong to the application's prefix on the store, not to one cache, and never fall back to another store.
    pub fn lock<'a>(&self, name: impl Into<KeyRef<'a>>) -> Lock {
        self.inner.locks.lock(name)
    }

    /// Returns a lock that up to `permits` owners hold at a time; see [`Locks::semaphore`].
    pub fn semaphore<'a>(&self, name: impl Into<KeyRef<'a>>, permits: u32) -> Lock {
        self.inner.locks.semaphore(name, permits)
    }

    /// Returns a rate limiter by its name; see [`Limiter`].
    pub fn limiter<'a>(&self, name: impl Into<KeyRef<'a>>) -> Limiter {
        self.inner.locks.limiter(name)
    }

    /// Returns all locks of the application on this store, to list, watch and end them.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.inner.locks
    }

    /// Checks that the store answers. Cost: one round trip.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    pub async fn ping(&self) -> Result<()> {
        self.inner.store.ping().await
    }

    /// Removes up to `limit` expired entries of the whole store now; the store also does so by itself.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    pub async fn prune(&self, limit: usize) -> Result<u64> {
        self.inner.store.prune(limit).await
    }
}

impl Inner {
    /// Returns whether there is no store behind the local tier.
    fn is_local_only(&self) -> bool {
        self.capabilities.discards && self.local.is_some()
    }

    /// Returns the tier when it is the whole cache.
    fn only_tier(&self) -> Option<&Tier> {
        self.local.as_ref().filter(|_| self.capabilities.discards)
    }

    /// Begins a change of a key: loads under way are forgotten, and doomed.
    async fn change(&self, key: &[u8]) -> KeyChange<'_> {
        self.flights.forget(key);
        self.empty_memo();
        let change = self.inflight.change(key).await;
        KeyChange {
            inner: self,
            key: key.into(),
            since_ms: self.clock.monotonic_ms(),
            change: Some(change),
        }
    }

    /// Begins a change of all keys, as [`Inner::change`] does of one.
    async fn change_all(&self) -> AllChange<'_> {
        self.flights.forget_all();
        self.empty_memo();
        let flush = self.inflight.flush().await;
        AllChange { inner: self, flush }
    }

    /// Decides what becomes of an error of a read: returned when strict, else counted as a miss.
    fn absorb<T>(&self, error: Error) -> Result<Option<T>> {
        self.counters.count(Counter::ReadError);
        if self.strict {
            return Err(error);
        }
        tracing::debug!(cache = %self.name, %error, "a read goes on without its store");
        Ok(None)
    }

    fn tagged(&self, error: Error, operation: &'static str, key: &[u8]) -> Error {
        error.store(self.store.name()).operation(operation).key(key)
    }
}

/// A change of a key under way. However it ends, the local copy is gone and no older load can be joined.
struct KeyChange<'a> {
    inner: &'a Inner,
    key: Box<[u8]>,
    /// When the change was sent, at the earliest: the value's life counts from here.
    since_ms: u64,
    change: Option<inflight::Change<'a>>,
}

impl KeyChange<'_> {
    /// Ends the change after the store acknowledged it, leaving `value` in the local tier if nothing overlapped.
    fn finish(mut self, value: Option<(local::Weighed, Option<u64>)>) {
        self.end(value);
    }

    fn end(&mut self, value: Option<(local::Weighed, Option<u64>)>) {
        let Some(change) = self.change.take() else {
            return;
        };
        self.inner.empty_memo();
        let tier = self.inner.local.as_ref();
        let remove = || {
            if let Some(tier) = tier {
                tier.remove(&self.key, self.since_ms);
            }
            // After the copy is gone: a load that begins in between would find it and hand it to those who join.
            self.inner.flights.forget(&self.key);
        };
        change.finish(remove, || {
            if let (Some(tier), Some((value, ttl_ms))) = (tier, value) {
                tier.insert(&self.key, value, (ttl_ms, ttl_ms), self.since_ms);
            }
        });
    }
}

impl Drop for KeyChange<'_> {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// An invalidation under way. However it ends, what depends on its tags is gone from the local tier, and no older load can be
/// joined.
struct TagChange<'a> {
    inner: &'a Inner,
    selectors: &'a [Selector],
}

impl Drop for TagChange<'_> {
    fn drop(&mut self) {
        let Self { inner, selectors } = self;
        if let Some(tier) = &inner.local {
            inner
                .inflight
                .hear_of_all(|| tier.invalidate_selected(selectors));
        }
        inner.flights.forget_depending(selectors);
        inner.empty_memo();
    }
}

/// A change of all keys under way. However it ends, the local tier is empty and no older load can be joined.
struct AllChange<'a> {
    inner: &'a Inner,
    flush: inflight::Flush<'a>,
}

impl Drop for AllChange<'_> {
    fn drop(&mut self) {
        self.inner.empty_memo();
        self.flush.settle(|| {
            if let Some(tier) = &self.inner.local {
                tier.clear();
            }
            self.inner.flights.forget_all();
        });
    }
}
