//! Reading typed values.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::freshness::{self, Life, Wanted};
use super::inflight::Marker;
use super::local::Weighed;
use super::stats::Counter;
use super::{Cache, Inner};
use crate::envelope::{self, Envelope, Unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRef};
use crate::store::{Entry, Read};
use crate::ttl::TimeLeft;

impl Cache {
    /// Returns a clone of the value, or `None`.
    ///
    /// A value that [`Cache::mark_stale_tags`] has marked is returned like any other; one that has outlived its TTL never is,
    /// however long it may be [served stale](super::Remember::stale_for) by a load.
    ///
    /// Cost: none beyond a table lookup when the local tier has it, else one round trip. An entry that is damaged, of
    /// another schema, or of another type than asked for is a miss with its own counted reason.
    ///
    /// # Errors
    /// `InvalidKey`; `WrongType`: the key holds a sorted set. Only when strict: the store's errors, `Corrupted`, `Codec`.
    pub async fn get<V>(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<V>>
    where
        V: Clone + DeserializeOwned + Send + Sync + 'static,
    {
        let key = key.into();
        if let Some(value) = self.inner.quick_hit::<V>(key.as_bytes(), self.view()) {
            return Ok(Some(V::clone(&value)));
        }
        let slow = Box::pin(self.inner.read_known::<V>(&key, self.view()));
        Ok(slow.await?.map(Arc::unwrap_or_clone))
    }

    /// Returns the value shared, without a clone: with a local tier, the very value that others hold.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn get_shared<V>(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<Arc<V>>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let key = key.into();
        if let Some(value) = self.inner.quick_hit::<V>(key.as_bytes(), self.view()) {
            return Ok(Some(value));
        }
        Box::pin(self.inner.read_known::<V>(&key, self.view())).await
    }

    /// Returns one result per key, same order. Cost: one round trip for all keys that the local tier lacks.
    ///
    /// # Errors
    /// As [`Cache::get`], for any of the keys.
    pub async fn get_many<V>(
        &self,
        keys: impl IntoIterator<Item = impl Into<KeyRef<'_>>>,
    ) -> Result<Vec<Option<V>>>
    where
        V: Clone + DeserializeOwned + Send + Sync + 'static,
    {
        let keys = keys
            .into_iter()
            .map(|key| key.into().to_key())
            .collect::<Result<Vec<_>>>()?;
        let found = self.inner.read_many::<V>(&keys, self.view());
        let found = Box::pin(found).await?;
        let value = |found: Found<V>| Arc::unwrap_or_clone(found.value);
        Ok(found.into_iter().map(|found| found.map(value)).collect())
    }

    /// Returns whether there is an entry that can be read, of any kind and type. Cost: as a read from the store.
    ///
    /// # Errors
    /// `InvalidKey`. Only when strict: the store's errors.
    pub async fn has(&self, key: impl Into<KeyRef<'_>>) -> Result<bool> {
        Ok(self.ttl(key).await? != TimeLeft::Missing)
    }

    /// Returns how long the entry will live, by the store's clock. Cost: as a read from the store.
    ///
    /// # Errors
    /// `InvalidKey`. Only when strict: the store's errors.
    pub async fn ttl(&self, key: impl Into<KeyRef<'_>>) -> Result<TimeLeft> {
        let key = key.into();
        let key = key.checked()?;
        if let Some(tier) = self.inner.only_tier() {
            return Ok(
                match tier.remaining_ms(key, self.inner.clock.monotonic_ms()) {
                    None => TimeLeft::Missing,
                    Some(u64::MAX) => TimeLeft::Forever,
                    Some(ms) => TimeLeft::Remaining(Duration::from_millis(ms)),
                },
            );
        }
        let entry = match self.inner.fetch(key).await {
            Ok(entry) => entry.filter(|entry| Envelope::open(&entry.value).is_ok()),
            Err(error) => self.inner.absorb(self.inner.tagged(error, "ttl", key))?,
        };
        Ok(entry.map_or(TimeLeft::Missing, |entry| self.inner.time_left(&entry)))
    }
}

/// Which values a handle wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) schema: u32,
    /// See [`Cache::at_least`]; 0: any.
    pub(super) at_least_ms: u64,
}

impl Cache {
    #[inline(always)]
    pub(super) fn view(&self) -> View {
        View {
            schema: self.schema,
            at_least_ms: self.at_least_ms,
        }
    }
}

impl Inner {
    /// Returns the local value of this type and schema version, and counts the hit.
    #[inline(always)]
    pub(super) fn local_hit<V: Any + Send + Sync>(&self, key: &[u8], view: View) -> Option<Arc<V>> {
        let tier = self.local.as_ref()?;
        let now_ms = self.clock.monotonic_ms();
        if view.at_least_ms > 0 && !tier.is_caught_up(key, view.at_least_ms, now_ms) {
            return None;
        }
        let value = tier.get::<V>(key, view.schema, now_ms)?;
        self.counters.count(Counter::LocalHit);
        Some(value)
    }

