//! Stores: bytes in, bytes out.
//!
//! A [`Store`] keeps entries (in the crate's envelope) under a namespace and a key. It knows
//! nothing of users' types, of what tags mean, or of retries. Bulk calls are the primitive; a single operation is a
//! bulk call of one. Everything that several stores share is a law in `testing`.
//!
//! ```text
//! Cache --(namespace, key, sealed entry, expiry, condition)--> Store: memory | sqlite | file | redis | memcached | null
//! ```

mod examine;
mod fallback;
#[cfg(feature = "file")]
mod file;
#[cfg(any(feature = "file", feature = "sqlite"))]
mod host;
mod janitor;
mod journal;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod known;
#[cfg(all(
    test,
    feature = "file",
    feature = "memcached",
    feature = "redis",
    feature = "sqlite"
))]
mod matrix;
#[cfg(feature = "memcached")]
mod memcached;
mod memory;
mod node;
mod null;
mod reading;
#[cfg(feature = "redis")]
mod redis;
mod shared;
mod sorted_set;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tags;
mod tidy;
mod write;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::examine::{Examined, ExaminedRegister};
pub use self::fallback::{Builder as FallbackBuilder, Fallback};
pub use self::journal::{Journal, Note};
pub use self::memory::{Builder as MemoryBuilder, Memory};
pub use self::node::{NodeRole, NodeStatus};
pub use self::null::Null;
pub use self::reading::Read;
pub use self::sorted_set::{SortedSetOp, SortedSetReply};
pub(crate) use self::tags::verdict;
pub use self::tags::{
    Invalidated, Invalidation, LoadBegun, LoadRequest, MIN_REGISTER_MS, REGISTER_GRACE_MS,
    StampedPut,
};
pub use self::tidy::{Retirement, TidyPage};
pub use self::write::{Change, Condition, Expiry, Write};
pub use crate::envelope::Stamp;
pub use crate::tag::{Register, RegisterState};

#[cfg(feature = "file")]
pub use self::file::{Builder as FileBuilder, File};
#[cfg(feature = "memcached")]
pub use self::memcached::{Builder as MemcachedBuilder, Memcached};
#[cfg(feature = "redis")]
pub use self::redis::{Builder as RedisBuilder, Redis};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Builder as SqliteBuilder, Sqlite};

use crate::clock::Clock;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::lease::LockStore;

/// How often a compare-and-swap loop tries before it reports `Conflict`.
pub(crate) const MAX_CAS_ATTEMPTS: usize = 1000;

/// What a store can do. Each `true` is covered by a law, each `false` answers `Unsupported`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// Other processes may read and write the same entries.
    pub shared: bool,
    /// Entries outlive the process.
    pub persistent: bool,
    /// Keys can be listed, counted and deleted by pattern.
    pub enumeration: bool,
    /// Counters are atomic.
    pub counters: bool,
    /// Sorted sets work.
    pub sorted_sets: bool,
    /// Sorted sets cost O(log n) an operation instead of rewriting the set.
    pub native_sorted_sets: bool,
    /// Nothing is kept at all: the local tier, if there is one, is the whole cache.
    pub discards: bool,
    /// The store tells local copies of changes by other processes: [`Store::journal`].
    pub coherent_local: bool,
    /// Locks work, in their honest limits: see [`Store::lock_store`].
    pub locks: bool,
    /// Locks are granted in the order of the attempts, and can be listed.
    pub fair_locks: bool,
    /// Fences of locks keep growing whatever is evicted or restarted.
    pub durable_fences: bool,
    /// A lock is free as soon as its process is dead, without waiting for the end of its lease.
    pub locks_freed_on_death: bool,
    /// Semaphores and rate limiters work.
    pub limiters: bool,
    /// Registers work: [`Store::capture`], [`Store::invalidate`], [`Store::begin_load`].
    pub tags: bool,
    /// Registers can be listed and invalidated by pattern, and keys listed by register.
    pub tag_listing: bool,
    /// [`Store::examine`] also finds what is not valid.
    pub examination: bool,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The sealed envelope.
    pub value: Bytes,
    /// When it expires, in milliseconds since the Unix epoch by the store's clock; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// Somebody wants it to be refreshed: a register that it depends on was invalidated softly.
    pub is_stale: bool,
}

