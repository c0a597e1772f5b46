//! Entries in this process's memory: sharded, bounded by bytes, evicting by S3-FIFO.
//!
//! Each shard is a [`quick_cache`] under a mutex, which makes every conditional write and increment
//! one step, beside a heap of expiry times, which lets a sweep find what is due without walking
//! the entries ([`shard`]). `clear` gives the namespace a new id, so it is O(1); the sweep drops what is left behind.

mod leases;
mod listing;
mod registers;
mod shard;
mod tidy;

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::DefaultHashBuilder;

use self::leases::Leases;
use self::listing::Listed;
use self::registers::Registers;
use self::shard::{Lookup, Shard, SlotKey, entry_weight, is_live};
use super::janitor::Janitor;
use super::{
    Capabilities, Change, Condition, Entry, Examined, Expiry, Invalidated, Invalidation, Read,
    Register, RegisterPage, Retirement, ScanPage, Stamp, Store, StoreStats, TidyPage, Write,
    reading,
};
use crate::clock::Clock;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;
use crate::tag::Verdict;

/// The default size bound: 256 MiB.
const DEFAULT_CAPACITY_BYTES: u64 = 256 << 20;
/// A shard for each so many bytes of capacity, so that the largest entry fits one shard.
const BYTES_PER_SHARD: u64 = 32 << 20;
const MAX_SHARDS: u64 = 64;
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The second one finds what a writer put into the old namespace while it was cleared.
const SWEEPS_AFTER_CLEAR: u64 = 2;
/// How many due entries one sweep removes under one lock.
const SWEEP_BATCH: usize = 512;

/// The in-process store. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Memory {
    inner: Arc<Inner>,
    leases: Arc<Leases>,
    janitor: Arc<Janitor>,
}

/// Options of a [`Memory`] store.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    capacity_bytes: u64,
    clock: Clock,
}

impl Builder {
    /// The size bound in bytes of keys, values and about 128 bytes per entry; default 256 MiB.
    pub fn capacity_bytes(mut self, bytes: u64) -> Self {
        self.capacity_bytes = bytes;
        self
    }

    /// The clock that expiry follows; default the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Creates the store and its sweeping thread.
    ///
    /// # Errors
    /// `InvalidArgument`: a capacity under 4 KiB. `Internal`: no thread can be started.
    pub fn build(self) -> Result<Memory> {
        if self.capacity_bytes < 4096 {
            return Err(Error::argument("a memory store needs at least 4 KiB"));
        }
        let leases = Arc::new(Leases::new(self.clock.clone()));
        let inner = Arc::new(Inner::new(self.capacity_bytes, self.clock));
        let swept = Arc::clone(&inner);
        let janitor =
            Janitor::start("memory", SWEEP_INTERVAL, move || swept.sweep()).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot start a thread").caused_by(error)
            })?;
        Ok(Memory {
            inner,
            leases,
            janitor: Arc::new(janitor),
        })
    }
}

impl Memory {
    /// Creates a store of 256 MiB.
    ///
    /// # Panics
    /// If the system cannot start a thread; [`Memory::builder`] reports that as an error.
    #[must_use]
    pub fn new() -> Self {
        Self::builder()
            .build()
            .expect("the default capacity is valid and a thread can be started")
    }

