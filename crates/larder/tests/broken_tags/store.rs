//! A small store of entries and registers, sound but for its flaw.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::store::{
    Change, Condition, Entry, Expiry, Invalidation, MIN_REGISTER_MS, Memory, Register, ScannedKey,
    Stamp, Store, Write,
};
use larder::testing::{body, stamped, write_id};
use larder::{Clock, Glob, Key, Namespace, Result};
use tokio::sync::Mutex;

use crate::flaws::Flaw;
use crate::layout::{Carried, carried, is_load, numbers};
use crate::retirement::Kept;

pub(crate) type Place = (Namespace, Vec<u8>);

/// The store. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct BrokenTags {
    pub(crate) flaw: Flaw,
    pub(crate) clock: Clock,
    /// Where new numbers come from.
    source: Memory,
    pub(crate) state: Arc<Mutex<State>>,
}

/// What is stored.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) entries: HashMap<Place, Entry>,
    cleared: HashMap<Place, Entry>,
    pub(crate) live: HashMap<(Namespace, Register), Live>,
    first: HashMap<(Namespace, Register), Stamp>,
    softened: HashSet<(Namespace, Register)>,
    /// The tokens of loads under way, for stores that keep these elsewhere.
    loads: HashMap<Place, u64>,
    /// The registers that do not end by themselves.
    pub(crate) kept: HashMap<(Namespace, Register), Kept>,
}

/// A register that is there.
#[derive(Debug)]
pub(crate) struct Live {
    stamp: Stamp,
    pub(crate) numbers: Carried,
    since_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    Stale,
    Invalid,
}

impl BrokenTags {
    pub(crate) fn new(source: Memory, flaw: Flaw) -> Self {
        Self {
            flaw,
            clock: source.clock(),
            source,
            state: Arc::default(),
        }
    }

    pub(crate) fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    pub(crate) fn id(&self, namespace: &Namespace, register: &Register) -> (Namespace, Register) {
        let name = register.as_bytes();
        let end = match name.iter().position(|byte| *byte == 0) {
            Some(end) if self.is(Flaw::CStrings) => end,
            _ => name.len(),
        };
        let name = Register::from_bytes(&name[..end]).unwrap();
        (namespace.clone(), name)
    }

    pub(crate) async fn stamp(
        &self,
        state: &mut State,
        namespace: &Namespace,
        register: &Register,
    ) -> Result<Stamp> {
        let id = self.id(namespace, register);
        let one = std::slice::from_ref(register);
        if self.is(Flaw::CapturesNothing) || self.is(Flaw::RenewsOnCapture) {
            let source = &self.source;
            source
                .invalidate(namespace, one, Invalidation::Hard)
                .await?;
        } else if let Some(live) = state.live.get(&id) {
            return Ok(live.stamp.clone());
        }
        let mut stamp = self.source.capture(namespace, b"", one).await?.remove(0);
        if self.is(Flaw::RepeatsNumbers) {
            stamp = state.first.entry(id.clone()).or_insert(stamp).clone();
        }
        if !self.is(Flaw::CapturesNothing) {
            self.keep(state, id, &stamp);
        }
        Ok(stamp)
    }

    fn keep(&self, state: &mut State, id: (Namespace, Register), stamp: &Stamp) {
        let live = Live {
            stamp: stamp.clone(),
            numbers: numbers(stamp),
            since_ms: self.clock.now_ms(),
        };
        state.live.insert(id, live);
    }

    /// Invalidates registers and returns which were there.
    pub(crate) async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Vec<bool>> {
        let mut state = self.state.lock().await;
        let is_there = |register| state.live.contains_key(&self.id(namespace, register));
        let had: Vec<_> = registers.iter().map(is_there).collect();
        let is_idle = self.is(Flaw::ForgetsAnyOfNothing) && !had.contains(&true);
        if !self.is(Flaw::ForgetsAny) && !is_idle {
            self.remove(&mut state, namespace, &Register::any()).await?;
        }
        for register in registers {
            let is_last = registers.len() > 1 && registers.last() == Some(register);
            if self.is(Flaw::KeepsRegisters) || self.is(Flaw::ForgetsTheLast) && is_last {
                continue;
            }
            let is_soft = how == Invalidation::Soft && !self.is(Flaw::SoftIsHard);
            if is_soft || self.is(Flaw::HardIsSoft) {
                self.soften(&mut state, namespace, register).await?;
                continue;
            }
            for (namespace, register) in self.meant(&state, namespace, register) {
                self.remove(&mut state, &namespace, &register).await?;
            }
        }
        Ok(match self.flaw {
            Flaw::AlwaysHad => vec![true; had.len()],
            Flaw::NeverHad => vec![false; had.len()],
            _ => had,
        })
    }

