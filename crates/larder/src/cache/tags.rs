//! Tags on the way into the store: which registers an entry depends on, and their stamps.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

#[cfg(feature = "dashboard")]
use super::Cache;
use super::Inner;
use super::put::Prepared;
use crate::envelope::{self, Stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::store::{Condition, Register, StampedPut, Write};
use crate::tag;

/// How many tagged entries of one call are on their way at a time.
pub(super) const AT_A_TIME: usize = 16;

/// The tags of a call, checked; an error is reported when the call is made.
#[derive(Debug, Clone)]
pub(super) struct Tags(Result<Arc<[Register]>>);

impl Default for Tags {
    fn default() -> Self {
        Self(Ok(Arc::default()))
    }
}

impl Tags {
    pub(super) fn new(tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self(tag::registers(tags).map(Arc::from))
    }

    /// Returns what an entry with these tags depends on.
    pub(super) fn registers(&self) -> Result<Arc<[Register]>> {
        self.0.clone()
    }
}

impl Prepared {
    pub(super) fn is_tagged(&self) -> bool {
        !self.registers.is_empty()
    }
}

/// Returns the tags that an entry with these stamps carries.
pub(super) fn carried(stamps: &[Stamp]) -> Vec<String> {
    let exact = stamps.iter().filter(|stamp| stamp.kind == Register::EXACT);
    exact
        .map(|stamp| String::from_utf8_lossy(&stamp.name).into_owned())
        .collect()
}

#[cfg(feature = "dashboard")]
impl Cache {
    /// Returns why there are no tags here, if there are none.
    pub(crate) fn check_tags(&self) -> Result<()> {
        self.inner.needs_tags()
    }
}

impl Inner {
    /// Makes an entry depend on the registers of tags.
    pub(super) fn tag(&self, prepared: Prepared, tags: &Tags) -> Result<Prepared> {
        self.depend(prepared, tags.registers()?)
    }

    /// Makes an entry depend on registers.
    pub(super) fn depend(
        &self,
        mut prepared: Prepared,
        registers: Arc<[Register]>,
    ) -> Result<Prepared> {
        prepared.registers = registers;
        if prepared.is_tagged() {
            self.needs_tags()?;
        }
        if let Some(local) = &mut prepared.local {
            local.registers = Arc::clone(&prepared.registers);
        }
        Ok(prepared)
    }

    /// Refuses what cannot be done without tags.
    pub(super) fn needs_tags(&self) -> Result<()> {
        match self.capabilities.tags {
            true => Ok(()),
            false => Err(self.no_tags()),
        }
    }

    /// Returns why there are no tags.
    pub(super) fn no_tags(&self) -> Error {
        if self.tagging {
            return Error::unsupported("tags").store(self.store.name());
        }
        let message = "tags are switched off by tags.enabled (CACHE_TAGGING_ENABLED)";
        Error::new(ErrorKind::InvalidConfig, message)
    }

    /// Sends an entry to the store, with the stamps of what it depends on; returns whether the condition held.
    pub(super) async fn send(
        &self,
        key: &[u8],
        prepared: &Prepared,
        condition: Condition,
    ) -> Result<bool> {
        let (store, namespace) = (&self.store, &self.namespace);
        let expiry = prepared.expiry();
        let registers = &prepared.registers;
        let entry = match (prepared.is_tagged(), condition) {
            (false, _) => prepared.entry.clone(),
            (true, Condition::Always) => {
                let seal = |stamps| envelope::restamp(&prepared.entry, stamps);
                let put = StampedPut {
                    registers,
                    expiry,
                    seal: &seal,
                };
                let put = store.put_stamped(namespace, key, &put);
                return put.await.map(|()| true);
            }
            (true, _) => {
                let stamps = store.capture(namespace, key, registers).await?;
                envelope::restamp(&prepared.entry, stamps)?
            }
        };
        let write = Write::put(key, entry, expiry).when(condition);
        Ok(store.write_many(namespace, &[write]).await? == [true])
    }

    /// Stores entries of which some are tagged, several at a time.
    pub(super) async fn put_tagged(
        self: &Arc<Self>,
        entries: Vec<(KeyRef<'_>, Prepared)>,
    ) -> Result<()> {
        let puts = entries.into_iter().map(|(key, prepared)| async move {
            let put = self.put(key.as_bytes(), prepared, Condition::Always);
            put.await.map(drop)
        });
        let puts: Vec<_> = puts.collect();
        stream::iter(puts)
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await
    }
}