impl Entry {
    /// Creates an entry that is not stale.
    #[must_use]
    pub fn new(value: Bytes, expires_at_ms: Option<u64>) -> Self {
        Self {
            value,
            expires_at_ms,
            is_stale: false,
        }
    }
}

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ScanPage {
    /// The keys of this page, without their namespace.
    pub keys: Vec<ScannedKey>,
    /// Where the next page starts; `None` on the last one. Opaque.
    pub next: Option<Bytes>,
}

/// One page of a listing of registers.
#[derive(Debug, Clone, Default)]
pub struct RegisterPage {
    /// The registers of this page.
    pub registers: Vec<Register>,
    /// Where the next page starts; `None` on the last one. Opaque.
    pub next: Option<Bytes>,
}

/// A key met by a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedKey {
    /// The key.
    pub key: Key,
    /// The size of the stored entry in bytes.
    pub bytes: u64,
    /// When it expires, as in [`Entry::expires_at_ms`].
    pub expires_at_ms: Option<u64>,
}

/// What a store says about itself. Figures cover the whole store, all namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StoreStats {
    /// Live and not yet swept entries, where the store can tell.
    pub entries: Option<u64>,
    /// Bytes in use, where the store can tell.
    pub bytes: Option<u64>,
    /// The size bound in bytes, where there is one.
    pub capacity_bytes: Option<u64>,
    /// Entries dropped to keep the size bound, by this process.
    pub evicted: u64,
    /// Expired entries removed by this process.
    pub expired: u64,
    /// Damaged entries or files moved aside by this process.
    pub quarantined: u64,
    /// What else the store reports: name and value, for people.
    pub details: Vec<(String, String)>,
}