    /// Returns which registers an invalidation of one is for.
    fn meant(
        &self,
        state: &State,
        namespace: &Namespace,
        register: &Register,
    ) -> Vec<(Namespace, Register)> {
        let is_meant = |(of, name): &&(Namespace, Register)| match self.flaw {
            Flaw::MixesNamespaces => name == register,
            Flaw::InvalidatesByPrefix => {
                of == namespace && name.as_bytes()[1..].starts_with(&register.as_bytes()[1..])
            }
            _ => (of, name) == (namespace, &self.id(namespace, register).1),
        };
        state.live.keys().filter(is_meant).cloned().collect()
    }

    async fn remove(
        &self,
        state: &mut State,
        namespace: &Namespace,
        register: &Register,
    ) -> Result<()> {
        state.live.remove(&self.id(namespace, register));
        let one = std::slice::from_ref(register);
        let source = &self.source;
        source
            .invalidate(namespace, one, Invalidation::Hard)
            .await
            .map(drop)
    }

    async fn soften(
        &self,
        state: &mut State,
        namespace: &Namespace,
        register: &Register,
    ) -> Result<()> {
        let id = self.id(namespace, register);
        if self.is(Flaw::SoftIsNothing) || !state.live.contains_key(&id) {
            return Ok(());
        }
        let one = std::slice::from_ref(register);
        let source = &self.source;
        source
            .invalidate(namespace, one, Invalidation::Soft)
            .await?;
        let stamp = source.capture(namespace, b"", one).await?.remove(0);
        state.softened.insert(id.clone());
        self.keep(state, id, &stamp);
        Ok(())
    }

    pub(crate) async fn clear(&self, namespace: &Namespace) -> Result<()> {
        let mut state = self.state.lock().await;
        if self.is(Flaw::ExaminesCleared) {
            state.cleared = state.entries.clone();
        }
        state.entries.retain(|(of, _), _| of != namespace);
        if !self.is(Flaw::ClearsSpareLoads) {
            state.loads.retain(|(of, _), _| of != namespace);
        }
        if self.is(Flaw::KeepsRegistersOnClear) {
            return Ok(());
        }
        state.live.retain(|(of, _), _| of != namespace);
        self.source.clear(namespace).await
    }

    pub(crate) fn verdict(&self, state: &State, namespace: &Namespace, entry: &Bytes) -> Verdict {
        let mut verdict = Verdict::Valid;
        if body(entry).is_none() {
            return verdict;
        }
        let is_judged =
            |carried: &Carried| carried.register != Register::any() || self.is(Flaw::JudgesAny);
        let limit = if self.is(Flaw::JudgesTheFirst) { 1 } else { 64 };
        for carried in carried(entry).into_iter().filter(is_judged).take(limit) {
            let id = self.id(namespace, &carried.register);
            let oldest = self.clock.now_ms().saturating_sub(MIN_REGISTER_MS);
            let live = state.live.get(&id);
            let live =
                live.filter(|live| !self.is(Flaw::ForgetsRegisters) || live.since_ms > oldest);
            let is_newer =
                |live: &Live| self.is(Flaw::ComparesByOrder) && carried.hard > live.numbers.hard;
            match live {
                None if self.is(Flaw::TakesMissingForValid) => {}
                Some(live) if live.numbers.hard == carried.hard || is_newer(live) => {
                    let is_stuck = self.is(Flaw::StaysSoft) && state.softened.contains(&id);
                    if live.numbers.soft != carried.soft || is_stuck {
                        verdict = Verdict::Stale;
                    }
                }
                _ => return Verdict::Invalid,
            }
        }
        verdict
    }

    /// Returns what is under a key, valid or not.
    pub(crate) fn lying(&self, state: &State, namespace: &Namespace, key: &[u8]) -> Option<Entry> {
        let place = (namespace.clone(), key.to_vec());
        if let Some(elsewhere) = state.entries.keys().find(|(_, other)| *other == key)
            && self.is(Flaw::ExaminesElsewhere)
        {
            return self.unexpired(state, elsewhere);
        }
        let present = self.unexpired(state, &place);
        present.or_else(|| state.cleared.get(&place).cloned())
    }

