//! What this process believes about tags: which registers entries depend on, and what it last saw of a register.
//!
//! All of it is a guess, to save a round trip on stores that are servers: the registers that an entry probably depends on
//! are fetched together with it. A wrong guess costs one more round trip, never validity.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quick_cache::sync::Cache;

use super::Register;
use crate::envelope;

/// The most entries, and the most registers, that something is remembered of.
const MAX_KNOWN: usize = 1 << 16;

/// What is remembered; `R` of a register. Nothing is allocated before the first tag is met. Names are known by their hash:
/// two with the same one share their guesses.
#[derive(Debug)]
pub(super) struct Known<R> {
    hasher: RandomState,
    entries: OnceLock<Cache<u64, Arc<[Register]>>>,
    held: OnceLock<Cache<u64, R>>,
}

impl<R> Default for Known<R> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            entries: OnceLock::new(),
            held: OnceLock::new(),
        }
    }
}

impl<R: Clone> Known<R> {
    /// Returns the registers that an entry is believed to depend on. Cost, before any tag was met: an atomic load.
    pub(super) fn registers(&self, entry: impl Hash) -> Option<Arc<[Register]>> {
        self.entries.get()?.get(&self.hasher.hash_one(entry))
    }

    /// Remembers what an entry depends on.
    pub(super) fn learn(&self, entry: impl Hash, registers: &[Register]) {
        if registers.is_empty() && self.entries.get().is_none() {
            return;
        }
        let is_stamped = |name: &&Register| **name != Register::any();
        let registers: Vec<_> = registers.iter().filter(is_stamped).cloned().collect();
        let entries = self.entries.get_or_init(|| Cache::new(MAX_KNOWN));
        let id = self.hasher.hash_one(entry);
        if registers.is_empty() {
            entries.remove(&id);
        } else if entries.get(&id).is_none_or(|known| *known != *registers) {
            entries.insert(id, registers.into());
        }
    }

    /// Remembers what an entry that was met, or written, depends on.
    pub(super) fn learn_from(&self, name: impl Hash, entry: &Bytes) {
        if envelope::has_stamps(entry) {
            self.learn(name, &envelope::registers(entry));
        } else {
            self.learn(name, &[]);
        }
    }

    /// Returns what was last seen of a register.
    pub(super) fn held(&self, register: impl Hash) -> Option<R> {
        self.held.get()?.get(&self.hasher.hash_one(register))
    }

    /// Remembers what was seen of a register.
    pub(super) fn learn_held(&self, register: impl Hash, held: R) {
        let known = self.held.get_or_init(|| Cache::new(MAX_KNOWN));
        known.insert(self.hasher.hash_one(register), held);
    }
}
