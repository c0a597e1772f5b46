//! The widespread design: a set of keys per tag. The value is written first, then its key is added to the sets; an
//! invalidation reads the members, deletes them, and then the set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use larder::store::{
    Capabilities, Change, Entry, Expiry, Invalidated, Invalidation, Memory, Register, Stamp, Store,
    StoreStats, Write,
};
use larder::testing::stamped;
use larder::{Namespace, Result};

use crate::layout::carried;

type Members = HashMap<(Namespace, Register), BTreeSet<Vec<u8>>>;

/// The store.
#[derive(Debug)]
pub(crate) struct KeySets {
    inner: Memory,
    members: Arc<Mutex<Members>>,
}

impl KeySets {
    pub(crate) fn new() -> Self {
        Self {
            inner: Memory::new(),
            members: Arc::default(),
        }
    }

    async fn write(&self, namespace: &Namespace, write: &Write<'_>) -> Result<bool> {
        let mut write = write.clone();
        let mut sets = Vec::new();
        if let Change::Put(value) = &mut write.change {
            sets = carried(value);
            if !sets.is_empty() {
                *value = stamped(value, Vec::new());
            }
        }
        let key = write.key.to_vec();
        let applied = self.inner.write_many(namespace, &[write]).await? == [true];
        travel().await;
        for set in sets {
            let id = (namespace.clone(), set.register);
            let mut members = self.members.lock().unwrap();
            members.entry(id).or_default().insert(key.clone());
        }
        Ok(applied)
    }

    async fn flush(&self, namespace: &Namespace, register: &Register) -> Result<bool> {
        let id = (namespace.clone(), register.clone());
        let members = self.members.lock().unwrap().get(&id).cloned();
        travel().await;
        for key in members.iter().flatten() {
            let delete = Write::delete(key);
            self.inner.write_many(namespace, &[delete]).await?;
            travel().await;
        }
        self.members.lock().unwrap().remove(&id);
        Ok(members.is_some())
    }
}

/// The way to a server and back takes a while.
async fn travel() {
    if fastrand::u8(..4) == 0 {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    tokio::task::yield_now().await;
}

#[async_trait]
impl Store for KeySets {
    fn name(&self) -> &'static str {
        "key-sets"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::default();
        (can.tags, can.counters) = (true, true);
        can
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.inner.get_many(namespace, keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let mut applied = Vec::new();
        for write in writes {
            applied.push(self.write(namespace, write).await?);
        }
        Ok(applied)
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.inner.clear(namespace).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        self.inner.increment(namespace, key, by, expiry).await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        // Nobody looks at the numbers; the names tell which sets a key is to be in.
        self.inner.capture(namespace, key, registers).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        _how: Invalidation,
    ) -> Result<Invalidated> {
        let mut done = Invalidated::default();
        for register in registers {
            done.had.push(self.flush(namespace, register).await?);
        }
        done.parts = 1;
        Ok(done)
    }
}