    /// Makes sure that the tasks behind a cache in use are there.
    async fn attend(self: &Arc<Self>) {
        self.flusher.ensure(self);
        if let Some(tier) = &self.local {
            self.follower.ensure(self, tier).await;
        }
    }

    /// As [`Inner::local_hit`], unless a memo may know better.
    #[inline(always)]
    pub(super) fn quick_hit<V: Any + Send + Sync>(&self, key: &[u8], view: View) -> Option<Arc<V>> {
        if self.memos.are_live() {
            return None;
        }
        self.local_hit(key, view)
    }

    /// Watches a key from now on, see [`Inflight::mark`](super::inflight::Inflight::mark).
    pub(super) fn mark(&self, key: &[u8]) -> Marker<'_> {
        self.inflight.mark(key, self.clock.monotonic_ms())
    }

    /// Reads one entry from the store.
    pub(super) async fn fetch(&self, key: &[u8]) -> Result<Option<Entry>> {
        let read = self.store.get_many(&self.namespace, &[key]).await?.pop();
        Ok(read.flatten())
    }

    /// As [`Inner::fetch`], for reads that are counted.
    pub(super) async fn look_up(&self, key: &[u8]) -> Result<Read> {
        let read = self.store.read_many(&self.namespace, &[key]).await?.pop();
        Ok(read.unwrap_or(Read::Absent))
    }

    /// Reads a value, unless the memo knows it.
    async fn read_known<V>(self: &Arc<Self>, key: &KeyRef<'_>, view: View) -> Result<Option<Arc<V>>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let read = async {
            if let Some(value) = self.local_hit::<V>(key.as_bytes(), view) {
                return Ok(Some(value));
            }
            let found = self
                .read_shared::<V>(key, Wanted::fresh(view.schema))
                .await?;
            Ok(found.map(|found| found.value))
        };
        self.known_or(key.as_bytes(), view, read).await
    }

    /// As [`Inner::found`], of an entry that has not outlived its TTL.
    pub(super) fn found_fresh(&self, read: Read) -> Option<Entry> {
        let entry = self.found(read)?;
        if freshness::is_over(&entry, self.clock.now_ms()) {
            self.counters.count(Counter::Absent);
            return None;
        }
        Some(entry)
    }

    /// Reads from the store and promotes a hit.
    pub(super) async fn read_shared<V>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        wanted: Wanted,
    ) -> Result<Option<Found<V>>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let key = key.checked()?;
        self.attend().await;
        let marker = self.local.as_ref().map(|_| self.mark(key));
        match self.look_up(key).await {
            Ok(read) => self.accept(key, read, wanted, marker.as_ref()),
            Err(error) => self.absorb(self.tagged(error, "get", key)),
        }
    }

    pub(super) async fn read_many<V>(
        self: &Arc<Self>,
        keys: &[Key],
        view: View,
    ) -> Result<Vec<Option<Found<V>>>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let local = |key: &Key| self.local_hit::<V>(key.as_bytes(), view).map(Found::fresh);
        let mut values: Vec<_> = keys.iter().map(local).collect();
        let missing: Vec<usize> = (0..keys.len())
            .filter(|index| values[*index].is_none())
            .collect();
        if missing.is_empty() {
            return Ok(values);
        }
        self.attend().await;
        let asked: Vec<&[u8]> = missing
            .iter()
            .map(|index| keys[*index].as_bytes())
            .collect();
        let mark = |key: &&[u8]| self.local.as_ref().map(|_| self.mark(key));
        let markers: Vec<_> = asked.iter().map(mark).collect();
        let reads = match self.store.read_many(&self.namespace, &asked).await {
            Ok(reads) => reads,
            Err(error) => {
                self.counters
                    .add(Counter::ReadError, asked.len() as u64 - 1);
                self.absorb::<()>(error.store(self.store.name()).operation("get_many"))?;
                return Ok(values);
            }
        };
        for ((index, read), marker) in missing.iter().zip(reads).zip(&markers) {
            let (key, wanted) = (keys[*index].as_bytes(), Wanted::fresh(view.schema));
            values[*index] = self.accept(key, read, wanted, marker.as_ref())?;
        }
        Ok(values)
    }

    /// Turns what the store returned into a value, counts it, and promotes it if nothing overtook the read.
    pub(super) fn accept<V>(
        &self,
        key: &[u8],
        read: Read,
        wanted: Wanted,
        marker: Option<&Marker<'_>>,
    ) -> Result<Option<Found<V>>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let Some(entry) = self.found(read) else {
            return Ok(None);
        };
        match self.promote::<V>(key, &entry, wanted, marker) {
            Ok(found) => {
                let is_over = found.is_over(self.clock.now_ms());
                self.counters.count(match is_over {
                    true => Counter::Absent,
                    false => Counter::StoreHit,
                });
                Ok(Some(found))
            }
            Err(refusal) => self.refuse(key, refusal),
        }
    }

    /// Returns the entry that was read, or counts why there is none.
    pub(super) fn found(&self, read: Read) -> Option<Entry> {
        match read {
            Read::Entry(entry) => return Some(entry),
            Read::Invalid => self.counters.count(Counter::Invalidated),
            Read::Absent => self.counters.count(Counter::Absent),
        }
        None
    }

    /// Decodes an entry, and copies it into the local tier if nothing overtook the read.
    pub(super) fn promote<V>(
        &self,
        key: &[u8],
        entry: &Entry,
        wanted: Wanted,
        marker: Option<&Marker<'_>>,
    ) -> Result<Found<V>, Refusal>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let now_ms = self.clock.now_ms();
        let is_over = freshness::is_over(entry, now_ms);
        if freshness::is_over_for(entry, wanted.grace_ms, now_ms) {
            return Err(Refusal::Over);
        }
        let (value, life) = open_as::<V>(entry, wanted.schema)?;
        let value = Arc::new(value);
        // A stale copy would hide that it wants to be refreshed.
        if let (Some(tier), Some(marker), false) = (
            self.local.as_ref().filter(|tier| tier.promote),
            marker,
            entry.is_stale || is_over,
        ) {
            let window_ms = wanted.ahead.window_ms(&life).unwrap_or(0);
            let left_ms = life.left_ms(now_ms);
            let left_ms = left_ms.map(|left_ms| left_ms.saturating_sub(window_ms));
            let weighed = Weighed {
                value: Arc::clone(&value) as _,
                bytes: entry.value.len(),
                schema: wanted.schema,
                write_id: envelope::write_id(&entry.value),
                registers: envelope::registers(&entry.value).into(),
            };
            let times = (life.ttl_ms, left_ms);
            if left_ms != Some(0) {
                marker.if_clean(|| tier.insert(key, weighed, times, marker.since_ms()));
            }
        }
        Ok(Found {
            value,
            is_marked: entry.is_stale,
            life: Some(life),
            entry: entry.value.clone(),
        })
    }

    fn refuse<T>(&self, key: &[u8], refusal: Refusal) -> Result<Option<T>> {
        let (counter, error) = match refusal {
            Refusal::Over => {
                self.counters.count(Counter::Absent);
                return Ok(None);
            }
            Refusal::WrongType(error) => {
                self.counters.count(Counter::Decode);
                return Err(self.tagged(error, "get", key));
            }
            Refusal::Unreadable(Unreadable::UnknownLayout) => (
                Counter::UnknownLayout,
                Error::new(ErrorKind::Corrupted, "the entry has an unknown layout"),
            ),
            Refusal::Unreadable(Unreadable::Damaged) => (
                Counter::Damaged,
                Error::new(ErrorKind::Corrupted, "the entry's bytes are damaged"),
            ),
            Refusal::Schema(stored) => (
                Counter::Schema,
                Error::new(
                    ErrorKind::Codec,
                    format!("the entry has schema version {stored}"),
                ),
            ),
            Refusal::Decode(error) => (Counter::Decode, error),
        };
        self.counters.count(counter);
        if self.strict {
            Err(self.tagged(error, "get", key))
        } else {
            Ok(None)
        }
    }

    /// Returns what is left of an entry's life, not counting what it may be served stale for.
    pub(super) fn time_left(&self, entry: &Entry) -> TimeLeft {
        match freshness::ends_at_ms(entry) {
            None => TimeLeft::Forever,
            Some(at) => match at.saturating_sub(self.clock.now_ms()) {
                0 => TimeLeft::Missing,
                left => TimeLeft::Remaining(Duration::from_millis(left)),
            },
        }
    }
}

