//! The load of a flight: from its beginning in the store to its landing.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Inner;
use super::flight::{Outcome, Pilot};
use super::landing::Loaded;
use super::loader::{Decisions, LoadContext, is_none, run_loader};
use super::loading::{Begun, Loading};
use super::put::Prepared;
use super::remember::LoadOptions;
use super::stats::Counter;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::tag;

impl Inner {
    /// Runs the load of a flight and lands it.
    pub(super) async fn fly<F, Fut, V, E>(
        self: Arc<Self>,
        pilot: Pilot<V, E>,
        key: Key,
        loader: F,
        mut options: LoadOptions,
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
        let begun = self.begin_in_turn::<V>(key, &options, &marker, pilot.standing());
        let mut loading = match begun.await {
            Begun::Value(value) => return pilot.land(Ok(Some(value))),
            Begun::Loading(loading) => loading,
        };
        pilot.standing().claim(loading.claim());
        let context = LoadContext::default();
        let decisions = context.clone();
        self.counters.count(Counter::Load);
        let load = run_loader(async move { loader(context).await });
        let loaded = self.renewing(vec![(key, &loading)], &options, load).await;
        let decisions = decisions.decisions();
        let loaded: Outcome<V, E> = loaded.and_then(|value| {
            tag::registers(&decisions.tags)?;
            Ok(Some(Arc::new(value)))
        });
        let value = match &loaded {
            Ok(Some(value)) => {
                self.decided(key, value, &mut loading, (options, decisions))
                    .await
            }
            Ok(None) => None,
            Err(_) => {
                self.counters.count(Counter::LoadFailed);
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
        pilot.land(loaded);
    }

    /// Encodes a loaded value as its loader decided.
    async fn decided<V>(
        &self,
        key: &[u8],
        value: &Arc<V>,
        loading: &mut Loading,
        (mut options, decisions): (LoadOptions, Decisions),
    ) -> Option<Prepared>
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
    ) -> Option<Prepared>
    where
        V: Serialize + Send + Sync + 'static,
    {
        if !self.may_store(loading) || !options.cache_none && is_none(&**value) {
            return None;
        }
        let prepared = self.prepare_shared(value, &options.write);
        let stamped = prepared.and_then(|prepared| match loading.stamps() {
            [] => Ok(prepared),
            stamps => prepared.stamped(stamps),
        });
        stamped.map_err(|error| self.not_stored(&error)).ok()
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
