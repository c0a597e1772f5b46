//! How values get into the store and the local tier, and out of them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::Inner;
use super::freshness::{self, Life};
use super::local::{Shared, Weighed};
use super::stats::Counter;
use super::write::WriteOptions;
use crate::codec::{Codec, Compression, Encoding, compress, format_integer, integer_value};
use crate::envelope::{self, Header};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::store::{Condition, Expiry, Register, Stamp, Write};

/// How often an entry is touched as it was read, before it is touched whatever it is.
const MAX_TOUCHES: u32 = 8;

/// A value on its way into the store and the local tier.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) ttl_ms: Option<u64>,
    /// How long after its TTL it may be served.
    pub(super) grace_ms: u64,
    /// The longest a local copy may live, other than by the TTL.
    pub(super) local_ms: Option<u64>,
    /// The sealed entry; empty when there is no store.
    pub(super) entry: Bytes,
    /// What it depends on; its stamps are not in it yet.
    pub(super) registers: Arc<[Register]>,
    pub(super) local: Option<Weighed>,
}

impl Prepared {
    /// Returns it with stamps that were captured before its value was computed, not empty.
    ///
    /// # Errors
    /// As [`envelope::restamp`].
    pub(super) fn stamped(self, stamps: &[Stamp]) -> Result<Self> {
        let entry = envelope::restamp(&self.entry, stamps.to_vec())?;
        let registers = envelope::registers(&entry);
        let local = self.local.map(|local| Weighed {
            registers: registers.into(),
            ..local
        });
        Ok(Self {
            entry,
            local,
            ..self
        })
    }

    /// Returns when the store is to expire it.
    pub(super) fn expiry(&self) -> Expiry {
        let grace_ms = self.grace_ms;
        Expiry::from_ttl_ms(self.ttl_ms.map(|ttl_ms| ttl_ms.saturating_add(grace_ms)))
    }

    /// Returns its life as a reader will find it.
    pub(super) fn life(&self) -> Life {
        Life {
            write_id: envelope::write_id(&self.entry),
            ttl_ms: self.ttl_ms,
            grace_ms: self.grace_ms,
            cost_ms: envelope::cost_ms(&self.entry),
            ends_at_ms: None,
        }
    }

    /// Returns the life of a local copy: its TTL, and what may be left of it.
    pub(super) fn local_life(&self) -> (Option<u64>, Option<u64>) {
        let shortest = match (self.ttl_ms, self.local_ms) {
            (Some(ttl_ms), Some(local_ms)) => Some(ttl_ms.min(local_ms)),
            (ttl_ms, local_ms) => ttl_ms.or(local_ms),
        };
        (self.ttl_ms, shortest)
    }
}

impl Inner {
    /// Encodes a value for the store and takes a live copy for the local tier, where there is one.
    pub(super) fn prepare<V>(&self, value: &V, options: &WriteOptions) -> Result<Prepared>
    where
        V: Serialize + ToOwned + ?Sized,
        V::Owned: Send + Sync + 'static,
    {
        self.prepare_with(value, options, || Arc::new(value.to_owned()) as Shared)
    }

    /// As [`Inner::prepare`], for a value that is shared already.
    pub(super) fn prepare_shared<V>(
        &self,
        value: &Arc<V>,
        options: &WriteOptions,
    ) -> Result<Prepared>
    where
        V: Serialize + Send + Sync + 'static,
    {
        self.prepare_with(&**value, options, || Arc::clone(value) as Shared)
    }

    fn prepare_with<V>(
        &self,
        value: &V,
        options: &WriteOptions,
        share: impl FnOnce() -> Shared,
    ) -> Result<Prepared>
    where
        V: Serialize + ?Sized,
    {
        let ttl_ms = options.ttl_ms(self.default_ttl)?;
        let is_local_only = self.is_local_only();
        let entry = if is_local_only {
            Bytes::new()
        } else {
            self.seal_value(value, ttl_ms, options)?
        };
        let local = match self.local.as_ref().filter(|tier| tier.write_through) {
            Some(_) => {
                let bytes = if is_local_only {
                    measure(value)?
                } else {
                    entry.len()
                };
                Some(Weighed {
                    value: share(),
                    bytes,
                    schema: options.schema,
                    write_id: envelope::write_id(&entry),
                    registers: Arc::default(),
                })
            }
            None => None,
        };
        Ok(Prepared {
            ttl_ms,
            grace_ms: ttl_ms.map_or(0, |_| options.grace_ms),
            local_ms: None,
            entry,
            registers: Arc::default(),
            local,
        })
    }

