//! The Redis store: one server, a primary that sentinels name, or a cluster.
//!
//! Every key has a place: a bucket, whose text decides the slot, and in it the entry and the register of its
//! namespace. A read is one `MGET` of both: the entry is valid if it carries the register's value. `clear` deletes the
//! registers, and everything stamped with them is gone. Tags have registers of the same kind, in each bucket that has
//! entries under them.
//!
//! ```text
//! get   MGET {T}e:<ns>:<key> {T}g:<ns>            set   SET {T}e:.. <stamp, envelope> PX ..  +  GET {T}g:<ns>
//!       .. {T}r:<ns>:=<tag> .. with tags                one script with tags
//! ```
//! What changes is noted in a stream, while somebody reads it: see `notes` and `journal`. No script runs on a hit or on a plain put. See `keys` for names and `frame` for bytes.

mod builder;
mod combine;
mod counter;
mod examine;
mod frame;
mod journal;
mod keys;
mod known;
mod listing;
mod locks;
mod notes;
mod place;
mod puts;
mod queue;
mod read;
mod ready;
mod reclaim;
mod scripts;
mod sets;
mod spaces;
mod status;
mod tags;
mod write;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use tokio::sync::Semaphore;

pub use self::builder::Builder;

use self::journal::Reader;
use self::keys::Buckets;
use self::listing::Wanted;
use self::locks::{Ears, Leases};
use self::notes::Note;
use self::queue::Queue;
use self::ready::Readiness;
use self::spaces::Spaces;
use self::tags::Target;
use super::known::Known;
use super::{
    Capabilities, Entry, Examined, Expiry, Invalidated, Invalidation, Journal, LoadBegun,
    LoadRequest, NodeStatus, Read, Register, RegisterPage, Retirement, ScanPage, SortedSetOp,
    SortedSetReply, Stamp, StampedPut, Store, StoreStats, TidyPage, Write,
};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;
use crate::redis_conn::{Call, Link};
use crate::tag::Nonces;

/// A store on Redis 6.2 or later, or on a server that speaks as it does. Cheap to clone.
///
/// # Guarantees
/// Writes and conditions on one key are atomic. After `clear` has returned, no process reads an entry written before.
/// A call ends within the timeouts. A lost primary is replaced as soon as its replica took over.
///
/// # Not guaranteed
/// What a primary acknowledged and had not yet copied is lost with it (asynchronous replication). A write that timed
/// out may still be applied, also after a later one over a new connection. With several connections, a `clear` that
/// failed or was dropped may take later writes with it. A plain put whose caller goes away right
/// after another process cleared the namespace may leave the key absent; while such a put is under way the key is
/// absent for a round trip, so that an `add` succeeds. A listing during a resharding may repeat a key or miss one that
/// moves.
///
/// # On a cluster
/// Get and set go on while slots move; what needs a script (add, delete, increment, sorted sets, set with tags,
/// loads) waits for its slot to arrive, as long as the timeouts together, and then fails. While a primary is being
/// replaced, a cluster with `cluster-require-full-coverage yes`, the default, refuses all calls for a second or so;
/// with `no` only its slots fail. What a primary still answers after its replica took over is not used once the new
/// one is known, which takes a second; until then, another process may read from it what has been changed since.
///
/// # Locks
/// Fair, with fences that keep growing whatever is lost or evicted. A lost primary, or the eviction of a lease, may give
/// a lock to two holders for a while: use the fence where that matters. One more connection for all who wait.
///
/// # Cost
/// Get, set, add, delete, increment, expire, and each call of locks: one round trip. Bulk calls: one to each server
/// that has some of the keys, in parallel. With tags: one round trip too, and one more for whoever meets an entry
/// whose tags he does not know, or puts one right after its tags were invalidated. An invalidation: a few commands in
/// each bucket, one round trip to each server, however many entries there are. `clear`: one to each server, on each
/// of its connections; the memory is reclaimed in the background. Listings: O(all keys of the database).
///
/// # Tags
/// An invalidation that a primary acknowledged and had not yet copied is lost with it, like any write. A register that is
/// lost or evicted makes misses, never stale reads. Entries that tags made invalid and that have no expiry keep their
/// memory until they are written, cleaned up, pruned, or evicted.
///
/// # Journal
/// [`Store::journal`] reads a stream in each bucket that writers add to in the step, or the pipeline, of the change; it is
/// there from the first poll until ten minutes after the last one. A plain put or an invalidation whose connection breaks in
/// the middle, and which fails therefore, may have been applied without a note. What a primary still tells after its
/// replica took over is not used once the new one is known.
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::RedisStore;
/// let store = RedisStore::connect("redis://127.0.0.1/").await?;
/// let cache = larder::Cache::builder(store).prefix("app").build()?;
/// cache.set("user:1", "Ann").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    link: Link,
    buckets: Buckets,
    spaces: Spaces,
    known: Known<Nonces>,
    gets: Queue<combine::Waiting>,
    puts: Queue<puts::Waiting>,
    readiness: Readiness,
    ears: Ears,
    clock: Clock,
    /// How far the servers' clock is ahead, in ms.
    ahead_ms: Arc<AtomicI64>,
    reclaiming: Mutex<HashSet<Namespace>>,
    reclaim_turn: Arc<Semaphore>,
}

