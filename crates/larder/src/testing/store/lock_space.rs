//! The leases of a store in one namespace, with the short calls that laws are written in.

use std::sync::Arc;
use std::time::Duration;

use super::{StoreUnderTest, fresh_name};
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::{Answer, Ask, Listener, LockStatus, LockStore, Owner, Rate, Taken};

/// A lease or a place that outlasts any law.
pub(super) const LONG_MS: u64 = 3_600_000;
/// How much later than promised a store that counts in whole seconds lets a lease end.
const WHOLE_SECONDS_SLACK: Duration = Duration::from_millis(3200);

/// The leases of a store in one namespace. Cloning shares both.
#[derive(Debug, Clone)]
pub(super) struct LockSpace {
    pub(super) store: Arc<dyn LockStore>,
    pub(super) namespace: Namespace,
    /// Leases end to the ms.
    is_punctual: bool,
    fixture: StoreUnderTest,
}

/// Returns an attempt to hold a lock for long, or not at all.
pub(super) fn lock(owner: &Owner) -> Ask {
    Ask {
        owner: owner.clone(),
        permits: 1,
        ttl_ms: LONG_MS,
        heartbeat_ms: None,
        barge: false,
    }
}

/// Returns an attempt that waits.
pub(super) fn waiting(owner: &Owner) -> Ask {
    Ask {
        heartbeat_ms: Some(LONG_MS),
        ..lock(owner)
    }
}

/// Returns so many owners.
pub(super) fn owners<const N: usize>() -> [Owner; N] {
    std::array::from_fn(|_| Owner::new())
}

/// Returns the fence of a grant.
pub(super) fn fence(answer: Answer) -> Option<u64> {
    match answer {
        Answer::Granted { fence, .. } => Some(fence),
        Answer::Busy { .. } => None,
    }
}

impl StoreUnderTest {
    /// Returns the leases in a namespace that nothing else uses, where there are locks.
    pub(super) fn locks(&self) -> Option<LockSpace> {
        self.locks_of(&fresh_name(), "locks")
    }

    /// Returns the leases of this sort under a prefix, where there are locks.
    pub(super) fn locks_of(&self, prefix: &str, sort: &str) -> Option<LockSpace> {
        let store = self.store.lock_store()?;
        Some(LockSpace {
            store,
            namespace: Namespace::leases(prefix, sort),
            is_punctual: self.capabilities().fair_locks,
            fixture: self.clone(),
        })
    }

    /// Returns the leases, where locks have queues and lists.
    pub(super) fn fair_locks(&self) -> Option<LockSpace> {
        self.capabilities()
            .fair_locks
            .then(|| self.locks())
            .flatten()
    }

    /// Returns the leases, where there are semaphores and rate limiters.
    pub(super) fn limiters(&self) -> Option<LockSpace> {
        self.capabilities().limiters.then(|| self.locks()).flatten()
    }
}

impl LockSpace {
    pub(super) async fn ask(&self, name: &[u8], ask: &Ask) -> Result<Answer> {
        self.store.acquire(&self.namespace, name, ask).await
    }

    /// Returns the fence if the attempt is granted.
    pub(super) async fn fence(&self, name: &[u8], ask: &Ask) -> Result<Option<u64>> {
        Ok(fence(self.ask(name, ask).await?))
    }

    /// Returns the fence of an attempt that must be granted.
    pub(super) async fn granted(&self, name: &[u8], ask: &Ask) -> Result<u64> {
        let fence = self.fence(name, ask).await?;
        Ok(fence.expect("the permit is free"))
    }

    /// Checks that an attempt is not granted.
    pub(super) async fn busy(&self, name: &[u8], ask: &Ask) -> Result<()> {
        let answer = self.ask(name, ask).await?;
        assert_eq!(fence(answer), None, "it is held, or not the owner's turn");
        Ok(())
    }

    pub(super) async fn extend(&self, name: &[u8], owner: &Owner, ttl_ms: u64) -> Result<bool> {
        let store = &self.store;
        store.extend(&self.namespace, name, owner, ttl_ms).await
    }

    pub(super) async fn release(&self, name: &[u8], owner: &Owner) -> Result<bool> {
        self.store.release(&self.namespace, name, owner, None).await
    }

    /// Releases a lease and has it remembered how long it was held.
    pub(super) async fn record(&self, name: &[u8], owner: &Owner, held_ms: u64) -> Result<bool> {
        let held_ms = Some(held_ms);
        self.store
            .release(&self.namespace, name, owner, held_ms)
            .await
    }

    pub(super) async fn hold_times(&self, name: &[u8]) -> Result<Vec<u64>> {
        self.store.hold_times(&self.namespace, name).await
    }

    pub(super) async fn evict(&self, name: &[u8]) -> Result<u64> {
        self.store.evict(&self.namespace, name).await
    }

    /// Lists names in use, sorted; none twice.
    pub(super) async fn list(&self, pattern: &Glob, limit: usize) -> Result<Vec<LockStatus>> {
        let mut listed = self.store.list(&self.namespace, pattern, limit).await?;
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = listed.iter().map(|status| &status.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "a name is listed once");
        Ok(listed)
    }

    /// Returns what is known of the one name in use.
    pub(super) async fn status(&self) -> Result<LockStatus> {
        let mut listed = self.list(&Glob::all(), 10).await?;
        assert_eq!(listed.len(), 1, "one name is in use: {listed:?}");
        Ok(listed.remove(0))
    }

    pub(super) async fn take(&self, name: &[u8], rate: &Rate, tokens: u64) -> Result<Taken> {
        self.store.take(&self.namespace, name, rate, tokens).await
    }

    pub(super) async fn listen(&self, name: &[u8], owner: &Owner) -> Listener {
        self.store.listen(&self.namespace, name, owner).await
    }

    /// Lets a lease of so many ms end.
    pub(super) async fn outlive(&self, ttl_ms: u64) {
        let ttl = Duration::from_millis(ttl_ms);
        self.fixture.pass(ttl).await;
        if !self.is_punctual {
            // Such a store follows its server's time, also where the entries follow a manual clock.
            tokio::time::sleep(ttl + WHOLE_SECONDS_SLACK).await;
        }
    }

    /// Returns whether time stands still until the law lets it pass, so that every ms can be told.
    pub(super) fn is_exact(&self) -> bool {
        self.is_punctual && self.fixture.time.is_some()
    }

    /// Returns whether leases end within a few ms, rather than on whole seconds.
    pub(super) fn is_punctual(&self) -> bool {
        self.is_punctual
    }
}
