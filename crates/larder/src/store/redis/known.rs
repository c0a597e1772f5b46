//! What this process believes about tags: which registers entries depend on, and what numbers these hold.
//!
//! All of it is a guess, to save a round trip. Who reads fetches the registers that he expects together with the entry;
//! who writes names them to the script. A wrong guess costs one more round trip, never validity.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use quick_cache::sync::Cache;
use redis::Value;

use super::Inner;
use super::place::Place;
use crate::envelope;
use crate::error::Result;
use crate::redis_conn::Call;
use crate::store::{Entry, Register, conflict};
use crate::tag::Nonces;

/// The most entries, and the most registers, that something is remembered of.
const MAX_KNOWN: usize = 1 << 16;
/// How often a script is told the registers that it asks for: each time somebody else has replaced the entry.
pub(super) const MAX_ATTEMPTS: usize = 64;

/// What is remembered. Nothing is allocated before the first tag is met. Keys are known by a hash of their names: two
/// with the same one share their guesses.
#[derive(Debug, Default)]
pub(super) struct Known {
    hasher: RandomState,
    entries: OnceLock<Cache<u64, Arc<[Register]>>>,
    nonces: OnceLock<Cache<u64, Nonces>>,
}

impl Known {
    /// Returns the registers that an entry is believed to depend on. Cost, before any tag was met: an atomic load.
    pub(super) fn registers(&self, entry: &[u8]) -> Option<Arc<[Register]>> {
        self.entries.get()?.get(&self.hasher.hash_one(entry))
    }

    /// Remembers what an entry depends on.
    pub(super) fn learn(&self, entry: &[u8], registers: &[Register]) {
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

    /// Remembers what an entry that was met depends on.
    pub(super) fn learn_from(&self, name: &[u8], entry: &Entry) {
        if envelope::has_stamps(&entry.value) {
            self.learn(name, &envelope::registers(&entry.value));
        } else {
            self.learn(name, &[]);
        }
    }

    /// Returns what a register, known by its key, held when it was last seen.
    pub(super) fn nonces(&self, register: &[u8]) -> Option<Nonces> {
        self.nonces.get()?.get(&self.hasher.hash_one(register))
    }

    /// Remembers what a register holds.
    pub(super) fn learn_nonces(&self, register: &[u8], nonces: Nonces) {
        let known = self.nonces.get_or_init(|| Cache::new(MAX_KNOWN));
        known.insert(self.hasher.hash_one(register), nonces);
    }
}

impl Inner {
    /// Runs a script about an entry; `make` is given the registers that the entry is believed to depend on, and once
    /// more those that the script asks for. Cost: one round trip, if the guess is right or there is no such entry.
    ///
    /// # Errors
    /// `Conflict`: others kept replacing the entry by one with other tags.
    pub(super) async fn on_entry(
        &self,
        place: &Place<'_>,
        make: impl Fn(&[Register]) -> Result<Call>,
    ) -> Result<Value> {
        let known = self.known.registers(&place.entry);
        let mut call = make(known.as_deref().unwrap_or_default())?;
        self.pass();
        for _ in 0..MAX_ATTEMPTS {
            let reply = self.link.one(&call).await?;
            let Some(registers) = asked_for(&reply) else {
                return Ok(reply);
            };
            self.known.learn(&place.entry, &registers);
            call = make(&registers)?;
        }
        Err(conflict("redis", place.key()))
    }
}

/// Returns the registers that a script asks for.
pub(super) fn asked_for(reply: &Value) -> Option<Vec<Register>> {
    let Value::Array(words) = reply else {
        return None;
    };
    let [Value::BulkString(word), Value::Array(names)] = words.as_slice() else {
        return None;
    };
    let name = |value: &Value| match value {
        Value::BulkString(name) => Register::from_bytes(name),
        _ => None,
    };
    (word == b"registers").then(|| names.iter().filter_map(name).collect())
}
