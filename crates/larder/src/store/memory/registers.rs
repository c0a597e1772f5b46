//! The registers of this process.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::envelope;
use crate::glob::Glob;
use crate::store::tidy::outliving;
use crate::store::{
    Examined, Invalidation, MIN_REGISTER_MS, REGISTER_GRACE_MS, Register, RegisterPage, Retirement,
    Stamp, verdict,
};
use crate::tag::{Nonces, Verdict};

/// Registers are looked through for those that nobody needs when there are so many, and again whenever they have doubled.
const MIN_SWEEP: usize = 4096;

/// Registers by namespace and name. Who holds the lock of a shard may take this one, never the other way round.
#[derive(Debug, Default)]
pub(super) struct Registers(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    registers: HashMap<(u64, Register), Kept>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Kept {
    nonces: Nonces,
    /// `u64::MAX`: for good.
    until_ms: u64,
}

impl Registers {
    /// Returns the stamps of registers, creating what is not there.
    pub(super) fn capture(&self, namespace: u64, names: &[Register], now_ms: u64) -> Vec<Stamp> {
        let mut table = self.write();
        table.sweep(now_ms);
        let capture = |name: &Register| {
            let kept = table
                .registers
                .entry((namespace, name.clone()))
                .or_insert_with(|| Kept {
                    nonces: Nonces::fresh(),
                    until_ms: 0,
                });
            kept.until_ms = kept.until_ms.max(now_ms.saturating_add(MIN_REGISTER_MS));
            kept.nonces.stamp(name)
        };
        names.iter().map(capture).collect()
    }

    /// Judges an entry.
    pub(super) fn verdict(&self, namespace: u64, entry: &Bytes) -> Verdict {
        if !envelope::has_stamps(entry) {
            return Verdict::Valid;
        }
        let table = self.read();
        let live = |name: &Register| {
            let kept = table.registers.get(&(namespace, name.clone()));
            kept.map(|kept| kept.nonces)
        };
        verdict(entry, live)
    }

    /// Compares the stamps of what is under a key with the registers.
    pub(super) fn examine(&self, namespace: u64, found: Examined) -> Examined {
        let table = self.read();
        found.judged(|name| {
            let kept = table.registers.get(&(namespace, name.clone()));
            kept.map(|kept| kept.nonces)
        })
    }

    /// Keeps the registers of an entry that is being written for longer than the entry.
    pub(super) fn keep(&self, namespace: u64, entry: &Bytes, expires_at_ms: Option<u64>) {
        if !envelope::has_stamps(entry) {
            return;
        }
        let until_ms = expires_at_ms.map_or(u64::MAX, |at| at.saturating_add(REGISTER_GRACE_MS));
        let mut table = self.write();
        for name in envelope::registers(entry) {
            if let Some(kept) = table.registers.get_mut(&(namespace, name)) {
                kept.until_ms = outliving(kept.until_ms, until_ms);
            }
        }
    }

    /// Invalidates registers; returns which were there.
    pub(super) fn invalidate(
        &self,
        namespace: u64,
        names: &[Register],
        how: Invalidation,
    ) -> Vec<bool> {
        let mut table = self.write();
        if let Some(any) = table.registers.get_mut(&(namespace, Register::any())) {
            any.nonces = Nonces::fresh();
        }
        let invalidate = |name: &Register| {
            let id = (namespace, name.clone());
            match how {
                Invalidation::Hard => table.registers.remove(&id).is_some(),
                Invalidation::Soft => match table.registers.get_mut(&id) {
                    None => false,
                    Some(kept) => {
                        kept.nonces.soft = Nonces::fresh().soft;
                        true
                    }
                },
            }
        };
        names.iter().map(invalidate).collect()
    }

    /// Takes a step towards the end of registers; returns to which it applied.
    pub(super) fn retire(
        &self,
        namespace: u64,
        names: &[Register],
        step: Retirement,
        now_ms: u64,
    ) -> Vec<bool> {
        let mut table = self.write();
        let mut retire = |name: &Register| {
            let kept = table.registers.get_mut(&(namespace, name.clone()))?;
            kept.until_ms = step.apply(kept.until_ms, now_ms)?;
            Some(())
        };
        names.iter().map(|name| retire(name).is_some()).collect()
    }

    /// Lists registers, in order of their names.
    pub(super) fn scan(
        &self,
        namespace: u64,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> RegisterPage {
        let table = self.read();
        let later = |name: &&Register| cursor.is_none_or(|after| name.as_bytes() > &after[..]);
        let names = table.registers.keys().filter(|(of, _)| *of == namespace);
        let mut found: Vec<&Register> = names
            .map(|(_, name)| name)
            .filter(|name| **name != Register::any() && pattern.matches(name.as_bytes()))
            .filter(later)
            .collect();
        found.sort_unstable();
        let limit = limit.max(1);
        let next = (found.len() > limit).then(|| found[limit - 1]);
        RegisterPage {
            next: next.map(|last| Bytes::copy_from_slice(last.as_bytes())),
            registers: found.into_iter().take(limit).cloned().collect(),
        }
    }

    /// Forgets the registers of namespaces that are gone.
    pub(super) fn retain(&self, is_live: impl Fn(u64) -> bool) {
        self.write()
            .registers
            .retain(|(namespace, _), _| is_live(*namespace));
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn sweep(&mut self, now_ms: u64) {
        if self.registers.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.registers.retain(|_, kept| kept.until_ms > now_ms);
        self.sweep_at = 2 * self.registers.len();
    }
}
