//! One set of locks for each store and prefix, whatever caches are on it: one task looks after all their leases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;

use crate::error::Result;
use crate::lock::Locks;
use crate::store::Store;

/// The locks by store and prefix.
#[derive(Debug, Default)]
pub(super) struct LocksOfStores(Mutex<BTreeMap<(String, String), Locks>>);

impl LocksOfStores {
    /// Returns the locks of a prefix on a store.
    pub(super) fn of(&self, name: &str, store: &Arc<dyn Store>, prefix: &str) -> Locks {
        let place = (name.to_owned(), prefix.to_owned());
        let create = || Locks::on(store.lock_store(), store.name(), &store.clock(), prefix);
        self.all().entry(place).or_insert_with(create).clone()
    }

    /// Gives all leases up; returns the first error.
    pub(super) async fn shutdown(&self) -> Result<()> {
        let all: Vec<Locks> = self.all().values().cloned().collect();
        let outcomes = join_all(all.iter().map(Locks::shutdown)).await;
        outcomes.into_iter().collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(String, String), Locks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
