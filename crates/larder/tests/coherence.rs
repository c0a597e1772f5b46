//! Tasks change and read a few keys at random, and no read may see what an acknowledged change made older.
//!
//! Every value is a version that is written once. The model notes on one time line when a version's own write ended
//! (for a loaded one: when its load began), and per key the latest start of a change that was acknowledged. A read that
//! began after that must not return a version that had ended before it. This takes no lock and has no false alarms;
//! concurrent changes may win in any order.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
#[cfg(feature = "sqlite")]
use larder::SqliteStore;
use larder::store::{
    Capabilities, Entry, Expiry, NodeStatus, ScanPage, SortedSetOp, SortedSetReply, StoreStats,
    Write,
};
use larder::{Cache, Clock, Glob, Local, MemoryStore, Namespace, NullStore, Result, Store};

const KEYS: [&str; 4] = ["k:a", "k:b", "k:c", "k:d"];
const COUNTER: &str = "counter";
const TASKS: u64 = 6;
const MAX_VERSIONS: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);
const RUN: Duration = Duration::from_millis(1500);

/// What happened when.
struct Model {
    now: AtomicU64,
    /// When each version's write ended; `u64::MAX` while it runs.
    ended: Box<[AtomicU64]>,
    next_version: AtomicU64,
    /// Per key, the latest start of an acknowledged change.
    floors: [AtomicU64; KEYS.len()],
    /// The highest sum that an increment returned.
    sum: AtomicU64,
    stale: Mutex<Vec<String>>,
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU64::new(1),
            ended: (0..MAX_VERSIONS)
                .map(|_| AtomicU64::new(u64::MAX))
                .collect(),
            next_version: AtomicU64::new(0),
            floors: Default::default(),
            sum: AtomicU64::new(0),
            stale: Mutex::default(),
        })
    }

    fn tick(&self) -> u64 {
        self.now.fetch_add(1, SeqCst)
    }

    fn version(&self) -> u64 {
        self.next_version.fetch_add(1, SeqCst)
    }

    /// Ends the write of a version: whatever became of it, it must not take effect any more.
    fn end(&self, version: u64) {
        self.ended[version as usize].store(self.tick(), SeqCst);
    }

    fn acknowledge(&self, keys: impl IntoIterator<Item = usize>, start: u64) {
        for key in keys {
            self.floors[key].fetch_max(start, SeqCst);
        }
    }

    /// Judges what a read returned that began when the key's floor was as given.
    fn check(&self, key: usize, floor: u64, read: Option<u64>, how: &str) {
        if let Some(version) = read
            && self.ended[version as usize].load(SeqCst) < floor
        {
            let line = format!("{how} of {} saw version {version}", KEYS[key]);
            self.stale.lock().unwrap().push(line);
        }
    }

    fn floor(&self, key: usize) -> u64 {
        self.floors[key].load(SeqCst)
    }
}

/// Gives a future some time, seldom none, so that it is dropped at any of its awaits.
async fn maybe_drop<T>(rng: &mut fastrand::Rng, work: impl Future<Output = T>) -> Option<T> {
    match rng.u8(0..8) {
        0 => tokio::time::timeout(Duration::from_micros(rng.u64(0..300)), work)
            .await
            .ok(),
        _ => Some(work.await),
    }
}

/// Does one random change of one or all keys.
async fn change(cache: &Cache, model: &Model, rng: &mut fastrand::Rng) {
    let key = rng.usize(0..KEYS.len());
    let start = model.tick();
    match rng.u8(0..12) {
        0..5 => {
            let version = model.version();
            let done = maybe_drop(rng, async {
                cache.set(KEYS[key], &version).ttl(HOUR).await
            });
            let done = done.await;
            model.end(version);
            if matches!(done, Some(Ok(()))) {
                model.acknowledge([key], start);
            }
        }
        5 => {
            let pairs = KEYS.map(|key| (key, model.version()));
            let done = maybe_drop(rng, async { cache.set_many(&pairs).await }).await;
            pairs.iter().for_each(|(_, version)| model.end(*version));
            if matches!(done, Some(Ok(()))) {
                model.acknowledge(0..KEYS.len(), start);
            }
        }
        6 => {
            let version = model.version();
            let added = maybe_drop(rng, async { cache.add(KEYS[key], &version).await }).await;
            model.end(version);
            if matches!(added, Some(Ok(true))) {
                model.acknowledge([key], start);
            }
        }
        7 | 8 => {
            if let Some(Ok(_)) = maybe_drop(rng, cache.delete(KEYS[key])).await {
                model.acknowledge([key], start);
            }
        }
        9 => {
            let _ = maybe_drop(rng, cache.expire(KEYS[key], HOUR)).await;
        }
        10 => {
            if let Some(Ok(_)) = maybe_drop(rng, cache.delete_matching("k:*")).await {
                model.acknowledge(0..KEYS.len(), start);
            }
        }
        _ => {
            // The counter is lost as well, so only some of the caches are cleared.
            if !cache.capabilities().counters
                && let Some(Ok(())) = maybe_drop(rng, cache.clear()).await
            {
                model.acknowledge(0..KEYS.len(), start);
            }
        }
    }
}

