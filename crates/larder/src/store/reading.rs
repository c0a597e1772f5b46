//! What a read finds: an entry, nothing, or an entry that a register has made invalid, which counts as nothing.

use super::Entry;

/// What a store finds under a key; see [`Store::read_many`](super::Store::read_many).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// An entry that may be used.
    Entry(Entry),
    /// An entry that a register has made invalid.
    Invalid,
    /// Nothing, or what has expired, or the mark of a load.
    Absent,
}

impl Read {
    /// Returns the entry, if there is one.
    #[must_use]
    pub fn entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Invalid | Self::Absent => None,
        }
    }
}

impl From<Option<Entry>> for Read {
    fn from(entry: Option<Entry>) -> Self {
        entry.map_or(Self::Absent, Self::Entry)
    }
}

/// Returns the entries of several reads.
pub(super) fn entries(reads: Vec<Read>) -> Vec<Option<Entry>> {
    reads.into_iter().map(Read::entry).collect()
}
