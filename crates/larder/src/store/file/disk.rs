//! The store as plain blocking calls: reads without a lock, writes under the lock of their key.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::change_log::Subject;
use super::fault::{Attempt, Effort, Fault, failed, fault};
use super::layout::Layout;
use super::lock::{Held, Locks};
use super::name::{Address, Digest};
use super::noting::Logs;
use super::record::{self, Found, Head};
use super::replace::{self, Over};
use crate::clock::Clock;
use crate::envelope::{self, MAX_ENTRY_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::store::host::Ledger;
use crate::store::{Change, Condition, Entry, Examined, Expiry, Read, Write};
use crate::tag::Verdict;

/// How often an operation starts anew because its directory went away.
const MAX_ATTEMPTS: usize = 16;
/// After how many of these attempts it holds the removal of directories off.
const UNGUARDED_ATTEMPTS: usize = 3;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) layout: Layout,
    pub(super) locks: Locks,
    pub(super) clock: Clock,
    pub(super) ledger: Arc<Ledger>,
    pub(super) logs: Logs,
    /// The directory of leases that the sweep did last.
    pub(super) swept_leases: Mutex<Option<PathBuf>>,
    /// The directory of registers that the sweep did last.
    pub(super) swept_registers: Mutex<Option<PathBuf>>,
    /// Set when the last handle is dropped: long walks of the sweep end early.
    pub(super) closing: AtomicBool,
    expired: AtomicU64,
    quarantined: AtomicU64,
}

impl Disk {
    /// Creates or adopts the directory.
    ///
    /// # Errors
    /// As [`Layout::open`].
    pub(super) fn open(dir: &Path, depth: u8, clock: Clock) -> Result<Self> {
        let layout = Layout::open(dir, depth)?;
        Ok(Self {
            locks: Locks::new(&layout),
            ledger: Arc::new(Ledger::new(clock.clone(), layout.owners())),
            logs: Logs::default(),
            swept_leases: Mutex::default(),
            swept_registers: Mutex::default(),
            layout,
            clock,
            closing: AtomicBool::new(false),
            expired: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
        })
    }

    /// Reads an entry without a lock; a damaged file is a miss and moved aside.
    pub(super) fn get(&self, namespace: Digest, key: &[u8], effort: Effort<'_>) -> Attempt<Read> {
        let address = Address::new(namespace, key);
        match record::read(&self.layout, &address, key, effort)? {
            Found::Whole(entry) if envelope::is_load(&entry.value) => Ok(Read::Absent),
            Found::Whole(entry) => self.judged(namespace, entry, effort),
            Found::Missing => Ok(Read::Absent),
            Found::Damaged => {
                self.set_aside(&address, key, effort);
                Ok(Read::Absent)
            }
        }
    }

    /// Looks at what is under a key, valid or not, and leaves a damaged file where it is.
    pub(super) fn examine(
        &self,
        namespace: Digest,
        key: &[u8],
        effort: Effort<'_>,
    ) -> Attempt<Option<Examined>> {
        let address = Address::new(namespace, key);
        let Some((value, expires_at_ms)) = record::read_any(&self.layout, &address, key, effort)?
        else {
            return Ok(None);
        };
        let found = Examined::new(value, expires_at_ms);
        self.examine_registers(namespace, found, effort).map(Some)
    }

    /// Returns an entry if it is neither expired nor invalid, and notes whether it is stale.
    fn judged(&self, namespace: Digest, mut entry: Entry, effort: Effort<'_>) -> Attempt<Read> {
        if is_due(entry.expires_at_ms, self.clock.now_ms()) {
            return Ok(Read::Absent);
        }
        match self.judge(namespace, &entry.value, effort)? {
            Verdict::Invalid => return Ok(Read::Invalid),
            Verdict::Stale => entry.is_stale = true,
            Verdict::Valid => {}
        }
        Ok(Read::Entry(entry))
    }

    /// Moves a damaged file aside, unless a writer is about to replace it anyway.
    fn set_aside(&self, address: &Address, key: &[u8], effort: Effort<'_>) {
        let moved = self.under_lock(address, effort.waiting(Duration::ZERO), |held| {
            self.present(held, address, key, effort)
        });
        if let Err(Fault::Failed(error)) = moved {
            tracing::debug!(%error, "a damaged entry stays where it is");
        }
    }

