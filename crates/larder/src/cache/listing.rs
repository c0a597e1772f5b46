//! Listing, counting and removing many keys.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};

use super::{Cache, Inner};
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::key::Key;
use crate::store::{Invalidation, ScanPage, ScannedKey};

/// Keys asked for in one round trip.
const PAGE_KEYS: usize = 500;

/// A stream of keys, read page by page; see [`Cache::keys`].
#[must_use = "streams do nothing unless polled"]
pub struct KeyStream(BoxStream<'static, Result<ScannedKey>>);

impl KeyStream {
    /// Returns the next key.
    ///
    /// # Errors
    /// The store's; the stream ends after one.
    pub async fn next(&mut self) -> Result<Option<Key>> {
        Ok(self.0.try_next().await?.map(|scanned| scanned.key))
    }

    /// Returns the next key with its size and expiry.
    ///
    /// # Errors
    /// As [`KeyStream::next`].
    pub async fn next_scanned(&mut self) -> Result<Option<ScannedKey>> {
        self.0.try_next().await
    }

    /// Returns all keys that are left.
    ///
    /// # Errors
    /// As [`KeyStream::next`].
    pub async fn collect_all(mut self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        while let Some(key) = self.next().await? {
            keys.push(key);
        }
        Ok(keys)
    }
}

impl Stream for KeyStream {
    type Item = Result<Key>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.poll_next_unpin(context);
        next.map(|item| item.map(|result| result.map(|scanned| scanned.key)))
    }
}

impl std::fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyStream")
    }
}

impl Cache {
    /// Lists the keys that match a [`Glob`], without the prefix, in the store's own order.
    ///
    /// A key that is there throughout is listed; keys that come and go meanwhile may be or not. Cost: one round trip
    /// per 500 keys; the store walks at most the keys with the pattern's literal prefix, in memory those of a shard per
    /// page.
    ///
    /// The stream yields `InvalidArgument` for a bad pattern, `Unsupported`, and the store's errors.
    pub fn keys(&self, pattern: impl AsRef<[u8]>) -> KeyStream {
        let inner = Arc::clone(&self.inner);
        match Glob::new(pattern) {
            Ok(pattern) => KeyStream(inner.scan_all(pattern).boxed()),
            Err(error) => KeyStream(stream::once(async { Err(error) }).boxed()),
        }
    }

    /// Returns one page of a listing: at most `limit` keys, and where the next page starts, `None` after the last.
    ///
    /// # Errors
    /// `InvalidArgument`: a bad pattern, a limit of zero, a foreign cursor; `Unsupported`; the store's errors.
    pub async fn keys_page(
        &self,
        pattern: impl AsRef<[u8]>,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<ScannedKey>, Option<Bytes>)> {
        let pattern = Glob::new(pattern)?;
        if limit == 0 {
            return Err(Error::argument("a page needs a limit of at least 1"));
        }
        let page = self.inner.page(&pattern, cursor.as_ref(), limit).await?;
        Ok((page.keys, page.next))
    }

    /// Counts the live keys that match. Cost: the store walks at most the keys with the pattern's literal prefix, in
    /// memory all.
    ///
    /// # Errors
    /// `InvalidArgument`: a bad pattern; `Unsupported`; the store's errors.
    pub async fn count(&self, pattern: impl AsRef<[u8]>) -> Result<u64> {
        let pattern = Glob::new(pattern)?;
        let inner = &self.inner;
        if inner.is_local_only() {
            return Ok(inner.local_keys(&pattern).len() as u64);
        }
        let count = inner.store.count(&inner.namespace, &pattern).await;
        count.map_err(|error| error.store(inner.store.name()).operation("count"))
    }

    /// Removes the entries whose keys match; returns how many were removed.
    ///
    /// Loads of this process that began before are not stored. Entries that are written meanwhile may stay. Local copies of
    /// other processes are dropped, all of them. Cost: two round trips per 500 keys, one per 500 matching keys that have local
    /// copies or are being read or loaded, and one more where the store tells of changes.
    ///
    /// # Errors
    /// As [`Cache::count`]; some entries may have been removed.
    pub async fn delete_matching(&self, pattern: impl AsRef<[u8]>) -> Result<u64> {
        let pattern = Glob::new(pattern)?;
        let mut cursor = None;
        // First, so that no load under way is stored behind the listing's back.
        let mut deleted = self.delete_unlisted(&pattern).await?;
        loop {
            let page = self
                .inner
                .page(&pattern, cursor.as_ref(), PAGE_KEYS)
                .await?;
            deleted += self
                .delete_many(page.keys.iter().map(|scanned| &scanned.key))
                .await?;
            cursor = page.next;
            if cursor.is_none() {
                self.inner.note_pattern(Invalidation::Hard).await?;
                // A read under way may have copied an entry that the store dropped before it was listed.
                return Ok(deleted + self.delete_unlisted(&pattern).await?);
            }
        }
    }

