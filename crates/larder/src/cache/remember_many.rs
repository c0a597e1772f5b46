//! `remember` for many keys: one load for exactly those that are missing.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::flight::{Entered, Outcome, Pilot, Waiter};
use super::fly::elapsed_ms;
use super::landing::Loaded;
use super::loader::run_loader;
use super::nesting;
use super::read::Found;
use super::remember::{LoadOptions, RememberError};
use super::stats::Counter;
use super::tags::Tags;
use super::{Cache, Inner};
use crate::error::Result;
use crate::key::{Key, KeyRef};
use crate::ttl::Ttl;

impl Cache {
    /// Returns one value per key, same order, loading all that are missing in one run of the loader.
    ///
    /// The loader gets each missing key once and returns pairs of key and value; `None` stands for a key it returned nothing
    /// for, which is not stored. Keys that another task is loading already are waited for. What is stale, see
    /// [`Cache::mark_stale_tags`], counts as missing, and so does what is past its TTL.
    ///
    /// Cost: three round trips besides the load.
    ///
    /// # Errors
    /// As [`Cache::remember`]; an error of the load is an error of the call.
    ///
    /// # Examples
    /// ```
    /// # use larder::{Cache, MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = Cache::builder(MemoryStore::new()).build()?;
    /// let lengths: Vec<Option<usize>> = cache
    ///     .remember_many(&["a", "bb"], |missing| async move {
    ///         Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, key.len())))
    ///     })
    ///     .await?;
    /// assert_eq!(lengths, [Some(1), Some(2)]);
    /// # Ok(()) }
    /// ```
    pub fn remember_many<'a, K, F, Fut>(
        &'a self,
        keys: &'a [K],
        loader: F,
    ) -> RememberMany<'a, K, F>
    where
        F: FnOnce(Vec<K>) -> Fut + Send + 'static,
        Fut: Future,
    {
        RememberMany {
            cache: self,
            keys,
            loader,
            options: LoadOptions::new(self),
        }
    }
}

/// Values about to be looked up or loaded; see [`Cache::remember_many`].
#[must_use = "nothing is looked up until it is awaited"]
pub struct RememberMany<'a, K, F> {
    cache: &'a Cache,
    keys: &'a [K],
    loader: F,
    options: LoadOptions,
}

impl<K, F> fmt::Debug for RememberMany<'_, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RememberMany")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<K, F> RememberMany<'_, K, F> {
    /// What each loaded value depends on: see [`Cache::invalidate_tags`] and, for their form,
    /// [`Set::tags`](super::Set::tags). Loads of tagged values begin one by one, several at a time.
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.options.tags = Tags::new(tags);
        self
    }

    /// How long loaded values live; default the cache's default TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.options.write.ttl = ttl.into();
        self
    }

    /// The part of the TTL by which each value's is shortened at random; default 0.
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.write.jitter = part;
        self
    }
}

impl<'a, K, F, Fut, I, V, E> IntoFuture for RememberMany<'a, K, F>
where
    K: Clone + Send + Sync + 'static,
    for<'k> &'k K: Into<KeyRef<'k>>,
    F: FnOnce(Vec<K>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<I, E>> + Send + 'static,
    I: IntoIterator<Item = (K, V)>,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Output = Result<Vec<Option<V>>, RememberError<E>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                cache,
                keys,
                loader,
                options,
            } = self;
            let load = move |missing: Vec<K>| async move {
                let pairs = loader(missing).await?;
                let loaded = pairs
                    .into_iter()
                    .map(|(key, value)| Ok(((&key).into().to_key()?, value)));
                Ok::<_, E>(loaded.collect::<Result<HashMap<Key, V>>>())
            };
            cache.inner.remember_many(keys, load, options).await
        })
    }
}

