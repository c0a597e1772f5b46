//! The load of a flight: from its beginning in the store to its landing.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Inner;
use super::flight::{Outcome, Pilot};
use super::freshness::Life;
use super::landing::{Loaded, Ready};
use super::loader::{Decisions, LoadContext, is_none, panic_text, run_loader};
use super::loading::{Begun, Loading};
use super::nesting;
use super::read::Found;
use super::remember::LoadOptions;
use super::stats::Counter;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::tag;
use crate::ttl::Ttl;

/// What a flight has beside its pilot.
pub(super) struct Flown<V, E> {
    /// The value that it is to replace.
    previous: Option<Found<V>>,
    /// Who waits for it with that value in hand: dropped when somebody else loads.
    pub(super) leader: Option<oneshot::Sender<Outcome<V, E>>>,
}

impl<V, E> Default for Flown<V, E> {
    fn default() -> Self {
        Self {
            previous: None,
            leader: None,
        }
    }
}

impl<V, E> Flown<V, E> {
    /// Of a load that replaces a value.
    pub(super) fn over(found: Found<V>) -> Self {
        Self {
            previous: Some(found),
            leader: None,
        }
    }

    /// Returns whether the entry that is there may live on as it is: its loader says so, and knows it, and nothing else about
    /// it has changed.
    fn is_renewed(
        &self,
        loading: &Loading,
        options: &LoadOptions,
        (decisions, default_ttl): (&Decisions, Ttl),
    ) -> bool {
        let Some((found, life)) = self.previous.as_ref().and_then(|it| Some((it, it.life?))) else {
            return false;
        };
        let is_as_before = loading.replaces(life.write_id)
            // Only a new entry is no longer marked.
            && !found.is_marked
            && life.ttl_ms.is_some()
            && !is_shorter(decisions.ttl.unwrap_or(options.write.ttl), default_ttl, &life)
            && life.grace_ms == options.write.grace_ms
            && decisions.tags.is_empty();
        let has_tag = |register: &tag::Register| envelope::carries(&found.entry, register);
        let tags = options.tags.registers();
        let has_tags = tags.is_ok_and(|tags| tags.iter().all(has_tag));
        decisions.not_modified && !decisions.skip && is_as_before && has_tags
    }

    /// Tells the leader what has come of it.
    fn tell(&mut self, outcome: &Outcome<V, E>) {
        if let Some(leader) = self.leader.take() {
            drop(leader.send(outcome.clone()));
        }
    }
}

