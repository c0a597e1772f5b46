//! The cache that applications hold: typed values over a store, with an optional local tier.
//!
//! Knows stores only through the trait. Files by subject: `read`, `write`, `counter`, `listing`, `sorted_set`,
//! `raw`, `sealed`, `remember` (with `flight`, the single-flight loads), `local` (the local tier), `inflight` (what keeps
//! overtaken reads and loads out), `stats`.

mod builder;
mod counter;
mod flight;
mod flusher;
mod inflight;
mod listing;
mod local;
mod raw;
mod read;
mod ready;
mod remember;
mod remember_many;
mod sealed;
mod sorted_set;
mod stats;
mod stripe;
mod write;

use std::sync::Arc;

pub use self::builder::Builder;
pub use self::counter::Increment;
pub use self::listing::KeyStream;
pub use self::local::{Local, LocalStats};
pub use self::raw::{Inspection, RawValue, SetRaw};
pub use self::ready::MaybeReady;
pub use self::remember::{LoadContext, Remember, RememberError};
pub use self::remember_many::RememberMany;
pub use self::sealed::{Sealed, SetSealed};
pub use self::sorted_set::{AddMembers, SortedSet};
pub use self::stats::{CacheStats, Counts, MissReasons};
pub use self::write::{Add, Set, SetMany};

use self::flight::Flights;
use self::inflight::Inflight;
use self::local::Tier;
use self::stats::{Counter, Counters};
use crate::clock::Clock;
use crate::codec::{Codec, Compression};
use crate::error::{Error, Result};
use crate::key::Namespace;
use crate::store::{Capabilities, Store};
use crate::ttl::Ttl;

/// A cache: cheap to clone, safe to share between tasks and threads.
///
/// # Guarantees
/// When `set`, `delete` or `clear` has returned `Ok`, no later read through any clone of this handle
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
}

#[derive(Debug)]
struct Inner {
    name: String,
    store: Arc<dyn Store>,
    capabilities: Capabilities,
    namespace: Namespace,
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
    inflight: Inflight,
    flights: Arc<Flights>,
    counters: Counters,
    flusher: flusher::Flusher,
}

impl Cache {
    /// Starts a cache on a store. For an `Arc<dyn Store>`, [`Builder::shared`] saves a hop per call.
    pub fn builder(store: impl Store) -> Builder {
        Builder::shared(Arc::new(store))
    }

    /// Returns a handle that writes this schema version and treats entries of any other as misses.
    ///
    /// For types whose meaning changed in a way that decoding cannot notice. Default 0.
    #[must_use]
    pub fn schema(&self, version: u32) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            schema: version,
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
        let change = self.inflight.change(key).await;
        KeyChange {
            inner: self,
            key: key.into(),
            change: Some(change),
        }
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
    change: Option<inflight::Change<'a>>,
}

impl KeyChange<'_> {
    /// Ends the change after the store acknowledged it, leaving `value` in the local tier if nothing overlapped.
    fn finish(mut self, value: Option<(local::Weighed, Option<u64>)>) {
        let Some(change) = self.change.take() else {
            return;
        };
        self.inner.flights.forget(&self.key);
        let Some(tier) = &self.inner.local else {
            return;
        };
        let now_ms = self.inner.clock.monotonic_ms();
        let remove = || {
            tier.remove(&self.key, now_ms);
        };
        change.finish(remove, || {
            if let Some((value, ttl_ms)) = value {
                tier.insert(&self.key, value, (ttl_ms, ttl_ms), now_ms);
            }
        });
    }
}

impl Drop for KeyChange<'_> {
    fn drop(&mut self) {
        if let Some(change) = self.change.take() {
            self.inner.flights.forget(&self.key);
            if let Some(tier) = &self.inner.local {
                let now_ms = self.inner.clock.monotonic_ms();
                let remove = || {
                    tier.remove(&self.key, now_ms);
                };
                change.finish(remove, || ());
            }
        }
    }
}
