//! Entries in this process's memory: sharded, bounded by bytes, evicting by S3-FIFO.
//!
//! Each shard is a [`quick_cache`] under a mutex, which makes every conditional write and increment
//! one step, beside a heap of expiry times, which lets a sweep find what is due without walking
//! the entries. `clear` gives the namespace a new id, so it is O(1); the sweep drops what is left behind.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Weighter};

use super::janitor::Janitor;
use super::{Capabilities, Change, Entry, Expiry, ScanPage, ScannedKey, Store, StoreStats, Write};
use crate::clock::Clock;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};

/// The default size bound: 256 MiB.
const DEFAULT_CAPACITY_BYTES: u64 = 256 << 20;
/// A shard for each so many bytes of capacity, so that the largest entry fits one shard.
const BYTES_PER_SHARD: u64 = 32 << 20;
const MAX_SHARDS: u64 = 64;
/// What an entry costs beside its key and value.
const ENTRY_OVERHEAD_BYTES: u64 = 128;
/// The entry size used to size tables at first.
const ESTIMATED_ENTRY_BYTES: u64 = 1024;
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How many due entries one sweep removes under one lock.
const SWEEP_BATCH: usize = 512;

/// The in-process store. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Memory {
    inner: Arc<Inner>,
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
        let inner = Arc::new(Inner::new(self.capacity_bytes, self.clock));
        let swept = Arc::clone(&inner);
        let janitor =
            Janitor::start("memory", SWEEP_INTERVAL, move || swept.sweep()).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot start a thread").caused_by(error)
            })?;
        Ok(Memory {
            inner,
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
    hasher: DefaultHashBuilder,
    clock: Clock,
    capacity_bytes: u64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

type DueHeap = BinaryHeap<Reverse<(u64, SlotKey)>>;

#[derive(Debug)]
struct Shard {
    entries: Cache<SlotKey, Entry, EntryWeight>,
    due: DueHeap,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SlotKey {
    namespace: u64,
    key: Bytes,
}

/// A borrowed [`SlotKey`].
struct Lookup<'a> {
    namespace: u64,
    key: &'a [u8],
}

impl Hash for SlotKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Lookup {
            namespace: self.namespace,
            key: &self.key,
        }
        .hash(state);
    }
}

impl Hash for Lookup<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.namespace);
        state.write(self.key);
    }
}

impl Equivalent<SlotKey> for Lookup<'_> {
    fn equivalent(&self, slot: &SlotKey) -> bool {
        self.namespace == slot.namespace && self.key == slot.key
    }
}

#[derive(Debug, Clone)]
struct EntryWeight;

impl Weighter<SlotKey, Entry> for EntryWeight {
    fn weight(&self, slot: &SlotKey, entry: &Entry) -> u64 {
        entry_weight(&slot.key, &entry.value)
    }
}

fn entry_weight(key: &[u8], value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_OVERHEAD_BYTES
}

