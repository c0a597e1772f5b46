//! The locks of a store that fails on demand: refused, slow, or with lost replies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::FlakyStore;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::{Answer, Ask, Listener, LockStatus, LockStore, Owner, Rate, Taken};

/// Wraps locks and lets their calls fail as the store's are told to.
#[derive(Debug)]
pub(super) struct FlakyLocks {
    inner: Arc<dyn LockStore>,
    store: FlakyStore,
}

impl FlakyLocks {
    pub(super) fn new(inner: Arc<dyn LockStore>, store: &FlakyStore) -> Self {
        let store = store.clone();
        Self { inner, store }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LockStore for FlakyLocks {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let work = self.inner.acquire(space, name, ask);
        self.store.call(work).await
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        let work = self.inner.extend(space, name, owner, ttl_ms);
        self.store.call(work).await
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        let work = self.inner.release(space, name, owner, held_ms);
        self.store.call(work).await
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        self.store.call(self.inner.evict(space, name)).await
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        self.store.call(self.inner.hold_times(space, name)).await
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let work = self.inner.list(space, pattern, limit);
        self.store.call(work).await
    }

    async fn take(
        &self,
        space: &Namespace,
        name: &[u8],
        rate: &Rate,
        tokens: u64,
    ) -> Result<Taken> {
        let work = self.inner.take(space, name, rate, tokens);
        self.store.call(work).await
    }

    fn is_fair(&self) -> bool {
        self.inner.is_fair()
    }

    fn longest_pause(&self) -> Duration {
        self.inner.longest_pause()
    }

    /// Cannot fail: bells are hints.
    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        self.inner.listen(space, name, owner).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::{Memory, Store};
    use crate::testing::Fault;

    fn flaky() -> (FlakyStore, Arc<dyn LockStore>, Namespace) {
        let store = FlakyStore::new(Memory::new(), 1);
        let locks = store.lock_store().unwrap();
        (store, locks, Namespace::leases("test", "locks"))
    }

    fn ask(owner: &Owner) -> Ask {
        Ask {
            owner: owner.clone(),
            permits: 1,
            ttl_ms: 60_000,
            heartbeat_ms: None,
            barge: false,
        }
    }

    fn kind<T>(outcome: Result<T>) -> ErrorKind {
        outcome.err().unwrap().kind()
    }

    #[tokio::test]
    async fn refused_attempts_are_not_made_and_lost_ones_are() {
        let (store, locks, space) = flaky();
        let (a, b) = (Owner::new(), Owner::new());
        store.next(1, Fault::Refuse);
        let refused = locks.acquire(&space, b"x", &ask(&a)).await;
        assert_eq!(kind(refused), ErrorKind::Unavailable);
        store.next(1, Fault::LoseReply);
        let lost = locks.acquire(&space, b"x", &ask(&b)).await;
        assert_eq!(kind(lost), ErrorKind::Timeout);
        let other = locks.acquire(&space, b"x", &ask(&a)).await.unwrap();
        assert!(matches!(other, Answer::Busy { .. }));
        let again = locks.acquire(&space, b"x", &ask(&b)).await.unwrap();
        assert!(matches!(again, Answer::Granted { .. }));
        store.next(1, Fault::LoseReply);
        let lost = locks.release(&space, b"x", &b, None).await;
        assert_eq!(kind(lost), ErrorKind::Timeout);
        assert!(!locks.release(&space, b"x", &b, None).await.unwrap());
        let counts = store.counts();
        assert_eq!((counts.calls, counts.refused, counts.lost), (6, 1, 2));
    }

    #[tokio::test]
    async fn every_call_can_fail() {
        let (store, locks, space) = flaky();
        let (owner, all) = (Owner::new(), Glob::all());
        let rate = Rate {
            tokens: 1,
            interval_ms: 1,
            burst: 1,
        };
        store.next(7, Fault::Refuse);
        let refused = [
            kind(locks.acquire(&space, b"x", &ask(&owner)).await),
            kind(locks.extend(&space, b"x", &owner, 1).await),
            kind(locks.release(&space, b"x", &owner, None).await),
            kind(locks.evict(&space, b"x").await),
            kind(locks.hold_times(&space, b"x").await),
            kind(locks.list(&space, &all, 1).await),
            kind(locks.take(&space, b"x", &rate, 1).await),
        ];
        assert_eq!(refused, [ErrorKind::Unavailable; 7]);
        assert!(locks.list(&space, &all, 1).await.unwrap().is_empty());
    }
}
