//! Taking turns: who may load a key, in all processes, and who waits for the load of another.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Inner;
use super::flight::Standing;
use super::freshness::Life;
use super::inflight::Marker;
use super::loading::{Begun, Flying, Loading, Right, lease};
use super::refresh::{Lease, Leased};
use super::remember::LoadOptions;
use super::stampede::Patience;
use super::stats::Counter;
use crate::key::Namespace;
use crate::store::{Condition, Write};

/// The part of a lease after which it is renewed.
const RENEW_PART: u32 = 3;
/// A load that takes longer than this loses its place: its loader may be stuck for good.
const LONGEST_LOAD: Duration = Duration::from_secs(15 * 60);

/// Marks and leases in a namespace: keys and tokens.
type Marks<'a> = (&'a Namespace, Vec<(&'a [u8], u64)>);

impl Inner {
    /// Begins a load, or waits for another process's. Callers who came before the last look may have its value. Whoever has
    /// the `previous` value waits for nobody.
    pub(super) async fn begin_in_turn<V>(
        self: &Arc<Self>,
        key: &[u8],
        options: &LoadOptions,
        marker: &Marker<'_>,
        (standing, previous): (&Standing, Option<&Life>),
    ) -> Begun<V>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let mut patience = options.stampede.patience();
        let mut lease = None;
        loop {
            if previous.is_some() && lease.is_none() {
                match self.lease(key, options).await {
                    Leased::Elsewhere => return Begun::Elsewhere,
                    Leased::Granted(granted) => lease = Some(granted),
                }
            }
            standing.begin(&self.flights);
            let mut begun = self.begin(key, options, (marker, previous)).await;
            if let Begun::Loading(loading) = &mut begun {
                match (loading.right, lease) {
                    (Right::Entry(_), Some(_)) => {
                        loading.lease = lease;
                        return begun;
                    }
                    (Right::Entry(_), None) => match self.lease(key, options).await {
                        Leased::Elsewhere => loading.right = Right::Busy,
                        Leased::Granted(granted) => {
                            // Whoever had the lease before may have replaced the entry.
                            lease = Some(granted);
                            continue;
                        }
                    },
                    _ => {}
                }
            }
            if let Some(lease) = lease.take() {
                self.end_leases(&[(key, lease)]).await;
            }
            if !begun.is_busy() {
                return begun;
            }
            if previous.is_some() {
                return Begun::Elsewhere;
            }
            if patience.is_over() {
                return begun;
            }
            self.rest(&mut patience).await;
        }
    }

    /// As [`Inner::begin_in_turn`], of several keys; `found` gets the values that there are. Whoever may load one of the
    /// keys waits for none, so that no two wait for each other: it loads the others as well, without storing them.
    pub(super) async fn begin_many_in_turn<V>(
        self: &Arc<Self>,
        keys: &[Flying<'_, '_>],
        options: &LoadOptions,
        mut found: impl FnMut(usize, Arc<V>),
    ) -> Vec<Option<Loading>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let mut patience = options.stampede.patience();
        let mut loads: Vec<Option<Loading>> = keys.iter().map(|_| None).collect();
        let mut leases: Vec<Option<Lease>> = vec![None; keys.len()];
        let mut open: Vec<usize> = (0..keys.len()).collect();
        loop {
            let asked: Vec<_> = open.iter().map(|index| &keys[*index]).collect();
            let standings = asked.iter().map(|(.., standing)| standing);
            standings.for_each(|standing| standing.begin(&self.flights));
            let begun = self.begin_many(&asked, options).await;
            for (index, begun) in open.iter().zip(begun) {
                match begun {
                    Begun::Value(value) => {
                        // Whoever was to be waited for has stored it.
                        loads[*index] = None;
                        found(*index, value);
                    }
                    Begun::Loading(loading) => loads[*index] = Some(loading),
                    Begun::Elsewhere => loads[*index] = None,
                }
            }
            let again = self
                .lease_all(keys, options, (&open, &mut loads, &mut leases))
                .await;
            let is_busy = |index: &usize| loads[*index].as_ref().is_some_and(Loading::is_busy);
            open.retain(|index| is_busy(index) || again.contains(index));
            if !again.is_empty() {
                continue;
            }
            let is_idle = !open.is_empty() && !loads.iter().flatten().any(Loading::may_store);
            if !is_idle || patience.is_over() {
                return loads;
            }
            self.rest(&mut patience).await;
        }
    }

    /// Takes leases for those of the `open` keys whose entries are to be replaced, and gives back those that are of no use.
    /// Returns the keys that are to begin again, under their leases.
    async fn lease_all(
        self: &Arc<Self>,
        keys: &[Flying<'_, '_>],
        options: &LoadOptions,
        (open, loads, leases): (&[usize], &mut [Option<Loading>], &mut [Option<Lease>]),
    ) -> Vec<usize> {
        let (mut wanted, mut unused) = (Vec::new(), Vec::new());
        for index in open {
            let replaces = |it: &&mut Loading| matches!(it.right, Right::Entry(_));
            match (loads[*index].as_mut().filter(replaces), leases[*index]) {
                (Some(loading), Some(lease)) => loading.lease = Some(lease),
                (Some(_), None) => wanted.push(*index),
                (None, Some(lease)) => {
                    leases[*index] = None;
                    unused.push((keys[*index].0, lease));
                }
                (None, None) => {}
            }
        }
        self.end_leases(&unused).await;
        let asked: Vec<&[u8]> = wanted.iter().map(|index| keys[*index].0).collect();
        let answers = self.lease_many(&asked, options).await;
        let mut again = Vec::new();
        for (index, answer) in wanted.into_iter().zip(answers) {
            match (answer, loads[index].as_mut()) {
                (Leased::Granted(lease), _) => {
                    leases[index] = Some(lease);
                    again.push(index);
                }
                (Leased::Elsewhere, Some(loading)) => loading.right = Right::Busy,
                (Leased::Elsewhere, None) => {}
            }
        }
        again
    }

    async fn rest(&self, patience: &mut Patience) {
        if patience.is_fresh() {
            self.counters.count(Counter::Waited);
        }
        patience.rest().await;
    }

    /// Runs a load, and renews the marks and leases of its keys as long as it takes.
    pub(super) async fn renewing<T>(
        &self,
        loads: Vec<(&[u8], &Loading)>,
        options: &LoadOptions,
        load: impl Future<Output = T>,
    ) -> T {
        let marks = loads.iter();
        let marks = marks.filter_map(|(key, loading)| Some((*key, loading.mark()?)));
        let marks: Vec<_> = marks.collect();
        let leases = loads.iter();
        let leases = leases.filter_map(|(key, loading)| Some((*key, loading.lease?.token?)));
        let leases: Vec<_> = leases.collect();
        if marks.is_empty() && leases.is_empty() {
            return load.await;
        }
        let refreshes = self.refreshes(options.write.schema);
        let all = [(&self.namespace, marks), (&refreshes, leases)];
        tokio::select! {
            biased;
            loaded = load => loaded,
            never = self.renew(&all, options) => match never {},
        }
    }

    async fn renew(&self, all: &[Marks<'_>], options: &LoadOptions) -> Infallible {
        let pause = options.stampede.lease_ttl / RENEW_PART;
        let mut left = LONGEST_LOAD;
        while !left.is_zero() {
            tokio::time::sleep(pause).await;
            left = left.saturating_sub(pause);
            for (namespace, marks) in all.iter().filter(|(_, marks)| !marks.is_empty()) {
                let touches = marks.iter().map(|(key, token)| {
                    let touch = Write::touch(key, lease(options));
                    touch.when(Condition::IfUnchanged(*token))
                });
                let touches: Vec<_> = touches.collect();
                if let Err(error) = self.store.write_many(namespace, &touches).await {
                    tracing::debug!(cache = %self.name, %error, "a load could not be renewed yet");
                }
            }
        }
        std::future::pending().await
    }
}
