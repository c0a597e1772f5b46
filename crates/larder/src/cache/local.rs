//! The local tier (L1): live typed values in front of the store.
//!
//! Slots hold `Arc<dyn Any>`, so a hit is a table lookup, a deadline check against the coarse clock, a type check
//! and a reference count: nothing is decoded, allocated or awaited. Asking for another type or schema version than the
//! stored one is a local miss. Expired slots are noticed on read and leave memory by eviction; the bound holds either way.
//!
//! Where the store tells of changes (see `coherence`), a copy is used only while what has changed in its part of the store
//! is known; else copies live for `max_staleness` at most.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache as SlotCache, EntryAction, EntryResult};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::dependents::{Dependence, Dependents};
use crate::clock::duration_ms;
use crate::error::{Error, Result};
use crate::store::{Journal, Register};
use crate::tag::Selector;

/// What a slot costs beside its key and its encoded value.
const SLOT_OVERHEAD_BYTES: usize = 144;
/// The value size used to size tables at first.
const ESTIMATED_SLOT_BYTES: u64 = 512;
/// A shard for each so many bytes of capacity, so that large values fit a shard.
const BYTES_PER_SHARD: u64 = 1 << 20;
const MAX_SHARDS: u64 = 64;
/// A bound on staleness that is longer is as good as none: a hundred years, which can be added to any time.
const LONGEST_STALENESS_MS: u64 = 100 * 366 * 24 * 3600 * 1000;

/// Options of the local tier of a cache.
///
/// Off unless asked for. In front of a store that other processes write, a local copy may be stale for up to
/// [`Local::max_staleness`] after another process's change; changes by this process are visible at once. Stores that tell of
/// changes ([`Capabilities::coherent_local`](crate::store::Capabilities::coherent_local)) are asked for news ten times a
/// second while the tier is in use, so that most changes are visible sooner, and copies may live longer.
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
    /// A tier of at most this many bytes of keys, encoded values and about 144 bytes each; at least 4 KiB.
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

    /// For how long after a change by another process that has been acknowledged a local copy may still be used; at least
    /// 1 ms, default 1 s. On a store that tells of changes, no copy is used unless it is known what has changed up to that
    /// time; without such a store, none lives longer than that.
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
    /// The write id of the entry that it is a copy of; 0: not known.
    write_id: u64,
    depends: Option<Dependence>,
    weight: u32,
    schema: u32,
    /// The part of the store that the entry is in.
    part: u16,
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

/// How copies keep up with what other processes do.
#[derive(Debug)]
enum Coherence {
    /// Nobody else changes anything.
    Alone,
    /// Nobody tells: a copy has a short life.
    Capped,
    /// The store tells.
    Told(Parts),
}

/// What is known of the parts of a store.
#[derive(Debug)]
struct Parts {
    /// Tells which part a key is in; never polled.
    journal: Box<dyn Journal>,
    /// Until when copies of a part may be used, in monotonic ms.
    fresh_until_ms: Box<[AtomicU64]>,
}

/// The tier itself.
#[derive(Debug)]
pub(crate) struct Tier {
    slots: SlotCache<Box<[u8]>, Slot, SlotWeight, DefaultHashBuilder, HandOut>,
    evicted: AtomicU64,
    gaps: AtomicU64,
    errors: AtomicU64,
    ttl_fraction: f64,
    max_staleness_ms: u64,
    coherence: Coherence,
    dependents: Dependents,
    pub(crate) write_through: bool,
    pub(crate) promote: bool,
}

