//! Entries as files below one directory, shared by all processes of a host. Knows nothing of types, nor what tags mean.
//!
//! Reads take no lock. Writes to a key hold its stripe's lock across threads and processes, so conditions and
//! counters are exact. Names are hashes; the key is inside the file and compared.
//!
//! # Replacing a file
//! A write goes to a temporary file beside the target, whose name is then *exchanged* with the target's
//! (`RENAME_EXCHANGE`), and the old file, now under the temporary name, is removed. Medians on ext4 for 1 KiB:
//!
//! | Replacing an entry by | fresh old file | a hot key | after a kill between the steps |
//! |---|---|---|---|
//! | `rename` over it (ext4 writes the new file to the disk first) | 61 us | 79 us | whole |
//! | `unlink`, `rename` | 88 us | | the old entry is lost |
//! | `rename` aside, `rename`, `unlink` | 26 us | | readers need a second name |
//! | exchange, `unlink` | 20 us | 10 us | whole; a temporary file for the sweep |
//!
//! An exchange is one step, so a reader meets the old file or the new one and never a gap. Where the file system
//! cannot exchange, names are renamed over. An old file that has reached the disk costs about 80 us in every row:
//! the file system frees its blocks.
//!
//! # Clearing
//! `clear` moves the namespace's directory to the trash in one `rename`, and waits for no writer. A writer that
//! decided by what was there before (a counter, a touch) insists on exchanging with that very entry; its temporary
//! file or the entry is then in the trash, the exchange fails, and the writer starts anew. So nothing comes back.
//! A writer that was foiled repeatedly holds removals of directories off, so that it gets through.
//!
//! # What survives
//! A kill of any process at any moment: an acknowledged write reads back or has expired, an unacknowledged one
//! is there in whole or not at all. Nothing is forced to the disk: after a power loss, recent entries may be missing,
//! or be noticed as damaged and count as missing, and what was deleted or invalidated in the last seconds may be back.

mod builder;
mod change_log;
mod disk;
mod fault;
mod journal;
mod layout;
mod leases;
mod listing;
mod lock;
mod name;
mod noting;
mod offload;
mod quarantine;
mod record;
mod register;
mod register_list;
mod registers;
mod replace;
mod sweep;
mod tidy;
mod walk;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::builder::Builder;
use self::builder::Sweeper;
use self::disk::{Disk, Increment};
use self::fault::{Attempt, Effort, Fault};
use self::journal::Changes;
use self::leases::Leases;
use self::name::Digest;
use self::offload::{give_up, offload};
use super::{
    Capabilities, Change, Condition, Entry, Examined, Expiry, Invalidated, Invalidation, Journal,
    Read, Register, RegisterPage, Retirement, ScanPage, Stamp, Store, StoreStats, TidyPage, Write,
    reading,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;

/// Calls of more keys or writes than this run on a thread that may block.
const MAX_BRIEF_READS: usize = 64;
const MAX_BRIEF_WRITES: usize = 16;
/// Calls that write more bytes than this run on a thread that may block.
const MAX_BRIEF_BYTES: usize = 64 << 10;

/// The store of one file per entry. Cloning shares it.
///
/// Bounded only by the disk: it evicts nothing, so give entries a TTL. Keeps up to 275 lock files open.
/// Small reads and uncontended small writes run on the caller's thread, the rest on tokio's blocking threads;
/// outside of a runtime everything runs on the caller's thread.
///
/// # Tags
/// A register is a small file, too, which a read of an entry that depends on it opens: about as dear as the entry's own.
/// To list the keys of a tag is to read the heads of all entries.
///
/// # Local copies
/// [`Store::journal`] tells all processes of the host what has changed, also what a process had begun that was killed. While
/// somebody reads it, and for ten minutes after, each change appends two notes to a log of its namespace, some microseconds
/// each; logs take two MiB at most. What is done to the files by hand is not told. Not for NFS.
///
/// # Locks, semaphores and rate limiters
/// Each is a small file of its own, which `clear` does not remove. A process that uses them keeps a file locked in
/// `owners/` while the store is open, so that what it holds is free at once when it is killed or closes its last handle,
/// and not before its time when it only stands still. A restart of the host frees everything; fences go on. Not for NFS; processes in several containers must share
/// the kernel and the directory.
#[derive(Debug, Clone)]
pub struct File {
    disk: Arc<Disk>,
    sweeper: Arc<Sweeper>,
}

impl File {
    /// Opens a directory with the defaults, creating it if need be.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).build()
    }

    /// Starts with the defaults: depth 2, system clock, sweeps of 10 000 files a minute.
    pub fn builder(dir: impl AsRef<Path>) -> Builder {
        Builder::new(dir.as_ref())
    }

    /// Applies writes here and now for as long as that is quick, and returns their results.
    fn write_briefly(&self, namespace: Digest, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let mut applied = Vec::with_capacity(writes.len());
        if !are_brief(writes) {
            return Ok(applied);
        }
        for write in writes {
            match self.disk.write(namespace, write, Effort::BRIEF) {
                Err(Fault::Busy) => break,
                done => applied.push(done.or_else(give_up).map_err(|e| e.key(write.key))?),
            }
        }
        Ok(applied)
    }
}

