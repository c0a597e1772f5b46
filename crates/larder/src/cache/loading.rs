//! Loads whose values depend on registers: these are captured before the load begins, and the store keeps a mark in place
//! of the entry, which whoever changes the key removes. Only a load whose mark is still there stores its value.
//!
//! ```text
//! begin: capture, mark --> load --> (tags that the loader named: capture, and no invalidation since the begin) --> commit
//! ```

use std::sync::Arc;

use super::Inner;
use super::inflight::Marker;
use super::remember::{Decisions, LoadOptions};
use super::stats::Counter;
use super::write::Prepared;
use crate::envelope;
use crate::error::Result;
use crate::store::{Condition, Entry, Expiry, LoadRequest, Register, Stamp, Write};
use crate::tag;

/// How long nobody else begins a load of the key.
const LEASE_MS: u64 = 30_000;
/// For how many keys it is remembered which tags their loaders named.
pub(super) const LEARNT_KEYS: usize = 1 << 16;

/// A load that has begun.
#[derive(Debug)]
pub(super) struct Loading {
    token: u64,
    stamps: Vec<Stamp>,
    /// What [`Register::any`] held at the beginning.
    any: Option<Stamp>,
    is_granted: bool,
}

/// How a load begins.
pub(super) enum Begun {
    /// It need not: there is an entry.
    Entry(Entry),
    Loading(Loading),
}

impl Inner {
    /// Captures what a value will depend on, and marks the key.
    pub(super) async fn begin(&self, key: &[u8], options: &LoadOptions) -> Result<Begun> {
        let mut registers = options.tags.registers()?.to_vec();
        if options.learns {
            let learnt = self.learnt.get(key).unwrap_or_default();
            let new = learnt.iter().filter(|name| !registers.contains(name));
            let new: Vec<_> = new.cloned().collect();
            registers.extend(new);
            registers.push(Register::any());
        }
        let load = LoadRequest {
            registers: &registers,
            token: tag::nonce(),
            lease_ms: LEASE_MS,
        };
        let begun = self.store.begin_load(&self.namespace, key, &load).await?;
        if let Some(entry) = begun.entry {
            return Ok(Begun::Entry(entry));
        }
        let (stamps, any) = begun.stamps.into_iter().partition(Stamp::is_of_register);
        let any: Vec<Stamp> = any;
        Ok(Begun::Loading(Loading {
            token: load.token,
            stamps,
            any: any.into_iter().next(),
            is_granted: begun.is_granted,
        }))
    }

    /// Stores a loaded value if nothing has overtaken it.
    pub(super) async fn commit(
        &self,
        key: &[u8],
        (prepared, marker): (Prepared, &Marker<'_>),
        loading: &Loading,
        decisions: &Decisions,
    ) -> Result<()> {
        let Some(stamps) = self.proven(key, loading, decisions).await? else {
            self.counters.count(Counter::Overtaken);
            return self.abandon(key, loading).await;
        };
        let Some(_commit) = marker.commit() else {
            self.counters.count(Counter::Overtaken);
            return self.abandon(key, loading).await;
        };
        let since_ms = self.clock.monotonic_ms();
        let entry = envelope::restamp(&prepared.entry, stamps)?;
        let put = Write::put(key, entry, Expiry::from_ttl_ms(prepared.ttl_ms));
        let put = put.when(Condition::IfUnchanged(loading.token));
        let is_stored =
            loading.is_granted && self.store.write_many(&self.namespace, &[put]).await? == [true];
        if !is_stored {
            self.counters.count(Counter::Overtaken);
            return Ok(());
        }
        self.counters.count(Counter::Set);
        if let (Some(tier), Some(value)) = (&self.local, prepared.local) {
            let life = (prepared.ttl_ms, prepared.ttl_ms);
            marker.if_clean(|| tier.insert(key, value, life, since_ms));
        }
        Ok(())
    }

    /// Takes the mark back, so that others may load at once.
    pub(super) async fn abandon(&self, key: &[u8], loading: &Loading) -> Result<()> {
        if loading.is_granted {
            let unmark = Write::delete(key).when(Condition::IfUnchanged(loading.token));
            self.store.write_many(&self.namespace, &[unmark]).await?;
        }
        Ok(())
    }

    /// Returns the stamps of all that a value depends on; `None`: of a tag that only the loader named, it is not known
    /// whether it was invalidated meanwhile.
    async fn proven(
        &self,
        key: &[u8],
        loading: &Loading,
        decisions: &Decisions,
    ) -> Result<Option<Vec<Stamp>>> {
        let mut stamps = loading.stamps.clone();
        if decisions.tags.is_empty() {
            return Ok(Some(stamps));
        }
        let named = tag::registers(&decisions.tags)?;
        self.learnt.insert(key.into(), Arc::from(named.as_slice()));
        let is_captured = |name: &&Register| !stamps.iter().any(|stamp| stamp.is_of(name));
        let mut late: Vec<_> = named.iter().filter(is_captured).cloned().collect();
        if late.is_empty() {
            return Ok(Some(stamps));
        }
        // Last, so that it is read after the others were captured.
        late.push(Register::any());
        let mut captured = self.store.capture(&self.namespace, key, &late).await?;
        let any = captured.pop();
        let nothing_was_invalidated = any.is_some() && any == loading.any;
        stamps.extend(captured);
        Ok(nothing_was_invalidated.then_some(stamps))
    }
}
