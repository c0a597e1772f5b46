//! Invalidating by tags.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{Cache, Causal, Inner, TagChange};
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::Key;
use crate::store::{Invalidation, Register, RegisterPage};
use crate::tag::Selector;

/// Keys or registers asked for in one round trip.
const PAGE: usize = 500;
/// How often tags are listed anew because servers have changed meanwhile.
const MAX_LISTINGS: usize = 5;

/// What an invalidation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Invalidated {
    /// One for each tag or subtree, in the order given.
    pub tags: Vec<InvalidatedTag>,
    /// How many parts of the store have acknowledged it: all.
    pub parts: usize,
    /// For [`Cache::at_least`] in another process, so that its reads pass over local copies that are older than this.
    pub causal: Causal,
}

/// What became of one tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InvalidatedTag {
    /// The tag, or the subtree as it was given.
    pub tag: String,
    /// Whether anything may have depended on it.
    pub existed: bool,
    /// The keys that depended on it, if they were asked for: up to as many as asked for.
    #[serde(skip)]
    pub keys: Option<Vec<Key>>,
}

/// An invalidation about to be made; see [`Cache::invalidate_tags`].
#[derive(Debug)]
#[must_use = "nothing is invalidated until it is awaited"]
pub struct InvalidateTags<'a> {
    cache: &'a Cache,
    tags: Result<Vec<String>>,
    how: Invalidation,
    keys: Option<usize>,
}

impl Cache {
    /// Invalidates all entries that carry any of the tags. `user:123:*` is the subtree: all tags that begin with
    /// `user:123:`; other patterns, of `*`, `?` and `[a-z]`, mean the tags that match. Await the builder.
    ///
    /// # Guarantees
    /// When this has returned `Ok`, no read that starts later returns, from the store, a value whose computation began
    /// before it was called: not one that is being computed at this moment, here or in another process, and not one
    /// that is on its way into the store. What others see is as their store says: a failover to a server that had not
    /// heard of it yet may undo it.
    ///
    /// An invalidation that fails because of the store is repeated in the background until it is made, see
    /// [`Error::await_settled`]; and all are, for a minute, when another server takes over, which may not have heard of them.
    ///
    /// Cost: one round trip to each server, however many entries there are. Local copies that depend on
    /// the tags are gone, those of other processes as their `max_staleness` says; see [`Invalidated::causal`].
    /// Nothing is deleted: entries stay until they expire, are evicted or are written again. A pattern that is no subtree
    /// costs a listing of all tags, and on Redis of all keys.
    ///
    /// # Errors
    /// `InvalidArgument`: no tags, or one that is none; `Partial`: some parts of the store have not acknowledged it, and
    /// entries there may still be valid. `InvalidConfig`: tags are switched off. `Unsupported`: the store has no tags, or
    /// cannot list them for a pattern. `Unavailable`, `Timeout`: nothing is known.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// cache.set("user:1", "Ann").tags(["users", "user:1:profile"]).await?;
    /// cache.invalidate_tags(["user:1:*"]).await?;
    /// assert_eq!(cache.get::<String>("user:1").await?, None);
    /// # Ok(()) }
    /// ```
    pub fn invalidate_tags(
        &self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> InvalidateTags<'_> {
        InvalidateTags::of(self, Ok(tags.into_iter().map(Into::into).collect()))
    }

    /// Marks all entries stale that carry any of the tags: their values may still be served while they are refreshed.
    /// Await the builder.
    ///
    /// `remember` returns the stale value at once and loads a new one in the background, once in each process; the first
    /// to store its value ends that. `get` returns stale values, too, and refreshes nothing: for what is only written by
    /// `set`, invalidate instead. A later `invalidate_tags` makes stale entries absent.
    ///
    /// Guarantees, cost and errors are those of [`Cache::invalidate_tags`], with "not stale" in place of "valid".
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// cache.set("top10", "old").tags(["scores"]).await?;
    /// cache.mark_stale_tags(["scores"]).await?;
    /// let load = || async { Ok::<_, std::io::Error>("new".to_owned()) };
    /// let top10 = cache.remember("top10", load).tags(["scores"]).await.unwrap();
    /// assert_eq!(top10, "old"); // and "new" as soon as it is loaded
    /// # Ok(()) }
    /// ```
    pub fn mark_stale_tags(
        &self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> InvalidateTags<'_> {
        InvalidateTags {
            how: Invalidation::Soft,
            ..self.invalidate_tags(tags)
        }
    }
}