impl Inner {
    /// Runs the load of a flight and lands it.
    pub(super) async fn fly<F, Fut, V, E>(
        self: Arc<Self>,
        pilot: Pilot<V, E>,
        key: Key,
        (loader, mut options): (F, LoadOptions),
        mut flown: Flown<V, E>,
    ) where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let key = key.as_bytes();
        let marker = self.mark(key);
        if !pilot.is_alone() {
            // The mark may be that other flight's, whose value is of no use here.
            options.stampede.enabled = false;
        }
        let life = flown.previous.as_ref().and_then(|found| found.life);
        let standing = pilot.standing().as_ref();
        let turn = (standing, life.as_ref());
        let mut begun = self.begin_in_turn::<V>(key, &options, &marker, turn).await;
        if let Begun::Elsewhere = begun {
            flown = Flown::default();
            if pilot.is_abandoned() {
                return pilot.land(Ok(None));
            }
            let turn = (standing, None);
            begun = self.begin_in_turn::<V>(key, &options, &marker, turn).await;
        }
        let mut loading = match begun {
            Begun::Loading(loading) => loading,
            Begun::Value(value) => {
                flown.tell(&Ok(Some(Arc::clone(&value))));
                return pilot.land(Ok(Some(value)));
            }
            Begun::Elsewhere => return pilot.land(Ok(None)),
        };
        pilot.standing().claim(loading.claim());
        let context = LoadContext::over(flown.previous.as_ref());
        let decisions = context.clone();
        self.count_load(&flown);
        let began = Instant::now();
        let own = vec![pilot.id().clone()];
        let load = nesting::within(own, run_loader(async move { loader(context).await }));
        let loaded = self.renewing(vec![(key, &loading)], &options, load).await;
        let decisions = decisions.decisions();
        options.write.cost_ms = elapsed_ms(began);
        let loaded: Outcome<V, E> = loaded.and_then(|value| {
            tag::registers(&decisions.tags)?;
            Ok(Some(Arc::new(value)))
        });
        let value = match &loaded {
            Ok(Some(value))
                if flown.is_renewed(&loading, &options, (&decisions, self.default_ttl)) =>
            {
                self.renewed(value, &options, &decisions)
            }
            Ok(Some(value)) => {
                self.decided(key, value, &mut loading, (options, decisions))
                    .await
            }
            Ok(None) => None,
            Err(_) => {
                self.count_failure(key, &flown);
                None
            }
        };
        let settled = Loaded {
            key,
            marker: &marker,
            loading: &loading,
            value,
        };
        self.settle(vec![settled]).await;
        flown.tell(&loaded);
        pilot.land(loaded);
    }

    fn count_load<V, E>(&self, flown: &Flown<V, E>) {
        self.counters.count(Counter::Load);
        if flown.previous.is_some() {
            self.counters.count(Counter::Refresh);
        }
    }

    /// Counts a failed load, and lets nobody try to replace the same value for a while.
    fn count_failure<V, E>(&self, key: &[u8], flown: &Flown<V, E>) {
        self.counters.count(Counter::LoadFailed);
        if let Some(life) = flown.previous.as_ref().and_then(|found| found.life) {
            self.counters.count(Counter::RefreshFailed);
            self.pause(key, life.write_id);
        }
    }

    /// Returns what renews the entry that is there.
    fn renewed<V>(
        &self,
        value: &Arc<V>,
        options: &LoadOptions,
        decisions: &Decisions,
    ) -> Option<Ready>
    where
        V: Serialize + Send + Sync + 'static,
    {
        if !options.cache_none && is_none(&**value) {
            return None;
        }
        let mut write = options.write;
        write.ttl = decisions.ttl.unwrap_or(write.ttl);
        match write.ttl_ms(self.default_ttl) {
            Ok(Some(ttl_ms)) => Some(Ready::Renewal(ttl_ms.saturating_add(write.grace_ms))),
            // It never expired, or the loader's TTL is none.
            Ok(None) => None,
            Err(error) => {
                self.not_stored(&error);
                None
            }
        }
    }

    /// Encodes a loaded value as its loader decided.
    async fn decided<V>(
        &self,
        key: &[u8],
        value: &Arc<V>,
        loading: &mut Loading,
        (mut options, decisions): (LoadOptions, Decisions),
    ) -> Option<Ready>
    where
        V: Serialize + Send + Sync + 'static,
    {
        if decisions.skip || !self.may_store(loading) {
            return None;
        }
        match self.learn(key, loading, &decisions.tags).await {
            Ok(true) => {
                options.write.ttl = decisions.ttl.unwrap_or(options.write.ttl);
                self.loaded(value, loading, &options)
            }
            Ok(false) => {
                self.counters.count(Counter::Overtaken);
                None
            }
            Err(error) => {
                self.not_stored(&error);
                None
            }
        }
    }

    /// Encodes a loaded value; `None`: it is not to be stored, or cannot be.
    pub(super) fn loaded<V>(
        &self,
        value: &Arc<V>,
        loading: &Loading,
        options: &LoadOptions,
    ) -> Option<Ready>
    where
        V: Serialize + Send + Sync + 'static,
    {
        if !self.may_store(loading) {
            return None;
        }
        // It is not the cache's own code, and a mark that stays would keep others waiting.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.encoded(value, loading, options)));
        let encoded = encoded.unwrap_or_else(|panic| {
            let message = format!("the value panicked when encoded: {}", panic_text(&*panic));
            Err(Error::new(ErrorKind::Codec, message))
        });
        encoded.unwrap_or_else(|error| {
            self.not_stored(&error);
            None
        })
    }

    fn encoded<V>(
        &self,
        value: &Arc<V>,
        loading: &Loading,
        options: &LoadOptions,
    ) -> Result<Option<Ready>>
    where
        V: Serialize + Send + Sync + 'static,
    {
        if !options.cache_none && is_none(&**value) {
            return Ok(None);
        }
        let mut prepared = self.prepare_shared(value, &options.write)?;
        if !loading.stamps().is_empty() {
            prepared = prepared.stamped(loading.stamps())?;
        }
        if !self.is_local_only() {
            let window_ms = options.stampede.ahead.window_ms(&prepared.life());
            let left = |ttl_ms: u64| ttl_ms.saturating_sub(window_ms.unwrap_or(0));
            prepared.local_ms = prepared.ttl_ms.map(left);
        }
        Ok(Some(Ready::Entry(prepared)))
    }

    /// Returns whether a load may store its value; counts it if another process's load overtook it from the beginning.
    fn may_store(&self, loading: &Loading) -> bool {
        if loading.is_busy() {
            self.counters.count(Counter::Overtaken);
        }
        loading.may_store()
    }

    /// Counts a loaded value that its callers get and nobody else.
    pub(super) fn not_stored(&self, error: &Error) {
        self.counters.count(Counter::WriteError);
        tracing::warn!(cache = %self.name, %error, "a loaded value could not be stored");
    }
}

/// Returns whether a TTL is shorter than the one that an entry says it has, by which its refresh points are counted.
fn is_shorter(ttl: Ttl, default_ttl: Ttl, life: &Life) -> bool {
    let ttl_ms = ttl.resolve(default_ttl).ok().flatten();
    let both = ttl_ms.zip(life.ttl_ms);
    both.is_some_and(|(ttl_ms, of_entry_ms)| ttl_ms < of_entry_ms)
}

/// Returns whole milliseconds, as a header keeps them.
pub(super) fn elapsed_ms(began: Instant) -> u32 {
    u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX)
}