/// A place that keeps entries. Object safe; shared as `Arc<dyn Store>`.
///
/// A wrapper must forward every method: a forgotten default would silently bypass the inner store's own.
/// Put `#[deny(clippy::missing_trait_methods)]` on its impl.
///
/// # Guarantees
/// Each write of a bulk call is atomic for its key; the bulk as a whole is not (SQLite's is).
/// Writes of one call to one key apply in order. A call that fails may have been applied in part.
/// Dropping a call's future before it finishes leaves each of its writes either applied or not, and a write that
/// begins after that is not undone by them.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns the kind of store, for messages: `sqlite`.
    fn name(&self) -> &'static str;

    /// Returns what this store can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads entries: one result per key, same order; expired ones are `None`.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout`: the store failed. A damaged entry is `None` or is returned as it is.
    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>>;

    /// As [`Store::get_many`], and tells what a register has made invalid from what is not there. Cost: the same. The default
    /// cannot tell.
    ///
    /// # Errors
    /// As [`Store::get_many`].
    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let entries = self.get_many(namespace, keys).await?;
        Ok(entries.into_iter().map(Read::from).collect())
    }

    /// Applies writes: one result per write, same order, `true` where it was applied.
    ///
    /// A delete or touch is applied only where there is an entry.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`; `TooLarge`: an entry is over the store's limit.
    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>>;

    /// Makes every entry of the namespace absent.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`: entries may remain.
    async fn clear(&self, namespace: &Namespace) -> Result<()>;

    /// Returns figures about the store.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    async fn stats(&self) -> Result<StoreStats>;

    /// Returns the clock that expiry follows.
    fn clock(&self) -> Clock {
        Clock::system()
    }

    /// Adds to an integer entry atomically and returns the sum; an absent one starts at 0 with `expiry`.
    ///
    /// # Errors
    /// `WrongType`: the entry is no integer. `Overflow`: the sum leaves `i64`, nothing is changed.
    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        increment_by_swap(self, namespace, key, by, expiry).await
    }

    /// Performs an operation on a sorted set. The default rewrites the set as one entry, O(n).
    ///
    /// # Errors
    /// `WrongType`: the entry is no sorted set. `InvalidArgument`: a score that is not a number.
    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        sorted_set::emulate(self, namespace, key, op).await
    }

    /// Lists keys that match, a page of at most `limit` at a time, in the store's own order.
    ///
    /// A key that exists throughout the whole listing is met at least once; one that comes or goes meanwhile
    /// may or may not be met.
    ///
    /// # Errors
    /// `Unsupported` where keys cannot be listed; `InvalidArgument`: a foreign cursor.
    async fn scan(
        &self,
        _namespace: &Namespace,
        _pattern: &Glob,
        _cursor: Option<&Bytes>,
        _limit: usize,
    ) -> Result<ScanPage> {
        Err(Error::unsupported("keys cannot be listed").store(self.name()))
    }

    /// Counts keys that match. The default lists them all.
    ///
    /// # Errors
    /// As [`Store::scan`].
    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        let mut count = 0;
        let mut cursor = None;
        loop {
            let page = self.scan(namespace, pattern, cursor.as_ref(), 1000).await?;
            count += page.keys.len() as u64;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(count);
            }
        }
    }

    /// Removes up to `limit` expired entries now and returns how many; the store does so by itself, too.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    async fn prune(&self, _limit: usize) -> Result<u64> {
        Ok(0)
    }

    /// Asks every server behind the store about itself; embedded stores have none.
    ///
    /// A server that cannot be reached is in the list, with its problem.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`: not even the list of servers could be had.
    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        Ok(Vec::new())
    }

    /// Returns a number that changes whenever a connection to a server was lost and made anew, or one server has taken over
    /// from another; embedded stores have none.
    ///
    /// It has changed before the first reply over the new connection is returned, so whoever finds it unchanged after a
    /// reply knows that no server was restarted in between. Cost: an atomic load.
    fn connection_epoch(&self) -> u64 {
        0
    }

    /// Returns the stamps of registers as they are now, same order, in the part of the store that holds the key, and creates
    /// what is not there, with random numbers that were never used before. What is created is kept for
    /// [`MIN_REGISTER_MS`]; writing an entry that carries stamps keeps their registers [`REGISTER_GRACE_MS`] longer
    /// than the entry. A register that is lost early only costs misses.
    ///
    /// # Errors
    /// `Unsupported` where there are no registers; `Unavailable`, `Timeout`.
    async fn capture(
        &self,
        _namespace: &Namespace,
        _key: &[u8],
        _registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        Err(Error::unsupported("tags").store(self.name()))
    }

    /// Stores an entry that depends on registers as they are now. The default captures and writes: two round trips.
    ///
    /// # Errors
    /// As [`Store::capture`] and [`Store::write_many`], and those of `seal`.
    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &StampedPut<'_>,
    ) -> Result<()> {
        let stamps = self.capture(namespace, key, put.registers).await?;
        let put = Write::put(key, (put.seal)(stamps)?, put.expiry);
        self.write_many(namespace, &[put]).await.map(drop)
    }

    /// Begins a load: captures registers and leaves a mark in place of the entry, if there is no valid one and nobody else's
    /// mark. Whoever writes, adds or deletes the key removes the mark, and so does the end of its lease; a mark whose
    /// stamps are invalid counts as none. Everything is done before this returns.
    ///
    /// # Errors
    /// As [`Store::capture`], unless there are no registers; as [`Store::write_many`].
    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        tags::begin_load(self, namespace, key, load).await
    }

    /// Invalidates registers in all parts of the store. [`Register::any`] is changed first, always, also if none of the
    /// others is there. Doing so again is harmless.
    ///
    /// # Errors
    /// `Unsupported` where there are no registers; `Unavailable`, `Timeout`: no part is known to have done it.
    async fn invalidate(
        &self,
        _namespace: &Namespace,
        _registers: &[Register],
        _how: Invalidation,
    ) -> Result<Invalidated> {
        Err(Error::unsupported("tags").store(self.name()))
    }

    /// Lists registers whose name matches, with their kind in front, a page of at most `limit` at a time, in the store's
    /// own order; one may be met more than once. [`Register::any`] is none of them.
    ///
    /// # Errors
    /// `Unsupported` where they cannot be listed; `InvalidArgument`: a foreign cursor.
    async fn scan_registers(
        &self,
        _namespace: &Namespace,
        _pattern: &Glob,
        _cursor: Option<&Bytes>,
        _limit: usize,
    ) -> Result<RegisterPage> {
        Err(Error::unsupported("tags cannot be listed").store(self.name()))
    }

    /// Lists keys of valid entries that carry a stamp of the register, a page of at most `limit` at a time, as
    /// [`Store::scan`] does keys.
    ///
    /// # Errors
    /// As [`Store::scan_registers`].
    async fn scan_by_register(
        &self,
        _namespace: &Namespace,
        _register: &Register,
        _cursor: Option<&Bytes>,
        _limit: usize,
    ) -> Result<ScanPage> {
        Err(Error::unsupported("tags cannot be listed").store(self.name()))
    }

    /// Returns what is under a key, valid or not, the mark of a load included, and how the registers that it depends on
    /// compare with its stamps now; `None`: nothing, as far as the store can tell. What has expired, was cleared or was
    /// invalidated may have been removed. For people: it tells what one moment looked like, and changes nothing.
    ///
    /// Cost: two round trips at most, three for a sorted set. The default finds only what is valid.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        examine::examine(self, namespace, key).await
    }

    /// Looks at some of the entries that depend on registers, about `limit`; removes those that are invalid or expired, or
    /// with `removes` off only counts them; and tells what the others carry. An entry that is valid, and there,
    /// throughout a walk over all pages is met; so is a load under way. On a cluster, one whose slot moves meanwhile may not be.
    ///
    /// # Errors
    /// `Unsupported` where there are no registers, or no lists; `InvalidArgument`: a foreign cursor; `Unavailable`,
    /// `Timeout`: some may have been removed.
    async fn tidy(
        &self,
        _namespace: &Namespace,
        _cursor: Option<&Bytes>,
        _limit: usize,
        _removes: bool,
    ) -> Result<TidyPage> {
        Err(Error::unsupported("tags cannot be listed").store(self.name()))
    }

    /// Takes a step towards the end of registers, in all parts of the store; returns to which it applied, in any part; same
    /// order. Storing an entry, and beginning a load, clears its registers of suspicion, before it is there.
    ///
    /// # Errors
    /// As [`Store::tidy`].
    async fn retire(
        &self,
        _namespace: &Namespace,
        _registers: &[Register],
        _step: Retirement,
    ) -> Result<Vec<bool>> {
        Err(Error::unsupported("tags cannot be listed").store(self.name()))
    }

    /// Returns what tells of the changes of a namespace from now on, where there is such a thing:
    /// [`Capabilities::coherent_local`]. No round trip.
    ///
    /// Reading it from time to time makes the store keep notes, and so costs whoever writes; notes end some minutes after the
    /// last reader is gone.
    fn journal(&self, _namespace: &Namespace) -> Option<Box<dyn Journal>> {
        None
    }

    /// Returns the store of locks, semaphores and rate limiters, where there is one. It works on what this store is:
    /// never on a standby.
    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        None
    }

    /// Checks that the store answers.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

