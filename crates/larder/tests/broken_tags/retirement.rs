//! How the broken store ends registers that nothing carries.

use std::collections::hash_map::Entry as Slot;

use bytes::Bytes;
use larder::Namespace;
use larder::store::{Register, Retirement, TidyPage};

use crate::flaws::Flaw;
use crate::layout::{carried, is_load};
use crate::store::{BrokenTags, Place, State, Verdict};

/// Until when a register is kept that would not end by itself. One that was ended is kept all the same: nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    ForGood,
    Suspected(u32),
}

impl BrokenTags {
    /// Notes that an entry was stored.
    pub(crate) fn clear_of_suspicion(
        &self,
        state: &mut State,
        namespace: &Namespace,
        entry: &Bytes,
        expires_at_ms: Option<u64>,
    ) {
        for carried in carried(entry) {
            match state.kept.entry(self.id(namespace, &carried.register)) {
                Slot::Occupied(_) if self.is(Flaw::SuspectsForEver) => {}
                Slot::Occupied(mut kept) => drop(kept.insert(Kept::ForGood)),
                Slot::Vacant(free) if expires_at_ms.is_none() => drop(free.insert(Kept::ForGood)),
                Slot::Vacant(_) => {}
            }
        }
    }

    pub(crate) fn retire_one(
        &self,
        state: &mut State,
        namespace: &Namespace,
        register: &Register,
        step: Retirement,
    ) -> bool {
        let id = self.id(namespace, register);
        if !state.live.contains_key(&id) {
            return false;
        }
        if self.is(Flaw::RetiresShortLives) {
            state.kept.entry(id.clone()).or_insert(Kept::ForGood);
        }
        let Slot::Occupied(mut kept) = state.kept.entry(id) else {
            return false;
        };
        match (step, *kept.get()) {
            (Retirement::Look, _) => true,
            (Retirement::Suspect(number), _) => {
                kept.insert(Kept::Suspected(number));
                true
            }
            (Retirement::End { suspicion, .. }, Kept::Suspected(number))
                if number == suspicion || self.is(Flaw::MixesSuspicions) =>
            {
                kept.remove();
                true
            }
            (Retirement::End { .. }, _) => false,
        }
    }

    /// Makes one step in order of keys; the cursor is the last one.
    pub(crate) fn tidy_some(
        &self,
        state: &mut State,
        namespace: &Namespace,
        (cursor, limit): (Option<&Bytes>, usize),
        removes: bool,
    ) -> TidyPage {
        let after =
            |(of, key): &&Place| of == namespace && cursor.is_none_or(|after| key[..] > after[..]);
        let mut places: Vec<Place> = state.entries.keys().filter(after).cloned().collect();
        places.sort_by(|a, b| a.1.cmp(&b.1));
        let mut page = TidyPage::default();
        let mut gone = Vec::new();
        for place in places.iter().take(limit) {
            let value = state.entries[place].value.clone();
            let is_needed = self.unexpired(state, place).is_some()
                && self.verdict(state, namespace, &value) != Verdict::Invalid;
            if is_needed {
                let is_met = !is_load(&value) || !self.is(Flaw::OverlooksLoads);
                let names = carried(&value).into_iter().map(|carried| carried.register);
                page.carried
                    .extend(names.filter(|name| is_met && *name != Register::any()));
            } else if !carried(&value).is_empty() {
                page.removed += u64::from(!is_load(&value));
                gone.push(place.clone());
            }
        }
        if removes && !self.is(Flaw::TidiesNothing) {
            gone.iter()
                .for_each(|place| drop(state.entries.remove(place)));
        }
        let last = places
            .get(limit.max(1) - 1)
            .filter(|_| places.len() > limit);
        page.next = last.map(|(_, key)| Bytes::copy_from_slice(key));
        page
    }
}
