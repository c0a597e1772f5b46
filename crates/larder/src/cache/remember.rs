//! `remember`: the value, loaded at most once however many ask.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flight::{Depends, Entered, Outcome, Waiter};
use super::loader::LoadContext;
use super::ready::MaybeReady;
use super::stampede::Stampede;
use super::stats::Counter;
use super::tags::Tags;
use super::write::WriteOptions;
use super::{Cache, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRef};
use crate::ttl::Ttl;

/// Why `remember` has no value.
#[derive(Debug)]
pub enum RememberError<E> {
    /// The loader's own error, shared by all who waited for it.
    Load(Arc<E>),
    /// The cache failed, or the loader panicked (kind `Load`).
    Cache(Error),
}

impl<E> RememberError<E> {
    /// Returns the caller's own error type.
    ///
    /// A caller who waited alone gets the loader's error itself; when several waited, the others get
    /// `E::from` an error of kind `Load` with its text.
    pub fn into_user(self) -> E
    where
        E: From<Error> + fmt::Display,
    {
        match self {
            Self::Load(error) => Arc::try_unwrap(error)
                .unwrap_or_else(|shared| E::from(Error::new(ErrorKind::Load, shared.to_string()))),
            Self::Cache(error) => E::from(error),
        }
    }
}

impl<E> Clone for RememberError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::Cache(error) => Self::Cache(error.clone()),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RememberError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "load failed: {error}"),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for RememberError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            Self::Cache(error) => error.source(),
        }
    }
}

impl<E> From<Error> for RememberError<E> {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

impl Cache {
    /// Returns the value, or loads and stores it. Await the builder.
    ///
    /// However many tasks of this process ask for the key at once, the loader runs once: it runs in a task of its own,
    /// so a caller who goes away disturbs nobody. A loader's panic is an error for all who wait. A value that a change of
    /// the key overtakes while it is loaded, in whatever process, is returned to those who began before and is not stored:
    /// a `set`, `delete`, `clear` or an invalidation of one of its tags.
    ///
    /// While a caller loads, those of other processes wait for its value, see [`Stampede`]. If that process dies, one of
    /// them loads after the end of its lease; who has waited for longer than `max_wait` loads for itself, without storing.
    /// A value that cannot be stored is returned, and the failure counted. A stale one, see [`Cache::mark_stale_tags`], is
    /// returned at once and loaded anew in the background.
    ///
    /// Needs a tokio runtime. A loader that asks for its own key waits for itself, without end.
    ///
    /// Cost: a hit in the local tier, nothing; a hit in the store, one round trip; a miss, three besides the load, and
    /// one for each 10 s that the load takes. Who joins a load that began before: one, in common with others.
    ///
    /// # Errors
    /// [`RememberError::Load`]: the loader's error. [`RememberError::Cache`]: as [`Cache::get`]; kind `Load` for a panic;
    /// `Overloaded`: 100,000 wait already.
    ///
    /// # Examples
    /// ```
    /// # use larder::{Cache, MemoryStore};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = Cache::builder(MemoryStore::new()).build()?;
    /// let user: String = cache
    ///     .remember("user:1", || async { Ok::<_, std::io::Error>("Ann".to_string()) })
    ///     .ttl(Duration::from_secs(3600))
    ///     .await?;
    /// assert_eq!(user, "Ann");
    /// # Ok(()) }
    /// ```
    pub fn remember<'a, F, Fut>(
        &'a self,
        key: impl Into<KeyRef<'a>>,
        loader: F,
    ) -> Remember<'a, impl FnOnce(LoadContext) -> Fut + Send + 'static>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future,
    {
        let mut remember = self.remember_with(key, move |_| loader());
        remember.options.learns = false;
        remember
    }

    /// As [`Cache::remember`], with a loader that decides on TTL and storing through its [`LoadContext`].
    pub fn remember_with<'a, F, Fut>(
        &'a self,
        key: impl Into<KeyRef<'a>>,
        loader: F,
    ) -> Remember<'a, F>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future,
    {
        let options = LoadOptions {
            write: WriteOptions::new(self),
            cache_none: true,
            tags: Tags::default(),
            learns: true,
            stampede: self.inner.stampede,
        };
        Remember {
            cache: self,
            key: key.into(),
            loader,
            options,
        }
    }
}

/// A value about to be looked up or loaded; see [`Cache::remember`].
#[must_use = "nothing is looked up until it is awaited"]
pub struct Remember<'a, F> {
    cache: &'a Cache,
    key: KeyRef<'a>,
    loader: F,
    options: LoadOptions,
}

/// How a loaded value is stored.
#[derive(Debug, Clone)]
pub(super) struct LoadOptions {
    pub(super) write: WriteOptions,
    pub(super) cache_none: bool,
    pub(super) tags: Tags,
    /// The loader may name more tags.
    pub(super) learns: bool,
    pub(super) stampede: Stampede,
}

impl LoadOptions {
    /// Returns whether values depend on tags that are known before the load.
    pub(super) fn is_tagged(&self) -> bool {
        self.tags.registers().is_ok_and(|names| !names.is_empty())
    }

    /// Returns what the value depends on, as far as it is known before the load.
    pub(super) fn depends(&self) -> Result<Depends> {
        if self.learns {
            return Ok(Depends::Unknown);
        }
        self.tags.registers().map(Depends::On)
    }
}