/// A value that was read.
pub(super) struct Found<V> {
    pub(super) value: Arc<V>,
    /// Somebody wants it to be refreshed.
    pub(super) is_marked: bool,
    /// The life of its entry; `None`: it is a local copy.
    pub(super) life: Option<Life>,
    /// The entry itself; empty: it is a local copy.
    pub(super) entry: Bytes,
}

impl<V> Found<V> {
    fn fresh(value: Arc<V>) -> Self {
        Self {
            value,
            is_marked: false,
            life: None,
            entry: Bytes::new(),
        }
    }

    /// Returns whether it has outlived its TTL.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.life.is_some_and(|life| life.is_over(now_ms))
    }
}

/// Why an entry is not the asked value.
pub(super) enum Refusal {
    /// It has outlived its TTL.
    Over,
    Unreadable(Unreadable),
    Schema(u32),
    Decode(Error),
    WrongType(Error),
}

fn open_as<V: DeserializeOwned>(entry: &Entry, schema: u32) -> Result<(V, Life), Refusal> {
    let envelope = Envelope::open(&entry.value).map_err(Refusal::Unreadable)?;
    if envelope.header.schema != schema {
        return Err(Refusal::Schema(envelope.header.schema));
    }
    let value = envelope.decode().map_err(|error| match error.kind() {
        ErrorKind::WrongType => Refusal::WrongType(error),
        ErrorKind::Corrupted => Refusal::Unreadable(Unreadable::Damaged),
        _ => Refusal::Decode(error),
    })?;
    Ok((value, Life::of(&envelope.header, entry)))
}