impl Tier {
    /// Creates the tier; `alone`: there is no store behind it; `shared`: others write the store, which tells of it in the
    /// journal, if there is one.
    ///
    /// # Errors
    /// `InvalidArgument`: an option is out of its bounds.
    pub(crate) fn new(
        options: &Local,
        alone: bool,
        shared: bool,
        journal: Option<Box<dyn Journal>>,
    ) -> Result<Self> {
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
        let coherence = match journal {
            Some(journal) => Coherence::Told(Parts {
                fresh_until_ms: (0..journal.parts()).map(|_| AtomicU64::new(0)).collect(),
                journal,
            }),
            None if shared => Coherence::Capped,
            None => Coherence::Alone,
        };
        Ok(Self {
            slots: SlotCache::with_options(table, SlotWeight, hasher, HandOut),
            evicted: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            ttl_fraction: if alone { 1.0 } else { options.ttl_fraction },
            max_staleness_ms: duration_ms(options.max_staleness).min(LONGEST_STALENESS_MS),
            coherence,
            dependents: Dependents::default(),
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
        if slot.schema != schema || !self.is_current(&slot, now_ms) {
            return None;
        }
        slot.value.downcast::<T>().ok()
    }

    /// Returns whether what a live slot holds is as new as copies must be.
    #[inline]
    fn is_current(&self, slot: &Slot, now_ms: u64) -> bool {
        let is_known = match &self.coherence {
            Coherence::Alone | Coherence::Capped => true,
            Coherence::Told(parts) => now_ms < parts.fresh_until_ms(slot.part),
        };
        is_known && slot.depends.as_ref().is_none_or(Dependence::holds)
    }

    /// Returns whether the store tells of changes.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.coherence, Coherence::Told(_))
    }

    /// Returns for how long a copy may be used after a change by another process.
    pub(crate) fn max_staleness(&self) -> Duration {
        Duration::from_millis(self.max_staleness_ms)
    }

    /// Notes that all changes of a part that were acknowledged before `sent_ms` have been applied.
    pub(crate) fn freshen(&self, part: usize, sent_ms: u64) {
        if let Coherence::Told(parts) = &self.coherence
            && let Some(until_ms) = parts.fresh_until_ms.get(part)
        {
            let fresh_until_ms = sent_ms.saturating_add(self.max_staleness_ms);
            until_ms.fetch_max(fresh_until_ms, Ordering::AcqRel);
        }
    }

    /// Forgets what was noted: no copy is used until there is news.
    pub(crate) fn know_nothing(&self) {
        if let Coherence::Told(parts) = &self.coherence {
            for until_ms in &parts.fresh_until_ms {
                until_ms.store(0, Ordering::Release);
            }
        }
    }

    /// Returns whether copies of the key are known to be as new as at `since_ms`.
    pub(crate) fn is_caught_up(&self, key: &[u8], since_ms: u64, now_ms: u64) -> bool {
        match &self.coherence {
            Coherence::Alone => true,
            Coherence::Capped => now_ms >= since_ms.saturating_add(self.max_staleness_ms),
            Coherence::Told(parts) => {
                let until_ms = parts.fresh_until_ms(parts.part_of(key));
                until_ms >= since_ms.saturating_add(self.max_staleness_ms)
            }
        }
    }

    /// Returns for how long at most it has not been known what changed in some part; `None`: nobody tells,
    /// or nobody has asked yet.
    pub(crate) fn lag_ms(&self, now_ms: u64) -> Option<u64> {
        let Coherence::Told(parts) = &self.coherence else {
            return None;
        };
        let all = parts.fresh_until_ms.iter();
        let oldest = all.map(|until_ms| until_ms.load(Ordering::Acquire)).min();
        let oldest = oldest.filter(|until_ms| *until_ms > 0)?;
        Some((now_ms + self.max_staleness_ms).saturating_sub(oldest))
    }

    /// Drops all copies, since it is not known what has changed.
    pub(crate) fn drop_all(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        self.slots.clear();
    }

    /// Counts that a part of the store did not say what has changed.
    pub(crate) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes all copies invalid that depend on a register.
    pub(crate) fn invalidate(&self, register: &Register) {
        self.dependents.invalidate(register);
    }

    /// Makes all copies invalid that depend on what is meant.
    pub(crate) fn invalidate_selected(&self, selectors: &[Selector]) {
        self.dependents.invalidate_selected(selectors);
    }

    /// Removes a copy, unless it is of the entry with this write id.
    pub(crate) fn remove_unless(&self, key: &[u8], write_id: u64) {
        let is_other = |slot: &Slot| write_id == 0 || slot.write_id != write_id;
        self.slots.remove_if(key, is_other);
    }

    /// Returns what is left of a live slot's life, `u64::MAX` for unlimited.
    pub(crate) fn remaining_ms(&self, key: &[u8], now_ms: u64) -> Option<u64> {
        let slot = self
            .slots
            .peek(key)
            .filter(|slot| self.is_live(slot, now_ms))?;
        Some(if slot.deadline_ms == u64::MAX {
            u64::MAX
        } else {
            slot.deadline_ms - now_ms
        })
    }

    /// Returns whether there is a live value of this schema version, of whatever type.
    pub(crate) fn holds(&self, key: &[u8], schema: u32, now_ms: u64) -> bool {
        let slot = self.slots.peek(key);
        slot.is_some_and(|slot| self.is_live(&slot, now_ms) && slot.schema == schema)
    }

    fn is_live(&self, slot: &Slot, now_ms: u64) -> bool {
        slot.deadline_ms > now_ms && self.is_current(slot, now_ms)
    }

    /// Inserts a value, while no invalidation is applied, whose entry had `ttl_ms` in all and `left_ms` to live (`None`: unlimited).
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
        let cap_ms = match self.coherence {
            Coherence::Capped => self.max_staleness_ms,
            Coherence::Alone | Coherence::Told(_) => unlimited,
        };
        let life = by_fraction.min(left_ms.unwrap_or(unlimited)).min(cap_ms);
        let slot = Slot {
            deadline_ms: since_ms.saturating_add(life),
            write_id: value.write_id,
            depends: self.dependents.depend(&value.registers),
            part: match &self.coherence {
                Coherence::Told(parts) => parts.part_of(key),
                Coherence::Alone | Coherence::Capped => 0,
            },
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

    /// Returns figures of the tier.
    pub(crate) fn figures(&self, now_ms: u64) -> LocalStats {
        LocalStats {
            entries: self.slots.len() as u64,
            bytes: self.slots.weight(),
            capacity_bytes: self.slots.capacity(),
            evicted: self.evicted.load(Ordering::Relaxed),
            lag_ms: self.lag_ms(now_ms),
            gaps: self.gaps.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

/// A value on its way into the tier, with its encoded size and its schema version.
#[derive(Debug, Clone)]
pub(crate) struct Weighed {
    pub(crate) value: Shared,
    pub(crate) bytes: usize,
    pub(crate) schema: u32,
    /// The write id of its entry; 0: there is none.
    pub(crate) write_id: u64,
    /// What it depends on.
    pub(crate) registers: Arc<[Register]>,
}

impl Parts {
    fn part_of(&self, key: &[u8]) -> u16 {
        u16::try_from(self.journal.part_of(key)).unwrap_or(u16::MAX)
    }

    #[inline]
    fn fresh_until_ms(&self, part: u16) -> u64 {
        let until_ms = self.fresh_until_ms.get(usize::from(part));
        until_ms.map_or(0, |until_ms| until_ms.load(Ordering::Acquire))
    }
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
    /// For how long at most it has not been known what other processes changed, in ms, where the store tells; copies are
    /// used up to `max_staleness` of it. `None` before the first news.
    pub lag_ms: Option<u64>,
    /// How often the store could not tell what had changed, so that all copies were dropped.
    pub gaps: u64,
    /// How often a part of the store failed when it was asked what has changed; meanwhile its copies are not used.
    pub errors: u64,
}