/// Does one random read and judges it.
async fn read(cache: &Cache, model: &Arc<Model>, rng: &mut fastrand::Rng) {
    let key = rng.usize(0..KEYS.len());
    let floor = model.floor(key);
    let loading = Arc::clone(model);
    let pause = Duration::from_micros(rng.u64(0..200));
    let load = move |keys: Vec<&'static str>| async move {
        let pairs: Vec<_> = keys
            .into_iter()
            .map(|key| (key, loading.version()))
            .collect();
        pairs.iter().for_each(|(_, version)| loading.end(*version));
        if pause.as_micros() > 50 {
            tokio::time::sleep(pause).await;
        }
        Ok::<_, io::Error>(pairs)
    };
    match rng.u8(0..8) {
        0..4 => {
            let read = cache.get::<u64>(KEYS[key]).await.unwrap();
            model.check(key, floor, read, "get");
        }
        4 => {
            let floors: Vec<_> = (0..KEYS.len()).map(|key| model.floor(key)).collect();
            let read = cache.get_many::<u64>(&KEYS).await.unwrap();
            for (key, read) in read.into_iter().enumerate() {
                model.check(key, floors[key], read, "get_many");
            }
        }
        5 | 6 => {
            let one = move || async move { Ok::<_, io::Error>(load(vec![KEYS[key]]).await?[0].1) };
            let read = maybe_drop(rng, async { cache.remember(KEYS[key], one).await }).await;
            model.check(key, floor, read.map(Result::unwrap), "remember");
        }
        _ => {
            let floors: Vec<_> = (0..KEYS.len()).map(|key| model.floor(key)).collect();
            let read = maybe_drop(rng, async { cache.remember_many(&KEYS, load).await }).await;
            for (key, read) in read.map(Result::unwrap).into_iter().flatten().enumerate() {
                model.check(key, floors[key], read, "remember_many");
            }
        }
    }
}

async fn count(cache: &Cache, model: &Model) {
    let floor = model.sum.load(SeqCst);
    let read = cache.get::<u64>(COUNTER).await.unwrap().unwrap_or(0);
    if read < floor {
        let line = format!("the counter went back from {floor} to {read}");
        model.stale.lock().unwrap().push(line);
    }
    let sum = cache.increment(COUNTER, 1).await.unwrap();
    model.sum.fetch_max(sum as u64, SeqCst);
}