impl<F> fmt::Debug for Remember<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remember")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<F> Remember<'_, F> {
    /// What a loaded value depends on: see [`Cache::invalidate_tags`] and, for their form, [`Set::tags`](super::Set::tags).
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.options.tags = Tags::new(tags);
        self
    }

    /// How long after the last sign of life of this load another process may begin one; see [`Stampede::lease_ttl`].
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.options.stampede.lease_ttl = ttl;
        self
    }

    /// How long to wait for the load of another process before loading without storing; see [`Stampede::max_wait`].
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.options.stampede.max_wait = wait;
        self
    }

    /// The longest pause between two looks at the load of another process; see [`Stampede::retry_interval`].
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.options.stampede.retry_interval = interval;
        self
    }

    /// Loads at once, whether another process loads or not; only the first one to begin stores its value.
    pub fn unprotected(mut self) -> Self {
        self.options.stampede.enabled = false;
        self
    }

    /// How long a loaded value lives; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.options.write.ttl = ttl.into();
        self
    }

    /// The part of the TTL, from 0 to 1, by which it is shortened at random; default 0.
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.write.jitter = part;
        self
    }

    /// Says that the loader names no tags, as one under `#[cache]`, whose tags are all known before.
    #[doc(hidden)]
    pub fn names_no_tags(mut self) -> Self {
        self.options.learns = false;
        self
    }

    /// Whether a loaded `None` is stored, so that the next call does not load again; default yes.
    pub fn cache_none(mut self, on: bool) -> Self {
        self.options.cache_none = on;
        self
    }
}

impl<'a, F, Fut, V, E> IntoFuture for Remember<'a, F>
where
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Output = Result<V, RememberError<E>>;
    type IntoFuture = MaybeReady<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            cache,
            key,
            loader,
            options,
        } = self;
        if let Some(value) = cache
            .inner
            .local_hit::<V>(key.as_bytes(), options.write.schema)
        {
            return MaybeReady::ready(Ok(V::clone(&value)));
        }
        MaybeReady::slow(async move {
            cache
                .inner
                .remember(&key, loader, options)
                .await
                .map(Arc::unwrap_or_clone)
        })
    }
}

impl Inner {
    async fn remember<F, Fut, V, E>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        loader: F,
        options: LoadOptions,
    ) -> Result<Arc<V>, RememberError<E>>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        options.write.ttl_ms(self.default_ttl)?;
        options.stampede.check()?;
        self.refuse_tags_that_are_off(&options)?;
        let (schema, depends) = (options.write.schema, options.depends()?);
        let since = self.flights.moment();
        loop {
            if !self.flights.is_joinable::<V, E>(key.checked()?, schema)
                && let Some(found) = self.read_shared::<V>(key, schema).await?
            {
                if found.is_stale {
                    self.refresh::<F, Fut, V, E>(key, &depends, loader, options)?;
                }
                return Ok(found.value);
            }
            let entered = self.enter::<V, E>(key.as_bytes(), &options, &depends, since);
            match entered.await? {
                Entered::Leads(pilot, waiter) => {
                    let inner = Arc::clone(self);
                    let key = key.to_key()?;
                    tokio::spawn(async move { inner.fly(pilot, key, loader, options).await });
                    return landed(waiter.outcome().await);
                }
                Entered::Joins(waiter) => {
                    self.counters.count(Counter::Joined);
                    if let Some(value) = waiter.outcome().await? {
                        return Ok(value);
                    }
                }
            }
        }
    }

    /// Loads a value anew in the background, unless that is being done.
    fn refresh<F, Fut, V, E>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        depends: &Depends,
        loader: F,
        options: LoadOptions,
    ) -> Result<()>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let (schema, key) = (options.write.schema, key.to_key()?);
        let entered = self
            .flights
            .enter::<V, E>(key.as_bytes(), schema, (depends, true));
        // Who has a value does not mind how many wait for the next.
        if let Ok(Entered::Leads(pilot, _)) = entered {
            let inner = Arc::clone(self);
            tokio::spawn(async move { inner.fly(pilot, key, loader, options).await });
        }
        Ok(())
    }

    /// Joins a flight that nothing has overtaken before this call began, or starts one.
    async fn enter<V, E>(
        self: &Arc<Self>,
        key: &[u8],
        options: &LoadOptions,
        depends: &Depends,
        since: u64,
    ) -> Result<Entered<V, E>>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        loop {
            if let Some(waiter) = self.join(key, options, since).await? {
                return Ok(Entered::Joins(waiter));
            }
            let schema = options.write.schema;
            let entered = self.flights.enter::<V, E>(key, schema, (depends, false))?;
            match &entered {
                Entered::Joins(waiter) if !waiter.is_open_to(since) => {}
                _ => return Ok(entered),
            }
        }
    }

    /// Joins a flight that is under way, if nothing has overtaken it before this call began.
    pub(super) async fn join<V, E>(
        self: &Arc<Self>,
        key: &[u8],
        options: &LoadOptions,
        since: u64,
    ) -> Result<Option<Waiter<V, E>>>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let Some(waiter) = self.flights.join::<V, E>(key, options.write.schema)? else {
            return Ok(None);
        };
        let ask = |claim| {
            let (inner, key, options) = (Arc::clone(self), Key::from(key), options.clone());
            async move { inner.stands(key.as_bytes(), claim, &options).await }
        };
        if waiter.is_fit_for(&self.flights, since, ask).await {
            return Ok(Some(waiter));
        }
        waiter.retire(&self.flights, key);
        Ok(None)
    }

    /// Refuses tags where they are switched off: to load every time instead would go unnoticed.
    pub(super) fn refuse_tags_that_are_off(&self, options: &LoadOptions) -> Result<()> {
        if self.tagging || options.tags.registers()?.is_empty() {
            return Ok(());
        }
        Err(self.no_tags())
    }
}

fn landed<V, E>(outcome: Outcome<V, E>) -> Result<Arc<V>, RememberError<E>> {
    let missing = || Error::new(ErrorKind::Internal, "a load came to nothing");
    outcome?.ok_or_else(|| RememberError::Cache(missing()))
}
