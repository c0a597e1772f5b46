//! Tidying in the background: expired and invalidated entries, registers, what dead writers left, empty directories, the trash, idle leases.
//!
//! Every removal holds the lock of its entry and looks again under it. An empty directory may go at
//! any time, since a writer that misses its directory starts anew; `rmdir` refuses one that is in use.
//! One process sweeps at a time.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::disk::{Disk, is_due};
use super::fault::{Attempt, Effort, failed};
use super::listing::settle;
use super::name::{Address, Digest};
use super::record::{self, Found};
use super::walk::{Step, Walk, namespaces};
use crate::error::Result;
use crate::tag::Verdict;

/// How old a temporary file must be to be taken for a dead writer's.
const STALE_TEMP: Duration = Duration::from_secs(3600);

/// Where a sweep stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    namespace: Digest,
    after: Option<Digest>,
}

/// What is left of a run's budgets.
#[derive(Debug)]
struct Budget {
    steps: usize,
    removals: usize,
}

/// What a sweep finds in the place of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Due,
    Invalid,
    Damaged,
    /// Or gone already.
    Kept,
}

impl Disk {
    /// Runs one sweep of at most `steps` files and directories, from `position` on.
    ///
    /// Does nothing while another process sweeps, or when the root was removed.
    pub(super) fn sweep(&self, position: &mut Option<Position>, steps: usize) -> Result<()> {
        if !self.layout.root().exists() {
            return Ok(());
        }
        let Some(_held) = settle(self.locks.sweep(&self.layout))? else {
            return Ok(());
        };
        self.reclaim(&self.layout.trash())?;
        let mut budget = Budget {
            steps,
            removals: usize::MAX,
        };
        *position = self.remove_due(*position, &mut budget)?;
        self.sweep_registers(steps)?;
        self.sweep_logs()?;
        self.ledger.sweep_owners();
        self.sweep_leases(steps)
    }

    /// Removes up to `limit` expired entries and returns how many.
    pub(super) fn prune(&self, limit: usize) -> Result<u64> {
        let mut budget = Budget {
            steps: usize::MAX,
            removals: limit,
        };
        self.remove_due(None, &mut budget)?;
        self.sweep_registers(usize::MAX)?;
        self.sweep_leases(usize::MAX)?;
        Ok((limit - budget.removals) as u64)
    }

    /// Walks all namespaces from `position` on; returns where the budget ended, `None` at the end.
    fn remove_due(
        &self,
        position: Option<Position>,
        budget: &mut Budget,
    ) -> Result<Option<Position>> {
        for namespace in namespaces(&self.layout)? {
            let mut after = match position {
                Some(from) if namespace < from.namespace => continue,
                Some(from) if namespace == from.namespace => from.after,
                _ => None,
            };
            for step in Walk::new(&self.layout, namespace, after)? {
                let closing = self.closing.load(Ordering::Relaxed);
                if budget.steps == 0 || budget.removals == 0 || closing {
                    return Ok(Some(Position { namespace, after }));
                }
                budget.steps -= 1;
                match step? {
                    Step::Entry(key) => {
                        let address = Address { namespace, key };
                        let removed = settle(self.remove_if_due(&address))?;
                        budget.removals -= usize::from(removed == Some(State::Due));
                        after = Some(key);
                    }
                    Step::Temp(path) => remove_stale(&path),
                    Step::Left(dir) => self.remove_if_empty(&dir),
                }
            }
        }
        Ok(None)
    }

    /// Removes a directory that is empty, unless a writer holds that off; later sweeps meet it again.
    pub(super) fn remove_if_empty(&self, dir: &Path) {
        if let Ok(_guard) = self.locks.removal(&self.layout, Effort::BRIEF) {
            let _ = fs::remove_dir(dir);
        }
    }

    /// Removes an expired entry, and one that was invalidated, and moves a damaged one aside; returns which of these it was.
    pub(super) fn remove_if_due(&self, address: &Address) -> Attempt<State> {
        if self.state_of(address)? == State::Kept {
            return Ok(State::Kept);
        }
        // Looked at again: live entries cost no locking.
        self.under_lock(address, Effort::FULL, |held| {
            let state = self.state_of(address)?;
            match state {
                State::Due => {
                    self.remove(held, address)?;
                    self.count_expired();
                }
                State::Invalid => self.remove(held, address)?,
                State::Damaged => self.quarantine(held, address)?,
                State::Kept => {}
            }
            Ok(state)
        })
    }

    fn state_of(&self, address: &Address) -> Attempt<State> {
        let now_ms = self.clock.now_ms();
        let look = record::peek(&self.layout, address, |head, front| {
            (is_due(head.expires_at_ms, now_ms), front.clone())
        })?;
        let front = match look {
            Found::Whole((true, _)) => return Ok(State::Due),
            Found::Whole((false, front)) => front,
            Found::Damaged => return Ok(State::Damaged),
            Found::Missing => return Ok(State::Kept),
        };
        let verdict = self.judge(address.namespace, &front, Effort::FULL)?;
        Ok(match verdict {
            Verdict::Invalid => State::Invalid,
            Verdict::Valid | Verdict::Stale => State::Kept,
        })
    }

    /// Empties a directory of the trash. Links in it are removed, not followed.
    fn reclaim(&self, dir: &Path) -> Result<()> {
        let cannot =
            |error: io::Error| failed("reclaim cleared entries", self.layout.root(), error);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(cannot(error)),
        };
        for entry in entries {
            if self.closing.load(Ordering::Relaxed) {
                return Ok(());
            }
            let entry = entry.map_err(cannot)?;
            let path = entry.path();
            let removed = if entry.file_type().map_err(cannot)?.is_dir() {
                self.reclaim(&path)?;
                fs::remove_dir(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                Err(error) if !is_passing(&error) => return Err(cannot(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Says that another process tidies the same place, or that the store closes.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
    )
}

/// Removes a temporary file that no writer can still be writing.
pub(super) fn remove_stale(path: &Path) {
    let age = fs::symlink_metadata(path)
        .and_then(|file| file.modified())
        .map(|modified| SystemTime::now().duration_since(modified));
    if let Ok(Ok(age)) = age
        && age >= STALE_TEMP
    {
        // One that cannot be removed is met again by the next sweep.
        let _ = fs::remove_file(path);
    }
}
