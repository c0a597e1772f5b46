//! `remember`: the value, loaded at most once however many ask.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::flight::Depends;
use super::freshness::Wanted;
use super::loader::LoadContext;
use super::read::View;
use super::ready::MaybeReady;
use super::stampede::Stampede;
use super::tags::Tags;
use super::write::WriteOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
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
    /// Needs a tokio runtime. A loader that asks for its own key, be it by way of other loaders, gets an error instead of waiting for
    /// itself; what it asks for in tasks of its own is not seen, and waits until a `hard_timeout`.
    ///
    /// Cost: a hit in the local tier, nothing; a hit in the store, one round trip; a miss, three besides the load, and
    /// one for each 10 s that the load takes. Who joins a load that began before: one, and of a tagged
    /// value two, in common with others.
    ///
    /// # Errors
    /// [`RememberError::Load`]: the loader's error. [`RememberError::Cache`]: as [`Cache::get`]; kind `Load` for a panic, and
    /// for a loader that waits for itself; `Timeout`: [`Remember::hard_timeout`]; `InvalidArgument`: an option; `Overloaded`: 100,000 wait already.
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
            learns: true,
            ..LoadOptions::new(self)
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
    /// See [`Cache::at_least`].
    pub(super) at_least_ms: u64,
    pub(super) stale_for: Option<Duration>,
    pub(super) soft_timeout: Option<Duration>,
    pub(super) hard_timeout: Option<Duration>,
}

impl LoadOptions {
    /// Returns what the cache does unless the call says otherwise.
    pub(super) fn new(cache: &Cache) -> Self {
        Self {
            write: WriteOptions::new(cache),
            cache_none: true,
            tags: Tags::default(),
            learns: false,
            stampede: cache.inner.stampede,
            stale_for: None,
            soft_timeout: None,
            hard_timeout: None,
            at_least_ms: cache.at_least_ms,
        }
    }

    /// Returns which values are wanted.
    #[inline]
    pub(super) fn view(&self) -> View {
        View {
            schema: self.write.schema,
            at_least_ms: self.at_least_ms,
        }
    }

    /// Returns what is read before anything is loaded.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            schema: self.write.schema,
            grace_ms: self.write.grace_ms,
            ahead: self.stampede.ahead,
        }
    }

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

impl<'a, F> Remember<'a, F> {
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

    /// Loads the value anew in the background, by the first call after this part of its TTL; see
    /// [`Stampede::refresh_after`].
    pub fn refresh_after(mut self, part: f64) -> Self {
        self.options.stampede = self.options.stampede.refresh_after(part);
        self
    }

    /// Loads the value anew in the background before it expires, by chance; see [`Stampede::xfetch`].
    pub fn xfetch(mut self, beta: f64) -> Self {
        self.options.stampede = self.options.stampede.xfetch(beta);
        self
    }

    /// How long after its TTL a value may be served when its load fails, or takes too long, or is under way elsewhere: up to
    /// 1000 years, more than zero; default [`Builder::stale_for`](super::Builder::stale_for). Needs a TTL.
    ///
    /// The first call after the TTL loads, and waits for that; those that find that somebody loads, in this process or in
    /// another, get the stale value at once. If the load fails they all do, and this process does not try again for 30 s.
    /// The entry stays in the store for so much longer; other reads, and calls without this, take it for absent once its
    /// TTL is over, and so does a call with a shorter grace than the one that stored it once its own is over. Does nothing where a local tier is the whole cache.
    pub fn stale_for(mut self, grace: Duration) -> Self {
        self.options.stale_for = Some(grace);
        self
    }

    /// How long the call that loads waits for its load if there is a stale value, which it returns then; the load goes on and
    /// is stored. More than zero and no more than the hard timeout; default as long as it takes.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.options.soft_timeout = Some(limit);
        self
    }

    /// How long the call waits in all: then it returns the stale value if there is one, else [`RememberError::Cache`] of kind
    /// `Timeout`; the load goes on and is stored. More than zero; default as long as it takes.
    pub fn hard_timeout(mut self, limit: Duration) -> Self {
        self.options.hard_timeout = Some(limit);
        self
    }

    /// Awaits to a [`Remembered`], which tells whether the value is stale.
    pub fn detailed(self) -> Detailed<'a, F> {
        Detailed(self)
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
        if let Some(value) = cache.inner.quick_hit::<V>(key.as_bytes(), options.view()) {
            return MaybeReady::ready(Ok(V::clone(&value)));
        }
        MaybeReady::slow(async move {
            let served = cache.inner.remember(&key, loader, options).await?;
            Ok(Arc::unwrap_or_clone(served.value))
        })
    }
}

/// As [`Remember`], with more about the value; see [`Remember::detailed`].
#[must_use = "nothing is looked up until it is awaited"]
pub struct Detailed<'a, F>(Remember<'a, F>);

impl<F> fmt::Debug for Detailed<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Detailed").field(&self.0).finish()
    }
}

/// A value with what is known about it; see [`Remember::detailed`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered<V> {
    /// The value.
    pub value: V,
    /// Whether it has outlived its TTL, or [`Cache::mark_stale_tags`] has marked it.
    pub is_stale: bool,
}

impl<'a, F, Fut, V, E> IntoFuture for Detailed<'a, F>
where
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Output = Result<Remembered<V>, RememberError<E>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Remember {
            cache,
            key,
            loader,
            options,
        } = self.0;
        Box::pin(async move {
            let served = cache.inner.remember(&key, loader, options).await?;
            Ok(Remembered {
                value: Arc::unwrap_or_clone(served.value),
                is_stale: served.is_stale,
            })
        })
    }
}
