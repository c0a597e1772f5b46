//! Writing typed values.

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::local::{Shared, Weighed};
use super::ready::MaybeReady;
use super::stats::Counter;
use super::tags::Tags;
use super::{Cache, Inner};
use crate::codec::{Codec, Compression, Encoding, compress, format_integer, integer_value};
use crate::envelope::{self, Header};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRef};
use crate::store::{Condition, Expiry, Register, Write};
use crate::ttl::Ttl;

/// The options that all writes share.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteOptions {
    pub(super) ttl: Ttl,
    pub(super) jitter: f64,
    pub(super) schema: u32,
    pub(super) fence: Option<u64>,
}

impl WriteOptions {
    /// Returns what the cache does unless the call says otherwise.
    pub(super) fn new(cache: &Cache) -> Self {
        Self {
            ttl: Ttl::Default,
            jitter: cache.inner.jitter,
            schema: cache.schema,
            fence: None,
        }
    }

    /// Returns the TTL to write, shortened at random by up to the jitter's part.
    pub(super) fn ttl_ms(&self, default: Ttl) -> Result<Option<u64>> {
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::argument("the jitter must be from 0 to 1"));
        }
        let shorten =
            |ms: u64| ((ms as f64) * (1.0 - self.jitter * fastrand::f64())).max(1.0) as u64;
        let ttl_ms = self.ttl.resolve(default)?;
        Ok(if self.jitter > 0.0 {
            ttl_ms.map(shorten)
        } else {
            ttl_ms
        })
    }
}

/// A value on its way into the store and the local tier.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) ttl_ms: Option<u64>,
    /// The sealed entry; empty when there is no store.
    pub(super) entry: Bytes,
    /// What it depends on; its stamps are not in it yet.
    pub(super) registers: Arc<[Register]>,
    pub(super) local: Option<Weighed>,
}

impl Cache {
    /// Stores a value. Await the builder; its options are [`Set::ttl`], [`Set::jitter`], [`Set::schema`].
    ///
    /// Cost: one round trip. Integers are stored so that they can be incremented.
    pub fn set<'a, V>(&'a self, key: impl Into<KeyRef<'a>>, value: &'a V) -> Set<'a, V>
    where
        V: ?Sized,
    {
        Set {
            cache: self,
            key: key.into(),
            value,
            tags: Tags::default(),
            options: WriteOptions::new(self),
        }
    }

    /// Stores a value only if there is no entry, or none that can be read; awaits to whether it was stored.
    ///
    /// Atomic between all users of the store. Cost: one round trip.
    pub fn add<'a, V>(&'a self, key: impl Into<KeyRef<'a>>, value: &'a V) -> Add<'a, V>
    where
        V: ?Sized,
    {
        Add(self.set(key, value))
    }

    /// Stores several values with the same options. Each is atomic, all together are not. Cost: one round trip.
    pub fn set_many<'a, K, V>(
        &'a self,
        entries: impl IntoIterator<Item = &'a (K, V)>,
    ) -> SetMany<'a, V>
    where
        K: 'a,
        &'a K: Into<KeyRef<'a>>,
        V: 'a,
    {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect();
        SetMany {
            cache: self,
            entries,
            tags: Tags::default(),
            options: WriteOptions::new(self),
        }
    }

    /// Removes an entry of any kind; returns whether there was one. Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; the store's errors. After an error the entry may be there or not; the local copy is gone.
    pub async fn delete(&self, key: impl Into<KeyRef<'_>>) -> Result<bool> {
        let key = key.into();
        let deleted = Box::pin(self.inner.delete_many(&[key.checked()?])).await?;
        Ok(deleted > 0)
    }

    /// Removes entries; returns how many there were. Cost: one round trip.
    ///
    /// # Errors
    /// As [`Cache::delete`]; some may have been removed.
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<KeyRef<'_>>>,
    ) -> Result<u64> {
        let keys = keys
            .into_iter()
            .map(|key| key.into().to_key())
            .collect::<Result<Vec<_>>>()?;
        let keys: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
        Box::pin(self.inner.delete_many(&keys)).await
    }

    /// Changes how long an entry lives from now on; returns whether there is one. Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; `InvalidArgument`: a TTL of zero; the store's errors.
    pub async fn expire(&self, key: impl Into<KeyRef<'_>>, ttl: impl Into<Ttl>) -> Result<bool> {
        let (key, ttl) = (key.into(), ttl.into());
        let ttl_ms = ttl.resolve(self.inner.default_ttl)?;
        Box::pin(self.inner.expire(key.checked()?, ttl_ms)).await
    }
}

