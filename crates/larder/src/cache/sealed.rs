//! Entries as they are stored, for moving them between stores without a change.

use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Cache;
use super::freshness;
use super::put::Prepared;
use super::raw::{self, RawValue, Unopened};
use crate::envelope::{self, Envelope, Unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::ttl::{TimeLeft, Ttl};

/// An entry in its stored form; see [`Cache::get_sealed`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sealed {
    /// Header and body: versioned, checksummed, not to be taken apart.
    pub entry: Bytes,
    /// How long the entry will live.
    pub time_left: TimeLeft,
}

impl Sealed {
    /// Returns the body as bytes, as [`Cache::get_raw`] does.
    ///
    /// # Errors
    /// `WrongType`: a sorted set; `Corrupted`: the body does not decompress; `Unsupported`: a compression that is not
    /// built in.
    pub fn to_raw(&self) -> Result<RawValue> {
        raw::open(&self.entry, self.time_left).map_err(|unopened| match unopened {
            Unopened::Refused(error) => error,
            Unopened::Unreadable(why) => unreadable(why),
        })
    }
}

impl Cache {
    /// Returns an entry of any kind in its stored form, for [`Cache::set_sealed`].
    ///
    /// A damaged entry is `None`. Does not use the local tier and is not counted as a read. Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; the store's errors, also when not strict.
    pub async fn get_sealed(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<Sealed>> {
        let key = key.into();
        let key = key.checked()?;
        let entry = self.inner.fetch(key).await;
        let entry = entry.map_err(|error| self.inner.tagged(error, "get", key))?;
        let now_ms = self.inner.clock.now_ms();
        let intact = entry.filter(|entry| {
            Envelope::open(&entry.value).is_ok() && !freshness::is_over(entry, now_ms)
        });
        Ok(intact.map(|entry| Sealed {
            time_left: self.inner.time_left(&entry),
            entry: entry.value,
        }))
    }

    /// Stores what [`Cache::get_sealed`] returned, byte by byte. Await the builder; its options are
    /// [`SetSealed::ttl`] and [`SetSealed::if_absent`]. Awaits to whether it was stored. Cost: one round trip.
    ///
    /// The entry keeps its tags; what was invalidated before this call does not count.
    pub fn set_sealed<'a>(
        &'a self,
        key: impl Into<KeyRef<'a>>,
        entry: impl Into<Bytes>,
    ) -> SetSealed<'a> {
        SetSealed {
            cache: self,
            key: key.into(),
            entry: entry.into(),
            is_new: false,
            ttl: Ttl::Default,
        }
    }
}

/// A sealed entry about to be stored; see [`Cache::set_sealed`].
///
/// # Errors
/// `InvalidKey`; `Corrupted`: the bytes are no intact entry of a known layout; `InvalidArgument`: the TTL;
/// `Unsupported`: a cache without a store, or an entry with tags in one without them; the store's errors.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct SetSealed<'a> {
    cache: &'a Cache,
    key: KeyRef<'a>,
    entry: Bytes,
    /// Only if there is none.
    is_new: bool,
    ttl: Ttl,
}

impl SetSealed<'_> {
    /// How long the entry lives from now on; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
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
            return Err(Error::unsupported("sealed entries without a store"));
        }
        let ttl_ms = self.ttl.resolve(inner.default_ttl)?;
        verify(&self.entry).map_err(|error| inner.tagged(error, "set", key))?;
        let registers = envelope::registers(&self.entry).into();
        let prepared = Prepared {
            ttl_ms,
            grace_ms: envelope::grace_ms(&self.entry),
            local_ms: None,
            entry: self.entry,
            local: None,
            registers: Arc::default(),
        };
        let prepared = inner.depend(prepared, registers);
        let prepared = prepared.map_err(|error| inner.tagged(error, "set", key))?;
        inner.put_if(key, prepared, self.is_new).await
    }
}

impl<'a> IntoFuture for SetSealed<'a> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'a, Result<bool>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

fn verify(entry: &Bytes) -> Result<()> {
    Envelope::open(entry).map(drop).map_err(unreadable)
}

fn unreadable(why: Unreadable) -> Error {
    let message = match why {
        Unreadable::Damaged => "the sealed entry is damaged",
        Unreadable::UnknownLayout => "the bytes are no sealed entry of a known layout",
    };
    Error::new(ErrorKind::Corrupted, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::MemoryStore;

    fn cache() -> Cache {
        Cache::builder(MemoryStore::new()).build().unwrap()
    }

    #[tokio::test]
    async fn entries_of_every_kind_move_unchanged() {
        let (from, to) = (cache(), cache());
        from.set("typed", &vec![(1u8, "a".to_owned())])
            .ttl(Duration::from_secs(60))
            .await
            .unwrap();
        from.increment("counter", 41).await.unwrap();
        let members = [(1.5, "ann")];
        from.sorted_set("board").add(members).await.unwrap();
        for key in ["typed", "counter", "board"] {
            let Sealed { entry, time_left } = from.get_sealed(key).await.unwrap().unwrap();
            let ttl = match time_left {
                TimeLeft::Remaining(left) => Ttl::For(left),
                TimeLeft::Forever | TimeLeft::Missing => Ttl::Forever,
            };
            assert!(to.set_sealed(key, entry.clone()).ttl(ttl).await.unwrap());
            assert!(!to.set_sealed(key, entry).if_absent().await.unwrap());
        }
        let typed: Option<Vec<(u8, String)>> = to.get("typed").await.unwrap();
        assert_eq!(typed, Some(vec![(1, "a".to_owned())]));
        assert!(matches!(
            to.ttl("typed").await.unwrap(),
            TimeLeft::Remaining(left) if left <= Duration::from_secs(60)
        ));
        assert_eq!(to.increment("counter", 1).await.unwrap(), 42);
        let board = to.sorted_set("board");
        assert_eq!(board.top(1).await.unwrap(), [(1.5, Bytes::from("ann"))]);
        assert!(to.get_sealed("absent").await.unwrap().is_none());
        assert_eq!(from.stats().await.unwrap().process.hits(), 0);
    }

    #[tokio::test]
    async fn damaged_bytes_are_refused_and_change_nothing() {
        let cache = cache();
        cache.set("k", "value").await.unwrap();
        let sealed = cache.get_sealed("k").await.unwrap().unwrap();
        assert!(sealed.to_raw().unwrap().is_typed);
        let entry = sealed.entry;
        for at in [0, 4, 20, entry.len() - 1] {
            let mut bytes = entry.to_vec();
            bytes[at] ^= 1;
            let refused = cache.set_sealed("k", bytes).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupted);
        }
        let cut = entry.slice(..entry.len() - 1);
        assert!(cache.set_sealed("k", cut).await.is_err());
        assert!(cache.set_sealed("k", Bytes::new()).await.is_err());
        let kept: Option<String> = cache.get("k").await.unwrap();
        assert_eq!(kept.as_deref(), Some("value"));
    }
}
