//! A store that fails on demand: before or after applying, slowly, or with damaged bytes.
//!
//! Faults are scripted ([`FlakyStore::next`]) or random ([`FlakyStore::chance`]), and the random ones follow a
//! seed: the same calls in the same order meet the same faults.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::flaky_locks::FlakyLocks;
use crate::clock::{Clock, duration_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;
use crate::store::{
    Capabilities, Change, Entry, Examined, Expiry, Invalidated, Invalidation, Journal, LoadBegun,
    LoadRequest, NodeStatus, Read, Register, RegisterPage, Retirement, ScanPage, SortedSetOp,
    SortedSetReply, Stamp, StampedPut, Store, StoreStats, TidyPage, Write,
};

/// What can go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with `Unavailable`; nothing was applied.
    Refuse,
    /// The call fails with `Timeout` after it was applied: the reply is lost.
    LoseReply,
    /// The entries of a bulk write are stored cut short, and the write reports success.
    Tear,
    /// The entries of a bulk read come with one byte changed.
    Corrupt,
}

impl Fault {
    const COUNT: usize = 4;
}

/// How often each fault struck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Calls, with faults and without.
    pub calls: u64,
    /// Calls that failed with [`Fault::Refuse`].
    pub refused: u64,
    /// Calls that failed with [`Fault::LoseReply`].
    pub lost: u64,
    /// Writes that were torn.
    pub torn: u64,
    /// Reads that were corrupted.
    pub corrupted: u64,
}

/// Wraps any store and lets its calls fail, those of its locks included. Cloning shares the store, the plan and the counts.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use larder::store::{Memory, Store};
/// use larder::testing::{Fault, FlakyStore};
/// let store = FlakyStore::new(Memory::new(), 1);
/// store.next(1, Fault::Refuse);
/// assert!(store.ping().await.is_err());
/// assert!(store.ping().await.is_ok());
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FlakyStore {
    inner: Arc<dyn Store>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    random: fastrand::Rng,
    scripted: [u64; Fault::COUNT],
    chances: [f64; Fault::COUNT],
    delay: Duration,
    counts: FaultCounts,
}

impl FlakyStore {
    /// Wraps a store; without further orders it behaves like it.
    #[must_use]
    pub fn new(inner: impl Store, seed: u64) -> Self {
        let plan = Plan {
            random: fastrand::Rng::with_seed(seed),
            scripted: [0; Fault::COUNT],
            chances: [0.0; Fault::COUNT],
            delay: Duration::ZERO,
            counts: FaultCounts::default(),
        };
        Self {
            inner: Arc::new(inner),
            plan: Arc::new(Mutex::new(plan)),
        }
    }

    /// Makes the next `calls` that this fault can strike meet it.
    pub fn next(&self, calls: u64, fault: Fault) {
        self.plan().scripted[fault as usize] = calls;
    }

    /// Makes each call that this fault can strike meet it with this probability, from 0.0 to 1.0.
    pub fn chance(&self, probability: f64, fault: Fault) {
        self.plan().chances[fault as usize] = probability;
    }

    /// Makes each call wait first, a random time up to this.
    pub fn delay(&self, at_most: Duration) {
        self.plan().delay = at_most;
    }

