//! Listing registers, and removing those whose time to be kept is over.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::disk::Disk;
use super::fault::{Attempt, Effort};
use super::listing::{MAX_READ_PER_PAGE, settle};
use super::name::{Address, Digest, is_level, is_temp};
use super::sweep::remove_stale;
use super::walk;
use crate::error::Result;
use crate::glob::Glob;
use crate::store::{Register, RegisterPage};

impl Disk {
    /// Lists one page in the order of hashes. The cursor is the hash of the last file that was read.
    pub(super) fn scan_registers(
        &self,
        namespace: Digest,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        let after = cursor.map(Digest::from_cursor).transpose()?;
        let mut page = RegisterPage::default();
        let mut read = 0;
        for dir in self.register_dirs(namespace)? {
            if after.is_some_and(|after| dir.ends_before(after)) {
                continue;
            }
            for key in digests(&walk::list(&self.layout, &dir.path)?) {
                if after.is_some_and(|after| key <= after) {
                    continue;
                }
                read += 1;
                let address = Address { namespace, key };
                let found = settle(self.read_register_at(&address, Effort::FULL))?.flatten();
                let found = found.map(|(register, _)| register).filter(|register| {
                    *register != Register::any() && pattern.matches(register.as_bytes())
                });
                page.registers.extend(found);
                if page.registers.len() >= limit.max(1) || read >= MAX_READ_PER_PAGE {
                    page.next = Some(key.hex().into());
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }

    /// Removes registers whose time is over, from where the last run stopped, looking at some `steps` files.
    pub(super) fn sweep_registers(&self, steps: usize) -> Result<()> {
        let mut position = self
            .swept_registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut left = steps;
        for namespace in walk::namespaces(&self.layout)? {
            for dir in self.register_dirs(namespace)? {
                if position.as_ref().is_some_and(|done| dir.path <= *done) {
                    continue;
                }
                if left == 0 || self.closing.load(Ordering::Relaxed) {
                    return Ok(());
                }
                left = left.saturating_sub(1 + self.prune_registers_in(namespace, &dir.path)?);
                *position = Some(dir.path);
            }
            self.remove_if_empty(&self.layout.registers_dir(namespace));
        }
        *position = None;
        Ok(())
    }

    /// Removes registers of a directory whose time is over; returns how many files it looked at.
    fn prune_registers_in(&self, namespace: Digest, dir: &Path) -> Result<usize> {
        let names = walk::list(&self.layout, dir)?;
        for name in names.iter().filter(|name| is_temp(name)) {
            remove_stale(&dir.join(name));
        }
        for key in digests(&names) {
            let address = Address { namespace, key };
            // Looked at without the lock first, so that registers in use cost no locking.
            if settle(self.is_register_over(&address))? == Some(true) {
                settle(self.under_register_lock(&address, Effort::FULL, || {
                    if self.is_register_over(&address)? {
                        self.remove_register_file(&address)?;
                    }
                    Ok(())
                }))?;
            }
        }
        self.remove_if_empty(dir);
        Ok(names.len())
    }

    fn is_register_over(&self, address: &Address) -> Attempt<bool> {
        let found = self.read_register_at(address, Effort::FULL)?;
        let now_ms = self.clock.now_ms();
        Ok(found.is_some_and(|(_, kept)| kept.until_ms <= now_ms))
    }

    /// Returns the directories of a namespace's registers, in order.
    fn register_dirs(&self, namespace: Digest) -> Result<Vec<RegisterDir>> {
        let above = self.layout.registers_dir(namespace);
        let mut names = walk::list(&self.layout, &above)?;
        names.retain(|name| is_level(name));
        let dir = |name: String| RegisterDir {
            path: above.join(&name),
            digits: name,
        };
        Ok(names.into_iter().map(dir).collect())
    }
}

/// A lowest directory of registers, with the digits that their hashes begin with.
struct RegisterDir {
    path: PathBuf,
    digits: String,
}

impl RegisterDir {
    fn ends_before(&self, digest: Digest) -> bool {
        self.digits.as_str() < &digest.hex()[..self.digits.len()]
    }
}

fn digests(names: &[String]) -> impl Iterator<Item = Digest> {
    let parse = |name: &String| Digest::parse(name.as_bytes());
    names.iter().filter_map(parse)
}
