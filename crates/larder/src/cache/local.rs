//! The local tier (L1): live typed values in front of the store.
//!
//! Slots hold `Arc<dyn Any>`, so a hit is a table lookup, a deadline check against the coarse clock, a type check
//! and a reference count: nothing is decoded, allocated or awaited. Asking for another type or schema version than the
//! stored one is a local miss. Expired slots are noticed on read and leave memory by eviction; the bound holds either way.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache as SlotCache, EntryAction, EntryResult};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use crate::clock::duration_ms;
use crate::error::{Error, Result};

/// What a slot costs beside its key and its encoded value.
const SLOT_OVERHEAD_BYTES: usize = 120;
/// The value size used to size tables at first.
const ESTIMATED_SLOT_BYTES: u64 = 512;
/// A shard for each so many bytes of capacity, so that large values fit a shard.
const BYTES_PER_SHARD: u64 = 1 << 20;
const MAX_SHARDS: u64 = 64;

/// Options of the local tier of a cache.
///
/// Off unless asked for. In front of a store that other processes write, a local copy may be stale for up to
/// [`Local::max_staleness`] after another process's change; changes by this process are visible at once.
#[derive(Debug, Clone)]
#[must_use]
pub struct Local {
    capacity_bytes: u64,
    ttl_fraction: f64,
    max_staleness: Duration,
    write_through: bool,
    promote: bool,
}

impl Local {
    /// A tier of at most this many bytes of keys, encoded values and about 120 bytes each; at least 4 KiB.
    pub fn capacity_bytes(bytes: u64) -> Self {
        Self {
            capacity_bytes: bytes,
            ttl_fraction: 0.25,
            max_staleness: Duration::from_secs(1),
            write_through: true,
            promote: true,
        }
    }

    /// How long a local copy lives, as a part of the entry's TTL and never longer than the entry: over 0, up to 1;
    /// default 0.25. Without a store behind the tier, copies live as long as the entry.
    pub fn ttl_fraction(mut self, fraction: f64) -> Self {
        self.ttl_fraction = fraction;
        self
    }

    /// The longest a local copy may live when other processes write the store and it does not tell of
    /// changes; at least 1 ms, default 1 s.
    pub fn max_staleness(mut self, bound: Duration) -> Self {
        self.max_staleness = bound;
        self
    }

    /// Whether a write puts its value into the tier; default true. If not, it still removes the old copy.
    pub fn write_through(mut self, on: bool) -> Self {
        self.write_through = on;
        self
    }

    /// Whether a hit in the store is copied into the tier; default true.
    pub fn promote(mut self, on: bool) -> Self {
        self.promote = on;
        self
    }

    fn check(&self) -> Result<()> {
        if self.capacity_bytes < 4096 {
            return Err(Error::argument(
                "local: the capacity must be at least 4 KiB",
            ));
        }
        if !(self.ttl_fraction > 0.0 && self.ttl_fraction <= 1.0) {
            return Err(Error::argument(
                "local: ttl_fraction must be over 0 and at most 1",
            ));
        }
        if self.max_staleness < Duration::from_millis(1) {
            return Err(Error::argument(
                "local: max_staleness must be at least 1 ms",
            ));
        }
        Ok(())
    }
}

/// A live value of any type.
pub(crate) type Shared = Arc<dyn Any + Send + Sync>;

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    value: Shared,
    /// Monotonic milliseconds; `u64::MAX` for never.
    deadline_ms: u64,
    weight: u32,
    schema: u32,
}

#[derive(Debug, Clone)]
struct SlotWeight;

impl Weighter<Box<[u8]>, Slot> for SlotWeight {
    #[inline]
    fn weight(&self, _: &Box<[u8]>, slot: &Slot) -> u64 {
        u64::from(slot.weight)
    }
}

/// Hands out what an insertion pushed out, to be counted and dropped outside the shard's lock.
#[derive(Debug, Clone)]
struct HandOut;

/// What one insertion pushed out: the former value of its key (which is no eviction), and what made room.
#[derive(Debug, Default)]
struct PushedOut {
    first: Option<(Box<[u8]>, Slot)>,
    more: Vec<(Box<[u8]>, Slot)>,
}

impl PushedOut {
    fn evictions(&self, inserted: &[u8]) -> u64 {
        let all = self.first.iter().chain(&self.more);
        all.filter(|(key, _)| **key != *inserted).count() as u64
    }
}

impl Lifecycle<Box<[u8]>, Slot> for HandOut {
    type RequestState = PushedOut;

    fn on_evict(&self, out: &mut PushedOut, key: Box<[u8]>, slot: Slot) {
        match out.first {
            None => out.first = Some((key, slot)),
            Some(_) => out.more.push((key, slot)),
        }
    }
}

/// The tier itself.
#[derive(Debug)]
pub(crate) struct Tier {
    slots: SlotCache<Box<[u8]>, Slot, SlotWeight, DefaultHashBuilder, HandOut>,
    evicted: AtomicU64,
    ttl_fraction: f64,
    /// The cap on a copy's life, where other processes may change the entry unnoticed.
    staleness_ms: Option<u64>,
    pub(crate) write_through: bool,
    pub(crate) promote: bool,
}