    /// Ends all faults and delays, scripted and random.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.scripted = [0; Fault::COUNT];
        plan.chances = [0.0; Fault::COUNT];
        plan.delay = Duration::ZERO;
    }

    /// Returns how often each fault struck so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.plan().counts
    }

    /// Runs a call between the faults that come before and after it.
    pub(super) async fn call<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let delay = self.plan().begin();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.plan().strikes(Fault::Refuse) {
            let refused = Error::new(ErrorKind::Unavailable, "the call was told to fail");
            return Err(refused.store("flaky"));
        }
        let reply = work.await;
        if self.plan().strikes(Fault::LoseReply) {
            let lost = Error::new(ErrorKind::Timeout, "the reply was told to be lost");
            return Err(lost.store("flaky"));
        }
        reply
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Counts a call and returns how long it is to wait.
    fn begin(&mut self) -> Duration {
        self.counts.calls += 1;
        let at_most = duration_ms(self.delay);
        Duration::from_millis(self.random.u64(0..=at_most))
    }

    /// Decides whether a fault strikes the present call, and counts it.
    fn strikes(&mut self, fault: Fault) -> bool {
        let scripted = &mut self.scripted[fault as usize];
        let strikes = if *scripted > 0 {
            *scripted -= 1;
            true
        } else {
            // Drawn in any case, so that a script shifts no later draws.
            self.random.f64() < self.chances[fault as usize]
        };
        let count = match fault {
            Fault::Refuse => &mut self.counts.refused,
            Fault::LoseReply => &mut self.counts.lost,
            Fault::Tear => &mut self.counts.torn,
            Fault::Corrupt => &mut self.counts.corrupted,
        };
        *count += u64::from(strikes);
        strikes
    }

    /// Cuts the entries of these writes short.
    fn tear(&mut self, writes: &mut [Write<'_>]) {
        for write in writes {
            if let Change::Put(entry) = &mut write.change {
                entry.truncate(self.random.usize(..entry.len().max(1)));
            }
        }
    }

    /// Changes one byte of each entry.
    fn corrupt<'a>(&mut self, entries: impl Iterator<Item = &'a mut Entry>) {
        for entry in entries {
            let mut bytes = entry.value.to_vec();
            let at = self.random.usize(..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= self.random.u8(1..);
            }
            entry.value = bytes.into();
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for FlakyStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        let mut entries = self.call(self.inner.get_many(namespace, keys)).await?;
        let mut plan = self.plan();
        if plan.strikes(Fault::Corrupt) {
            plan.corrupt(entries.iter_mut().flatten());
        }
        Ok(entries)
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let mut reads = self.call(self.inner.read_many(namespace, keys)).await?;
        let mut plan = self.plan();
        if plan.strikes(Fault::Corrupt) {
            plan.corrupt(reads.iter_mut().filter_map(|read| match read {
                Read::Entry(entry) => Some(entry),
                Read::Invalid | Read::Absent => None,
            }));
        }
        Ok(reads)
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let torn = {
            let mut plan = self.plan();
            plan.strikes(Fault::Tear).then(|| {
                let mut torn = writes.to_vec();
                plan.tear(&mut torn);
                torn
            })
        };
        let writes = torn.as_deref().unwrap_or(writes);
        self.call(self.inner.write_many(namespace, writes)).await
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.call(self.inner.clear(namespace)).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.call(self.inner.stats()).await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        self.call(self.inner.increment(namespace, key, by, expiry))
            .await
    }

    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        self.call(self.inner.sorted_set(namespace, key, op)).await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.call(self.inner.scan(namespace, pattern, cursor, limit))
            .await
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        self.call(self.inner.count(namespace, pattern)).await
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        self.call(self.inner.prune(limit)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        self.call(self.inner.nodes()).await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        self.call(self.inner.capture(namespace, key, registers))
            .await
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &StampedPut<'_>,
    ) -> Result<()> {
        self.call(self.inner.put_stamped(namespace, key, put)).await
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        self.call(self.inner.begin_load(namespace, key, load)).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        self.call(self.inner.invalidate(namespace, registers, how))
            .await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        self.call(self.inner.scan_registers(namespace, pattern, cursor, limit))
            .await
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.call(
            self.inner
                .scan_by_register(namespace, register, cursor, limit),
        )
        .await
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        self.call(self.inner.examine(namespace, key)).await
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        self.call(self.inner.tidy(namespace, cursor, limit, removes))
            .await
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        self.call(self.inner.retire(namespace, registers, step))
            .await
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn Journal>> {
        self.inner.journal(namespace)
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        let locks = FlakyLocks::new(self.inner.lock_store()?, self);
        Some(Arc::new(locks))
    }

    fn connection_epoch(&self) -> u64 {
        self.inner.connection_epoch()
    }

    async fn ping(&self) -> Result<()> {
        self.call(self.inner.ping()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    use crate::testing::{body, sealed};

    fn flaky(seed: u64) -> (FlakyStore, Namespace) {
        (
            FlakyStore::new(Memory::new(), seed),
            Namespace::new("test", "flaky", 1),
        )
    }

    async fn put(store: &FlakyStore, namespace: &Namespace, text: &str) -> Result<Vec<bool>> {
        let write = Write::put(b"k", sealed(text.as_bytes()), Expiry::Never);
        store.write_many(namespace, &[write]).await
    }

    async fn get(store: &FlakyStore, namespace: &Namespace) -> Option<Bytes> {
        let entry = store.get_many(namespace, &[b"k"]).await.unwrap().remove(0);
        entry.map(|entry| entry.value)
    }

    #[tokio::test]
    async fn refused_writes_are_not_applied_and_lost_replies_are() {
        let (store, namespace) = flaky(1);
        store.next(1, Fault::Refuse);
        let refused = put(&store, &namespace, "a").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert_eq!(get(&store, &namespace).await, None);
        store.next(1, Fault::LoseReply);
        let lost = put(&store, &namespace, "b").await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Timeout);
        let read = get(&store, &namespace).await.unwrap();
        assert_eq!(body(&read).unwrap(), "b");
        let counts = store.counts();
        assert_eq!((counts.calls, counts.refused, counts.lost), (4, 1, 1));
    }

    #[tokio::test]
    async fn torn_writes_stay_torn_and_corrupted_reads_do_not() {
        let (store, namespace) = flaky(2);
        put(&store, &namespace, "whole").await.unwrap();
        store.next(1, Fault::Corrupt);
        assert_eq!(body(&get(&store, &namespace).await.unwrap()), None);
        assert!(body(&get(&store, &namespace).await.unwrap()).is_some());
        store.next(1, Fault::Tear);
        assert_eq!(put(&store, &namespace, "torn").await.unwrap(), [true]);
        for _ in 0..2 {
            assert_eq!(body(&get(&store, &namespace).await.unwrap()), None);
        }
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_faults() {
        let run = |seed| async move {
            let (store, namespace) = flaky(seed);
            store.chance(0.3, Fault::Refuse);
            store.chance(0.2, Fault::LoseReply);
            let mut outcomes = Vec::new();
            for _ in 0..100 {
                let outcome = put(&store, &namespace, "x").await;
                outcomes.push(outcome.map_err(|error| error.kind()));
            }
            store.heal();
            assert!(put(&store, &namespace, "x").await.is_ok());
            outcomes
        };
        let outcomes = run(7).await;
        assert_eq!(outcomes, run(7).await);
        assert_ne!(outcomes, run(8).await);
        let refused = outcomes
            .iter()
            .filter(|o| **o == Err(ErrorKind::Unavailable))
            .count();
        assert!((10..60).contains(&refused), "{refused} of 100");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_stay_within_their_bound() {
        let (store, _) = flaky(3);
        store.delay(Duration::from_millis(50));
        let start = tokio::time::Instant::now();
        for _ in 0..20 {
            store.ping().await.unwrap();
        }
        let taken = start.elapsed();
        assert!((100..=1000).contains(&taken.as_millis()), "{taken:?}");
    }
}
