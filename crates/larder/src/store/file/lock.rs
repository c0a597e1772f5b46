//! The locks that writers of all threads and processes share, 256 of entries and 16 of registers: a mutex around a `flock`ed
//! file each.
//!
//! A `flock` belongs to the open file and not to the thread, hence the mutex; the kernel drops it when
//! its process dies, however it dies. Waiting is polling with a deadline, since neither of the two has a
//! timed wait, and a stopped process may hold a lock for ever.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::fault::{Attempt, Effort, Fault, failed};
use super::layout::{FILE_MODE, Layout};
use crate::error::{Error, ErrorKind};

const STRIPES: usize = 256;
const REGISTER_STRIPES: usize = 16;
/// How often a lock file that was replaced is opened again within one attempt.
const MAX_REOPENS: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The lock files of a store, opened when first used: up to 275 descriptors.
#[derive(Debug)]
pub(super) struct Locks {
    stripes: Box<[Stripe]>,
    registers: Box<[Stripe]>,
    sweep: Stripe,
    removal: Stripe,
    journal: Stripe,
}

#[derive(Debug)]
struct Stripe {
    path: PathBuf,
    slot: Mutex<Option<LockFile>>,
}

#[derive(Debug)]
struct LockFile {
    file: fs::File,
    device: u64,
    inode: u64,
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub(super) struct Held<'a>(MutexGuard<'a, Option<LockFile>>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let unlocked = self.0.as_ref().map(|lock| lock.file.unlock());
        if let Some(Err(_)) = unlocked {
            // Closing releases it for certain.
            *self.0 = None;
        }
    }
}

impl Locks {
    pub(super) fn new(layout: &Layout) -> Self {
        let dir = layout.locks();
        let stripe = |name: &str| Stripe {
            path: dir.join(name),
            slot: Mutex::new(None),
        };
        Self {
            stripes: (0..STRIPES)
                .map(|index| stripe(&format!("{index:02x}")))
                .collect(),
            registers: (0..REGISTER_STRIPES)
                .map(|index| stripe(&format!("register-{index:x}")))
                .collect(),
            sweep: stripe("sweep"),
            removal: stripe("removal"),
            journal: stripe("journal"),
        }
    }

    /// Takes the lock of a stripe, within the effort.
    pub(super) fn stripe(
        &self,
        layout: &Layout,
        index: u8,
        effort: Effort<'_>,
    ) -> Attempt<Held<'_>> {
        let held = self.stripes[usize::from(index)].acquire(layout, effort)?;
        effort.check_wanted()?;
        Ok(held)
    }

    /// Takes the lock of a stripe of registers, within the effort.
    pub(super) fn register(
        &self,
        layout: &Layout,
        index: u8,
        effort: Effort<'_>,
    ) -> Attempt<Held<'_>> {
        let stripe = &self.registers[usize::from(index) % REGISTER_STRIPES];
        let held = stripe.acquire(layout, effort)?;
        effort.check_wanted()?;
        Ok(held)
    }

    /// Takes the lock of whoever removes directories, or must not have them removed.
    pub(super) fn removal(&self, layout: &Layout, effort: Effort<'_>) -> Attempt<Held<'_>> {
        let held = self.removal.acquire(layout, effort)?;
        effort.check_wanted()?;
        Ok(held)
    }

    /// Takes the lock of whoever replaces or removes a journal: the last that anybody takes.
    pub(super) fn journal(&self, layout: &Layout, effort: Effort<'_>) -> Attempt<Held<'_>> {
        self.journal.acquire(layout, effort)
    }

    /// Waits until everybody who changes something now has let go of its lock.
    pub(super) fn await_writers(&self, layout: &Layout, effort: Effort<'_>) -> Attempt<()> {
        let stripes = self.stripes.iter().chain(&self.registers);
        for stripe in stripes.chain([&self.removal]) {
            stripe.acquire(layout, effort)?;
            effort.check_wanted()?;
        }
        Ok(())
    }

    /// Takes the lock of the sweeping process, unless another one sweeps.
    pub(super) fn sweep(&self, layout: &Layout) -> Attempt<Held<'_>> {
        self.sweep.acquire(layout, Effort::BRIEF)
    }
}

impl Stripe {
    fn acquire(&self, layout: &Layout, effort: Effort<'_>) -> Attempt<Held<'_>> {
        if let Some(held) = self.try_acquire(layout)? {
            return Ok(held);
        }
        if effort.wait.is_zero() {
            return Err(Fault::Busy);
        }
        let deadline = Instant::now() + effort.wait;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < deadline {
            std::thread::sleep(pause);
            effort.check_wanted()?;
            if let Some(held) = self.try_acquire(layout)? {
                return Ok(held);
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        let message = format!(
            "another process holds the lock {} for too long",
            self.path.display()
        );
        Err(Error::new(ErrorKind::Timeout, message).store("file").into())
    }

    /// Takes the lock if it is free.
    fn try_acquire(&self, layout: &Layout) -> Attempt<Option<Held<'_>>> {
        let cannot = |error| Fault::Failed(failed("take a lock", layout.root(), error));
        let mut slot = match self.slot.try_lock() {
            Ok(slot) => slot,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return Ok(None),
        };
        for _ in 0..MAX_REOPENS {
            let lock = match slot.take() {
                Some(lock) => lock,
                None => match self.open() {
                    Ok(lock) => lock,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        layout.restore()?;
                        continue;
                    }
                    Err(error) => return Err(cannot(error)),
                },
            };
            match lock.file.try_lock() {
                Ok(()) if self.is_at_path(&lock) => {
                    *slot = Some(lock);
                    return Ok(Some(Held(slot)));
                }
                // The directory was removed or replaced: others lock another file by now.
                Ok(()) => drop(lock),
                Err(TryLockError::WouldBlock) => {
                    *slot = Some(lock);
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {
                    *slot = Some(lock);
                }
                Err(TryLockError::Error(error)) => return Err(cannot(error)),
            }
        }
        Err(Fault::Vanished)
    }

    fn open(&self) -> io::Result<LockFile> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        Ok(LockFile {
            file,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn is_at_path(&self, lock: &LockFile) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (lock.device, lock.inode))
    }
}
