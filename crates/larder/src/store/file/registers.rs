//! Registers: one small file for each, below the directory of its namespace, so that `clear` takes them along.
//!
//! ```text
//! <root>/ns-<digest>/registers/aa/<digest of the name>
//! ```
//! Whoever judges an entry reads its registers without a lock. Whoever creates, changes or removes one holds the lock of
//! its stripe, since one that was removed must never come back: what replaces a file was made from the very file that it
//! replaces. Creation fails where there is a file already, so that two creators agree on one value whatever their locks
//! are worth. These locks are the last that anybody takes, after that of an entry and that of removals.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};

use bytes::Bytes;

use super::disk::Disk;
use super::fault::{Attempt, Effort, Fault, fault};
use super::name::{Address, Digest};
use super::record::{self, Found};
use super::register::Kept;
use super::replace::{Over, Temp};
use crate::envelope;
use crate::store::tidy::is_suspected;
use crate::store::{
    Examined, Invalidation, MIN_REGISTER_MS, REGISTER_GRACE_MS, Register, Stamp, verdict,
};
use crate::tag::{Nonces, Verdict};

/// Registers are kept so much longer than they need be, so that not every use writes.
const KEEP_SLACK_MS: u64 = 60_000;
/// How often a change starts anew because its directory went away.
const MAX_ATTEMPTS: usize = 4;
const WRITE: &str = "write a register";

pub(super) fn address(namespace: Digest, register: &Register) -> Address {
    Address::new(namespace, register.as_bytes())
}

impl Disk {
    /// Judges an entry, given itself or its header. One without stamps costs nothing.
    pub(super) fn judge(
        &self,
        namespace: Digest,
        entry: &Bytes,
        effort: Effort<'_>,
    ) -> Attempt<Verdict> {
        if !envelope::has_stamps(entry) {
            return Ok(Verdict::Valid);
        }
        let failed = RefCell::new(None);
        let verdict = verdict(entry, |register| {
            let present = self.read_register(namespace, register, effort);
            let present = present.unwrap_or_else(|fault| {
                failed.replace(Some(fault));
                None
            });
            present.map(|kept| kept.nonces)
        });
        failed.into_inner().map_or(Ok(verdict), Err)
    }

    /// Compares the stamps of what is under a key with the registers.
    pub(super) fn examine_registers(
        &self,
        namespace: Digest,
        found: Examined,
        effort: Effort<'_>,
    ) -> Attempt<Examined> {
        let failed = RefCell::new(None);
        let examined = found.judged(|register| {
            let present = self.read_register(namespace, register, effort);
            let present = present.unwrap_or_else(|fault| {
                failed.replace(Some(fault));
                None
            });
            present.map(|kept| kept.nonces)
        });
        failed.into_inner().map_or(Ok(examined), Err)
    }

    /// Reads a register; a damaged one is absent.
    pub(super) fn read_register(
        &self,
        namespace: Digest,
        register: &Register,
        effort: Effort<'_>,
    ) -> Attempt<Option<Kept>> {
        let found = self.read_register_at(&address(namespace, register), effort)?;
        Ok(found.and_then(|(name, kept)| (name == *register).then_some(kept)))
    }

    /// Reads whichever register lies there.
    pub(super) fn read_register_at(
        &self,
        address: &Address,
        effort: Effort<'_>,
    ) -> Attempt<Option<(Register, Kept)>> {
        let path = self.layout.register_path(address);
        Ok(match record::read_file(&self.layout, &path, effort)? {
            Found::Whole(file) => Kept::decode(&file, address.namespace),
            Found::Missing | Found::Damaged => None,
        })
    }

