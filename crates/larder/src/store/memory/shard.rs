//! One shard of the memory store: its entries, and when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Weighter};

use crate::store::Entry;

/// What an entry costs beside its key and value.
const ENTRY_OVERHEAD_BYTES: u64 = 128;
/// The entry size used to size tables at first.
const ESTIMATED_ENTRY_BYTES: u64 = 1024;

type DueHeap = BinaryHeap<Reverse<(u64, SlotKey)>>;

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) entries: Cache<SlotKey, Entry, EntryWeight>,
    due: DueHeap,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotKey {
    pub(super) namespace: u64,
    pub(super) key: Bytes,
}

/// A borrowed [`SlotKey`].
pub(super) struct Lookup<'a> {
    pub(super) namespace: u64,
    pub(super) key: &'a [u8],
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
pub(super) struct EntryWeight;

impl Weighter<SlotKey, Entry> for EntryWeight {
    fn weight(&self, slot: &SlotKey, entry: &Entry) -> u64 {
        entry_weight(&slot.key, &entry.value)
    }
}

pub(super) fn entry_weight(key: &[u8], value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_OVERHEAD_BYTES
}

impl Shard {
    /// Creates an empty shard of at most this many bytes.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let items = (capacity_bytes / ESTIMATED_ENTRY_BYTES) as usize;
        let hasher = DefaultHashBuilder::default();
        let lifecycle = quick_cache::unsync::DefaultLifecycle::default();
        let entries = Cache::with(items, capacity_bytes, EntryWeight, hasher, lifecycle);
        Self {
            entries,
            due: DueHeap::new(),
        }
    }

    /// Remembers when an entry will be due.
    pub(super) fn note_due(&mut self, expires_at_ms: u64, slot: &SlotKey) {
        self.due.push(Reverse((expires_at_ms, slot.clone())));
    }

    /// Walks the live entries of a namespace, in no order.
    pub(super) fn live(
        &self,
        namespace: u64,
        now_ms: u64,
    ) -> impl Iterator<Item = (&SlotKey, &Entry)> {
        let is_of = move |slot: &SlotKey| slot.namespace == namespace;
        let entries = self.entries.iter();
        entries.filter(move |(slot, entry)| is_of(slot) && is_live(entry, now_ms))
    }

    /// Removes up to `limit` entries that are due.
    pub(super) fn prune(&mut self, now_ms: u64, limit: usize) -> usize {
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
    pub(super) fn compact_due(&mut self) {
        if self.due.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.due = entries
                .iter()
                .filter_map(|(slot, entry)| Some(Reverse((entry.expires_at_ms?, slot.clone()))))
                .collect();
        }
    }
}

pub(super) fn is_live(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|at| at > now_ms)
}