/// Runs the tasks and returns what they saw that they must not see.
async fn run(cache: Cache) -> Vec<String> {
    let model = Model::new();
    let until = Instant::now() + RUN;
    let seed = fastrand::u64(..);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (cache, model) = (cache.clone(), Arc::clone(&model));
            let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(task));
            tokio::spawn(async move {
                let room = || model.next_version.load(SeqCst) < MAX_VERSIONS as u64 - 1000;
                while Instant::now() < until && room() {
                    match rng.u8(0..10) {
                        0..4 => change(&cache, &model, &mut rng).await,
                        4 if cache.capabilities().counters => count(&cache, &model).await,
                        _ => read(&cache, &model, &mut rng).await,
                    }
                    if rng.u8(0..16) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(model.next_version.load(SeqCst) > 100, "it did something");
    let stale = std::mem::take(&mut *model.stale.lock().unwrap());
    if !stale.is_empty() {
        println!("seed {seed}");
    }
    stale
}

/// What a [`Delayed`] store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Some reads are answered with what was read before.
    RepeatsReads,
    /// Some writes are acknowledged before they are made.
    AnswersEarly,
}

/// A memory store whose answers come late: what was read or written is overtaken before the cache hears of it.
#[derive(Debug)]
struct Delayed {
    inner: MemoryStore,
    flaw: Flaw,
    before: Mutex<Vec<Option<Entry>>>,
}

impl Delayed {
    fn new(flaw: Flaw) -> Self {
        Self {
            inner: MemoryStore::new(),
            flaw,
            before: Mutex::default(),
        }
    }
}

async fn delay() {
    match fastrand::u8(0..4) {
        0 => tokio::time::sleep(Duration::from_micros(fastrand::u64(0..500))).await,
        1 | 2 => tokio::task::yield_now().await,
        _ => {}
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Delayed {
    fn name(&self) -> &'static str {
        "delayed"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        let mut read = self.inner.get_many(namespace, keys).await?;
        if self.flaw == Flaw::RepeatsReads && keys == [KEYS[0].as_bytes()] {
            let mut before = self.before.lock().unwrap();
            if fastrand::u8(0..8) > 0 || before.is_empty() {
                before.clone_from(&read);
            } else {
                read.clone_from(&before);
            }
        }
        delay().await;
        Ok(read)
    }

    async fn read_many(
        &self,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<larder::store::Read>> {
        let entries = self.get_many(namespace, keys).await?;
        Ok(entries.into_iter().map(Into::into).collect())
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        delay().await;
        if self.flaw == Flaw::AnswersEarly && fastrand::u8(0..8) == 0 {
            let (inner, namespace) = (self.inner.clone(), namespace.clone());
            let keys: Vec<_> = writes.iter().map(|write| write.key.to_vec()).collect();
            let writes: Vec<_> = writes
                .iter()
                .cloned()
                .map(|w| (w.change, w.expiry))
                .collect();
            let applied = vec![true; writes.len()];
            tokio::spawn(async move {
                delay().await;
                for (key, (change, expiry)) in keys.iter().zip(writes) {
                    let write = Write {
                        change,
                        expiry,
                        ..Write::delete(key)
                    };
                    inner.write_many(&namespace, &[write]).await.unwrap();
                }
            });
            return Ok(applied);
        }
        let applied = self.inner.write_many(namespace, writes).await;
        delay().await;
        applied
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        delay().await;
        self.inner.clear(namespace).await?;
        delay().await;
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
        let sum = self.inner.increment(namespace, key, by, expiry).await;
        delay().await;
        sum
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
        let page = self.inner.scan(namespace, pattern, cursor, limit).await;
        delay().await;
        page
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

fn local(cache: larder::cache::Builder) -> Cache {
    cache.local(Local::capacity_bytes(1 << 20)).build().unwrap()
}

async fn assert_coherent(cache: Cache) {
    let stale = run(cache).await;
    assert!(
        stale.is_empty(),
        "{} stale reads: {:?}",
        stale.len(),
        &stale[..stale.len().min(5)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_with_a_local_tier() {
    assert_coherent(local(Cache::builder(MemoryStore::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_store_with_and_without_a_local_tier() {
    assert_coherent(local(Cache::builder(Delayed::new(Flaw::None)))).await;
    let cache = Cache::builder(Delayed::new(Flaw::None)).build().unwrap();
    assert_coherent(cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_tier_alone() {
    assert_coherent(local(Cache::builder(NullStore::new()))).await;
    let tiny = Local::capacity_bytes(4096);
    let cache = Cache::builder(NullStore::new())
        .local(tiny)
        .build()
        .unwrap();
    assert_coherent(cache).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_with_and_without_a_local_tier() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| SqliteStore::open(dir.path().join(name)).unwrap();
    assert_coherent(local(Cache::builder(open("local.db")))).await;
    assert_coherent(Cache::builder(open("plain.db")).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_check_notices_stale_reads_and_early_answers() {
    for flaw in [Flaw::RepeatsReads, Flaw::AnswersEarly] {
        let stale = run(Cache::builder(Delayed::new(flaw)).build().unwrap()).await;
        assert!(!stale.is_empty(), "{flaw:?} was not noticed");
    }
}
