//! Attempts to make a cache break its word: overtaken loads, withdrawn writes, slow stores, rival processes.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use larder::store::{
    Capabilities, Entry, Expiry, NodeStatus, ScanPage, SortedSetOp, SortedSetReply, StoreStats,
    Write,
};
use larder::{
    Cache, Clock, Glob, Local, ManualClock, MemoryStore, Namespace, NullStore, Result, Store,
};
use tokio::sync::oneshot;

const MIB: u64 = 1 << 20;

fn tier() -> Local {
    Local::capacity_bytes(4 * MIB)
}

/// A memory store on which time passes between doing and answering.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    time: ManualClock,
    read_ms: AtomicU64,
    write_ms: AtomicU64,
    shared: bool,
    clear_hangs: AtomicBool,
}

impl Slow {
    fn new(shared: bool) -> Arc<Self> {
        let time = ManualClock::new();
        Arc::new(Self {
            inner: MemoryStore::builder().clock(time.clock()).build().unwrap(),
            time,
            read_ms: AtomicU64::new(0),
            write_ms: AtomicU64::new(0),
            shared,
            clear_hangs: AtomicBool::new(false),
        })
    }

    fn pass(&self, ms: &AtomicU64) {
        self.time
            .advance(Duration::from_millis(ms.load(Ordering::SeqCst)));
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.shared = self.shared;
        // Otherwise the cache would count in this store.
        capabilities.counters = !self.shared;
        capabilities
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        let entries = self.inner.get_many(namespace, keys).await;
        self.pass(&self.read_ms);
        entries
    }

    async fn read_many(
        &self,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<larder::store::Read>> {
        let reads = self.inner.read_many(namespace, keys).await;
        self.pass(&self.read_ms);
        reads
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let applied = self.inner.write_many(namespace, writes).await;
        self.pass(&self.write_ms);
        applied
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.inner.clear(namespace).await?;
        if self.clear_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        self.inner.increment(namespace, key, by, expiry).await
    }

    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        self.inner.sorted_set(namespace, key, op).await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.inner.scan(namespace, pattern, cursor, limit).await
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        self.inner.count(namespace, pattern).await
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        self.inner.prune(limit).await
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        self.inner.nodes().await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[larder::store::Register],
    ) -> Result<Vec<larder::store::Stamp>> {
        self.inner.capture(namespace, key, registers).await
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &larder::store::StampedPut<'_>,
    ) -> Result<()> {
        self.inner.put_stamped(namespace, key, put).await
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &larder::store::LoadRequest<'_>,
    ) -> Result<larder::store::LoadBegun> {
        self.inner.begin_load(namespace, key, load).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[larder::store::Register],
        how: larder::store::Invalidation,
    ) -> Result<larder::store::Invalidated> {
        self.inner.invalidate(namespace, registers, how).await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&bytes::Bytes>,
        limit: usize,
    ) -> Result<larder::store::RegisterPage> {
        self.inner
            .scan_registers(namespace, pattern, cursor, limit)
            .await
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &larder::store::Register,
        cursor: Option<&bytes::Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.inner
            .scan_by_register(namespace, register, cursor, limit)
            .await
    }

