//! Sorted sets: members with scores, in order of score.

use std::future::IntoFuture;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::store::{Expiry, SortedSetOp, SortedSetReply};
use crate::ttl::Ttl;

/// A sorted set under a key; see [`Cache::sorted_set`].
#[derive(Debug)]
pub struct SortedSet<'a> {
    cache: &'a Cache,
    key: KeyRef<'a>,
}

impl Cache {
    /// Returns the sorted set under a key; makes no call.
    ///
    /// Members are bytes, each once; scores are any number but NaN; equal scores order by member. Every
    /// operation is atomic. Where `capabilities().native_sorted_sets` is false, an operation costs O(members) and the whole set must
    /// fit an entry. An emptied set is absent.
    ///
    /// ```
    /// # use larder::{Cache, MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = Cache::builder(MemoryStore::new()).build()?;
    /// let board = cache.sorted_set("board");
    /// board.add([(100.0, "ann"), (95.0, "bob")]).await?;
    /// assert_eq!(board.top(1).await?, [(100.0, "ann".into())]);
    /// # Ok(()) }
    /// ```
    pub fn sorted_set<'a>(&'a self, key: impl Into<KeyRef<'a>>) -> SortedSet<'a> {
        SortedSet {
            cache: self,
            key: key.into(),
        }
    }
}

impl<'a> SortedSet<'a> {
    /// Adds members or changes their scores; awaits to how many are new.
    pub fn add<M: Into<Bytes>>(
        &self,
        members: impl IntoIterator<Item = (f64, M)>,
    ) -> AddMembers<'a> {
        let members = members
            .into_iter()
            .map(|(score, member)| (score, member.into()))
            .collect();
        AddMembers {
            cache: self.cache,
            key: self.key.clone(),
            members,
            ttl: Ttl::Default,
        }
    }

    /// Returns members by rank, lowest score first, from `start` to `stop`, both included; a negative rank counts
    /// from the highest: `range(0, -1)` is all of them.
    ///
    /// # Errors
    /// `WrongType`, `Unsupported`, `InvalidKey`, the store's errors.
    pub async fn range(&self, start: i64, stop: i64) -> Result<Vec<(f64, Bytes)>> {
        self.members(SortedSetOp::Range {
            start,
            stop,
            descending: false,
        })
        .await
    }

    /// Returns the `count` members with the highest scores, highest first.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn top(&self, count: u32) -> Result<Vec<(f64, Bytes)>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        self.members(SortedSetOp::Range {
            start: 0,
            stop: i64::from(count) - 1,
            descending: true,
        })
        .await
    }

    /// Returns the members with scores from `min` to `max`, both included, lowest first.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn range_by_score(&self, min: f64, max: f64) -> Result<Vec<(f64, Bytes)>> {
        self.members(SortedSetOp::RangeByScore { min, max }).await
    }

    /// Returns a member's score.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn score(&self, member: impl Into<Bytes>) -> Result<Option<f64>> {
        let found = self.members(SortedSetOp::Score(member.into())).await?;
        Ok(found.first().map(|(score, _)| *score))
    }

    /// Returns the number of members.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn len(&self) -> Result<u64> {
        self.count(SortedSetOp::Len).await
    }

    /// Returns whether there are no members, that is, no entry.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Removes members; returns how many there were.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn remove<M: Into<Bytes>>(
        &self,
        members: impl IntoIterator<Item = M>,
    ) -> Result<u64> {
        let members = members.into_iter().map(Into::into).collect();
        self.count(SortedSetOp::Remove(members)).await
    }

    /// Removes the members with scores from `min` to `max`, both included; returns how many there were.
    ///
    /// # Errors
    /// As [`SortedSet::range`].
    pub async fn remove_by_score(&self, min: f64, max: f64) -> Result<u64> {
        self.count(SortedSetOp::RemoveByScore { min, max }).await
    }

    async fn members(&self, op: SortedSetOp) -> Result<Vec<(f64, Bytes)>> {
        match run(self.cache, &self.key, &op).await? {
            SortedSetReply::Members(members) => Ok(members),
            SortedSetReply::Count(_) => Err(unexpected_reply()),
        }
    }

    async fn count(&self, op: SortedSetOp) -> Result<u64> {
        match run(self.cache, &self.key, &op).await? {
            SortedSetReply::Count(count) => Ok(count),
            SortedSetReply::Members(_) => Err(unexpected_reply()),
        }
    }
}

/// Members about to be added; see [`SortedSet::add`].
#[derive(Debug)]
#[must_use = "an addition does nothing until it is awaited"]
pub struct AddMembers<'a> {
    cache: &'a Cache,
    key: KeyRef<'a>,
    members: Vec<(f64, Bytes)>,
    ttl: Ttl,
}

impl AddMembers<'_> {
    /// How long a set lives that this call creates; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }
}

impl<'a> IntoFuture for AddMembers<'a> {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'a, Result<u64>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let ttl_ms = self.ttl.resolve(self.cache.inner.default_ttl)?;
            let op = SortedSetOp::Add {
                members: self.members,
                expiry: Expiry::from_ttl_ms(ttl_ms),
            };
            match run(self.cache, &self.key, &op).await? {
                SortedSetReply::Count(added) => Ok(added),
                SortedSetReply::Members(_) => Err(unexpected_reply()),
            }
        })
    }
}

async fn run(cache: &Cache, key: &KeyRef<'_>, op: &SortedSetOp) -> Result<SortedSetReply> {
    let inner = &cache.inner;
    let key = key.checked()?;
    inner.flusher.ensure(inner);
    // A load that began before must not be stored over the set, nor a copy of what the key held before stay.
    let change = if op.is_change() {
        Some(inner.change(key).await)
    } else {
        None
    };
    let reply = inner.store.sorted_set(&inner.namespace, key, op).await;
    let reply = reply.map_err(|error| inner.tagged(error, "sorted_set", key))?;
    if let Some(change) = change {
        change.finish(None);
    }
    Ok(reply)
}

fn unexpected_reply() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a sorted set answered another operation",
    )
}