    /// Returns the stamps of registers and creates what is not there.
    pub(super) fn capture(
        &self,
        namespace: Digest,
        registers: &[Register],
        effort: Effort<'_>,
    ) -> Attempt<Vec<Stamp>> {
        let until_ms = self.clock.now_ms().saturating_add(MIN_REGISTER_MS);
        let stamp = |register: &Register| {
            let nonces = match self.read_register(namespace, register, effort)? {
                Some(kept) if kept.until_ms >= until_ms => kept.nonces,
                _ => self.ensure(namespace, register, until_ms, effort)?,
            };
            Ok(nonces.stamp(register))
        };
        registers.iter().map(stamp).collect()
    }

    /// Creates a register, or keeps the one there is for longer.
    fn ensure(
        &self,
        namespace: Digest,
        register: &Register,
        until_ms: u64,
        effort: Effort<'_>,
    ) -> Attempt<Nonces> {
        let ensure = || {
            self.under_register_lock(&address(namespace, register), effort, || {
                self.keep_one(namespace, register, until_ms, effort)?;
                match self.read_register(namespace, register, effort)? {
                    Some(kept) => Ok(kept.nonces),
                    None => self.create(namespace, register, until_ms),
                }
            })
        };
        match ensure() {
            Err(Fault::Vanished) => {}
            other => return other,
        }
        let _guard = self.locks.removal(&self.layout, effort)?;
        ensure()
    }