impl Redis {
    /// Connects to one server: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, or
    /// `unix:///path`.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// Returns the options of a store on one server.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::single(url.into())
    }

    /// Returns the options of a store on a cluster; some of its nodes are enough.
    pub fn cluster<I>(urls: I) -> Builder
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Builder::cluster(urls.into_iter().map(Into::into).collect())
    }

    /// Returns the options of a store on the primary that these sentinels know by the name `service`.
    pub fn sentinel<I>(urls: I, service: impl Into<String>) -> Builder
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Builder::sentinel(urls.into_iter().map(Into::into).collect(), service.into())
    }

    fn new(link: Link, buckets: u16) -> Self {
        let ahead_ms = Arc::new(AtomicI64::new(0));
        Self {
            inner: Arc::new(Inner {
                ears: Ears::new(link.clone()),
                link,
                buckets: Buckets::new(buckets),
                spaces: Spaces::default(),
                known: Known::default(),
                gets: Queue::default(),
                puts: Queue::default(),
                readiness: Readiness::default(),
                clock: Clock::shifted(Arc::clone(&ahead_ms)),
                ahead_ms,
                reclaiming: Mutex::default(),
                reclaim_turn: Arc::new(Semaphore::new(1)),
            }),
        }
    }
}

impl Inner {
    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.ready().await?;
        self.pass();
        let space = self.spaces.of(namespace, &self.buckets);
        let (mut calls, mut notes) = (Vec::new(), Vec::new());
        for (index, bucket) in self.buckets.all().iter().enumerate() {
            let mut command = redis::cmd("DEL");
            command.arg(&space.register(index).name);
            let journal = &space.journal(index).name;
            // On each connection: a write that was dropped may be on its way on any.
            for lane in 0..self.link.lanes() {
                calls.push(Call::new(bucket.slot, command.clone()).lane(lane));
                notes.push(Note {
                    journal: journal.clone(),
                    look: None,
                    call: Call::new(bucket.slot, notes::everything(journal)).lane(lane),
                });
            }
        }
        let (replies, noted) = self.many_noted(calls, notes).await;
        space.forget();
        replies.into_iter().collect::<Result<Vec<Value>>>()?;
        noted.into_iter().collect()
    }

    fn reclaiming(&self) -> MutexGuard<'_, HashSet<Namespace>> {
        self.reclaiming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            persistent: true,
            enumeration: true,
            counters: true,
            sorted_sets: true,
            native_sorted_sets: true,
            coherent_local: true,
            tags: true,
            tag_listing: true,
            examination: true,
            locks: true,
            fair_locks: true,
            durable_fences: true,
            limiters: true,
            ..Capabilities::default()
        }
    }

    fn clock(&self) -> Clock {
        self.inner.clock.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.inner.get_many(namespace, keys).await.map_err(named)
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        self.inner.read_many(namespace, keys).await.map_err(named)
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        self.inner
            .write_many(namespace, writes)
            .await
            .map_err(named)
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.inner.clear(namespace).await.map_err(named)?;
        reclaim::start(&self.inner, namespace);
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await.map_err(named)
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        self.inner
            .increment(namespace, key, by, expiry)
            .await
            .map_err(named)
    }

    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        self.inner
            .sorted_set(namespace, key, op)
            .await
            .map_err(named)
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let wanted = Wanted {
            pattern,
            register: None,
        };
        let page = self.inner.scan(namespace, wanted, cursor, limit).await;
        page.map_err(named)
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        self.inner.count(namespace, pattern).await.map_err(named)
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        self.inner.prune(limit).await.map_err(named)
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        self.inner.nodes().await.map_err(named)
    }

    fn connection_epoch(&self) -> u64 {
        self.inner.link.epoch()
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        let stamps = self.inner.capture(namespace, key, registers).await;
        stamps.map_err(named)
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &StampedPut<'_>,
    ) -> Result<()> {
        let target = Target {
            key,
            expiry: put.expiry,
        };
        let put = self
            .inner
            .put_stamped(namespace, target, put.registers, put.seal);
        put.await.map_err(named)
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        let begun = self.inner.begin_load(namespace, key, load).await;
        begun.map_err(named)
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let told = self.inner.invalidate(namespace, registers, how).await;
        told.map_err(named)
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        let page = self.inner.scan_registers(namespace, pattern, cursor, limit);
        page.await.map_err(named)
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let pattern = Glob::all();
        let wanted = Wanted {
            pattern: &pattern,
            register: Some(register),
        };
        let page = self.inner.scan(namespace, wanted, cursor, limit).await;
        page.map_err(named)
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        self.inner.examine(namespace, key).await.map_err(named)
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        let page = self.inner.tidy(namespace, cursor, limit, removes).await;
        page.map_err(named)
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        let applied = self.inner.retire(namespace, registers, step).await;
        applied.map_err(named)
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn Journal>> {
        let reader = Reader::new(Arc::clone(&self.inner), namespace);
        Some(Box::new(reader))
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        Some(Arc::new(Leases::new(Arc::clone(&self.inner))))
    }

    async fn ping(&self) -> Result<()> {
        self.inner.link.connect().await.map_err(named)?;
        self.inner.ready().await.map_err(named)
    }
}

fn named(error: Error) -> Error {
    error.store("redis")
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("link", &self.inner.link)
            .finish_non_exhaustive()
    }
}