    /// Starts with the defaults: 256 MiB, system clock.
    pub fn builder() -> Builder {
        Builder {
            capacity_bytes: DEFAULT_CAPACITY_BYTES,
            clock: Clock::system(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Inner {
    shards: Box<[Mutex<Shard>]>,
    namespaces: RwLock<HashMap<Namespace, u64>>,
    next_namespace: AtomicU64,
    registers: Registers,
    /// How many more sweeps look for what cleared namespaces left behind.
    sweeps_due: AtomicU64,
    hasher: DefaultHashBuilder,
    clock: Clock,
    capacity_bytes: u64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

impl Inner {
    fn new(capacity_bytes: u64, clock: Clock) -> Self {
        let shards = (capacity_bytes / BYTES_PER_SHARD).clamp(1, MAX_SHARDS);
        let per_shard = capacity_bytes / shards;
        Self {
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(per_shard)))
                .collect(),
            namespaces: RwLock::default(),
            next_namespace: AtomicU64::new(1),
            registers: Registers::default(),
            sweeps_due: AtomicU64::new(0),
            hasher: DefaultHashBuilder::default(),
            clock,
            capacity_bytes,
            evicted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    /// Returns the present id of a namespace.
    fn namespace_id(&self, namespace: &Namespace) -> u64 {
        let known = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.get(namespace) {
            return *id;
        }
        drop(known);
        let mut known = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known
            .entry(namespace.clone())
            .or_insert_with(|| self.fresh_id())
    }

    fn fresh_id(&self) -> u64 {
        self.next_namespace.fetch_add(1, Ordering::Relaxed)
    }

    /// Locks the shard of a key. A poisoned lock is used as it is: every change leaves a shard whole.
    fn shard(&self, lookup: &Lookup<'_>) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(lookup) % self.shards.len() as u64;
        lock(&self.shards[index as usize])
    }

    fn get(&self, lookup: &Lookup<'_>, now_ms: u64) -> Read {
        let shard = self.shard(lookup);
        let live = shard.entries.get(lookup);
        let live = live.filter(|entry| is_live(entry, now_ms) && !envelope::is_load(&entry.value));
        let Some(entry) = live else {
            return Read::Absent;
        };
        match self.registers.verdict(lookup.namespace, &entry.value) {
            Verdict::Invalid => Read::Invalid,
            verdict => Read::Entry(Entry {
                is_stale: verdict == Verdict::Stale,
                ..entry.clone()
            }),
        }
    }

    /// Returns what is under a key, however it may be judged.
    fn examine(&self, lookup: &Lookup<'_>) -> Option<Examined> {
        let shard = self.shard(lookup);
        let entry = shard.entries.peek(lookup)?;
        let found = Examined::new(entry.value.clone(), entry.expires_at_ms);
        Some(self.registers.examine(lookup.namespace, found))
    }

    /// Returns the entry under a key, or the mark of a load, if it is neither expired nor invalid.
    fn present<'a>(&self, shard: &'a Shard, lookup: &Lookup<'_>, now_ms: u64) -> Option<&'a Entry> {
        let entry = shard.entries.peek(lookup)?;
        let is_present = is_live(entry, now_ms)
            && self.registers.verdict(lookup.namespace, &entry.value) != Verdict::Invalid;
        is_present.then_some(entry)
    }

    fn write(&self, namespace: u64, write: &Write<'_>) -> Result<bool> {
        let lookup = Lookup {
            namespace,
            key: write.key,
        };
        let now_ms = self.clock.now_ms();
        let mut shard = self.shard(&lookup);
        let present = self.present(&shard, &lookup, now_ms);
        if !write.condition.holds(present.map(|entry| &entry.value)) {
            return Ok(false);
        }
        let entry = present.filter(|present| !envelope::is_load(&present.value));
        // A load under way has no expiry to keep, and only its loader may touch it.
        let kept = match (&write.change, write.condition) {
            (Change::Touch, Condition::IfUnchanged(_)) => present,
            _ => entry,
        };
        let kept_expiry = kept.and_then(|kept| kept.expires_at_ms);
        let expires_at_ms = write.expiry.at(now_ms, kept_expiry);
        let value = match (&write.change, kept) {
            (Change::Put(value), _) => value.clone(),
            (Change::Touch, Some(kept)) => kept.value.clone(),
            (Change::Touch, None) => return Ok(false),
            (Change::Delete, _) => {
                let existed = entry.is_some();
                shard.entries.remove(&lookup);
                return Ok(existed);
            }
        };
        self.registers.keep(namespace, &value, expires_at_ms);
        let entry = Entry::new(value, expires_at_ms);
        self.insert(&mut shard, &lookup, entry)?;
        Ok(true)
    }

    fn insert(&self, shard: &mut Shard, lookup: &Lookup<'_>, entry: Entry) -> Result<()> {
        let weight = entry_weight(lookup.key, &entry.value);
        if weight > shard.entries.capacity() {
            let message = format!(
                "an entry of {weight} bytes is over the bound of {} bytes per shard",
                shard.entries.capacity()
            );
            return Err(Error::new(ErrorKind::TooLarge, message)
                .store("memory")
                .key(lookup.key));
        }
        let slot = SlotKey {
            namespace: lookup.namespace,
            key: Bytes::copy_from_slice(lookup.key),
        };
        if let Some(expires_at_ms) = entry.expires_at_ms {
            shard.note_due(expires_at_ms, &slot);
        }
        let is_new = shard.entries.peek(lookup).is_none();
        let before = shard.entries.len() + usize::from(is_new);
        shard.entries.insert(slot, entry);
        let evicted = before.saturating_sub(shard.entries.len());
        self.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        shard.compact_due();
        Ok(())
    }

    fn increment(&self, lookup: &Lookup<'_>, by: i64, expiry: Expiry) -> Result<i64> {
        let now_ms = self.clock.now_ms();
        let mut shard = self.shard(lookup);
        let is_entry = |entry: &&Entry| {
            envelope::is_readable(&entry.value) && !envelope::is_load(&entry.value)
        };
        let present = self
            .present(&shard, lookup, now_ms)
            .filter(is_entry)
            .cloned();
        let created = expiry.at(now_ms, None);
        let ttl_ms = created.map(|at| at - now_ms);
        let old = present.as_ref().map(|entry| &entry.value);
        let (value, sum) = envelope::increment(old, by, now_ms, ttl_ms)?;
        let expires_at_ms = present.map_or(created, |entry| entry.expires_at_ms);
        self.insert(&mut shard, lookup, Entry::new(value, expires_at_ms))?;
        Ok(sum)
    }

    fn clear(&self, namespace: &Namespace) {
        let mut known = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Its next use gives it a new id.
        known.remove(namespace);
        self.sweeps_due.store(SWEEPS_AFTER_CLEAR, Ordering::Relaxed);
    }

    /// Removes what is due and what cleared namespaces left behind, one shard at a time.
    fn sweep(&self) {
        let mut removed = 1;
        while removed > 0 {
            removed = self.prune(SWEEP_BATCH * self.shards.len());
        }
        let known = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock that a `clear` takes, so that none is overlooked.
        let sweeps_due = self.sweeps_due.load(Ordering::Relaxed);
        if sweeps_due == 0 {
            return;
        }
        self.sweeps_due.store(sweeps_due - 1, Ordering::Relaxed);
        let live: HashSet<u64> = known.values().copied().collect();
        // Read under the lock: an id given out after it would be old and yet not among the live ones.
        let newest = self.next_namespace.load(Ordering::Relaxed);
        drop(known);
        for shard in &self.shards {
            let keep = |slot: &SlotKey| live.contains(&slot.namespace) || slot.namespace >= newest;
            let mut shard = lock(shard);
            shard.entries.retain(|slot, _| keep(slot));
            shard.compact_due();
        }
        self.registers
            .retain(|namespace| live.contains(&namespace) || namespace >= newest);
    }

    fn prune(&self, limit: usize) -> usize {
        let now_ms = self.clock.now_ms();
        let mut removed = 0;
        for shard in &self.shards {
            removed += lock(shard).prune(now_ms, SWEEP_BATCH.min(limit - removed));
        }
        self.expired.fetch_add(removed as u64, Ordering::Relaxed);
        removed
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            enumeration: true,
            counters: true,
            sorted_sets: true,
            tags: true,
            tag_listing: true,
            examination: true,
            locks: true,
            fair_locks: true,
            durable_fences: true,
            locks_freed_on_death: true,
            limiters: true,
            ..Capabilities::default()
        }
    }

    fn clock(&self) -> Clock {
        self.inner.clock.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.read_many(namespace, keys).await.map(reading::entries)
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let namespace = self.inner.namespace_id(namespace);
        let now_ms = self.inner.clock.now_ms();
        let get = |key: &&[u8]| self.inner.get(&Lookup { namespace, key }, now_ms);
        Ok(keys.iter().map(get).collect())
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let namespace = self.inner.namespace_id(namespace);
        writes
            .iter()
            .map(|write| self.inner.write(namespace, write))
            .collect()
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        let namespace = self.inner.namespace_id(namespace);
        self.inner.increment(&Lookup { namespace, key }, by, expiry)
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        _key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        let namespace = self.inner.namespace_id(namespace);
        let now_ms = self.inner.clock.now_ms();
        Ok(self.inner.registers.capture(namespace, registers, now_ms))
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let namespace = self.inner.namespace_id(namespace);
        Ok(Invalidated {
            had: self.inner.registers.invalidate(namespace, registers, how),
            parts: 1,
            missing: 0,
        })
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        let namespace = self.inner.namespace_id(namespace);
        let registers = &self.inner.registers;
        Ok(registers.scan(namespace, pattern, cursor, limit))
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let namespace = self.inner.namespace_id(namespace);
        self.inner
            .scan(namespace, &Listed::By(register), cursor, limit)
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        let namespace = self.inner.namespace_id(namespace);
        Ok(self.inner.examine(&Lookup { namespace, key }))
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        let namespace = self.inner.namespace_id(namespace);
        self.inner.tidy(namespace, cursor, limit, removes)
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        let (inner, namespace) = (&self.inner, self.inner.namespace_id(namespace));
        let now_ms = inner.clock.now_ms();
        Ok(inner.registers.retire(namespace, registers, step, now_ms))
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        Some(Arc::clone(&self.leases) as Arc<dyn LockStore>)
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.inner.clear(namespace);
        // The entries cannot be read any more; their memory is freed now rather than at the next interval.
        self.janitor.wake();
        Ok(())
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let namespace = self.inner.namespace_id(namespace);
        self.inner
            .scan(namespace, &Listed::Matching(pattern), cursor, limit)
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        let namespace = self.inner.namespace_id(namespace);
        Ok(self.inner.count(namespace, pattern))
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        Ok(self.inner.prune(limit) as u64)
    }

    async fn stats(&self) -> Result<StoreStats> {
        let (mut entries, mut bytes) = (0, 0);
        for shard in &self.inner.shards {
            let shard = lock(shard);
            entries += shard.entries.len() as u64;
            bytes += shard.entries.weight();
        }
        Ok(StoreStats {
            entries: Some(entries),
            bytes: Some(bytes),
            capacity_bytes: Some(self.inner.capacity_bytes),
            evicted: self.inner.evicted.load(Ordering::Relaxed),
            expired: self.inner.expired.load(Ordering::Relaxed),
            ..StoreStats::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Expiry;

    #[test]
    fn sweep_keeps_what_new_namespaces_hold() {
        let inner = Inner::new(DEFAULT_CAPACITY_BYTES, Clock::system());
        let namespace = |n: u32| Namespace::new("test", "memory", n);
        inner.namespace_id(&namespace(0));
        let put = Write::put(b"k", Bytes::from_static(b"value"), Expiry::Never);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 1..20_000 {
                    let id = inner.namespace_id(&namespace(n));
                    assert!(inner.write(id, &put).unwrap());
                    let lookup = Lookup {
                        namespace: id,
                        key: b"k",
                    };
                    assert!(
                        inner.get(&lookup, 0) != Read::Absent,
                        "namespace {n} lost its entry"
                    );
                }
            });
            while !writer.is_finished() {
                // With something to drop, a sweep looks at all entries.
                inner.clear(&namespace(0));
                inner.sweep();
            }
        });
    }

    #[test]
    fn what_a_clear_leaves_is_swept_and_then_left_alone() {
        let inner = Inner::new(DEFAULT_CAPACITY_BYTES, Clock::system());
        let namespace = Namespace::new("test", "memory", 1);
        let put = Write::put(b"k", Bytes::from_static(b"value"), Expiry::After(60_000));
        let old = inner.namespace_id(&namespace);
        inner.write(old, &put).unwrap();
        let entries = || -> usize { inner.shards.iter().map(|s| lock(s).entries.len()).sum() };
        inner.clear(&namespace);
        inner.sweep();
        assert_eq!(entries(), 0);
        // By a writer that looked the namespace up before it was cleared.
        inner.write(old, &put).unwrap();
        inner.sweep();
        assert_eq!(entries(), 0);
        assert_eq!(inner.sweeps_due.load(Ordering::Relaxed), 0);
    }
}