impl<'a> InvalidateTags<'a> {
    /// Begins an invalidation of these tags; an error is reported when it is made.
    pub(super) fn of(cache: &'a Cache, tags: Result<Vec<String>>) -> Self {
        Self {
            cache,
            tags,
            how: Invalidation::Hard,
            keys: None,
        }
    }

    /// Lists up to `limit` keys that depended on each tag or subtree, found just before. Cost: as [`Cache::tag_keys`].
    pub fn with_keys(mut self, limit: usize) -> Self {
        self.keys = Some(limit);
        self
    }

    async fn run(self) -> Result<Invalidated> {
        let inner = &self.cache.inner;
        let named = |error: Error| error.store(inner.store.name()).operation("invalidate_tags");
        inner.needs_tags().map_err(named)?;
        let given = self.tags.map_err(named)?;
        if given.is_empty() {
            return Err(named(Error::argument("there is no tag to invalidate")));
        }
        let selectors = given.iter().map(|tag| Selector::parse(tag));
        let selectors = selectors.collect::<Result<Vec<_>>>().map_err(named)?;
        inner.can_find(&selectors).map_err(named)?;
        let mut keys = Vec::with_capacity(selectors.len());
        for selector in &selectors {
            let listed = match self.keys {
                None => Ok(None),
                Some(limit) => inner.keys_of(selector, limit).await.map(Some),
            };
            match listed {
                Ok(listed) => keys.push(listed),
                // What cannot be listed is invalidated all the same.
                Err(error) => {
                    let settler = &inner.settler;
                    return Err(settler.take_on(inner, given, self.how, named(error)));
                }
            }
        }
        let epoch = inner.store.connection_epoch();
        let began_ms = inner.clock.now_ms();
        let outcome = inner.invalidate_now(&selectors, self.how).await;
        if outcome.as_ref().map_or_else(Error::is_retryable, |_| true) {
            // Also where it is not known to be made: it will be repeated.
            inner.history.note(&given, self.how, began_ms);
            inner.flusher.ensure(inner);
        }
        let (had, parts) = match outcome {
            Ok(told) => told,
            Err(error) => {
                let settler = &inner.settler;
                return Err(settler.take_on(inner, given, self.how, named(error)));
            }
        };
        inner.settler.note(inner, &given, self.how, epoch);
        let tags = given.into_iter().zip(had).zip(keys);
        let tags = tags.map(|((tag, existed), keys)| InvalidatedTag { tag, existed, keys });
        Ok(Invalidated {
            tags: tags.collect(),
            parts,
            causal: inner.causal(),
        })
    }
}

impl<'a> IntoFuture for InvalidateTags<'a> {
    type Output = Result<Invalidated>;
    type IntoFuture = BoxFuture<'a, Result<Invalidated>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl Inner {
    /// Refuses patterns where the tags that they mean cannot be listed.
    fn can_find(&self, selectors: &[Selector]) -> Result<()> {
        let is_pattern = |it: &Selector| matches!(it, Selector::Pattern(_));
        if self.capabilities.tag_listing || !selectors.iter().any(is_pattern) {
            return Ok(());
        }
        let message =
            "patterns of tags, other than a subtree as in `user:*`, for it cannot list tags";
        Err(Error::unsupported(message))
    }

    /// Invalidates in the store, and whatever this process has that depends on it. Returns what there was of each.
    async fn invalidate_now(
        self: &Arc<Self>,
        selectors: &[Selector],
        how: Invalidation,
    ) -> Result<(Vec<bool>, usize)> {
        // For those who ask from now on.
        self.flights.forget_depending(selectors);
        self.empty_memo();
        // And when the store has heard of it, for those who began a load, or made a copy, before.
        let _change = TagChange {
            inner: self,
            selectors,
        };
        self.invalidate_in_store(selectors, how).await
    }