    async fn examine(
        &self,
        namespace: &Namespace,
        key: &[u8],
    ) -> Result<Option<larder::store::Examined>> {
        self.inner.examine(namespace, key).await
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&bytes::Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<larder::store::TidyPage> {
        self.inner.tidy(namespace, cursor, limit, removes).await
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[larder::store::Register],
        step: larder::store::Retirement,
    ) -> Result<Vec<bool>> {
        self.inner.retire(namespace, registers, step).await
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn larder::store::Journal>> {
        self.inner.journal(namespace)
    }

    fn lock_store(&self) -> Option<std::sync::Arc<dyn larder::lock::LockStore>> {
        self.inner.lock_store()
    }

    fn connection_epoch(&self) -> u64 {
        self.inner.connection_epoch()
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

/// Starts a load of `key` that ends with `value` when told to.
async fn load_slowly(
    cache: &Cache,
    key: &'static str,
    value: i64,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<i64>) {
    let (started, has_started) = oneshot::channel();
    let (finish, may_finish) = oneshot::channel();
    let cache = cache.clone();
    let reader = tokio::spawn(async move {
        let load = move || async move {
            started.send(()).unwrap();
            may_finish.await.unwrap();
            Ok::<i64, io::Error>(value)
        };
        cache.remember(key, load).await.unwrap()
    });
    has_started.await.unwrap();
    (finish, reader)
}

#[tokio::test]
async fn a_load_does_not_replace_a_sorted_set_that_was_added_meanwhile() {
    let cache = Cache::builder(MemoryStore::new()).build().unwrap();
    let (finish, reader) = load_slowly(&cache, "board", 1).await;
    let board = cache.sorted_set("board");
    board.add([(1.0, "ann")]).await.unwrap();
    finish.send(()).unwrap();
    reader.await.unwrap();
    assert_eq!(board.len().await.unwrap(), 1);
}

#[tokio::test]
async fn deleting_by_pattern_overtakes_loads() {
    for local in [false, true] {
        let builder = Cache::builder(MemoryStore::new());
        let builder = if local {
            builder.local(tier())
        } else {
            builder
        };
        let cache = builder.build().unwrap();
        let (finish, reader) = load_slowly(&cache, "user:1", 1).await;
        let (finish_other, other) = load_slowly(&cache, "other", 1).await;
        assert_eq!(cache.delete_matching("user:*").await.unwrap(), 0);
        let fresh = cache.remember("user:1", || async { Ok::<i64, io::Error>(2) });
        let fresh = tokio::time::timeout(Duration::from_secs(5), fresh.into_future()).await;
        assert_eq!(fresh.expect("no wait for an older load").unwrap(), 2);
        finish.send(()).unwrap();
        finish_other.send(()).unwrap();
        reader.await.unwrap();
        other.await.unwrap();
        assert_eq!(cache.get::<i64>("user:1").await.unwrap(), Some(2));
        assert_eq!(cache.get::<i64>("other").await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn deleting_by_pattern_removes_local_copies_that_the_store_lost() {
    let store = Arc::new(MemoryStore::new());
    let cache = Cache::builder(Arc::clone(&store))
        .local(tier())
        .build()
        .unwrap();
    cache.set("user:1", &1i64).await.unwrap();
    cache.set("other", &1i64).await.unwrap();
    // As an eviction does.
    let lost = [Write::delete(b"user:1"), Write::delete(b"other")];
    let namespace = Namespace::new("", "default", 1);
    store.write_many(&namespace, &lost).await.unwrap();
    cache.delete_matching("user:*").await.unwrap();
    assert_eq!(cache.get::<i64>("user:1").await.unwrap(), None);
    assert_eq!(cache.get::<i64>("other").await.unwrap(), Some(1));
}

#[tokio::test]
async fn the_local_tier_keeps_schema_versions_apart() {
    let store = Arc::new(MemoryStore::new());
    for cache in [
        Cache::builder(store).local(tier()).build().unwrap(),
        Cache::builder(NullStore::new())
            .local(tier())
            .build()
            .unwrap(),
    ] {
        cache.schema(2).set("key", &1i64).await.unwrap();
        assert_eq!(cache.get::<i64>("key").await.unwrap(), None);
        assert_eq!(cache.schema(2).get::<i64>("key").await.unwrap(), Some(1));
        let load = || async { Ok::<i64, io::Error>(7) };
        assert_eq!(cache.schema(3).remember("key", load).await.unwrap(), 7);
        assert_eq!(cache.schema(3).get::<i64>("key").await.unwrap(), Some(7));
        assert_eq!(cache.schema(2).get::<i64>("key").await.unwrap(), None);
    }
}

#[tokio::test]
async fn loads_of_different_schema_versions_are_not_joined() {
    let cache = Cache::builder(MemoryStore::new()).build().unwrap();
    let (finish, reader) = load_slowly(&cache, "key", 1).await;
    let load = || async { Ok::<i64, io::Error>(2) };
    let second = cache.schema(2);
    let other = second.remember("key", load).into_future();
    let other = tokio::time::timeout(Duration::from_secs(5), other).await;
    assert_eq!(other.expect("no wait for another schema").unwrap(), 2);
    finish.send(()).unwrap();
    assert_eq!(reader.await.unwrap(), 1);
}

#[tokio::test]
async fn a_local_copy_does_not_outlive_an_entry_that_was_slow_to_write() {
    let store = Slow::new(false);
    let cache = Cache::builder(Arc::clone(&store))
        .local(tier().ttl_fraction(1.0))
        .build()
        .unwrap();
    store.write_ms.store(10_000, Ordering::SeqCst);
    let ttl = Duration::from_secs(15);
    cache.set("set", &1i64).ttl(ttl).await.unwrap();
    store.time.advance(Duration::from_secs(5));
    assert_eq!(cache.get::<i64>("set").await.unwrap(), None);
    let load = || async { Ok::<i64, io::Error>(7) };
    cache.remember("loaded", load).ttl(ttl).await.unwrap();
    store.time.advance(Duration::from_secs(5));
    assert_eq!(cache.get::<i64>("loaded").await.unwrap(), None);
}

#[tokio::test]
async fn staleness_counts_from_before_a_slow_read() {
    let store = Slow::new(true);
    let cache = Cache::builder(Arc::clone(&store))
        .local(tier().max_staleness(Duration::from_secs(1)))
        .build()
        .unwrap();
    cache.set("key", &1i64).await.unwrap();
    store.time.advance(Duration::from_secs(2));
    store.read_ms.store(5_000, Ordering::SeqCst);
    assert_eq!(cache.get::<i64>("key").await.unwrap(), Some(1));
    // Another process could have deleted the entry 5 s ago.
    let elsewhere = Cache::builder(Arc::clone(&store)).build().unwrap();
    elsewhere.delete("key").await.unwrap();
    assert_eq!(cache.get::<i64>("key").await.unwrap(), None);
}

#[tokio::test]
async fn a_clear_that_was_given_up_leaves_no_local_copies() {
    let store = Slow::new(false);
    let cache = Cache::builder(Arc::clone(&store))
        .local(tier())
        .build()
        .unwrap();
    cache.set("key", &1i64).await.unwrap();
    store.clear_hangs.store(true, Ordering::SeqCst);
    let given_up = tokio::time::timeout(Duration::from_millis(20), cache.clear()).await;
    assert!(given_up.is_err());
    assert_eq!(cache.get::<i64>("key").await.unwrap(), None);
    cache.set("key", &2i64).await.unwrap();
    assert_eq!(cache.get::<i64>("key").await.unwrap(), Some(2));
}

#[tokio::test]
async fn pages_of_a_cache_without_a_store_keep_to_their_limit() {
    let cache = Cache::builder(NullStore::new())
        .local(tier())
        .build()
        .unwrap();
    for n in 0..25 {
        cache.set(format!("key:{n}"), &n).await.unwrap();
    }
    let (mut cursor, mut pages, mut keys) = (None, 0, Vec::new());
    loop {
        let (page, next) = cache.keys_page("key:*", cursor, 10).await.unwrap();
        assert!(page.len() <= 10);
        keys.extend(page.into_iter().map(|scanned| scanned.key));
        pages += 1;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!((pages, keys.len()), (3, 25));
    assert_eq!(cache.delete_matching("key:*").await.unwrap(), 25);
}

#[test]
fn changing_a_ttl_never_brings_back_an_older_value() {
    let builder = Cache::builder(NullStore::new()).local(tier());
    let cache = builder.build().unwrap();
    let done = AtomicBool::new(false);
    let stale = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let longer = cache.expire("key", Duration::from_secs(60));
                longer.now_or_never().unwrap().unwrap();
            }
        });
        let stale = (0..200_000i64).find(|n| {
            cache
                .set("key", n)
                .into_future()
                .now_or_never()
                .unwrap()
                .unwrap();
            let read = cache.get::<i64>("key").now_or_never().unwrap().unwrap();
            read.is_some_and(|read| read != *n)
        });
        done.store(true, Ordering::SeqCst);
        stale
    });
    assert_eq!(
        stale, None,
        "an older value came back after this one was set"
    );
}