    /// Returns what is under a key and has not expired.
    pub(crate) fn unexpired(&self, state: &State, place: &Place) -> Option<Entry> {
        let now_ms = self.clock.now_ms();
        let entry = state.entries.get(place)?;
        let is_live = entry.expires_at_ms.is_none_or(|at| at > now_ms);
        let is_endless = self.is(Flaw::ForgetsLeases) && is_load(&entry.value);
        (is_live || is_endless).then(|| entry.clone())
    }

    pub(crate) fn get(&self, state: &State, namespace: &Namespace, key: &[u8]) -> Option<Entry> {
        let entry = self.unexpired(state, &(namespace.clone(), key.to_vec()))?;
        if is_load(&entry.value) && !self.is(Flaw::ReadsLoads) {
            return None;
        }
        let verdict = self.verdict(state, namespace, &entry.value);
        let is_usable = verdict != Verdict::Invalid || self.is(Flaw::ReadsAnything);
        is_usable.then_some(Entry {
            is_stale: verdict == Verdict::Stale,
            ..entry
        })
    }

    fn holds(&self, condition: Condition, present: Option<&Entry>) -> bool {
        let present = present.map(|entry| &entry.value);
        let is_loading = present.is_some_and(|entry| is_load(entry));
        let is_entry = present.is_some_and(|entry| body(entry).is_some())
            && (!is_loading || self.is(Flaw::TakesLoadsForEntries));
        match condition {
            Condition::Always => true,
            Condition::IfAbsent => !is_entry,
            Condition::IfPresent => is_entry,
            Condition::IfVacant => {
                (!is_entry || self.is(Flaw::GrantsOverEntries))
                    && (!is_loading || self.is(Flaw::GrantsTwice))
            }
            Condition::IfUnchanged(id) => present.is_some_and(|entry| {
                write_id(entry) == id || self.is(Flaw::IgnoresTokens) && is_loading
            }),
        }
    }

    /// Returns the live stamps of what an entry carries, in place of those.
    async fn restamp(
        &self,
        state: &mut State,
        namespace: &Namespace,
        entry: &Bytes,
    ) -> Result<Bytes> {
        let mut stamps = Vec::new();
        for carried in carried(entry) {
            stamps.push(self.stamp(state, namespace, &carried.register).await?);
        }
        Ok(stamped(entry, stamps))
    }

    pub(crate) async fn write(&self, namespace: &Namespace, write: &Write<'_>) -> Result<bool> {
        if self.is(Flaw::MovesAnyWithWrites) {
            self.invalidate(namespace, &[], Invalidation::Hard).await?;
        }
        if self.is(Flaw::ChecksThenGrants) && write.condition == Condition::IfVacant {
            let state = self.state.lock().await;
            let present = self.present(&state, &(namespace.clone(), write.key.to_vec()), write);
            let holds = self.holds(write.condition, present.as_ref());
            drop(state);
            tokio::time::sleep(Duration::from_micros(200)).await;
            let later = write.clone().when(Condition::Always);
            return Ok(holds && self.apply(namespace, &later).await?);
        }
        self.apply(namespace, write).await
    }

    /// Returns what is under a key for conditions: neither expired nor invalid.
    fn present(&self, state: &State, place: &Place, write: &Write<'_>) -> Option<Entry> {
        let ignores = match write.change {
            _ if self.is(Flaw::ConditionsOnAnything) => true,
            Change::Delete => self.is(Flaw::DeletesAnything),
            Change::Touch => self.is(Flaw::TouchesAnything),
            Change::Put(_) => {
                self.is(Flaw::RefusesOverDead) && write.condition == Condition::IfVacant
            }
        };
        let entry = self.unexpired(state, place)?;
        let verdict = self.verdict(state, &place.0, &entry.value);
        (ignores || verdict != Verdict::Invalid).then_some(entry)
    }