    /// Runs `work` under the lock of an entry, anew when a directory went away meanwhile.
    pub(super) fn under_lock<T>(
        &self,
        address: &Address,
        effort: Effort<'_>,
        work: impl Fn(&Held<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        for attempt in 0..MAX_ATTEMPTS {
            let held = self.locks.stripe(&self.layout, address.stripe(), effort)?;
            let _guard = (attempt >= UNGUARDED_ATTEMPTS)
                .then(|| self.locks.removal(&self.layout, effort))
                .transpose()?;
            match work(&held) {
                Err(Fault::Vanished) => {}
                other => return other,
            }
        }
        Err(self.always_vanished().into())
    }

    fn always_vanished(&self) -> Error {
        let gone = io::Error::from(io::ErrorKind::NotFound);
        failed("keep a directory", self.layout.root(), gone)
    }

    /// Returns the live and valid entry of a key, or the mark of a load, and moves a damaged file aside.
    fn present(
        &self,
        held: &Held<'_>,
        address: &Address,
        key: &[u8],
        effort: Effort<'_>,
    ) -> Attempt<Option<Entry>> {
        match record::read(&self.layout, address, key, effort)? {
            Found::Whole(entry) => {
                let read = self.judged(address.namespace, entry, effort)?;
                Ok(read.entry())
            }
            Found::Missing => Ok(None),
            Found::Damaged => {
                self.quarantine(held, address)?;
                Ok(None)
            }
        }
    }

    /// Applies one write and returns whether it was applied.
    pub(super) fn write(
        &self,
        namespace: Digest,
        write: &Write<'_>,
        effort: Effort<'_>,
    ) -> Attempt<bool> {
        check(write)?;
        let address = Address::new(namespace, write.key);
        self.under_lock(&address, effort, |held| {
            self.apply(held, &address, write, effort)
        })
    }

    fn apply(
        &self,
        held: &Held<'_>,
        address: &Address,
        write: &Write<'_>,
        effort: Effort<'_>,
    ) -> Attempt<bool> {
        let present = if needs_present(write) {
            self.present(held, address, write.key, effort)?
        } else {
            None
        };
        let value = present.as_ref().map(|entry| &entry.value);
        if !write.condition.holds(value) {
            return Ok(false);
        }
        let is_entry = value.is_some_and(|value| !envelope::is_load(value));
        let over = Over::of(present.as_ref());
        let old_id = value.map(|value| envelope::write_id(value));
        // A load under way has no expiry to keep, and only its loader may touch it.
        let is_loaders_touch = matches!(
            (&write.change, write.condition),
            (Change::Touch, Condition::IfUnchanged(_))
        );
        let is_there = present.is_some();
        let kept = present.filter(|_| is_entry || is_loaders_touch);
        let kept_expiry = kept.as_ref().and_then(|kept| kept.expires_at_ms);
        let expires_at_ms = write.expiry.at(self.clock.now_ms(), kept_expiry);
        let put = |value: &Bytes| {
            self.keep_registers(address.namespace, value, expires_at_ms, effort)?;
            let content = Content {
                key: write.key,
                value,
                expires_at_ms,
                over,
                is_same: old_id == Some(envelope::write_id(value)),
            };
            self.put(held, address, &content).map(|()| true)
        };
        match (&write.change, kept) {
            (Change::Put(value), _) => put(value),
            (Change::Touch, Some(kept)) => put(&kept.value),
            (Change::Touch, None) => Ok(false),
            (Change::Delete, _) => {
                if is_entry {
                    self.noted_key(address.namespace, (write.key, 0), || {
                        self.remove(held, address)
                    })?;
                } else if is_there {
                    self.remove(held, address)?;
                }
                Ok(is_entry)
            }
        }
    }

    fn put(&self, _held: &Held<'_>, address: &Address, content: &Content<'_>) -> Attempt<()> {
        let head = Head {
            expires_at_ms: content.expires_at_ms,
            namespace: address.namespace,
            value_len: content.value.len() as u64,
            key: content.key,
        };
        let parts = [&head.encode()[..], content.value];
        let replace = || replace::replace(&self.layout, address, parts, content.over);
        // That somebody loads a value is no change.
        if envelope::is_load(content.value) {
            return replace();
        }
        let write_id = match content.is_same {
            true => 0,
            false => envelope::write_id(content.value),
        };
        self.noted_key(address.namespace, (content.key, write_id), replace)
    }

    /// Removes the file of an entry.
    pub(super) fn remove(&self, _held: &Held<'_>, address: &Address) -> Attempt<()> {
        fs::remove_file(self.layout.entry_path(address))
            .map_err(|error| fault("remove an entry", self.layout.root(), error))
    }

    /// Adds to an integer entry and returns the sum.
    pub(super) fn increment(
        &self,
        namespace: Digest,
        write: &Increment<'_>,
        effort: Effort<'_>,
    ) -> Attempt<i64> {
        KeyRef::from(write.key).checked()?;
        let address = Address::new(namespace, write.key);
        self.under_lock(&address, effort, |held| {
            let present = self.present(held, &address, write.key, effort)?;
            let present = present.filter(|entry| !envelope::is_load(&entry.value));
            let now_ms = self.clock.now_ms();
            let created = write.expiry.at(now_ms, None);
            let ttl_ms = created.map(|at| at - now_ms);
            let old = present.as_ref().map(|entry| &entry.value);
            let (value, sum) = envelope::increment(old, write.by, now_ms, ttl_ms)?;
            let content = Content {
                key: write.key,
                value: &value,
                over: Over::of(present.as_ref()),
                is_same: false,
                expires_at_ms: present.map_or(created, |entry| entry.expires_at_ms),
            };
            self.put(held, &address, &content)?;
            Ok(sum)
        })
    }

    /// Moves the directory of a namespace to the trash in one step.
    pub(super) fn clear(&self, namespace: Digest, effort: Effort<'_>) -> Attempt<()> {
        let dir = self.layout.namespace_dir(namespace);
        let _guard = self.locks.removal(&self.layout, effort)?;
        let all = (|| Subject::Everything, 0);
        self.noted(namespace, all, || self.move_to_trash(&dir))
    }

    fn move_to_trash(&self, dir: &Path) -> Attempt<()> {
        for _ in 0..MAX_ATTEMPTS {
            let name = format!("{:016x}", fastrand::u64(..));
            let error = match fs::rename(dir, self.layout.trash().join(name)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() != io::ErrorKind::NotFound {
                return Err(failed("clear a namespace", self.layout.root(), error).into());
            }
            if fs::symlink_metadata(dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                return Ok(());
            }
            self.layout.restore()?;
        }
        Err(self.always_vanished().into())
    }

    pub(super) fn count_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_quarantined(&self) {
        self.quarantined.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(super) fn quarantined(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }
}

/// What a file is to hold.
struct Content<'a> {
    key: &'a [u8],
    value: &'a [u8],
    expires_at_ms: Option<u64>,
    over: Over,
    /// It has the write id of what it replaces.
    is_same: bool,
}

/// An addition to a counter.
#[derive(Debug)]
pub(super) struct Increment<'a> {
    pub(super) key: &'a [u8],
    pub(super) by: i64,
    pub(super) expiry: Expiry,
}

pub(super) fn is_due(expires_at_ms: Option<u64>, now_ms: u64) -> bool {
    expires_at_ms.is_some_and(|at| at <= now_ms)
}

/// Says whether the present entry decides what this write does.
fn needs_present(write: &Write<'_>) -> bool {
    let blind = matches!(write.change, Change::Put(_))
        && write.condition == Condition::Always
        && write.expiry != Expiry::Keep;
    !blind
}

fn check(write: &Write<'_>) -> Result<()> {
    KeyRef::from(write.key).checked()?;
    match &write.change {
        Change::Put(value) if value.len() > MAX_ENTRY_BYTES => {
            let message = format!(
                "an entry of {} bytes is over the limit of {MAX_ENTRY_BYTES}",
                value.len()
            );
            Err(Error::new(ErrorKind::TooLarge, message))
        }
        _ => Ok(()),
    }
}
