//! A view of a cache that tags whatever is written through it, and what is known of tags.

use std::future::Future;

use serde::de::DeserializeOwned;

use super::loader::LoadContext;
use super::remember::Remember;
use super::tags;
use super::write::{Add, Set};
use super::{Cache, InvalidateTags};
use crate::envelope::{self, Envelope};
use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, KeyRef};
use crate::store::{Condition, Expiry, MAX_CAS_ATTEMPTS, Register, Write, conflict};
use crate::tag::{self, Selector};

/// A view of a cache with some tags; see [`Cache::tagged`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tagged {
    cache: Cache,
    tags: Vec<String>,
}

impl Cache {
    /// Returns a view that adds these tags to whatever is written through it. The keys are the cache's own: what is
    /// written with the view can be read without it, and the other way round.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// let users = cache.tagged(["users", "frontend"]);
    /// users.set("user:1", "Ann").await?;
    /// assert!(cache.has("user:1").await?);
    /// users.flush().await?;
    /// assert!(!cache.has("user:1").await?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn tagged(&self, tags: impl IntoIterator<Item = impl Into<String>>) -> Tagged {
        Tagged {
            cache: self.clone(),
            tags: tags.into_iter().map(Into::into).collect(),
        }
    }

    /// Makes a live entry depend on more tags; returns whether there is one. An invalidation of a new tag that begins
    /// after this has returned reaches it. Cost: three round trips, and more while others write the key.
    ///
    /// # Errors
    /// `InvalidKey`; `InvalidArgument`: a tag that is none, or more than an entry takes; `Conflict`: others always came
    /// first; the store's errors.
    pub async fn add_tags(
        &self,
        key: impl Into<KeyRef<'_>>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<bool> {
        let (key, inner) = (key.into(), &self.inner);
        let key = key.checked()?;
        let registers = tag::registers(tags)?;
        let usable = inner.needs_tags();
        usable.map_err(|error| inner.tagged(error, "add_tags", key))?;
        for _ in 0..MAX_CAS_ATTEMPTS {
            let Some(entry) = inner.fetch(key).await? else {
                return Ok(false);
            };
            // What it carries stays: it may be stale.
            let is_new = |name: &&Register| !envelope::carries(&entry.value, name);
            let new: Vec<_> = registers.iter().filter(is_new).cloned().collect();
            if new.is_empty() {
                return Ok(true);
            }
            let added = inner.store.capture(&inner.namespace, key, &new).await;
            let added = added.map_err(|error| inner.tagged(error, "add_tags", key))?;
            let write_id = envelope::write_id(&entry.value);
            let tagged = envelope::alter(&entry.value, |header| {
                header.stamps.extend(added);
                // A change as any other: of two that happen at once, the second is to find out.
                header.write_id = tag::nonce();
            })?;
            let put = Write::put(key, tagged, Expiry::Keep);
            let put = put.when(Condition::IfUnchanged(write_id));
            let change = inner.change(key).await;
            if inner.store.write_many(&inner.namespace, &[put]).await? == [true] {
                change.finish(None);
                return Ok(true);
            }
        }
        Err(conflict(inner.store.name(), key))
    }

    /// Returns the tags of an entry, in no order; `None`: there is no entry. Cost: one round trip.
    ///
    /// # Errors
    /// `InvalidKey`; the store's errors.
    pub async fn key_tags(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<Vec<String>>> {
        let key = key.into();
        let entry = self.inner.fetch(key.checked()?).await?;
        let opened = entry.and_then(|entry| Envelope::open(&entry.value).ok());
        Ok(opened.map(|envelope| tags::carried(&envelope.header.stamps)))
    }

    /// Returns up to `limit` keys of valid entries with this tag, with one below `user:123:*`, or with one that matches
    /// another pattern, in the store's own order. Cost: the store looks at all its entries; for people, not for programs.
    ///
    /// # Errors
    /// `InvalidArgument`: it is no tag; `Unsupported`: the store cannot list; the store's errors.
    pub async fn tag_keys(&self, tag: &str, limit: usize) -> Result<Vec<Key>> {
        let selector = Selector::parse(tag)?;
        self.inner.keys_of(&selector, limit).await
    }

    /// Returns the tags that entries may carry, sorted: all that do, and some that only former ones did. Cost: as
    /// [`Cache::tag_keys`].
    ///
    /// # Errors
    /// `Unsupported`: the store cannot list; the store's errors.
    pub async fn tag_names(&self) -> Result<Vec<String>> {
        let inner = &self.inner;
        let pattern = Glob::new(b"=*")?;
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = inner.registers_page(&pattern, cursor.as_ref()).await?;
            let tags = page.registers.iter();
            names.extend(tags.map(|name| String::from_utf8_lossy(&name.path()).into_owned()));
            cursor = page.next;
            if cursor.is_none() {
                names.sort_unstable();
                names.dedup();
                return Ok(names);
            }
        }
    }
}

impl Tagged {
    /// As [`Cache::get`]: tags play no part in reading.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn get<V>(&self, key: impl Into<KeyRef<'_>>) -> Result<Option<V>>
    where
        V: Clone + DeserializeOwned + Send + Sync + 'static,
    {
        self.cache.get(key).await
    }

    /// As [`Cache::has`].
    ///
    /// # Errors
    /// As [`Cache::has`].
    pub async fn has(&self, key: impl Into<KeyRef<'_>>) -> Result<bool> {
        self.cache.has(key).await
    }

    /// As [`Cache::set`], with the tags of the view.
    pub fn set<'a, V: ?Sized>(&'a self, key: impl Into<KeyRef<'a>>, value: &'a V) -> Set<'a, V> {
        self.cache.set(key, value).tags(&self.tags)
    }

    /// As [`Cache::add`], with the tags of the view.
    pub fn add<'a, V: ?Sized>(&'a self, key: impl Into<KeyRef<'a>>, value: &'a V) -> Add<'a, V> {
        self.cache.add(key, value).tags(&self.tags)
    }

    /// As [`Cache::delete`].
    ///
    /// # Errors
    /// As [`Cache::delete`].
    pub async fn delete(&self, key: impl Into<KeyRef<'_>>) -> Result<bool> {
        self.cache.delete(key).await
    }

    /// As [`Cache::remember`], with the tags of the view.
    pub fn remember<'a, F, Fut>(
        &'a self,
        key: impl Into<KeyRef<'a>>,
        loader: F,
    ) -> Remember<'a, impl FnOnce(LoadContext) -> Fut + Send + 'static>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future,
    {
        self.cache.remember(key, loader).tags(&self.tags)
    }

    /// Invalidates whatever carries any of the tags, as [`Cache::invalidate_tags`] does.
    pub fn flush(&self) -> InvalidateTags<'_> {
        self.cache.invalidate_tags(&self.tags)
    }
}
