//! Counters: integers that are added to atomically.

use std::future::IntoFuture;

use futures_util::future::BoxFuture;

use super::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::store::Expiry;
use crate::ttl::Ttl;

impl Cache {
    /// Adds to a counter and awaits to its new value; an absent one starts at 0.
    ///
    /// Exact and atomic between all users of the store, also on what `set` wrote as an integer. The TTL of a
    /// counter that is there is kept. Cost: one round trip.
    pub fn increment<'a>(&'a self, key: impl Into<KeyRef<'a>>, by: i64) -> Increment<'a> {
        Increment {
            cache: self,
            key: key.into(),
            by: Some(by),
            ttl: Ttl::Default,
        }
    }

    /// Subtracts from a counter; otherwise as [`Cache::increment`].
    pub fn decrement<'a>(&'a self, key: impl Into<KeyRef<'a>>, by: i64) -> Increment<'a> {
        Increment {
            cache: self,
            key: key.into(),
            by: by.checked_neg(),
            ttl: Ttl::Default,
        }
    }
}

/// An addition about to be made; see [`Cache::increment`].
///
/// # Errors
/// `InvalidKey`; `WrongType`: the entry is no integer; `Overflow`: the sum would leave `i64`, nothing is changed;
/// `Unsupported`: a cache without a store; the store's errors, after which the addition may have been made.
#[derive(Debug)]
#[must_use = "an addition does nothing until it is awaited"]
pub struct Increment<'a> {
    cache: &'a Cache,
    key: KeyRef<'a>,
    by: Option<i64>,
    ttl: Ttl,
}

impl Increment<'_> {
    /// How long a counter lives that this call creates; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    async fn run(self) -> Result<i64> {
        let inner = &self.cache.inner;
        let key = self.key.checked()?;
        if !inner.capabilities.counters {
            return Err(Error::unsupported("counters").store(inner.store.name()));
        }
        let by = self
            .by
            .ok_or_else(|| Error::new(ErrorKind::Overflow, "the amount is out of range"))?;
        let ttl_ms = self.ttl.resolve(inner.default_ttl)?;
        inner.flusher.ensure(inner);
        let change = inner.change(key).await;
        let sum = inner
            .store
            .increment(&inner.namespace, key, by, Expiry::from_ttl_ms(ttl_ms))
            .await
            .map_err(|error| inner.tagged(error, "increment", key))?;
        change.finish(None);
        Ok(sum)
    }
}

impl<'a> IntoFuture for Increment<'a> {
    type Output = Result<i64>;
    type IntoFuture = BoxFuture<'a, Result<i64>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