/// A value about to be stored; see [`Cache::set`].
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct Set<'a, V: ?Sized> {
    cache: &'a Cache,
    key: KeyRef<'a>,
    value: &'a V,
    tags: Tags,
    options: WriteOptions,
}

impl<V: ?Sized> Set<'_, V> {
    /// What the entry depends on: see [`Cache::invalidate_tags`]. Replaces tags that were given before.
    ///
    /// Up to 24 tags of 1 to 200 bytes and up to six parts between colons, without `*`, `?`, `[` and `]`; others are
    /// refused with `InvalidArgument`.
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.tags = Tags::new(tags);
        self
    }

    /// How long the entry lives; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.options.ttl = ttl.into();
        self
    }

    /// The part of the TTL, from 0 to 1, by which it is shortened at random, so that entries written together do
    /// not expire together; default 0.
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.jitter = part;
        self
    }

    /// The schema version to write; default the handle's, see [`Cache::schema`].
    pub fn schema(mut self, version: u32) -> Self {
        self.options.schema = version;
        self
    }

    /// Refuses to store, with `LockLost`, over an entry that was stored with a greater fence: a holder of a lock that
    /// was stopped for too long cannot overwrite what a later holder stored. See [`LockGuard::fence`].
    ///
    /// The fence is kept in the entry, for as long as that lives: not beyond a delete, a clear, an expiry or an eviction,
    /// nor a write without a fence. Cost: two round trips, and more while others write the key.
    ///
    /// [`LockGuard::fence`]: crate::lock::LockGuard::fence
    pub fn fence(mut self, fence: u64) -> Self {
        self.options.fence = Some(fence);
        self
    }
}

impl<'a, V> IntoFuture for Set<'a, V>
where
    V: Serialize + ToOwned + ?Sized,
    V::Owned: Send + Sync + 'static,
{
    type Output = Result<()>;
    type IntoFuture = MaybeReady<'a, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        let inner = &self.cache.inner;
        let prepared = match self
            .key
            .checked()
            .and_then(|_| inner.prepare(self.value, &self.options))
            .and_then(|prepared| inner.tag(prepared, &self.tags))
        {
            Ok(prepared) => prepared,
            Err(error) => {
                return MaybeReady::ready(Err(inner.tagged(error, "set", self.key.as_bytes())));
            }
        };
        if let Some(fence) = self.options.fence {
            return MaybeReady::slow(async move {
                let key = self.key.as_bytes();
                if inner.is_local_only() {
                    let error = Error::unsupported("fences without a store");
                    return Err(inner.tagged(error, "set", key));
                }
                inner.put_fenced(key, &prepared, fence).await
            });
        }
        if inner.is_local_only() {
            inner.set_local_only(self.key.as_bytes(), prepared);
            return MaybeReady::ready(Ok(()));
        }
        MaybeReady::slow(async move {
            inner
                .put(self.key.as_bytes(), prepared, Condition::Always)
                .await
                .map(drop)
        })
    }
}

/// A value about to be added; see [`Cache::add`].
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct Add<'a, V: ?Sized>(Set<'a, V>);

impl<V: ?Sized> Add<'_, V> {
    /// What the entry depends on; see [`Set::tags`].
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.0 = self.0.tags(tags);
        self
    }

    /// How long the entry lives; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.0 = self.0.ttl(ttl);
        self
    }

    /// The schema version to write; default the handle's.
    pub fn schema(mut self, version: u32) -> Self {
        self.0 = self.0.schema(version);
        self
    }
}

