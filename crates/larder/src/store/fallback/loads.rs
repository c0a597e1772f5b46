//! Loads that began on the standby: they end there, and no other conditional write is made on it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::envelope;
use crate::store::{Change, Condition, Write};

/// More loads than this at a time are forgotten: their values are not stored.
const MAX_LOADS: usize = 100_000;

/// The tokens of the marks that this process has left on the standby during the present outage.
#[derive(Debug, Default)]
pub(super) struct Loads(Mutex<HashSet<u64>>);

impl Loads {
    /// Returns whether a write means the same wherever it is made.
    pub(super) fn falls_back(&self, write: &Write<'_>) -> bool {
        match (&write.change, write.condition) {
            // What depends on registers stays with them.
            (Change::Put(entry), _) if envelope::has_stamps(entry) => false,
            (_, Condition::Always) | (Change::Touch, Condition::IfPresent) => true,
            (Change::Put(mark), Condition::IfVacant) => envelope::is_load(mark),
            (_, Condition::IfUnchanged(token)) => self.lock().contains(&token),
            _ => false,
        }
    }

    /// Notes what was done on the standby.
    pub(super) fn note(&self, writes: &[Write<'_>], applied: &[bool]) {
        let done = writes.iter().zip(applied).filter(|(_, applied)| **applied);
        for (write, _) in done {
            match (&write.change, write.condition) {
                (Change::Put(mark), Condition::IfVacant) => self.begin(envelope::write_id(mark)),
                (Change::Put(_) | Change::Delete, Condition::IfUnchanged(token)) => {
                    self.lock().remove(&token);
                }
                _ => {}
            }
        }
    }

    fn begin(&self, token: u64) {
        let mut tokens = self.lock();
        if tokens.len() >= MAX_LOADS {
            tokens.clear();
        }
        tokens.insert(token);
    }

    /// Forgets those of the last outage.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