impl Inner {
    async fn remember_many<K, F, Fut, V, E>(
        self: &Arc<Self>,
        keys: &[K],
        load: F,
        mut options: LoadOptions,
    ) -> Result<Vec<Option<V>>, RememberError<E>>
    where
        K: Clone + Send + Sync + 'static,
        for<'k> &'k K: Into<KeyRef<'k>>,
        F: FnOnce(Vec<K>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Result<HashMap<Key, V>>, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        self.check(&mut options)?;
        let depends = options.depends()?;
        let names = keys
            .iter()
            .map(|key| key.into().to_key())
            .collect::<Result<Vec<_>>>()?;
        let since = self.flights.moment();
        let found = self.read_many::<V>(&names, options.view()).await?;
        let fresh = |found: Option<Found<V>>| Some(found.filter(|found| !found.is_marked)?.value);
        let mut values: Vec<_> = found.into_iter().map(fresh).collect();
        let missing = names
            .iter()
            .zip(&values)
            .filter(|(_, value)| value.is_none());
        let missing = missing.map(|(name, _)| name);
        // First whatever must be waited for: nobody joins a flight of this call before its load is on its way.
        let mut waiters = self.join_all::<V, E>(missing, &options, since).await?;
        let (mut pilots, mut asked) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            if values[index].is_some() || waiters.contains_key(name) {
                continue;
            }
            let of = (&depends, false);
            let entered = self
                .flights
                .enter::<V, E>(name.as_bytes(), options.write.schema, of);
            let waiter = match entered? {
                Entered::Leads(pilot, waiter) => {
                    pilots.push(pilot);
                    asked.push(keys[index].clone());
                    waiter
                }
                // It began after this call did.
                Entered::Joins(waiter) => {
                    self.counters.count(Counter::Joined);
                    waiter
                }
            };
            waiters.insert(name.clone(), waiter);
        }
        let waiting: Result<Vec<_>> = waiters
            .values()
            .map(|waiter| nesting::wait_for(waiter.id()))
            .collect();
        let _waiting = waiting?;
        if !pilots.is_empty() {
            let inner = Arc::clone(self);
            tokio::spawn(async move { inner.fly_many(pilots, asked, load, options).await });
        }
        let mut loaded: HashMap<Key, Option<Arc<V>>> = HashMap::new();
        for (name, waiter) in waiters {
            loaded.insert(name, waiter.outcome().await?);
        }
        for (value, name) in values.iter_mut().zip(&names) {
            if value.is_none() {
                *value = loaded.get(name).cloned().flatten();
            }
        }
        Ok(values
            .into_iter()
            .map(|value| value.map(Arc::unwrap_or_clone))
            .collect())
    }

    /// Joins the flights of these keys that are under way and that nothing has overtaken.
    async fn join_all<'k, V, E>(
        self: &Arc<Self>,
        names: impl Iterator<Item = &'k Key>,
        options: &LoadOptions,
        since: u64,
    ) -> Result<HashMap<Key, Waiter<V, E>>>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let mut waiters = HashMap::new();
        for name in names {
            if waiters.contains_key(name) {
                continue;
            }
            if let Some(waiter) = self.join::<V, E>(name.as_bytes(), options, since).await? {
                self.counters.count(Counter::Joined);
                waiters.insert(name.clone(), waiter);
            }
        }
        Ok(waiters)
    }

    /// Runs one load for several flights and lands them all.
    async fn fly_many<K, F, Fut, V, E>(
        self: Arc<Self>,
        pilots: Vec<Pilot<V, E>>,
        asked: Vec<K>,
        load: F,
        mut options: LoadOptions,
    ) where
        K: Send + 'static,
        F: FnOnce(Vec<K>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Result<HashMap<Key, V>>, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let keys: Vec<Key> = pilots.iter().map(|pilot| Key::from(pilot.key())).collect();
        let markers: Vec<_> = keys.iter().map(|key| self.mark(key.as_bytes())).collect();
        let flying = keys.iter().zip(&markers).zip(&pilots);
        let flying = flying
            .map(|((key, marker), pilot)| (key.as_bytes(), marker, Arc::clone(pilot.standing())));
        let flying: Vec<_> = flying.collect();
        let mut pilots: Vec<_> = pilots.into_iter().map(Some).collect();
        let found = |index: usize, value| {
            if let Some(pilot) = pilots.get_mut(index).and_then(Option::take) {
                pilot.land(Ok(Some(value)));
            }
        };
        let begun = self.begin_many_in_turn::<V>(&flying, &options, found).await;
        let (mut led, mut missing) = (Vec::new(), Vec::new());
        for (((pilot, key), marker), loading) in
            pilots.into_iter().zip(asked).zip(&markers).zip(begun)
        {
            if let (Some(pilot), Some(loading)) = (pilot, loading) {
                pilot.standing().claim(loading.claim());
                led.push((pilot, marker, loading));
                missing.push(key);
            }
        }
        if led.is_empty() {
            return;
        }
        self.counters.count(Counter::Load);
        let loads = led.iter().map(|(pilot, _, loading)| (pilot.key(), loading));
        let own = led.iter().map(|(pilot, ..)| pilot.id().clone()).collect();
        let load = nesting::within(own, run_loader(async move { load(missing).await }));
        let began = Instant::now();
        let outcome = self.renewing(loads.collect(), &options, load).await;
        options.write.cost_ms = elapsed_ms(began);
        let mut pairs: Result<_, RememberError<E>> =
            outcome.and_then(|pairs| pairs.map_err(RememberError::Cache));
        if pairs.is_err() {
            self.counters.count(Counter::LoadFailed);
        }
        let values: Vec<Outcome<V, E>> = led
            .iter()
            .map(|(pilot, ..)| match &mut pairs {
                Ok(pairs) => Ok(pairs.remove(&Key::from(pilot.key())).map(Arc::new)),
                Err(error) => Err(error.clone()),
            })
            .collect();
        let settled = led.iter().zip(&values);
        let settled = settled.map(|((pilot, marker, loading), value)| Loaded {
            key: pilot.key(),
            marker,
            loading,
            value: match value {
                Ok(Some(value)) => self.loaded(value, loading, &options),
                _ => None,
            },
        });
        self.settle(settled.collect()).await;
        for ((pilot, ..), value) in led.into_iter().zip(values) {
            pilot.land(value);
        }
    }
}
