//! A lock store in memory whose answers can be made to come late.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use larder::lock::{Answer, Ask, Listener, LockStatus, LockStore, Locks, Owner, Rate, Taken};
use larder::store::Store;
use larder::{Glob, MemoryStore, Namespace, Result};
use tokio::sync::watch;

use super::until;

/// Lets answers through, or keeps them until it is opened.
#[derive(Debug)]
pub(super) struct Gate {
    is_open: watch::Sender<bool>,
    kept: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            is_open: watch::Sender::new(true),
            kept: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    pub(super) fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub(super) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Waits until so many have come to the closed gate, ever.
    pub(super) async fn keeps(&self, count: usize) {
        let come = async || self.kept.load(Ordering::SeqCst) >= count;
        until("a call", come).await;
    }

    async fn pass(&self) {
        if !*self.is_open.borrow() {
            self.kept.fetch_add(1, Ordering::SeqCst);
            let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
        }
    }
}

#[derive(Debug)]
pub(super) struct Slow {
    inner: Arc<dyn LockStore>,
    pub(super) acquired: Gate,
    pub(super) extended: Gate,
    pub(super) released: Gate,
    pub(super) takes: AtomicUsize,
    pub(super) listens: Gate,
}

/// Returns locks, those of another process, and their store.
pub(super) fn slow() -> (Locks, Locks, Arc<Slow>) {
    let slow = Arc::new(Slow {
        inner: MemoryStore::new().lock_store().unwrap(),
        acquired: Gate::default(),
        extended: Gate::default(),
        released: Gate::default(),
        takes: AtomicUsize::new(0),
        listens: Gate::default(),
    });
    let store: Arc<dyn LockStore> = Arc::<Slow>::clone(&slow);
    let others = Locks::new(Arc::clone(&slow.inner), "slow");
    (Locks::new(store, "slow"), others, slow)
}

#[async_trait]
impl LockStore for Slow {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let answer = self.inner.acquire(space, name, ask).await;
        self.acquired.pass().await;
        answer
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        let answer = self.inner.extend(space, name, owner, ttl_ms).await;
        self.extended.pass().await;
        answer
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        self.released.pass().await;
        self.inner.release(space, name, owner, held_ms).await
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        self.inner.evict(space, name).await
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        self.inner.hold_times(space, name).await
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        self.inner.list(space, pattern, limit).await
    }

    async fn take(
        &self,
        space: &Namespace,
        name: &[u8],
        rate: &Rate,
        tokens: u64,
    ) -> Result<Taken> {
        self.takes.fetch_add(1, Ordering::SeqCst);
        self.inner.take(space, name, rate, tokens).await
    }

    fn longest_pause(&self) -> Duration {
        self.inner.longest_pause()
    }

    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        self.listens.pass().await;
        self.inner.listen(space, name, owner).await
    }
}