    pub(super) async fn invalidate_in_store(
        &self,
        selectors: &[Selector],
        how: Invalidation,
    ) -> Result<(Vec<bool>, usize)> {
        let register = |it: &Selector| match it {
            Selector::Register(register) => Some(register.clone()),
            Selector::Pattern(_) => None,
        };
        let registers: Vec<_> = selectors.iter().filter_map(register).collect();
        // Before any tag is listed: a load that learns of one later finds out that something was invalidated.
        let (had, parts) = self.invalidate_registers(&registers, how).await?;
        let (mut had, mut all) = (had.into_iter(), Vec::with_capacity(selectors.len()));
        for selector in selectors {
            all.push(match selector {
                Selector::Register(_) => had.next().unwrap_or_default(),
                Selector::Pattern(pattern) => self.invalidate_matching(pattern, how).await?,
            });
        }
        Ok((all, parts))
    }

    async fn invalidate_registers(
        &self,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<(Vec<bool>, usize)> {
        let outcome = self
            .store
            .invalidate(&self.namespace, registers, how)
            .await?;
        if outcome.missing > 0 {
            let message = format!(
                "{} of {} parts of the store have not acknowledged the invalidation",
                outcome.missing, outcome.parts
            );
            return Err(Error::new(ErrorKind::Partial, message));
        }
        Ok((outcome.had, outcome.parts))
    }

    /// Invalidates whatever register the store has that matches; returns whether there was one.
    async fn invalidate_matching(&self, pattern: &Glob, how: Invalidation) -> Result<bool> {
        let (mut existed, mut epoch) = (false, self.store.connection_epoch());
        for _ in 0..MAX_LISTINGS {
            existed |= self.invalidate_listed(pattern, how).await?;
            // What moves to a server that was listed already is not met.
            let before = std::mem::replace(&mut epoch, self.store.connection_epoch());
            if before == epoch {
                self.note_pattern(how).await?;
                return Ok(existed);
            }
        }
        let message = "tags moved between servers while they were listed";
        Err(Error::new(ErrorKind::Partial, message))
    }

    /// Tells local copies of other processes that a pattern was meant: what they are of, or depend on, the store may have
    /// evicted, so that no listing has it.
    pub(super) async fn note_pattern(&self, how: Invalidation) -> Result<()> {
        // Also where this cache has tags switched off: it is the store's way to tell.
        let can = self.store.capabilities();
        if can.coherent_local && can.tags {
            self.invalidate_registers(&[Register::any()], how).await?;
        }
        Ok(())
    }

    async fn invalidate_listed(&self, pattern: &Glob, how: Invalidation) -> Result<bool> {
        let (mut cursor, mut existed) = (None, false);
        loop {
            let page = self.registers_page(pattern, cursor.as_ref()).await?;
            if !page.registers.is_empty() {
                let (had, _) = self.invalidate_registers(&page.registers, how).await?;
                existed |= had.contains(&true);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(existed);
            }
        }
    }

    pub(super) async fn registers_page(
        &self,
        pattern: &Glob,
        cursor: Option<&Bytes>,
    ) -> Result<RegisterPage> {
        let (store, namespace) = (&self.store, &self.namespace);
        store.scan_registers(namespace, pattern, cursor, PAGE).await
    }

    /// Returns up to `limit` keys of entries with a tag that is meant.
    pub(super) async fn keys_of(&self, selector: &Selector, limit: usize) -> Result<Vec<Key>> {
        let pattern = match selector {
            Selector::Register(register) => return self.keys_with(register, limit).await,
            Selector::Pattern(pattern) => pattern,
        };
        let (mut keys, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = self.registers_page(pattern, cursor.as_ref()).await?;
            for register in &page.registers {
                keys.extend(self.keys_with(register, limit).await?);
                if keys.len() >= limit {
                    return Ok(keys.into_iter().take(limit).collect());
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(keys.into_iter().collect());
            }
        }
    }

    /// Returns up to `limit` keys of entries that carry a stamp of the register.
    async fn keys_with(&self, register: &Register, limit: usize) -> Result<Vec<Key>> {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let (store, namespace) = (&self.store, &self.namespace);
            let page = store.scan_by_register(namespace, register, cursor.as_ref(), PAGE);
            let page = page.await?;
            keys.extend(page.keys.into_iter().map(|scanned| scanned.key));
            cursor = page.next;
            if cursor.is_none() || keys.len() >= limit {
                keys.truncate(limit);
                return Ok(keys);
            }
        }
    }
}