    /// Removes what matches and a listing of the store may lack: local copies, and what is being read or loaded.
    async fn delete_unlisted(&self, pattern: &Glob) -> Result<u64> {
        let inner = &self.inner;
        let matches = |key: &[u8]| pattern.matches(key);
        let mut keys = inner.inflight.keys(matches);
        keys.extend(inner.flights.keys(matches));
        if let Some(tier) = &inner.local {
            let copies = tier.keys(inner.clock.monotonic_ms());
            keys.extend(copies.into_iter().filter(|key| matches(key)));
        }
        keys.sort_unstable();
        keys.dedup();
        let mut deleted = 0;
        for some in keys.chunks(PAGE_KEYS) {
            deleted += self.delete_many(some.iter().map(|key| &**key)).await?;
        }
        Ok(deleted)
    }

    /// Makes every entry of this cache absent: values, counters and sorted sets, in the store and in the local tier.
    ///
    /// Other caches on the same store keep theirs. Cost: one round trip, O(1); the space is reclaimed in the background.
    ///
    /// # Errors
    /// The store's; then entries may remain in it, the local tier is empty all the same.
    pub async fn clear(&self) -> Result<()> {
        Box::pin(self.inner.clear()).await
    }
}

impl Inner {
    fn scan_all(self: Arc<Self>, pattern: Glob) -> impl Stream<Item = Result<ScannedKey>> + Send {
        let start = Some(None::<Bytes>);
        let pages = stream::try_unfold(
            (self, pattern, start),
            |(inner, pattern, cursor)| async move {
                let Some(cursor) = cursor else {
                    return Ok(None);
                };
                let page = inner.page(&pattern, cursor.as_ref(), PAGE_KEYS).await?;
                Ok(Some((page.keys, (inner, pattern, page.next.map(Some)))))
            },
        );
        pages
            .map_ok(|keys| stream::iter(keys.into_iter().map(Ok)))
            .try_flatten()
    }

    /// Reads one page of a listing.
    pub(super) async fn page(
        &self,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        if self.is_local_only() {
            return Ok(self.local_page(pattern, cursor, limit));
        }
        let page = self
            .store
            .scan(&self.namespace, pattern, cursor, limit)
            .await;
        page.map_err(|error| error.store(self.store.name()).operation("keys"))
    }

    /// Reads one page of a tier without a store; the cursor is the last key of the page before.
    fn local_page(&self, pattern: &Glob, cursor: Option<&Bytes>, limit: usize) -> ScanPage {
        let mut keys = self.local_keys(pattern);
        keys.retain(|scanned| cursor.is_none_or(|last| scanned.key.as_bytes() > &last[..]));
        keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let is_last = keys.len() <= limit;
        keys.truncate(limit);
        let last = keys.last().filter(|_| !is_last);
        let next = last.map(|scanned| Bytes::copy_from_slice(scanned.key.as_bytes()));
        ScanPage { keys, next }
    }

    /// Lists a tier without a store; sizes and expiry are not known.
    fn local_keys(&self, pattern: &Glob) -> Vec<ScannedKey> {
        let Some(tier) = &self.local else {
            return Vec::new();
        };
        let keys = tier.keys(self.clock.monotonic_ms()).into_iter();
        keys.filter(|key| pattern.matches(key))
            .map(|key| ScannedKey {
                key: Key::from(key.into_vec()),
                bytes: 0,
                expires_at_ms: None,
            })
            .collect()
    }

    async fn clear(self: &Arc<Self>) -> Result<()> {
        let change = self.change_all().await;
        let cleared = self.store.clear(&self.namespace).await;
        drop(change);
        cleared.map_err(|error| error.store(self.store.name()).operation("clear"))
    }
}
