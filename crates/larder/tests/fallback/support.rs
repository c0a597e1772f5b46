//! A server that can be stopped and started, and what the tests do with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use larder::store::{
    Capabilities, Change, Entry, Expiry, Fallback, File, Memory, NodeStatus, ScanPage, SortedSetOp,
    SortedSetReply, Sqlite, Store, StoreStats, Write,
};
use larder::testing::{Fault, FlakyStore, body, sealed};
use larder::{Clock, Error, ErrorKind, Glob, Namespace, Result};
use tempfile::TempDir;

/// A put that the network keeps: where, under which key, and what.
type DelayedPut = (Namespace, Vec<u8>, Bytes);

/// A server: its data survive a stop, and every start makes connections anew. Cloning is another connection's view.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) store: FlakyStore,
    epoch: Arc<AtomicU64>,
    /// Ignores deletes and clears: a replay comes to nothing.
    deaf: Arc<AtomicBool>,
    data: Memory,
    /// Writes time out and stay on their way.
    delays: Arc<AtomicBool>,
    on_their_way: Arc<Mutex<Vec<DelayedPut>>>,
    /// Refuses all calls from the next ping on.
    broken_by_ping: Arc<Mutex<Option<FlakyStore>>>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let data = Memory::new();
        Self {
            store: FlakyStore::new(data.clone(), 1),
            data,
            epoch: Arc::default(),
            deaf: Arc::default(),
            delays: Arc::default(),
            on_their_way: Arc::default(),
            broken_by_ping: Arc::default(),
        }
    }

    pub(crate) fn stop(&self) {
        self.store.chance(1.0, Fault::Refuse);
    }

    pub(crate) fn start(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.store.chance(0.0, Fault::Refuse);
    }

    /// Lets all calls wait, longer than any test.
    pub(crate) fn hang(&self) {
        self.store.delay(Duration::from_secs(1 << 20));
    }

    pub(crate) fn set_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Lets another store refuse all calls once this one is pinged.
    pub(crate) fn break_on_ping(&self, store: &FlakyStore) {
        *self.broken_by_ping.lock().unwrap() = Some(store.clone());
    }

    /// Lets puts from now on time out, and stay on their way.
    pub(crate) fn delay_puts(&self) {
        self.delays.store(true, Ordering::SeqCst);
    }

    /// Makes the puts that were on their way.
    pub(crate) async fn let_puts_arrive(&self) {
        self.delays.store(false, Ordering::SeqCst);
        let puts = std::mem::take(&mut *self.on_their_way.lock().unwrap());
        for (space, key, value) in puts {
            let put = Write::put(&key, value, Expiry::Never);
            self.data.write_many(&space, &[put]).await.unwrap();
        }
    }

    fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::SeqCst)
    }

    fn keep_on_the_way(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Error {
        let mut kept = self.on_their_way.lock().unwrap();
        for write in writes {
            if let Change::Put(value) = &write.change {
                kept.push((namespace.clone(), write.key.to_vec(), value.clone()));
            }
        }
        Error::new(ErrorKind::Timeout, "no reply in time")
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Server {
    fn name(&self) -> &'static str {
        "server"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.store.capabilities();
        can.shared = true;
        can
    }

    fn clock(&self) -> Clock {
        self.store.clock()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.store.get_many(namespace, keys).await
    }

    async fn read_many(
        &self,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<larder::store::Read>> {
        self.store.read_many(namespace, keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        if self.is_deaf() && writes.iter().all(|write| write.change == Change::Delete) {
            self.store.ping().await?;
            return Ok(vec![true; writes.len()]);
        }
        if self.delays.load(Ordering::SeqCst) {
            return Err(self.keep_on_the_way(namespace, writes));
        }
        self.store.write_many(namespace, writes).await
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        if self.is_deaf() {
            return self.store.ping().await;
        }
        self.store.clear(namespace).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.store.stats().await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        self.store.increment(namespace, key, by, expiry).await
    }

    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        self.store.sorted_set(namespace, key, op).await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.store.scan(namespace, pattern, cursor, limit).await
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        self.store.count(namespace, pattern).await
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        self.store.prune(limit).await
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        self.store.nodes().await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[larder::store::Register],
    ) -> Result<Vec<larder::store::Stamp>> {
        self.store.capture(namespace, key, registers).await
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &larder::store::StampedPut<'_>,
    ) -> Result<()> {
        self.store.put_stamped(namespace, key, put).await
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &larder::store::LoadRequest<'_>,
    ) -> Result<larder::store::LoadBegun> {
        self.store.begin_load(namespace, key, load).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[larder::store::Register],
        how: larder::store::Invalidation,
    ) -> Result<larder::store::Invalidated> {
        self.store.invalidate(namespace, registers, how).await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&bytes::Bytes>,
        limit: usize,
    ) -> Result<larder::store::RegisterPage> {
        self.store
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
        self.store
            .scan_by_register(namespace, register, cursor, limit)
            .await
    }

    async fn examine(
        &self,
        namespace: &Namespace,
        key: &[u8],
    ) -> Result<Option<larder::store::Examined>> {
        self.store.examine(namespace, key).await
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&bytes::Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<larder::store::TidyPage> {
        self.store.tidy(namespace, cursor, limit, removes).await
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[larder::store::Register],
        step: larder::store::Retirement,
    ) -> Result<Vec<bool>> {
        self.store.retire(namespace, registers, step).await
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn larder::store::Journal>> {
        self.store.journal(namespace)
    }

    fn lock_store(&self) -> Option<std::sync::Arc<dyn larder::lock::LockStore>> {
        self.store.lock_store()
    }

    fn connection_epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    async fn ping(&self) -> Result<()> {
        if let Some(store) = self.broken_by_ping.lock().unwrap().take() {
            store.chance(1.0, Fault::Refuse);
        }
        self.store.ping().await
    }
}

/// The kinds of standbys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standby {
    Memory,
    Sqlite,
    File,
}

impl Standby {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Sqlite, Self::File];

    /// Opens it in a directory, as each process does.
    pub(crate) fn open(self, dir: &TempDir) -> Arc<dyn Store> {
        match self {
            Self::Memory => Arc::new(Memory::new()),
            Self::Sqlite => Arc::new(Sqlite::open(dir.path().join("standby.db")).unwrap()),
            Self::File => Arc::new(File::open(dir.path().join("standby")).unwrap()),
        }
    }
}

/// A server, and a process that uses it.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) standby: Arc<dyn Store>,
    pub(crate) store: Fallback,
    pub(crate) space: Namespace,
    pub(crate) dir: TempDir,
}

impl Scene {
    pub(crate) fn new(kind: Standby) -> Self {
        let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
        let standby = kind.open(&dir);
        let store = Fallback::new(Arc::new(server.clone()), Arc::clone(&standby)).unwrap();
        Self {
            server,
            standby,
            store,
            space: Namespace::new("test", "cache", 1),
            dir,
        }
    }

    /// Another process of the host.
    pub(crate) fn another(&self) -> Fallback {
        Fallback::new(Arc::new(self.server.clone()), Arc::clone(&self.standby)).unwrap()
    }

    pub(crate) async fn set(&self, key: &str, value: &str) {
        set(&self.store, &self.space, key, value).await.unwrap();
    }

    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        get(&self.store, &self.space, key).await.unwrap()
    }

    pub(crate) async fn delete(&self, key: &str) {
        let delete = Write::delete(key.as_bytes());
        self.store.write_many(&self.space, &[delete]).await.unwrap();
    }

    /// What the server itself holds.
    pub(crate) async fn on_server(&self, key: &str) -> Option<String> {
        get(&self.server, &self.space, key).await.unwrap()
    }

    /// Waits until calls go to the primary again.
    pub(crate) async fn returned(&self) {
        returned(&self.store).await;
    }
}

pub(crate) async fn set(
    store: &dyn Store,
    space: &Namespace,
    key: &str,
    value: &str,
) -> Result<()> {
    let write = Write::put(key.as_bytes(), sealed(value.as_bytes()), Expiry::Never);
    store.write_many(space, &[write]).await.map(drop)
}

pub(crate) async fn get(store: &dyn Store, space: &Namespace, key: &str) -> Result<Option<String>> {
    let entry = store.get_many(space, &[key.as_bytes()]).await?.remove(0);
    let body = entry.map(|entry| body(&entry.value).unwrap());
    Ok(body.map(|body| String::from_utf8(body.to_vec()).unwrap()))
}

pub(crate) async fn returned(store: &Fallback) {
    for _ in 0..200 {
        if state(store).await == "primary" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the store stays on the standby");
}

/// The state as the figures tell it.
pub(crate) async fn state(store: &Fallback) -> String {
    detail(store, "fallback").await
}

pub(crate) async fn detail(store: &Fallback, name: &str) -> String {
    let stats = store.stats().await.unwrap();
    let found = stats.details.into_iter().find(|(known, _)| known == name);
    found.unwrap().1
}
