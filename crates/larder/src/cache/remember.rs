//! `remember`: the value, loaded at most once however many ask.

use std::any::Any;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flight::{Depends, Entered, Outcome, Pilot};
use super::inflight::Marker;
use super::loading::{Begun, Loading};
use super::ready::MaybeReady;
use super::stats::Counter;
use super::tags::Tags;
use super::write::WriteOptions;
use super::{Cache, Inner};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRef};
use crate::store::{Expiry, Write};
use crate::ttl::Ttl;

/// The MessagePack form of `None`.
const NIL: [u8; 1] = [0xc0];

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

/// What a loader of [`Cache::remember_with`] may decide. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoadContext(Arc<Mutex<Decisions>>);

/// What a loader has decided.
#[derive(Debug, Clone, Default)]
pub(super) struct Decisions {
    ttl: Option<Ttl>,
    skip: bool,
    pub(super) tags: Vec<String>,
}

impl LoadContext {
    /// Sets how long the value lives, in place of the call's own TTL.
    pub fn ttl(&self, ttl: impl Into<Ttl>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ttl = Some(ttl.into());
    }

    /// Returns the value to the callers without storing it.
    pub fn skip(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).skip = true;
    }

    /// Makes the value depend on one more tag, which only the loader knows.
    ///
    /// The first time a loader of this process names a tag for the key, the value is stored only if nothing at all was
    /// invalidated in the store since the load began; from then on the tag is known before. A tag that is none fails the
    /// load.
    pub fn tag(&self, tag: impl Into<String>) {
        let mut decisions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        decisions.tags.push(tag.into());
    }

    fn decisions(&self) -> Decisions {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Cache {
    /// Returns the value, or loads and stores it. Await the builder.
    ///
    /// However many tasks of this process ask for the key at once, the loader runs once: it runs in a task of its own,
    /// so a caller who goes away disturbs nobody. A loader's panic is an error for all who wait. A load that a
    /// `set`, `delete` or `clear` of this process overtakes is returned to those who began before it and is not stored.
    /// A value that cannot be stored is returned, and the failure counted.
    ///
    /// Needs a tokio runtime. A loader that asks for its own key waits for itself, without end.
    ///
    /// Cost: a hit in the local tier, nothing; a hit in the store, one round trip; a miss, three besides the load.
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
}

impl LoadOptions {
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
        self.refuse_tags_that_are_off(&options)?;
        let (schema, depends) = (options.write.schema, options.depends()?);
        loop {
            if !self.flights.is_joinable::<V, E>(key.checked()?, schema)
                && let Some(value) = self.read_shared::<V>(key, schema).await?
            {
                return Ok(value);
            }
            match self
                .flights
                .enter::<V, E>(key.as_bytes(), schema, &depends)?
            {
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

    /// Runs the load of a flight and lands it.
    async fn fly<F, Fut, V, E>(
        self: Arc<Self>,
        pilot: Pilot<V, E>,
        key: Key,
        loader: F,
        options: LoadOptions,
    ) where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let marker = self.mark(key.as_bytes());
        if self.has_registers(&options) {
            return self
                .fly_tagged(pilot, (key, &marker), loader, options)
                .await;
        }
        // Another flight may have landed between this caller's read and its start.
        if let Some(value) = self
            .look_again(key.as_bytes(), options.write.schema, &marker)
            .await
        {
            return pilot.land(Ok(Some(value)));
        }
        let context = LoadContext::default();
        let decisions = context.clone();
        self.counters.count(Counter::Load);
        let loaded = match run_loader(async move { loader(context).await }).await {
            Ok(value) => Arc::new(value),
            Err(error) => {
                self.counters.count(Counter::LoadFailed);
                return pilot.land(Err(error));
            }
        };
        let Decisions { ttl, skip, tags } = decisions.decisions();
        let mut options = options;
        options.write.ttl = ttl.unwrap_or(options.write.ttl);
        if !tags.is_empty() {
            // What could not be invalidated must not be stored.
            self.not_stored(&self.no_tags());
        } else if !skip {
            self.store_loaded(vec![(key.as_bytes(), &loaded, &marker)], options)
                .await;
        }
        pilot.land(Ok(Some(loaded)));
    }

    /// Refuses tags where they are switched off: to load every time instead would go unnoticed.
    fn refuse_tags_that_are_off(&self, options: &LoadOptions) -> Result<()> {
        if self.tagging || options.tags.registers()?.is_empty() {
            return Ok(());
        }
        Err(self.no_tags())
    }

    /// Returns whether the value may depend on registers, in a store that has them.
    fn has_registers(&self, options: &LoadOptions) -> bool {
        let is_tagged = options
            .tags
            .registers()
            .is_ok_and(|names| !names.is_empty());
        self.capabilities.tags && !self.is_local_only() && (is_tagged || options.learns)
    }

    /// As [`Inner::fly`], of a value that depends on registers.
    async fn fly_tagged<F, Fut, V, E>(
        &self,
        pilot: Pilot<V, E>,
        (key, marker): (Key, &Marker<'_>),
        loader: F,
        mut options: LoadOptions,
    ) where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let key = key.as_bytes();
        let loading = match self.begin(key, &options).await {
            Ok(Begun::Loading(loading)) => Some(loading),
            Ok(Begun::Entry(entry)) => {
                match self.promote(key, &entry, options.write.schema, Some(marker)) {
                    Ok(value) => return pilot.land(Ok(Some(value))),
                    // Somebody else's kind of value: this one is the caller's alone.
                    Err(_) => None,
                }
            }
            Err(error) => {
                self.not_stored(&error);
                None
            }
        };
        let context = LoadContext::default();
        let decisions = context.clone();
        self.counters.count(Counter::Load);
        let loaded = run_loader(async move { loader(context).await }).await;
        let decisions = decisions.decisions();
        options.write.ttl = decisions.ttl.unwrap_or(options.write.ttl);
        let loaded = loaded.and_then(|value| {
            crate::tag::registers(&decisions.tags)?;
            Ok(Arc::new(value))
        });
        if let Some(loading) = &loading {
            let kept = loaded.as_ref().ok().filter(|_| !decisions.skip);
            let stored = self.settle((key, marker), kept, (loading, &decisions), &options);
            if let Err(error) = stored.await {
                self.not_stored(&error);
            }
        }
        if loaded.is_err() {
            self.counters.count(Counter::LoadFailed);
        }
        pilot.land(loaded.map(Some));
    }

    /// Stores what was loaded, or takes the mark back.
    async fn settle<V>(
        &self,
        (key, marker): (&[u8], &Marker<'_>),
        value: Option<&Arc<V>>,
        (loading, decisions): (&Loading, &Decisions),
        options: &LoadOptions,
    ) -> Result<()>
    where
        V: Clone + Serialize + Send + Sync + 'static,
    {
        let value = value.filter(|value| options.cache_none || !is_none(&***value));
        match value.map(|value| self.prepare_shared(value, &options.write)) {
            None => self.abandon(key, loading).await,
            Some(Ok(prepared)) => {
                self.commit(key, (prepared, marker), loading, decisions)
                    .await
            }
            Some(Err(error)) => self.abandon(key, loading).await.and(Err(error)),
        }
    }

    /// Reads the key once more, counting nothing.
    async fn look_again<V>(&self, key: &[u8], schema: u32, marker: &Marker<'_>) -> Option<Arc<V>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        if let Some(tier) = &self.local
            && let Some(value) = tier.get::<V>(key, schema, self.clock.monotonic_ms())
        {
            return Some(value);
        }
        let entry = self.fetch(key).await.ok().flatten()?;
        self.promote(key, &entry, schema, Some(marker)).ok()
    }

    /// Stores loaded values that no change has overtaken; a failure is counted and otherwise ignored.
    pub(super) async fn store_loaded<V>(
        &self,
        loaded: Vec<(&[u8], &Arc<V>, &Marker<'_>)>,
        options: LoadOptions,
    ) where
        V: Clone + Serialize + Send + Sync + 'static,
    {
        let mut ready = Vec::with_capacity(loaded.len());
        for (key, value, marker) in loaded {
            if !options.cache_none && is_none(&**value) {
                continue;
            }
            match self.prepare_shared(value, &options.write) {
                Ok(prepared) => match marker.commit() {
                    Some(commit) => ready.push((key, prepared, marker, commit)),
                    None => self.counters.count(Counter::Overtaken),
                },
                Err(error) => self.not_stored(&error),
            }
        }
        let since_ms = self.clock.monotonic_ms();
        if !self.is_local_only() && !ready.is_empty() {
            let mut writes = Vec::with_capacity(ready.len());
            for (key, prepared, ..) in &ready {
                let expiry = Expiry::from_ttl_ms(prepared.ttl_ms);
                writes.push(Write::put(key, prepared.entry.clone(), expiry));
            }
            if let Err(error) = self.store.write_many(&self.namespace, &writes).await {
                return self.not_stored(&error);
            }
        }
        self.counters.add(Counter::Set, ready.len() as u64);
        for (key, prepared, marker, _commit) in ready {
            if let (Some(tier), Some(value)) = (&self.local, prepared.local) {
                let life = (prepared.ttl_ms, prepared.ttl_ms);
                marker.if_clean(|| tier.insert(key, value, life, since_ms));
            }
        }
    }

    fn not_stored(&self, error: &Error) {
        self.counters.count(Counter::WriteError);
        tracing::warn!(cache = %self.name, %error, "a loaded value could not be stored");
    }
}

fn landed<V, E>(outcome: Outcome<V, E>) -> Result<Arc<V>, RememberError<E>> {
    let missing = || Error::new(ErrorKind::Internal, "a load came to nothing");
    outcome?.ok_or_else(|| RememberError::Cache(missing()))
}

/// Runs a loader; a panic becomes an error.
pub(super) async fn run_loader<V, E>(
    load: impl Future<Output = Result<V, E>>,
) -> Result<V, RememberError<E>> {
    match AssertUnwindSafe(load).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(RememberError::Load(Arc::new(error))),
        Err(panic) => {
            let message = format!("the loader panicked: {}", panic_text(&*panic));
            Err(RememberError::Cache(Error::new(ErrorKind::Load, message)))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Returns whether the value serializes as `None`.
fn is_none<V: Serialize>(value: &V) -> bool {
    Codec::MessagePack
        .encode(value)
        .is_ok_and(|bytes| bytes == NIL)
}