impl Tier {
    /// Creates the tier; `alone`: there is no store behind it; `incoherent`: others write the store unnoticed.
    ///
    /// # Errors
    /// `InvalidArgument`: an option is out of its bounds.
    pub(crate) fn new(options: &Local, alone: bool, incoherent: bool) -> Result<Self> {
        options.check()?;
        let shards = (options.capacity_bytes / BYTES_PER_SHARD).clamp(1, MAX_SHARDS);
        let table = OptionsBuilder::new()
            .shards(shards as usize)
            .weight_capacity(options.capacity_bytes)
            .estimated_items_capacity(
                (options.capacity_bytes / ESTIMATED_SLOT_BYTES).max(1) as usize
            )
            .build()
            .map_err(|error| {
                Error::argument("local: the capacity is not usable").caused_by(error)
            })?;
        let hasher = DefaultHashBuilder::default();
        Ok(Self {
            slots: SlotCache::with_options(table, SlotWeight, hasher, HandOut),
            evicted: AtomicU64::new(0),
            ttl_fraction: if alone { 1.0 } else { options.ttl_fraction },
            staleness_ms: incoherent.then(|| duration_ms(options.max_staleness)),
            write_through: options.write_through || alone,
            promote: options.promote,
        })
    }

    /// Returns the live value of this type and schema version.
    #[inline(always)]
    pub(crate) fn get<T: Any + Send + Sync>(
        &self,
        key: &[u8],
        schema: u32,
        now_ms: u64,
    ) -> Option<Arc<T>> {
        let slot = self.slots.get(key)?;
        if slot.deadline_ms <= now_ms {
            self.slots
                .remove_if(key, |present| present.deadline_ms <= now_ms);
            return None;
        }
        if slot.schema != schema {
            return None;
        }
        slot.value.downcast::<T>().ok()
    }

    /// Returns what is left of a live slot's life, `u64::MAX` for unlimited.
    pub(crate) fn remaining_ms(&self, key: &[u8], now_ms: u64) -> Option<u64> {
        let slot = self
            .slots
            .peek(key)
            .filter(|slot| slot.deadline_ms > now_ms)?;
        Some(if slot.deadline_ms == u64::MAX {
            u64::MAX
        } else {
            slot.deadline_ms - now_ms
        })
    }

    /// Returns whether there is a live value of this schema version, of whatever type.
    pub(crate) fn holds(&self, key: &[u8], schema: u32, now_ms: u64) -> bool {
        let slot = self.slots.peek(key);
        slot.is_some_and(|slot| slot.deadline_ms > now_ms && slot.schema == schema)
    }

    /// Inserts a value whose entry had `ttl_ms` in all and `left_ms` to live (`None`: unlimited).
    ///
    /// All of it counts from `since_ms`: when the read or write was sent, since the entry may be that old.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        value: Weighed,
        (ttl_ms, left_ms): (Option<u64>, Option<u64>),
        since_ms: u64,
    ) {
        let unlimited = u64::MAX;
        let by_fraction = match ttl_ms {
            Some(ttl_ms) if self.ttl_fraction < 1.0 => {
                ((ttl_ms as f64 * self.ttl_fraction) as u64).max(1)
            }
            Some(ttl_ms) => ttl_ms,
            None => unlimited,
        };
        let life = by_fraction
            .min(left_ms.unwrap_or(unlimited))
            .min(self.staleness_ms.unwrap_or(unlimited));
        let slot = Slot {
            deadline_ms: since_ms.saturating_add(life),
            schema: value.schema,
            weight: u32::try_from(key.len() + value.bytes + SLOT_OVERHEAD_BYTES)
                .unwrap_or(u32::MAX),
            value: value.value,
        };
        let mut out = PushedOut::default();
        self.slots.insert_with_lifecycle(key.into(), slot, &mut out);
        let evictions = out.evictions(key);
        if evictions > 0 {
            self.evicted.fetch_add(evictions, Ordering::Relaxed);
        }
    }

    /// Changes the life of a live slot; `None`: unlimited. For tiers without a store.
    ///
    /// One step under the slot's lock: a copy put back later could replace a newer value.
    pub(crate) fn expire(&self, key: &[u8], ttl_ms: Option<u64>, now_ms: u64) -> bool {
        let deadline_ms = ttl_ms.map_or(u64::MAX, |ttl| now_ms.saturating_add(ttl));
        let change = |_: &_, slot: &mut Slot| {
            let is_live = slot.deadline_ms > now_ms;
            if is_live {
                slot.deadline_ms = deadline_ms;
            }
            EntryAction::Retain(is_live)
        };
        let key: Box<[u8]> = key.into();
        matches!(
            self.slots.entry(&key, None, change),
            EntryResult::Retained(true)
        )
    }

    /// Removes a value; returns whether a live one was there.
    pub(crate) fn remove(&self, key: &[u8], now_ms: u64) -> bool {
        self.slots
            .remove(key)
            .is_some_and(|(_, slot)| slot.deadline_ms > now_ms)
    }

    pub(crate) fn clear(&self) {
        self.slots.clear();
    }

    /// Returns the keys of live slots, in no order.
    pub(crate) fn keys(&self, now_ms: u64) -> Vec<Box<[u8]>> {
        let live = |(key, slot): (Box<[u8]>, Slot)| (slot.deadline_ms > now_ms).then_some(key);
        self.slots.iter().filter_map(live).collect()
    }

    /// Returns slots, bytes, capacity and evictions.
    pub(crate) fn figures(&self) -> LocalStats {
        LocalStats {
            entries: self.slots.len() as u64,
            bytes: self.slots.weight(),
            capacity_bytes: self.slots.capacity(),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }
}

/// A value on its way into the tier, with its encoded size and its schema version.
#[derive(Debug, Clone)]
pub(crate) struct Weighed {
    pub(crate) value: Shared,
    pub(crate) bytes: usize,
    pub(crate) schema: u32,
}

/// Figures of a local tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct LocalStats {
    /// Slots in use, expired ones included.
    pub entries: u64,
    /// Bytes in use, as weighed.
    pub bytes: u64,
    /// The bound in bytes.
    pub capacity_bytes: u64,
    /// Slots evicted to keep the bound.
    pub evicted: u64,
}