impl<'a, V> IntoFuture for Add<'a, V>
where
    V: Serialize + ToOwned + ?Sized,
    V::Owned: Send + Sync + 'static,
{
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'a, Result<bool>>;

    fn into_future(self) -> Self::IntoFuture {
        let Set {
            cache,
            key,
            value,
            tags,
            options,
        } = self.0;
        let inner = &cache.inner;
        let prepared = key.checked().and_then(|_| inner.prepare(value, &options));
        let prepared = prepared.and_then(|prepared| inner.tag(prepared, &tags));
        Box::pin(async move {
            let prepared = prepared.map_err(|error| inner.tagged(error, "add", key.as_bytes()))?;
            if let Some(tier) = inner.only_tier() {
                let now_ms = inner.clock.monotonic_ms();
                let absent = || tier.remaining_ms(key.as_bytes(), now_ms).is_none();
                return Ok(inner.set_local_if(key.as_bytes(), prepared, absent));
            }
            inner
                .put(key.as_bytes(), prepared, Condition::IfAbsent)
                .await
        })
    }
}

/// Values about to be stored; see [`Cache::set_many`].
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct SetMany<'a, V> {
    cache: &'a Cache,
    entries: Vec<(KeyRef<'a>, &'a V)>,
    tags: Tags,
    options: WriteOptions,
}

impl<V> SetMany<'_, V> {
    /// What each of the entries depends on; see [`Set::tags`]. Tagged entries are written one by one, several at a time.
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.tags = Tags::new(tags);
        self
    }

    /// How long the entries live; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.options.ttl = ttl.into();
        self
    }

    /// The part of the TTL by which each entry's is shortened at random; default 0.
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.jitter = part;
        self
    }
}

impl<'a, V> IntoFuture for SetMany<'a, V>
where
    V: Serialize + Clone + Send + Sync + 'static,
{
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'a, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        let inner = &self.cache.inner;
        let prepare = |(key, value): (KeyRef<'a>, &V)| {
            let prepared = key
                .checked()
                .and_then(|_| inner.prepare(value, &self.options))
                .and_then(|prepared| inner.tag(prepared, &self.tags));
            let prepared =
                prepared.map_err(|error| inner.tagged(error, "set_many", key.as_bytes()))?;
            Ok((key, prepared))
        };
        let prepared = self
            .entries
            .into_iter()
            .map(prepare)
            .collect::<Result<Vec<_>>>();
        Box::pin(async move { inner.put_many(prepared?).await })
    }
}

impl Inner {
    /// Encodes a value for the store and takes a live copy for the local tier, where there is one.
    fn prepare<V>(&self, value: &V, options: &WriteOptions) -> Result<Prepared>
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
                })
            }
            None => None,
        };
        Ok(Prepared {
            ttl_ms,
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
        if let Some(fence) = options.fence {
            super::fenced::stamp(&mut header, fence);
        }
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

    async fn put_many(self: &Arc<Self>, entries: Vec<(KeyRef<'_>, Prepared)>) -> Result<()> {
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
                prepared.ttl_ms,
                key.as_bytes().to_vec(),
            )
        };
        let parts: Vec<_> = entries.iter().map(write).collect();
        let writes: Vec<_> = parts
            .iter()
            .map(|(entry, ttl_ms, key)| {
                Write::put(key, entry.clone(), Expiry::from_ttl_ms(*ttl_ms))
            })
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
    fn set_local_only(&self, key: &[u8], prepared: Prepared) {
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
    fn set_local_if(
        &self,
        key: &[u8],
        prepared: Prepared,
        condition: impl FnOnce() -> bool,
    ) -> bool {
        let (Some(tier), Some(value)) = (&self.local, prepared.local) else {
            return false;
        };
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

    async fn delete_many(self: &Arc<Self>, keys: &[&[u8]]) -> Result<u64> {
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

    async fn expire(self: &Arc<Self>, key: &[u8], ttl_ms: Option<u64>) -> Result<bool> {
        if let Some(tier) = self.only_tier() {
            return Ok(tier.expire(key, ttl_ms, self.clock.monotonic_ms()));
        }
        let change = self.change(key).await;
        let touch = Write::touch(key, Expiry::from_ttl_ms(ttl_ms));
        let applied = self.store.write_many(&self.namespace, &[touch]).await;
        let applied = applied.map_err(|error| self.tagged(error, "expire", key))?;
        change.finish(None);
        Ok(applied == [true])
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