    async fn apply(&self, namespace: &Namespace, write: &Write<'_>) -> Result<bool> {
        let mut state = self.state.lock().await;
        let place = (namespace.clone(), write.key.to_vec());
        let present = self.present(&state, &place, write);
        let is_kept_elsewhere = match write.condition {
            Condition::IfUnchanged(id) => state.loads.get(&place) == Some(&id),
            _ => false,
        };
        if !self.holds(write.condition, present.as_ref()) && !is_kept_elsewhere {
            return Ok(false);
        }
        let by_token = matches!(write.condition, Condition::IfUnchanged(_));
        let entry = present.clone().filter(|present| !is_load(&present.value));
        let mut kept = if by_token && write.change == Change::Touch {
            present.clone().filter(|_| !self.is(Flaw::RenewsNoLease))
        } else {
            entry.clone()
        };
        if self.is(Flaw::KeepsLeases) || self.is(Flaw::TouchesLoads) {
            kept = present.clone();
        }
        let mut expires_at_ms = self.expires_at_ms(&state, &place, write.expiry, kept.as_ref());
        match &write.change {
            Change::Put(value) => {
                if by_token && self.is(Flaw::EndsWithLeases) {
                    expires_at_ms = present.and_then(|present| present.expires_at_ms);
                }
                let is_swap = by_token && write.expiry == Expiry::Keep;
                let value = match self.flaw {
                    Flaw::UnstampsCounters if is_swap => stamped(value, Vec::new()),
                    Flaw::Restamps => self.restamp(&mut state, namespace, value).await?,
                    _ => value.clone(),
                };
                self.note(&mut state, &place, write.condition, &value);
                self.clear_of_suspicion(&mut state, namespace, &value, expires_at_ms);
                state
                    .entries
                    .insert(place, Entry::new(value, expires_at_ms));
                Ok(true)
            }
            Change::Touch => Ok(kept.is_some_and(|kept| {
                let mut value = kept.value;
                self.clear_of_suspicion(&mut state, namespace, &value, expires_at_ms);
                if self.is(Flaw::TouchesAnything) {
                    value = stamped(&value, Vec::new());
                }
                state
                    .entries
                    .insert(place, Entry::new(value, expires_at_ms));
                true
            })),
            Change::Delete => {
                if !self.is(Flaw::DeletesSpareLoads) {
                    state.loads.remove(&place);
                }
                state.entries.remove(&place);
                Ok(entry.is_some() || self.is(Flaw::DeletesLoads) && present.is_some())
            }
        }
    }

    /// Keeps or forgets the token of a load, in stores that keep these elsewhere.
    fn note(&self, state: &mut State, place: &Place, condition: Condition, value: &Bytes) {
        let keeps = matches!(
            self.flaw,
            Flaw::PutsSpareLoads | Flaw::DeletesSpareLoads | Flaw::ClearsSpareLoads
        );
        let by_token = matches!(condition, Condition::IfUnchanged(_));
        if is_load(value) && keeps {
            state.loads.insert(place.clone(), write_id(value));
        } else if by_token || !self.is(Flaw::PutsSpareLoads) {
            state.loads.remove(place);
        }
    }

    fn expires_at_ms(
        &self,
        state: &State,
        place: &Place,
        expiry: Expiry,
        kept: Option<&Entry>,
    ) -> Option<u64> {
        match expiry {
            Expiry::After(ttl_ms) => {
                let at = self.clock.now_ms().saturating_add(ttl_ms);
                Some(at.min(i64::MAX as u64))
            }
            Expiry::Never => None,
            Expiry::Keep if self.is(Flaw::KeepsDeadExpiry) => {
                self.unexpired(state, place)?.expires_at_ms
            }
            Expiry::Keep => kept?.expires_at_ms,
        }
    }

    /// Lists what is there, in order.
    pub(crate) fn list(
        &self,
        state: &State,
        namespace: &Namespace,
        pattern: &Glob,
        wanted: impl Fn(&Bytes) -> bool,
    ) -> Vec<ScannedKey> {
        let mut listed = Vec::new();
        for place in state.entries.keys().filter(|(of, _)| of == namespace) {
            let Some(entry) = self.unexpired(state, place) else {
                continue;
            };
            let is_valid = self.verdict(state, namespace, &entry.value) != Verdict::Invalid
                || self.is(Flaw::ListsAnything);
            let is_shown = !is_load(&entry.value) || self.is(Flaw::ListsLoads);
            if is_valid && is_shown && pattern.matches(&place.1) && wanted(&entry.value) {
                listed.push(ScannedKey {
                    key: Key::from(place.1.clone()),
                    bytes: entry.value.len() as u64,
                    expires_at_ms: entry.expires_at_ms,
                });
            }
        }
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        listed
    }
}
