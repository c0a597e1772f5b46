//! Entries as bytes: for the program, the HTTP API and whoever stores files.

use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::freshness;
use super::put::Prepared;
use super::stats::Counter;
use super::tags::{self, Tags};
use super::write::WriteOptions;
use super::{Cache, Inner};
use crate::codec::{Codec, Encoding, to_json};
use crate::envelope::{self, Envelope, Header, Kind, Unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::store::{Entry, Read};
use crate::ttl::{TimeLeft, Ttl};

/// The content type that a value has that is written without one and is not text.
const BINARY: &str = "application/octet-stream";
/// The content type of text.
const TEXT: &str = "text/plain; charset=utf-8";

/// An entry's body as bytes; see [`Cache::get_raw`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RawValue {
    /// The body, decompressed: as stored when raw, as encoded by the codec when typed.
    pub body: Bytes,
    /// The content type of `body`: as stored when raw, the codec's when typed.
    pub content_type: String,
    /// Whether an application stored this as a typed value.
    pub is_typed: bool,
    /// How long the entry will live.
    pub time_left: TimeLeft,
    /// The tags of the entry, in no order.
    pub tags: Vec<String>,
    encoding: Encoding,
}

impl RawValue {
    /// Returns a typed value as JSON.
    ///
    /// # Errors
    /// `Unsupported`: a raw value, or one in postcard, which does not describe itself. `Codec`: damaged bytes.
    pub fn to_json(&self) -> Result<Bytes> {
        match self.encoding {
            Encoding::Codec(codec) => to_json(codec, &self.body).map(Bytes::from),
            Encoding::Raw => Err(Error::unsupported("a raw value has no JSON form")),
        }
    }
}

/// What the header of an entry says; see [`Cache::inspect`].
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// `value` or `sorted set`.
    pub kind: &'static str,
    /// `raw`, `messagepack`, `json` or `postcard`.
    pub encoding: &'static str,
    /// `none`, `lz4`, `zstd` or `gzip`.
    pub compression: &'static str,
    /// The content type of a raw value, else empty.
    pub content_type: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// How long it has lived, in milliseconds.
    pub age_ms: u64,
    /// The TTL it was written with, in milliseconds; `None` for unlimited.
    pub ttl_ms: Option<u64>,
    /// What is left of its life in milliseconds; `None` for unlimited.
    pub left_ms: Option<u64>,
    /// How long it may be served stale after that, in milliseconds; `None`: not at all.
    pub stale_for_ms: Option<u64>,
    /// How long its load took, in milliseconds; 0: no time, or it was not loaded.
    pub load_ms: u32,
    /// The schema version.
    pub schema: u32,
    /// The tags, in no order.
    pub tags: Vec<String>,
    /// The size in the store, header included, in bytes.
    pub stored_bytes: u64,
    /// The size of the decompressed body in bytes.
    pub plain_bytes: u64,
    /// Why it cannot be read, where it cannot.
    pub damage: Option<&'static str>,
}