    /// Creates the file of a register. The caller holds its lock and found it absent or damaged.
    pub(super) fn create(
        &self,
        namespace: Digest,
        register: &Register,
        until_ms: u64,
    ) -> Attempt<Nonces> {
        let cannot = |error| fault(WRITE, self.layout.root(), error);
        let address = address(namespace, register);
        let dir = self.layout.register_dir(&address);
        let (temp, mut file) = match Temp::create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.layout.make_register_dir(&address)?;
                Temp::create(&dir)
            }
            other => other,
        }
        .map_err(cannot)?;
        let kept = Kept {
            nonces: Nonces::fresh(),
            until_ms: until_ms.saturating_add(KEEP_SLACK_MS),
        };
        file.write_all(&kept.encode(namespace, register))
            .map_err(cannot)?;
        drop(file);
        let target = self.layout.register_path(&address);
        match temp.publish_new(&target) {
            Ok(()) => Ok(kept.nonces),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Damaged, or else somebody writes here without our locks; looked at once more.
                self.remove_damaged(&address)?;
                Err(Fault::Vanished)
            }
            Err(error) => Err(cannot(error)),
        }
    }

    /// Removes the file of a register unless it is whole. The caller holds its lock.
    fn remove_damaged(&self, address: &Address) -> Attempt<()> {
        if self.read_register_at(address, Effort::FULL)?.is_some() {
            return Ok(());
        }
        tracing::warn!(store = "file", register = %address.key.hex(), "a damaged register is removed");
        fs::remove_file(self.layout.register_path(address))
            .map_err(|error| fault("remove a damaged register", self.layout.root(), error))
    }

    /// Keeps the registers of an entry that is about to be written for longer than the entry.
    pub(super) fn keep_registers(
        &self,
        namespace: Digest,
        entry: &Bytes,
        expires_at_ms: Option<u64>,
        effort: Effort<'_>,
    ) -> Attempt<()> {
        if !envelope::has_stamps(entry) {
            return Ok(());
        }
        let until_ms = expires_at_ms.map_or(u64::MAX, |at| at.saturating_add(REGISTER_GRACE_MS));
        for register in envelope::registers(entry) {
            let present = self.read_register(namespace, &register, effort)?;
            let is_short = |kept: Kept| kept.until_ms < until_ms || is_suspected(kept.until_ms);
            if present.is_some_and(is_short) {
                self.under_register_lock(&address(namespace, &register), effort, || {
                    self.keep_one(namespace, &register, until_ms, effort)
                })?;
            }
        }
        Ok(())
    }

    /// Keeps a register for longer, if it is there. The caller holds its lock.
    fn keep_one(
        &self,
        namespace: Digest,
        register: &Register,
        until_ms: u64,
        effort: Effort<'_>,
    ) -> Attempt<()> {
        let keep = |kept: Kept| {
            let until_ms = match is_suspected(kept.until_ms) {
                true => u64::MAX,
                false if kept.until_ms < until_ms => until_ms.saturating_add(KEEP_SLACK_MS),
                false => return None,
            };
            Some(Kept { until_ms, ..kept })
        };
        self.change(namespace, register, effort, keep).map(drop)
    }

    /// Replaces a register by what `change` makes of it; returns whether it was there. The caller holds its lock.
    ///
    /// The temporary file is older than the look at the register: a `clear` in between takes both along.
    pub(super) fn change(
        &self,
        namespace: Digest,
        register: &Register,
        effort: Effort<'_>,
        change: impl Fn(Kept) -> Option<Kept>,
    ) -> Attempt<bool> {
        let cannot = |error| fault(WRITE, self.layout.root(), error);
        let address = address(namespace, register);
        let Some(looked) = self.read_register(namespace, register, effort)? else {
            return Ok(false);
        };
        if change(looked).is_none() {
            return Ok(true);
        }
        let (temp, mut file) = Temp::create(&self.layout.register_dir(&address)).map_err(cannot)?;
        let Some(present) = self.read_register(namespace, register, effort)? else {
            return Ok(false);
        };
        if let Some(changed) = change(present) {
            file.write_all(&changed.encode(namespace, register))
                .map_err(cannot)?;
            drop(file);
            temp.publish(&self.layout.register_path(&address), Over::Present)
                .map_err(cannot)?;
        }
        Ok(true)
    }

    /// Invalidates registers; returns which were there.
    pub(super) fn invalidate(
        &self,
        namespace: Digest,
        registers: &[Register],
        how: Invalidation,
        effort: Effort<'_>,
    ) -> Attempt<Vec<bool>> {
        let any = Register::any();
        self.under_register_lock(&address(namespace, &any), effort, || {
            self.remove_register(namespace, &any, effort)
        })?;
        let soften = |kept: Kept| {
            let nonces = Nonces {
                soft: Nonces::fresh().soft,
                ..kept.nonces
            };
            Some(Kept { nonces, ..kept })
        };
        let invalidate = |register: &Register| match how {
            Invalidation::Hard => {
                self.under_register_lock(&address(namespace, register), effort, || {
                    self.noted_register(namespace, register, || {
                        self.remove_register(namespace, register, effort)
                    })
                })
            }
            Invalidation::Soft => {
                self.under_register_lock(&address(namespace, register), effort, || {
                    self.noted_register(namespace, register, || {
                        self.change(namespace, register, effort, soften)
                    })
                })
            }
        };
        registers.iter().map(invalidate).collect()
    }

    /// Removes a register; returns whether it was there. The caller holds its lock.
    fn remove_register(
        &self,
        namespace: Digest,
        register: &Register,
        effort: Effort<'_>,
    ) -> Attempt<bool> {
        let was_there = self.read_register(namespace, register, effort)?.is_some();
        let address = address(namespace, register);
        Ok(self.remove_register_file(&address)? && was_there)
    }

    /// Removes the file of a register, if there is one. The caller holds its lock.
    pub(super) fn remove_register_file(&self, address: &Address) -> Attempt<bool> {
        match fs::remove_file(self.layout.register_path(address)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fault("remove a register", self.layout.root(), error)),
        }
    }

    /// Runs `work` under the lock of a register, anew when a directory went away meanwhile.
    pub(super) fn under_register_lock<T>(
        &self,
        address: &Address,
        effort: Effort<'_>,
        work: impl Fn() -> Attempt<T>,
    ) -> Attempt<T> {
        for _ in 0..MAX_ATTEMPTS {
            let _held = self
                .locks
                .register(&self.layout, address.stripe(), effort)?;
            match work() {
                Err(Fault::Vanished) => {}
                other => return other,
            }
        }
        Err(Fault::Vanished)
    }
}