/// A write that outlives the caller's borrow.
struct OwnedWrite {
    key: Vec<u8>,
    change: Change,
    expiry: Expiry,
    condition: Condition,
}

impl OwnedWrite {
    fn new(write: &Write<'_>) -> Self {
        Self {
            key: write.key.to_vec(),
            change: write.change.clone(),
            expiry: write.expiry,
            condition: write.condition,
        }
    }

    fn apply(self, disk: &Disk, namespace: Digest, effort: Effort<'_>) -> Attempt<bool> {
        let write = Write {
            key: &self.key,
            change: self.change,
            expiry: self.expiry,
            condition: self.condition,
        };
        disk.write(namespace, &write, effort)
            .map_err(|fault| of_key(fault, &self.key))
    }
}

fn of_key(fault: Fault, key: &[u8]) -> Fault {
    match fault {
        Fault::Failed(error) => Fault::Failed(error.key(key)),
        other => other,
    }
}

fn are_brief(writes: &[Write<'_>]) -> bool {
    let put_bytes = |write: &Write<'_>| match &write.change {
        Change::Put(value) => value.len(),
        Change::Delete | Change::Touch => 0,
    };
    writes.len() <= MAX_BRIEF_WRITES
        && writes.iter().map(put_bytes).sum::<usize>() <= MAX_BRIEF_BYTES
}

fn read_all<K: AsRef<[u8]>>(
    disk: &Disk,
    namespace: Digest,
    keys: &[K],
    effort: Effort<'_>,
) -> Attempt<Vec<Read>> {
    let read = |key: &K| {
        let key = key.as_ref();
        disk.get(namespace, key, effort)
            .map_err(|fault| of_key(fault, key))
    };
    keys.iter().map(read).collect()
}

