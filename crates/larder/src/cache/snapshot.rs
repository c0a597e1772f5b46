//! Snapshots: what a value is to depend on, captured by hand before it is computed by hand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::loading::Loading;
use super::put::Prepared;
use super::remember::LoadOptions;
use super::tags::Tags;
use super::{Cache, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRef};

/// How long a snapshot is good for.
const LEASE: Duration = Duration::from_secs(30);

/// What was true of a key and its tags before a value was computed; see [`Cache::snapshot`].
///
/// One that is dropped without a `set` lets others load again, in the background.
#[must_use = "a snapshot is for the `set` that follows"]
pub struct Snapshot {
    inner: Arc<Inner>,
    key: Key,
    loading: Loading,
    /// Whether its mark is gone.
    is_used: bool,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("key", &self.key)
            .field("may_store", &self.loading.may_store())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Captures what a value of this key is to depend on, for a [`Set::snapshot`](super::Set::snapshot) that follows.
    ///
    /// A `set` stores what it is given, however long ago that was read. With a snapshot, taken before the value is read
    /// from its source, it is stored only if nothing has overtaken it since: no write, delete or clear, and no invalidation
    /// of one of the tags, by whatever process. That is what [`Cache::remember`] does by itself; this is for values that
    /// several calls compute. A snapshot is good for 30 s, and for no `set` at all while another process loads the key.
    ///
    /// Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; `InvalidArgument`: a tag that is none; `InvalidConfig`: tags are switched off; `Unsupported`: the store
    /// has no tags, or there is none; the store's errors.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// let snapshot = cache.snapshot("page", ["users"]).await?;
    /// let page = String::from("<h1>Ann</h1>"); // read from the database
    /// cache.invalidate_tags(["users"]).await?; // meanwhile, elsewhere
    /// let refused = cache.set("page", &page).snapshot(snapshot).await.unwrap_err();
    /// assert_eq!(refused.kind(), larder::ErrorKind::Conflict);
    /// # Ok(()) }
    /// ```
    pub async fn snapshot(
        &self,
        key: impl Into<KeyRef<'_>>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Snapshot> {
        let (key, inner) = (key.into(), &self.inner);
        let options = LoadOptions {
            tags: Tags::new(tags),
            stampede: inner.stampede.lease_ttl(LEASE),
            ..LoadOptions::new(self)
        };
        let named = |error: Error| inner.tagged(error, "snapshot", key.as_bytes());
        options.tags.registers().map_err(named)?;
        if inner.capabilities.discards {
            return Err(named(Error::unsupported("snapshots without a store")));
        }
        let begun = inner.beginning(key.checked()?, &options).await;
        let (loading, _entry) = begun.map_err(named)?;
        Ok(Snapshot {
            inner: Arc::clone(inner),
            key: key.to_key()?,
            loading,
            is_used: false,
        })
    }
}

impl Inner {
    /// Stores an entry unless something has overtaken the snapshot.
    pub(super) async fn put_by_snapshot(
        self: &Arc<Self>,
        key: &[u8],
        prepared: Prepared,
        mut snapshot: Snapshot,
    ) -> Result<()> {
        let named = |error: Error| self.tagged(error, "set", key);
        let is_ours = Arc::ptr_eq(self, &snapshot.inner) && snapshot.key.as_bytes() == key;
        if !is_ours {
            let message = "the snapshot is of another key or cache";
            return Err(named(Error::argument(message)));
        }
        if prepared.is_tagged() {
            let message = "a snapshot has its tags already: give them to `snapshot` only";
            return Err(named(Error::argument(message)));
        }
        let stamped = prepared.stamped(snapshot.loading.stamps());
        let mut prepared = stamped.map_err(named)?;
        let is_over_mark = snapshot.loading.mark().is_some();
        if !is_over_mark {
            // What it depends on is looked at afterwards: until then nobody may keep a copy.
            prepared.local = None;
        }
        let is_stored = match snapshot.loading.condition() {
            None => false,
            Some(condition) => self.put(key, prepared, condition).await?,
        };
        snapshot.is_used = is_stored;
        // The mark had the stamps of the snapshot; an entry had its own.
        if is_stored
            && (is_over_mark
                || self
                    .are_current(key, snapshot.loading.stamps())
                    .await
                    .map_err(named)?)
        {
            return Ok(());
        }
        let message = "the key or one of its tags has changed since the snapshot, or another process loads it";
        Err(named(
            Error::new(ErrorKind::Conflict, message).retryable(false),
        ))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if let (Some(token), false) = (self.loading.mark(), self.is_used) {
            let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
            runtime.spawn(async move { inner.unmark(key.as_bytes(), token).await });
        }
    }
}
