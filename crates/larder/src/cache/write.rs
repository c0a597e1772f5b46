//! Writing typed values.

use std::future::IntoFuture;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::Cache;
use super::ordered::Order;
use super::ready::MaybeReady;
use super::snapshot::Snapshot;
use super::tags::Tags;
use crate::error::{Error, Result};
use crate::key::{Key, KeyRef};
use crate::store::Condition;
use crate::ttl::Ttl;

/// The options that all writes share.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteOptions {
    pub(super) ttl: Ttl,
    pub(super) jitter: f64,
    pub(super) schema: u32,
    pub(super) order: Order,
    /// How long after its TTL the value may be served.
    pub(super) grace_ms: u64,
    /// How long it took to load.
    pub(super) cost_ms: u32,
}

impl WriteOptions {
    /// Returns what the cache does unless the call says otherwise.
    pub(super) fn new(cache: &Cache) -> Self {
        Self {
            ttl: Ttl::Default,
            jitter: cache.inner.jitter,
            schema: cache.schema,
            order: Order::default(),
            grace_ms: 0,
            cost_ms: 0,
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
            snapshot: None,
        }
    }

    /// Stores a value only if there is no entry, or none that can be read; awaits to whether it was stored.
    ///
    /// Atomic between all users of the store. Cost: one round trip, and if there is an entry one more, or two where that has
    /// expired and is kept to be [served stale](super::Remember::stale_for).
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

    /// Changes how long an entry lives from now on; returns whether there is one. Cost: two round trips.
    ///
    /// The time for which it may be [served stale](super::Remember::stale_for) after that stays the same. Not guaranteed: a
    /// load that replaces the entry, or finds it unchanged, and began before, may end afterwards and gives it the TTL of the
    /// load. Costs two more round trips for each write that comes in between.
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
    snapshot: Option<Snapshot>,
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
        self.options.order.fence = Some(fence);
        self
    }

    /// Refuses to store, with `Conflict`, over an entry that was stored with this version or a greater one: of changes that
    /// come in any order, such as messages, the newest stays.
    ///
    /// The version is kept in the entry, for as long as that lives, as a [fence](Self::fence) is, at the same cost. It orders
    /// such writes among themselves and closes no race with a delete or an invalidation, after which there is nothing to
    /// compare with: for that there is [`Set::snapshot`].
    pub fn version(mut self, version: u64) -> Self {
        self.options.order.version = Some(version);
        self
    }

    /// Stores only if nothing has overtaken the snapshot, else refuses with `Conflict`; see [`Cache::snapshot`]. The entry
    /// gets the snapshot's tags. Cost: one round trip, and one
    /// more if there was an entry when the snapshot with its tags was taken.
    pub fn snapshot(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = Some(snapshot);
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
        let (order, snapshot) = (self.options.order, self.snapshot);
        if order.is_asked_for() || snapshot.is_some() {
            return MaybeReady::slow(async move {
                let key = self.key.as_bytes();
                let named = |error| inner.tagged(error, "set", key);
                match snapshot {
                    _ if inner.is_local_only() => {
                        let message = "fences, versions and snapshots without a store";
                        Err(named(Error::unsupported(message)))
                    }
                    Some(_) if order.is_asked_for() => {
                        let message = "a snapshot goes with neither a fence nor a version";
                        Err(named(Error::argument(message)))
                    }
                    Some(snapshot) => inner.put_by_snapshot(key, prepared, snapshot).await,
                    None => inner.put_in_order(key, &prepared, order).await,
                }
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
            ..
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
            inner.add(key.as_bytes(), prepared).await
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