impl Cache {
    /// Returns an entry's body as bytes, of whatever type it is. Does not use the local tier. Cost: one round trip.
    ///
    /// Unlike [`Cache::get`] it does not take a dead store for a miss: whoever asks for bytes has no loader to fall
    /// back on. A damaged entry is a miss. Counted as a read.
    ///
    /// # Errors
    /// `InvalidKey`; `WrongType`: a sorted set; the store's errors.
    pub async fn get_raw(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<RawValue>> {
        let key = key.into();
        let (key, inner) = (key.checked()?, &self.inner);
        inner.flusher.ensure(inner);
        match inner.look_up(key).await {
            Ok(read) => inner.raw_value(key, read),
            Err(error) => {
                inner.counters.count(Counter::ReadError);
                Err(inner.tagged(error, "get", key))
            }
        }
    }

    /// Returns one raw value per key, same order; sorted sets and damaged entries are `None`. Counted as reads.
    /// Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; the store's errors.
    pub async fn get_many_raw(
        &self,
        keys: impl IntoIterator<Item = impl Into<KeyRef<'_>>>,
    ) -> Result<Vec<Option<RawValue>>> {
        let keys = keys
            .into_iter()
            .map(|key| key.into().to_key())
            .collect::<Result<Vec<_>>>()?;
        let asked: Vec<&[u8]> = keys.iter().map(crate::key::Key::as_bytes).collect();
        let inner = &self.inner;
        inner.flusher.ensure(inner);
        let reads = inner.store.read_many(&inner.namespace, &asked).await;
        let reads = reads.map_err(|error| {
            inner.counters.add(Counter::ReadError, asked.len() as u64);
            error.store(inner.store.name()).operation("get_many")
        })?;
        let raw = |(key, read): (&&[u8], Read)| inner.raw_value(key, read).ok().flatten();
        Ok(asked.iter().zip(reads).map(raw).collect())
    }

    /// Stores bytes as they are. Await the builder; its options are [`SetRaw::ttl`], [`SetRaw::content_type`],
    /// [`SetRaw::if_absent`], [`SetRaw::tags`]. Awaits to whether it was stored. Cost: one round trip. A cache that is a local tier only
    /// holds typed values and refuses this (`Unsupported`).
    pub fn set_raw<'a>(&'a self, key: impl Into<KeyRef<'a>>, body: impl Into<Bytes>) -> SetRaw<'a> {
        SetRaw {
            cache: self,
            key: key.into(),
            body: body.into(),
            content_type: None,
            is_new: false,
            tags: Tags::default(),
            ttl: Ttl::Default,
        }
    }

    /// Returns what the header of an entry says, also of a damaged one. Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; the store's errors.
    pub async fn inspect(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<Inspection>> {
        let key = key.into();
        let entry = self.inner.fetch(key.checked()?).await?;
        Ok(entry.map(|entry| inspect(&entry, self.inner.clock.now_ms())))
    }
}

/// Bytes about to be stored; see [`Cache::set_raw`].
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct SetRaw<'a> {
    cache: &'a Cache,
    key: KeyRef<'a>,
    body: Bytes,
    content_type: Option<String>,
    /// Only if there is none.
    is_new: bool,
    tags: Tags,
    ttl: Ttl,
}

impl SetRaw<'_> {
    /// What the entry depends on; see [`Set::tags`](super::Set::tags).
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.tags = Tags::new(tags);
        self
    }

    /// How long the entry lives; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// The media type of the bytes, up to 255 bytes; default text when they are UTF-8, else binary.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Stores only if there is no entry, or none that can be read.
    pub fn if_absent(mut self) -> Self {
        self.is_new = true;
        self
    }

    async fn run(self) -> Result<bool> {
        let inner = &self.cache.inner;
        let key = self.key.checked()?;
        if inner.is_local_only() {
            return Err(Error::unsupported("raw values in a cache without a store"));
        }
        let options = WriteOptions {
            ttl: self.ttl,
            ..WriteOptions::new(self.cache)
        };
        let ttl_ms = options.ttl_ms(inner.default_ttl)?;
        let is_text = std::str::from_utf8(&self.body).is_ok();
        let default = if is_text { TEXT } else { BINARY };
        let mut header = Header::new(Encoding::Raw, inner.clock.now_ms(), ttl_ms);
        header.content_type = self.content_type.unwrap_or_else(|| default.to_owned());
        header.schema = options.schema;
        let prepared = inner.pack(header, &self.body).and_then(|entry| {
            let prepared = Prepared {
                ttl_ms,
                entry,
                grace_ms: 0,
                local_ms: None,
                local: None,
                registers: Arc::default(),
            };
            inner.tag(prepared, &self.tags)
        });
        let prepared = prepared.map_err(|error| inner.tagged(error, "set", key))?;
        inner.put_if(key, prepared, self.is_new).await
    }
}