/// Increments by reading and writing back if unchanged: for stores without an atomic addition.
pub(crate) async fn increment_by_swap<S: Store + ?Sized>(
    store: &S,
    namespace: &Namespace,
    key: &[u8],
    by: i64,
    expiry: Expiry,
) -> Result<i64> {
    if !store.capabilities().counters {
        return Err(Error::unsupported("counters").store(store.name()));
    }
    for _ in 0..MAX_CAS_ATTEMPTS {
        let present = store.get_many(namespace, &[key]).await?.pop().flatten();
        let ttl_ms = match expiry {
            Expiry::After(ttl_ms) => Some(ttl_ms),
            Expiry::Never | Expiry::Keep => None,
        };
        let old = present.as_ref().map(|entry| &entry.value);
        let (value, sum) = envelope::increment(old, by, store.clock().now_ms(), ttl_ms)?;
        let write = swap(key, value, old, expiry);
        if store.write_many(namespace, &[write]).await? == [true] {
            return Ok(sum);
        }
        tokio::task::yield_now().await;
    }
    Err(conflict(store.name(), key))
}

/// Returns the write that replaces exactly `old`, or creates the entry with `expiry`.
pub(crate) fn swap<'a>(
    key: &'a [u8],
    value: Bytes,
    old: Option<&Bytes>,
    expiry: Expiry,
) -> Write<'a> {
    match old {
        Some(old) if envelope::is_readable(old) => Write::put(key, value, Expiry::Keep)
            .when(Condition::IfUnchanged(envelope::write_id(old))),
        _ => Write::put(key, value, expiry).when(Condition::IfAbsent),
    }
}

pub(crate) fn conflict(store: &'static str, key: &[u8]) -> Error {
    Error::new(ErrorKind::Conflict, "another writer always came first")
        .store(store)
        .key(key)
}
