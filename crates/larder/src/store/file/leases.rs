//! Locks, semaphores and rate limiters: one file for each, changed under the lock of its stripe.
//!
//! ```text
//! <root>/leases/<digest of kind and space>/aa/<digest of the name>      the record, which tells its name
//! <root>/owners/<instance>                                              kept locked by a living process
//! ```
//! The stripe is held for as long as it takes to replace the file, never while somebody holds the lease. `clear` does
//! not reach this directory; the sweep removes records that nobody has used for long.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;

use super::File;
use super::disk::Disk;
use super::fault::{Attempt, Effort, Fault, fault};
use super::listing::settle;
use super::name::{Address, Digest, is_level, is_temp};
use super::offload::{give_up, offload};
use super::record::{self, Found};
use super::replace;
use super::sweep::remove_stale;
use super::walk;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::{LockStatus, Owner};
use crate::store::host::{self, Id, Kind, Ledger, Outcome, Records, Rule, Use};

/// The store as a keeper of leases.
#[derive(Debug)]
pub(super) struct Leases(pub(super) File);

/// Returns where a record belongs: leases and buckets of one space are apart.
pub(super) fn address(id: &Id) -> Address {
    Address::new(space_digest(id.kind, &id.space), &id.name)
}

fn space_digest(kind: Kind, space: &[u8]) -> Digest {
    Digest::of(&[&[kind as u8], space].concat())
}

impl Disk {
    /// Reads, changes and writes a record as one step.
    fn change_lease(
        &self,
        id: &Id,
        rule: &Rule,
        effort: Effort<'_>,
    ) -> Attempt<(Outcome, Option<Owner>)> {
        let address = address(id);
        self.under_lock(&address, effort, |_held| {
            self.ledger
                .prepare(rule)
                .map_err(|error| fault("lock a file", self.layout.root(), error))?;
            let present = self.read_lease(&address, effort)?;
            let effect = self.ledger.apply(id, rule, present.as_deref())?;
            if let Some(written) = &effect.written {
                replace::replace_lease(&self.layout, &address, &written.bytes)?;
            }
            Ok((effect.outcome, effect.next))
        })
    }

    /// Reads a record; what is no file of ours counts as absent and is replaced.
    fn read_lease(&self, address: &Address, effort: Effort<'_>) -> Attempt<Option<Vec<u8>>> {
        let path = self.layout.lease_path(address);
        match record::read_file(&self.layout, &path, effort)? {
            Found::Whole(bytes) => Ok(Some(bytes)),
            Found::Missing | Found::Damaged => Ok(None),
        }
    }

    fn list_leases(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let mut found = Vec::new();
        let namespace = space_digest(Kind::Lease, space.as_bytes());
        for dir in self.lease_dirs(namespace)? {
            for key in self.leases_in(&dir)? {
                if found.len() >= limit {
                    return Ok(found);
                }
                let address = Address { namespace, key };
                let record = settle(self.read_lease(&address, Effort::FULL))?.flatten();
                let Some(record) = record else { continue };
                let Some(id) = host::id_of(&record) else {
                    continue;
                };
                if self::address(&id) == address {
                    found.extend(self.ledger.status(&id, &record, pattern));
                }
            }
        }
        Ok(found)
    }

    /// Removes records that nobody has used for long, from where the last run stopped, looking at some `steps` files.
    pub(super) fn sweep_leases(&self, steps: usize) -> Result<()> {
        let mut position = self
            .swept_leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut left = steps;
        for namespace in self.lease_spaces()? {
            for dir in self.lease_dirs(namespace)? {
                if position.as_ref().is_some_and(|done| dir <= *done) {
                    continue;
                }
                if left == 0 || self.closing.load(Ordering::Relaxed) {
                    return Ok(());
                }
                left = left.saturating_sub(1 + self.prune_leases_in(namespace, &dir)?);
                *position = Some(dir);
            }
        }
        *position = None;
        Ok(())
    }

    /// Removes the records of a directory that nobody has used for long; returns how many it looked at.
    fn prune_leases_in(&self, namespace: Digest, dir: &Path) -> Result<usize> {
        let keys = self.leases_in(dir)?;
        for key in &keys {
            let address = Address {
                namespace,
                key: *key,
            };
            // Looked at without the lock first, so that records in use cost no locking.
            if settle(self.is_over(&address))? == Some(true) {
                settle(self.under_lock(&address, Effort::FULL, |_held| {
                    if !self.is_over(&address)? {
                        return Ok(());
                    }
                    fs::remove_file(self.layout.lease_path(&address))
                        .map_err(|error| fault("remove a lease", self.layout.root(), error))
                }))?;
            }
        }
        Ok(keys.len())
    }

    fn is_over(&self, address: &Address) -> Attempt<bool> {
        let present = self.read_lease(address, Effort::FULL)?;
        Ok(present.is_some_and(|record| self.ledger.use_of(&record) == Use::Over))
    }

    /// Returns the spaces that have leases or buckets, in order.
    fn lease_spaces(&self) -> Result<Vec<Digest>> {
        let names = walk::list(&self.layout, &self.layout.leases())?;
        let digests = names
            .iter()
            .filter_map(|name| Digest::parse(name.as_bytes()));
        Ok(digests.collect())
    }

    /// Returns the directories of a space, in order.
    fn lease_dirs(&self, namespace: Digest) -> Result<Vec<PathBuf>> {
        let dir = self.layout.leases().join(namespace.hex());
        let mut names = walk::list(&self.layout, &dir)?;
        names.retain(|name| is_level(name));
        Ok(names.iter().map(|name| dir.join(name)).collect())
    }

    /// Returns the records of a directory, and removes what dead writers left there.
    fn leases_in(&self, dir: &Path) -> Result<Vec<Digest>> {
        let names = walk::list(&self.layout, dir)?;
        for name in names.iter().filter(|name| is_temp(name)) {
            remove_stale(&dir.join(name));
        }
        let digests = names
            .iter()
            .filter_map(|name| Digest::parse(name.as_bytes()));
        Ok(digests.collect())
    }
}

#[async_trait]
impl Records for Leases {
    fn ledger(&self) -> &Arc<Ledger> {
        &self.0.disk.ledger
    }

    async fn apply(&self, id: Id, rule: Rule) -> Result<(Outcome, Option<Owner>)> {
        let disk = &self.0.disk;
        match disk.change_lease(&id, &rule, Effort::BRIEF) {
            Err(Fault::Busy) => {}
            done => return done.or_else(give_up),
        }
        offload(disk, move |disk, effort| {
            disk.change_lease(&id, &rule, effort)
        })
        .await
    }

    async fn read(&self, id: Id) -> Result<Option<Vec<u8>>> {
        let disk = &self.0.disk;
        match disk.read_lease(&address(&id), Effort::BRIEF) {
            Err(Fault::Busy) => {}
            done => return done.or_else(give_up),
        }
        offload(disk, move |disk, effort| {
            disk.read_lease(&address(&id), effort)
        })
        .await
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let (space, pattern) = (space.clone(), pattern.clone());
        offload(&self.0.disk, move |disk, _| {
            Ok(disk.list_leases(&space, &pattern, limit)?)
        })
        .await
    }
}