impl<'a> IntoFuture for SetRaw<'a> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'a, Result<bool>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl Inner {
    /// Turns what the store returned into bytes, and counts the read.
    fn raw_value(&self, key: &[u8], read: Read) -> Result<Option<RawValue>> {
        let Some(entry) = self.found_fresh(read) else {
            return Ok(None);
        };
        let (counter, value) = match open(&entry.value, self.time_left(&entry)) {
            Ok(value) => (Counter::StoreHit, Ok(Some(value))),
            Err(Unopened::Unreadable(Unreadable::UnknownLayout)) => {
                (Counter::UnknownLayout, Ok(None))
            }
            Err(Unopened::Unreadable(Unreadable::Damaged)) => (Counter::Damaged, Ok(None)),
            Err(Unopened::Refused(error)) => (Counter::Decode, Err(self.tagged(error, "get", key))),
        };
        self.counters.count(counter);
        value
    }
}

/// Returns the body of a stored entry as bytes.
pub(super) fn open(entry: &Bytes, time_left: TimeLeft) -> Result<RawValue, Unopened> {
    let envelope = Envelope::open(entry).map_err(Unopened::Unreadable)?;
    if envelope.header.kind != Kind::Value {
        return Err(Unopened::Refused(envelope::wrong_type()));
    }
    let body = envelope.plain_body().map_err(|error| match error.kind() {
        ErrorKind::Unsupported => Unopened::Refused(error),
        _ => Unopened::Unreadable(Unreadable::Damaged),
    })?;
    let encoding = envelope.header.encoding;
    let tags = tags::carried(&envelope.header.stamps);
    let content_type = match encoding {
        Encoding::Raw => envelope.header.content_type,
        Encoding::Codec(Codec::Json) => "application/json".to_owned(),
        Encoding::Codec(Codec::MessagePack) => "application/vnd.msgpack".to_owned(),
        Encoding::Codec(_) => BINARY.to_owned(),
    };
    Ok(RawValue {
        body,
        content_type,
        is_typed: encoding != Encoding::Raw,
        time_left,
        tags,
        encoding,
    })
}

/// Why an entry has no bytes to give.
pub(super) enum Unopened {
    Unreadable(Unreadable),
    Refused(Error),
}

/// Returns what the header of an entry says.
pub(super) fn inspect(entry: &Entry, now_ms: u64) -> Inspection {
    let opened = Envelope::open(&entry.value);
    let damage = match &opened {
        Ok(_) => None,
        Err(Unreadable::Damaged) => Some("damaged"),
        Err(Unreadable::UnknownLayout) => Some("unknown layout"),
    };
    let plain_bytes = opened
        .as_ref()
        .map_or(0, |envelope| envelope.plain_len() as u64);
    let header = opened.map_or_else(
        |_| Header::new(Encoding::Raw, 0, None),
        |envelope| envelope.header,
    );
    Inspection {
        kind: match header.kind {
            Kind::Value => "value",
            Kind::SortedSet => "sorted set",
            Kind::Load => "load under way",
        },
        encoding: header.encoding.name(),
        compression: header.compression.name(),
        created_ms: header.created_ms,
        age_ms: now_ms.saturating_sub(header.created_ms),
        ttl_ms: header.ttl_ms(),
        left_ms: freshness::ends_at_ms(entry).map(|at| at.saturating_sub(now_ms)),
        stale_for_ms: Some(header.grace_ms()).filter(|grace_ms| *grace_ms > 0),
        load_ms: header.cost_ms,
        schema: header.schema,
        tags: tags::carried(&header.stamps),
        content_type: header.content_type,
        stored_bytes: entry.value.len() as u64,
        plain_bytes,
        damage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[tokio::test]
    async fn raw_reads_are_counted() -> Result<()> {
        let cache = Cache::builder(Memory::new()).build()?;
        cache.set_raw("k", "v").await?;
        cache.sorted_set("s").add([(1.0, "m")]).await?;
        assert!(cache.get_raw("k").await?.is_some());
        assert!(cache.get_raw("absent").await?.is_none());
        let error = cache.get_raw("s").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        let many = cache.get_many_raw(["k", "absent", "s"]).await?;
        assert_eq!(many.iter().flatten().count(), 1);

        let counts = cache.stats().await?.process;
        assert_eq!(counts.hits(), 2);
        assert_eq!((counts.misses.absent, counts.misses.decode), (2, 2));
        Ok(())
    }
}
