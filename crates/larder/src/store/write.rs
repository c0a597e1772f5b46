//! Writes: what is to be done with a key, until when, and on what condition.

use bytes::Bytes;

use crate::envelope;

/// When a written entry expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// This many milliseconds after the write, by the store's clock.
    After(u64),
    /// Never.
    Never,
    /// When the present entry does; never, if there is none.
    Keep,
}

/// The latest expiry, so that stores may keep it in a signed number.
const MAX_EXPIRES_AT_MS: u64 = i64::MAX as u64;

impl Expiry {
    /// Returns the expiry of a resolved TTL.
    #[must_use]
    pub fn from_ttl_ms(ttl_ms: Option<u64>) -> Self {
        ttl_ms.map_or(Self::Never, Self::After)
    }

    /// Returns the absolute time, given the store's time and the present entry's expiry.
    pub(crate) fn at(self, now_ms: u64, present: Option<u64>) -> Option<u64> {
        match self {
            Self::After(ttl_ms) => Some(now_ms.saturating_add(ttl_ms).min(MAX_EXPIRES_AT_MS)),
            Self::Never => None,
            Self::Keep => present,
        }
    }
}

/// What a write does to its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores this sealed entry.
    Put(Bytes),
    /// Removes the entry.
    Delete,
    /// Keeps the entry and changes its expiry.
    Touch,
}

/// What must hold for a write to be applied; checked and applied as one atomic step per key.
///
/// An expired entry counts as absent, and so does one that is invalid by a register it depends on, one whose bytes
/// cannot be read, and a load under way, unless a condition says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// There is no entry.
    IfAbsent,
    /// There is an entry.
    IfPresent,
    /// There is an entry with this write id; a load under way is one with its token.
    IfUnchanged(u64),
    /// There is no entry, and nobody loads one.
    IfVacant,
}

impl Condition {
    /// Decides, given the present entry, neither expired nor invalid; it may be a load under way.
    pub(crate) fn holds(self, present: Option<&Bytes>) -> bool {
        let is_entry = |entry: &Bytes| envelope::is_readable(entry) && !envelope::is_load(entry);
        match self {
            Self::Always => true,
            Self::IfAbsent => !present.is_some_and(is_entry),
            Self::IfPresent => present.is_some_and(is_entry),
            Self::IfVacant => !present.is_some_and(envelope::is_readable),
            Self::IfUnchanged(write_id) => {
                present.is_some_and(|entry| envelope::write_id(entry) == write_id)
            }
        }
    }
}

/// One write of a bulk call.
#[derive(Debug, Clone)]
pub struct Write<'a> {
    /// The key, within bounds.
    pub key: &'a [u8],
    /// What to do.
    pub change: Change,
    /// When the result expires; ignored by [`Change::Delete`].
    pub expiry: Expiry,
    /// What must hold.
    pub condition: Condition,
}

impl<'a> Write<'a> {
    /// Returns an unconditional put.
    #[must_use]
    pub fn put(key: &'a [u8], value: Bytes, expiry: Expiry) -> Self {
        Self {
            key,
            change: Change::Put(value),
            expiry,
            condition: Condition::Always,
        }
    }

    /// Returns a delete; applied when there was an entry.
    #[must_use]
    pub fn delete(key: &'a [u8]) -> Self {
        Self {
            key,
            change: Change::Delete,
            expiry: Expiry::Never,
            condition: Condition::Always,
        }
    }

    /// Returns a change of expiry; applied when there is an entry.
    #[must_use]
    pub fn touch(key: &'a [u8], expiry: Expiry) -> Self {
        Self {
            key,
            change: Change::Touch,
            expiry,
            condition: Condition::IfPresent,
        }
    }

    /// Replaces the condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}