    /// Encodes, compresses and seals a value.
    fn seal_value<V: Serialize + ?Sized>(
        &self,
        value: &V,
        ttl_ms: Option<u64>,
        options: &WriteOptions,
    ) -> Result<Bytes> {
        let now_ms = self.clock.now_ms();
        let integer = integer_value(value);
        let codec = if integer.is_some() {
            Codec::Json
        } else {
            self.codec
        };
        let plain = match integer {
            Some(integer) => format_integer(integer),
            None => codec.encode(value)?,
        };
        let mut header = Header::new(Encoding::Codec(codec), now_ms, ttl_ms);
        header.schema = options.schema;
        header.cost_ms = options.cost_ms;
        if let (Some(ttl_ms), 1..) = (ttl_ms, options.grace_ms) {
            header.soft_ttl_ms = ttl_ms;
            header.hard_ttl_ms = ttl_ms.saturating_add(options.grace_ms);
        }
        options.order.stamp(&mut header);
        self.pack(header, &plain)
    }

    /// Compresses a plain body, if that is worth it, and seals it under the header.
    pub(super) fn pack(&self, mut header: Header, plain: &[u8]) -> Result<Bytes> {
        if plain.len() > self.compress_above
            && self.compression != Compression::None
            && let Some(packed) = compress(self.compression, plain)?
        {
            header.compression = self.compression;
            return envelope::seal(&header, &packed, plain.len());
        }
        envelope::seal(&header, plain, plain.len())
    }

    /// Writes one entry; returns whether the condition held.
    pub(super) async fn put(
        self: &Arc<Self>,
        key: &[u8],
        prepared: Prepared,
        condition: Condition,
    ) -> Result<bool> {
        self.flusher.ensure(self);
        let change = self.change(key).await;
        let applied = self.send(key, &prepared, condition).await;
        let applied = applied.map_err(|error| self.tagged(error, "set", key))?;
        if applied {
            self.counters.count(Counter::Set);
            change.finish(prepared.local.map(|value| (value, prepared.ttl_ms)));
        }
        Ok(applied)
    }

    pub(super) async fn put_many(
        self: &Arc<Self>,
        entries: Vec<(KeyRef<'_>, Prepared)>,
    ) -> Result<()> {
        if self.is_local_only() {
            for (key, prepared) in entries {
                self.set_local_only(key.as_bytes(), prepared);
            }
            return Ok(());
        }
        if entries.iter().any(|(_, prepared)| prepared.is_tagged()) {
            return self.put_tagged(entries).await;
        }
        self.flusher.ensure(self);
        let mut changes = Vec::with_capacity(entries.len());
        for (key, _) in &entries {
            changes.push(self.change(key.as_bytes()).await);
        }
        let write = |(key, prepared): &'_ (KeyRef<'_>, Prepared)| {
            (
                prepared.entry.clone(),
                prepared.expiry(),
                key.as_bytes().to_vec(),
            )
        };
        let parts: Vec<_> = entries.iter().map(write).collect();
        let writes: Vec<_> = parts
            .iter()
            .map(|(entry, expiry, key)| Write::put(key, entry.clone(), *expiry))
            .collect();
        self.store
            .write_many(&self.namespace, &writes)
            .await
            .map_err(|error| error.store(self.store.name()).operation("set_many"))?;
        self.counters.add(Counter::Set, entries.len() as u64);
        for (change, (_, prepared)) in changes.into_iter().zip(entries) {
            change.finish(prepared.local.map(|value| (value, prepared.ttl_ms)));
        }
        Ok(())
    }

    /// Stores into a tier without a store. Nothing is locked here while nothing else goes on.
    ///
    /// A load counts itself as active, then looks into the tier, then loads. Either it finds this value there, or it
    /// looked before the insertion, under the slot's lock; then the second look here sees that it began.
    pub(super) fn set_local_only(&self, key: &[u8], prepared: Prepared) {
        self.empty_memo();
        let quiet = self.inflight.quiet();
        let (Some(quiet), true) = (quiet, self.flights.is_idle()) else {
            self.set_local_if(key, prepared, || true);
            return;
        };
        let (Some(tier), Some(value)) = (&self.local, prepared.local) else {
            return;
        };
        tier.insert(
            key,
            value,
            (prepared.ttl_ms, prepared.ttl_ms),
            self.clock.monotonic_ms(),
        );
        self.counters.count(Counter::Set);
        if !(self.inflight.is_quiet_since(quiet) && self.flights.is_idle()) {
            // A load or read began meanwhile and may have put an older value over this one.
            self.inflight.change_now(key, || tier.remove(key, 0));
            self.flights.forget(key);
        }
    }

