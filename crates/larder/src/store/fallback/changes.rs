//! What this process changed during an outage, in memory: the bound of the journal, and its copy where a store evicts.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::key::Namespace;

/// More changed keys than this in one namespace are remembered as "everything in it".
pub(super) const MAX_KEYS: usize = 100_000;

/// What changed in a namespace during a generation.
#[derive(Debug, Clone)]
pub(super) enum Changed {
    /// These keys.
    Keys(HashSet<Bytes>),
    /// Any key: it was cleared, or there were too many.
    Everything,
}

/// What must be put on record before a change may be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing: it is on record.
    Nothing,
    /// These keys, and the namespace itself when it is the first change in it.
    Keys { keys: Vec<Bytes>, is_first: bool },
    /// That everything may have changed.
    Everything,
}

/// The changes by generation and namespace.
#[derive(Debug, Default)]
pub(super) struct Changes(HashMap<(u64, Namespace), Changed>);

impl Changes {
    /// Returns what is not on record yet.
    pub(super) fn missing<'a>(
        &self,
        generation: u64,
        namespace: &Namespace,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Missing {
        let (known, is_first) = match self.0.get(&(generation, namespace.clone())) {
            Some(Changed::Everything) => return Missing::Nothing,
            Some(Changed::Keys(known)) => (Some(known), false),
            None => (None, true),
        };
        let is_new = |key: &&[u8]| known.is_none_or(|known| !known.contains(*key));
        let new: HashSet<Bytes> = keys.filter(is_new).map(Bytes::copy_from_slice).collect();
        if new.is_empty() {
            return Missing::Nothing;
        }
        if known.map_or(0, HashSet::len) + new.len() > MAX_KEYS {
            return Missing::Everything;
        }
        let keys = new.into_iter().collect();
        Missing::Keys { keys, is_first }
    }

    /// Notes what was put on record.
    pub(super) fn note(&mut self, generation: u64, namespace: &Namespace, missing: Missing) {
        let slot = self.0.entry((generation, namespace.clone()));
        match missing {
            Missing::Nothing => {}
            Missing::Everything => drop(slot.insert_entry(Changed::Everything)),
            Missing::Keys { keys, .. } => match slot {
                Slot::Vacant(slot) => {
                    slot.insert(Changed::Keys(keys.into_iter().collect()));
                }
                Slot::Occupied(mut slot) => {
                    if let Changed::Keys(known) = slot.get_mut() {
                        known.extend(keys);
                    }
                }
            },
        }
    }

    /// Returns the changes made before a generation.
    pub(super) fn before(
        &self,
        generation: u64,
    ) -> impl Iterator<Item = (u64, &Namespace, &Changed)> {
        let changes = self.0.iter();
        let old = changes.filter(move |((number, _), _)| *number < generation);
        old.map(|((number, namespace), changed)| (*number, namespace, changed))
    }

    /// Forgets the changes made before a generation.
    pub(super) fn forget_before(&mut self, generation: u64) {
        self.0.retain(|(number, _), _| *number >= generation);
    }

    /// Counts keys, and namespaces of which everything may have changed.
    pub(super) fn len(&self) -> usize {
        let size = |changed: &Changed| match changed {
            Changed::Keys(keys) => keys.len(),
            Changed::Everything => 1,
        };
        self.0.values().map(size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_keys_become_everything() {
        let namespace = Namespace::new("test", "changes", 1);
        let mut changes = Changes::default();
        let key = |n: usize| n.to_le_bytes();
        for n in 0..MAX_KEYS {
            let key = key(n);
            let missing = changes.missing(1, &namespace, [&key[..]].into_iter());
            assert!(matches!(&missing, Missing::Keys { is_first, .. } if *is_first == (n == 0)));
            changes.note(1, &namespace, missing);
        }
        assert_eq!(changes.len(), MAX_KEYS);
        let again = key(7);
        let again = changes.missing(1, &namespace, [&again[..]].into_iter());
        assert_eq!(again, Missing::Nothing);
        let more = key(MAX_KEYS);
        let missing = changes.missing(1, &namespace, [&more[..]].into_iter());
        assert_eq!(missing, Missing::Everything);
        changes.note(1, &namespace, missing);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes.before(1).count(), 0);
        assert_eq!(changes.before(2).count(), 1);
        changes.forget_before(2);
        assert_eq!(changes.len(), 0);
    }
}