impl Inner {
    fn new(capacity_bytes: u64, clock: Clock) -> Self {
        let shards = (capacity_bytes / BYTES_PER_SHARD).clamp(1, MAX_SHARDS);
        let per_shard = capacity_bytes / shards;
        let items = (per_shard / ESTIMATED_ENTRY_BYTES) as usize;
        let shard = || {
            let hasher = DefaultHashBuilder::default();
            let lifecycle = quick_cache::unsync::DefaultLifecycle::default();
            let entries = Cache::with(items, per_shard, EntryWeight, hasher, lifecycle);
            Mutex::new(Shard {
                entries,
                due: DueHeap::new(),
            })
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            namespaces: RwLock::default(),
            next_namespace: AtomicU64::new(1),
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

    fn get(&self, lookup: &Lookup<'_>, now_ms: u64) -> Option<Entry> {
        let shard = self.shard(lookup);
        let entry = shard.entries.get(lookup)?;
        is_live(entry, now_ms).then(|| entry.clone())
    }

    fn write(&self, namespace: u64, write: &Write<'_>) -> Result<bool> {
        let lookup = Lookup {
            namespace,
            key: write.key,
        };
        let now_ms = self.clock.now_ms();
        let mut shard = self.shard(&lookup);
        let present = shard
            .entries
            .peek(&lookup)
            .filter(|entry| is_live(entry, now_ms));
        if !write.condition.holds(present.map(|entry| &entry.value)) {
            return Ok(false);
        }
        let present_expiry = present.and_then(|entry| entry.expires_at_ms);
        let expires_at_ms = write.expiry.at(now_ms, present_expiry);
        match &write.change {
            Change::Delete => {
                let existed = present.is_some();
                shard.entries.remove(&lookup);
                Ok(existed)
            }
            Change::Touch => {
                let Some(value) = present.map(|entry| entry.value.clone()) else {
                    return Ok(false);
                };
                self.insert(
                    &mut shard,
                    &lookup,
                    Entry {
                        value,
                        expires_at_ms,
                    },
                )?;
                Ok(true)
            }
            Change::Put(value) => {
                let value = value.clone();
                self.insert(
                    &mut shard,
                    &lookup,
                    Entry {
                        value,
                        expires_at_ms,
                    },
                )?;
                Ok(true)
            }
        }
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
            shard.due.push(Reverse((expires_at_ms, slot.clone())));
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
        let present = shard
            .entries
            .peek(lookup)
            .filter(|entry| is_live(entry, now_ms) && envelope::is_readable(&entry.value))
            .cloned();
        let created = expiry.at(now_ms, None);
        let ttl_ms = created.map(|at| at - now_ms);
        let old = present.as_ref().map(|entry| &entry.value);
        let (value, sum) = envelope::increment(old, by, now_ms, ttl_ms)?;
        let expires_at_ms = present.map_or(created, |entry| entry.expires_at_ms);
        self.insert(
            &mut shard,
            lookup,
            Entry {
                value,
                expires_at_ms,
            },
        )?;
        Ok(sum)
    }

    /// Lists one page: shards in turn, keys of a shard in order.
    fn scan(
        &self,
        namespace: u64,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let (first, after) = match cursor {
            Some(cursor) => parse_cursor(cursor)?,
            None => (0, Bytes::new()),
        };
        let mut page = ScanPage::default();
        let mut after = after;
        for index in first..self.shards.len() {
            let wanted = limit.max(1) - page.keys.len();
            let mut found = self.scan_shard(index, namespace, pattern, &after);
            let full = found.len() >= wanted;
            found.truncate(wanted);
            page.keys.extend(found);
            if full {
                let last = page
                    .keys
                    .last()
                    .map_or(&[][..], |scanned| scanned.key.as_bytes());
                page.next = Some([&(index as u32).to_le_bytes(), last].concat().into());
                return Ok(page);
            }
            after = Bytes::new();
        }
        Ok(page)
    }

    fn scan_shard(
        &self,
        index: usize,
        namespace: u64,
        pattern: &Glob,
        after: &Bytes,
    ) -> Vec<ScannedKey> {
        let now_ms = self.clock.now_ms();
        let shard = lock(&self.shards[index]);
        let mut found: Vec<_> = shard
            .entries
            .iter()
            .filter(|(slot, entry)| {
                slot.namespace == namespace
                    && slot.key > *after
                    && is_live(entry, now_ms)
                    && pattern.matches(&slot.key)
            })
            .map(|(slot, entry)| ScannedKey {
                key: Key::from(slot.key.clone()),
                bytes: entry.value.len() as u64,
                expires_at_ms: entry.expires_at_ms,
            })
            .collect();
        drop(shard);
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found
    }

    fn clear(&self, namespace: &Namespace) {
        let mut known = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(namespace.clone(), self.fresh_id());
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
        let live: HashSet<u64> = known.values().copied().collect();
        // Read under the lock: an id given out after it would be old and yet not among the live ones.
        let newest = self.next_namespace.load(Ordering::Relaxed);
        drop(known);
        if newest as usize > live.len() + 1 {
            for shard in &self.shards {
                let keep =
                    |slot: &SlotKey| live.contains(&slot.namespace) || slot.namespace >= newest;
                lock(shard).entries.retain(|slot, _| keep(slot));
            }
        }
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

impl Shard {
    /// Removes up to `limit` entries that are due.
    fn prune(&mut self, now_ms: u64, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit
            && self
                .due
                .peek()
                .is_some_and(|Reverse((at, _))| *at <= now_ms)
        {
            let Some(Reverse((_, slot))) = self.due.pop() else {
                break;
            };
            let lookup = Lookup {
                namespace: slot.namespace,
                key: &slot.key,
            };
            if self
                .entries
                .peek(&lookup)
                .is_some_and(|entry| !is_live(entry, now_ms))
            {
                self.entries.remove(&lookup);
                removed += 1;
            }
        }
        removed
    }

    /// Drops heap records of entries that were overwritten, once they outnumber the entries.
    fn compact_due(&mut self) {
        if self.due.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.due = entries
                .iter()
                .filter_map(|(slot, entry)| Some(Reverse((entry.expires_at_ms?, slot.clone()))))
                .collect();
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_live(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|at| at > now_ms)
}

fn parse_cursor(cursor: &Bytes) -> Result<(usize, Bytes)> {
    let index = cursor
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes));
    let index = index.ok_or_else(|| Error::argument("the cursor is not of this store"))?;
    Ok((index as usize, cursor.slice(4..)))
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
            ..Capabilities::default()
        }
    }

    fn clock(&self) -> Clock {
        self.inner.clock.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
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
        self.inner.scan(namespace, pattern, cursor, limit)
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
        // With something to drop, each sweep looks at all entries.
        inner.namespace_id(&namespace(0));
        inner.clear(&namespace(0));
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
                        inner.get(&lookup, 0).is_some(),
                        "namespace {n} lost its entry"
                    );
                }
            });
            while !writer.is_finished() {
                inner.sweep();
            }
        });
    }
}