    /// Inserts into a tier without a store, if `condition` holds, as one step for this key.
    pub(super) fn set_local_if(
        &self,
        key: &[u8],
        prepared: Prepared,
        condition: impl FnOnce() -> bool,
    ) -> bool {
        let (Some(tier), Some(value)) = (&self.local, prepared.local) else {
            return false;
        };
        self.empty_memo();
        let life = (prepared.ttl_ms, prepared.ttl_ms);
        let applied = self.inflight.change_now(key, || {
            let holds = condition();
            if holds {
                tier.insert(key, value, life, self.clock.monotonic_ms());
            }
            holds
        });
        // Afterwards, since a load that began before the insertion must not be joined: the value may be gone again.
        self.flights.forget(key);
        if applied {
            self.counters.count(Counter::Set);
        }
        applied
    }

    pub(super) async fn delete_many(self: &Arc<Self>, keys: &[&[u8]]) -> Result<u64> {
        self.flusher.ensure(self);
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            changes.push(self.change(key).await);
        }
        let now_ms = self.clock.monotonic_ms();
        let deleted = if let Some(tier) = self.only_tier() {
            keys.iter().filter(|key| tier.remove(key, now_ms)).count()
        } else {
            let writes: Vec<_> = keys.iter().map(|key| Write::delete(key)).collect();
            let applied = self.store.write_many(&self.namespace, &writes).await;
            let first = keys.first().copied().unwrap_or_default();
            let applied = applied.map_err(|error| self.tagged(error, "delete", first))?;
            applied.into_iter().filter(|applied| *applied).count()
        };
        self.counters.add(Counter::Delete, deleted as u64);
        changes.into_iter().for_each(|change| change.finish(None));
        Ok(deleted as u64)
    }

    pub(super) async fn expire(self: &Arc<Self>, key: &[u8], ttl_ms: Option<u64>) -> Result<bool> {
        if let Some(tier) = self.only_tier() {
            self.empty_memo();
            return Ok(tier.expire(key, ttl_ms, self.clock.monotonic_ms()));
        }
        let change = self.change(key).await;
        let applied = self.touch(key, ttl_ms).await;
        let applied = applied.map_err(|error| self.tagged(error, "expire", key))?;
        change.finish(None);
        Ok(applied)
    }

    /// Changes when an entry expires in the store: as long after its TTL as it may be served. One that is replaced all the
    /// time gets the grace that it had a moment ago.
    async fn touch(&self, key: &[u8], ttl_ms: Option<u64>) -> Result<bool> {
        let mut left = MAX_TOUCHES;
        loop {
            let Some(entry) = self.fetch(key).await? else {
                return Ok(false);
            };
            if freshness::is_over(&entry, self.clock.now_ms()) {
                return Ok(false);
            }
            left -= 1;
            let condition = match envelope::write_id(&entry.value) {
                0 => Condition::Always,
                _ if left == 0 || envelope::is_sorted_set(&entry.value) => Condition::Always,
                id => Condition::IfUnchanged(id),
            };
            let grace_ms = envelope::grace_ms(&entry.value);
            let lives_ms = ttl_ms.map(|ttl_ms| ttl_ms.saturating_add(grace_ms));
            let touch = Write::touch(key, Expiry::from_ttl_ms(lives_ms)).when(condition);
            let touched = self.store.write_many(&self.namespace, &[touch]).await?;
            if touched == [true] || condition == Condition::Always {
                return Ok(touched == [true]);
            }
        }
    }

    /// Stores an entry, or with `is_new` adds it.
    pub(super) async fn put_if(
        self: &Arc<Self>,
        key: &[u8],
        prepared: Prepared,
        is_new: bool,
    ) -> Result<bool> {
        match is_new {
            true => self.add(key, prepared).await,
            false => self.put(key, prepared, Condition::Always).await,
        }
    }

    /// Stores an entry if there is none, or none that has not expired.
    pub(super) async fn add(self: &Arc<Self>, key: &[u8], prepared: Prepared) -> Result<bool> {
        if self.put(key, prepared.clone(), Condition::IfAbsent).await? {
            return Ok(true);
        }
        let present = self.fetch(key).await;
        let present = present.map_err(|error| self.tagged(error, "add", key))?;
        match present.filter(|entry| freshness::is_over(entry, self.clock.now_ms())) {
            Some(entry) => {
                let id = envelope::write_id(&entry.value);
                self.put(key, prepared, Condition::IfUnchanged(id)).await
            }
            None => Ok(false),
        }
    }
}

/// Returns the encoded size of a value without keeping its bytes.
fn measure<V: Serialize + ?Sized>(value: &V) -> Result<usize> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let mut serializer = rmp_serde::Serializer::new(&mut count);
    value.serialize(&mut serializer).map_err(|error| {
        Error::new(ErrorKind::Codec, "the value cannot be encoded").caused_by(error)
    })?;
    Ok(count.0)
}