#[async_trait]
impl Store for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            persistent: true,
            enumeration: true,
            counters: true,
            sorted_sets: true,
            tags: true,
            tag_listing: true,
            examination: true,
            coherent_local: true,
            locks: true,
            fair_locks: true,
            durable_fences: true,
            locks_freed_on_death: true,
            limiters: true,
            ..Capabilities::default()
        }
    }

    fn clock(&self) -> Clock {
        self.disk.clock.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.read_many(namespace, keys).await.map(reading::entries)
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let namespace = Digest::of(namespace.as_bytes());
        if keys.len() <= MAX_BRIEF_READS {
            match read_all(&self.disk, namespace, keys, Effort::BRIEF) {
                Err(Fault::Busy) => {}
                done => return done.or_else(give_up),
            }
        }
        let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
        offload(&self.disk, move |disk, effort| {
            read_all(disk, namespace, &keys, effort)
        })
        .await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let namespace = Digest::of(namespace.as_bytes());
        let mut applied = self.write_briefly(namespace, writes)?;
        if applied.len() == writes.len() {
            return Ok(applied);
        }
        let rest: Vec<_> = writes[applied.len()..]
            .iter()
            .map(OwnedWrite::new)
            .collect();
        let later = offload(&self.disk, move |disk, effort| {
            rest.into_iter()
                .map(|write| write.apply(disk, namespace, effort))
                .collect::<Attempt<Vec<_>>>()
        })
        .await?;
        applied.extend(later);
        Ok(applied)
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        let namespace = Digest::of(namespace.as_bytes());
        let addition = Increment { key, by, expiry };
        match self.disk.increment(namespace, &addition, Effort::BRIEF) {
            Err(Fault::Busy) => {}
            done => return done.or_else(give_up).map_err(|error| error.key(key)),
        }
        let owned = key.to_vec();
        offload(&self.disk, move |disk, effort| {
            let key = &owned;
            disk.increment(namespace, &Increment { key, by, expiry }, effort)
        })
        .await
        .map_err(|error| error.key(key))
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        let namespace = Digest::of(namespace.as_bytes());
        match self.disk.clear(namespace, Effort::BRIEF) {
            Err(Fault::Busy) => {
                offload(&self.disk, move |disk, effort| {
                    disk.clear(namespace, effort)
                })
                .await?;
            }
            done => done.or_else(give_up)?,
        }
        self.sweeper.wake();
        Ok(())
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let namespace = Digest::of(namespace.as_bytes());
        let (pattern, cursor) = (pattern.clone(), cursor.cloned());
        offload(&self.disk, move |disk, _| {
            Ok(disk.scan(namespace, &pattern, cursor.as_ref(), (None, limit))?)
        })
        .await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        _key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        let namespace = Digest::of(namespace.as_bytes());
        match self.disk.capture(namespace, registers, Effort::BRIEF) {
            Err(Fault::Busy) => {}
            done => return done.or_else(give_up),
        }
        let registers = registers.to_vec();
        offload(&self.disk, move |disk, effort| {
            disk.capture(namespace, &registers, effort)
        })
        .await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let namespace = Digest::of(namespace.as_bytes());
        let registers = registers.to_vec();
        let had = offload(&self.disk, move |disk, effort| {
            disk.invalidate(namespace, &registers, how, effort)
        })
        .await?;
        Ok(Invalidated {
            had,
            parts: 1,
            missing: 0,
        })
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        let namespace = Digest::of(namespace.as_bytes());
        let (pattern, cursor) = (pattern.clone(), cursor.cloned());
        offload(&self.disk, move |disk, _| {
            Ok(disk.scan_registers(namespace, &pattern, cursor.as_ref(), limit)?)
        })
        .await
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let namespace = Digest::of(namespace.as_bytes());
        let (register, cursor) = (register.clone(), cursor.cloned());
        offload(&self.disk, move |disk, _| {
            let of = (Some(&register), limit);
            Ok(disk.scan(namespace, &Glob::all(), cursor.as_ref(), of)?)
        })
        .await
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        let namespace = Digest::of(namespace.as_bytes());
        let owned = key.to_vec();
        let examined = offload(&self.disk, move |disk, effort| {
            disk.examine(namespace, &owned, effort)
        });
        examined.await.map_err(|error| error.key(key))
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        let namespace = Digest::of(namespace.as_bytes());
        let pattern = pattern.clone();
        offload(&self.disk, move |disk, _| {
            Ok(disk.count(namespace, &pattern)?)
        })
        .await
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        offload(&self.disk, move |disk, _| Ok(disk.prune(limit)?)).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        offload(&self.disk, |disk, _| Ok(disk.stats()?)).await
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        let namespace = Digest::of(namespace.as_bytes());
        let cursor = cursor.cloned();
        offload(&self.disk, move |disk, effort| {
            disk.tidy(namespace, cursor.as_ref(), (limit, removes), effort)
        })
        .await
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        let namespace = Digest::of(namespace.as_bytes());
        let registers = registers.to_vec();
        offload(&self.disk, move |disk, effort| {
            disk.retire(namespace, &registers, step, effort)
        })
        .await
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn Journal>> {
        Some(Box::new(Changes::new(&self.disk, namespace)))
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        Some(Arc::new(Leases(self.clone())))
    }

    /// Checks the directory, and creates it again if it is gone.
    async fn ping(&self) -> Result<()> {
        offload(&self.disk, |disk, _| Ok(disk.layout.restore()?)).await
    }
}
