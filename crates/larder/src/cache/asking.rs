//! Asking for a value: what is found is returned, fresh or stale, and what is missing is loaded by one caller for all.
//!
//! ```text
//! read: fresh -> return           due, or marked stale -> return, refresh in the background
//!       missing -> lead or join   stale -> lead and wait, or return
//! ```

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::Inner;
use super::flight::{Depends, Entered, Outcome, Pilot, Waiter};
use super::fly::Flown;
use super::freshness;
use super::loader::LoadContext;
use super::memo::Noted;
use super::nesting;
use super::read::Found;
use super::remember::{LoadOptions, RememberError};
use super::stats::Counter;
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRef};
use crate::ttl::Ttl;

/// A value on its way to a caller.
pub(super) struct Served<V> {
    pub(super) value: Arc<V>,
    pub(super) is_stale: bool,
}

/// What to do about a value that was found.
enum State {
    Fresh,
    /// It is time to load it anew, or somebody wants it to be.
    Due,
    /// It has outlived its TTL.
    Over,
}

impl Inner {
    /// Returns the value of the memo or of the local tier, else reads or loads it.
    pub(super) async fn remember<F, Fut, V, E>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        loader: F,
        options: LoadOptions,
    ) -> Result<Served<V>, RememberError<E>>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let view = options.view();
        let memo = self.memo();
        let noted = memo.as_ref();
        let noted = noted.and_then(|memo| memo.get::<V>(key.as_bytes(), view));
        if let Some(Noted(Some(value))) = noted {
            return Ok(fresh(value));
        }
        let version = memo.as_ref().map(|memo| memo.version());
        let served = match self.local_hit::<V>(key.as_bytes(), view) {
            Some(value) => fresh(value),
            None => self.remember_within(key, loader, options).await?,
        };
        if let (Some(memo), Some(version), false) = (memo, version, served.is_stale) {
            memo.note(key.as_bytes(), view, Some(&served.value), version);
        }
        Ok(served)
    }

    /// Reads or loads a value within the time that the call has.
    async fn remember_within<F, Fut, V, E>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        loader: F,
        mut options: LoadOptions,
    ) -> Result<Served<V>, RememberError<E>>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        self.check(&mut options)?;
        let limit = options.hard_timeout;
        let in_hand = OnceLock::new();
        let asked = self.ask(key, (loader, options), &in_hand);
        let Some(limit) = limit else {
            return asked.await;
        };
        if let Ok(answer) = tokio::time::timeout(limit, asked).await {
            return answer;
        }
        self.counters.count(Counter::TimedOut);
        match in_hand.into_inner() {
            Some(value) => Ok(self.stale(value)),
            None => {
                let message = format!("no value within the hard_timeout of {limit:?}");
                let error = Error::new(ErrorKind::Timeout, message);
                Err(self.tagged(error, "remember", key.as_bytes()).into())
            }
        }
    }

    /// Reads or loads a value. A stale one is `in_hand` for those who wait no longer.
    async fn ask<F, Fut, V, E>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        (loader, options): (F, LoadOptions),
        in_hand: &OnceLock<Arc<V>>,
    ) -> Result<Served<V>, RememberError<E>>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let (schema, depends) = (options.write.schema, options.depends()?);
        let since = self.flights.moment();
        loop {
            if !self.flights.is_joinable::<V, E>(key.checked()?, schema)
                && let Some(found) = self.read_shared::<V>(key, options.wanted()).await?
            {
                let key = key.to_key()?;
                let value = Arc::clone(&found.value);
                return Ok(match self.state(&found, &options) {
                    State::Fresh => fresh(value),
                    State::Due => {
                        let is_stale = found.is_marked;
                        self.refresh(key, &depends, found, (loader, options));
                        match is_stale {
                            true => self.stale(value),
                            false => fresh(value),
                        }
                    }
                    State::Over => {
                        let value = in_hand.get_or_init(|| value);
                        let load = (loader, options);
                        let replaced = self.replace(key, &depends, found, load).await;
                        replaced.map_or_else(|| self.stale(Arc::clone(value)), fresh)
                    }
                });
            }
            let entered = self.enter::<V, E>(key.as_bytes(), &options, &depends, since);
            match entered.await? {
                Entered::Leads(pilot, waiter) => {
                    let _waiting = nesting::wait_for(waiter.id())?;
                    let (inner, key) = (Arc::clone(self), key.to_key()?);
                    let flown = Flown::default();
                    tokio::spawn(
                        async move { inner.fly(pilot, key, (loader, options), flown).await },
                    );
                    return landed(waiter.outcome().await);
                }
                Entered::Joins(waiter) => {
                    let _waiting = nesting::wait_for(waiter.id())?;
                    self.counters.count(Counter::Joined);
                    match waiter.outcome().await {
                        Ok(Some(value)) => return Ok(fresh(value)),
                        Ok(None) => {}
                        Err(error) => return self.instead::<V, E>(key, &options, error).await,
                    }
                }
            }
        }
    }

    /// Completes the options of a call, and checks them.
    pub(super) fn check(&self, options: &mut LoadOptions) -> Result<()> {
        let ttl_ms = options.write.ttl_ms(self.default_ttl)?;
        options.stampede.check()?;
        check_limits(options)?;
        self.refuse_tags_that_are_off(options)?;
        if options.stale_for.is_some() && ttl_ms.is_none() {
            let message = "stale_for needs a ttl to be counted from: give the call a ttl, or the cache a default_ttl";
            return Err(Error::argument(message));
        }
        if let Some(grace) = options.stale_for.or(self.stale_for) {
            options.write.grace_ms = ttl_ms.map_or(0, |_| duration_ms(grace).max(1));
        }
        Ok(())
    }

    fn state<V>(&self, found: &Found<V>, options: &LoadOptions) -> State {
        let now_ms = self.clock.now_ms();
        let ahead = options.stampede.ahead;
        match found.life {
            Some(life) if life.is_over(now_ms) => State::Over,
            _ if found.is_marked => State::Due,
            Some(life) if ahead.is_due(&life, now_ms, freshness::draw()) => State::Due,
            _ => State::Fresh,
        }
    }

    /// Serves a stale value, and counts that.
    fn stale<V>(&self, value: Arc<V>) -> Served<V> {
        self.counters.count(Counter::Stale);
        Served {
            value,
            is_stale: true,
        }
    }

    /// Returns the stale value of a key whose load has failed, if there is one.
    async fn instead<V, E>(
        self: &Arc<Self>,
        key: &KeyRef<'_>,
        options: &LoadOptions,
        error: RememberError<E>,
    ) -> Result<Served<V>, RememberError<E>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        if options.write.grace_ms == 0 {
            return Err(error);
        }
        match self.read_shared::<V>(key, options.wanted()).await {
            Ok(Some(found)) if found.is_marked || found.is_over(self.clock.now_ms()) => {
                Ok(self.stale(found.value))
            }
            Ok(Some(found)) => Ok(fresh(found.value)),
            _ => Err(error),
        }
    }

    /// Loads a value anew in the background, unless that is being done.
    fn refresh<F, Fut, V, E>(
        self: &Arc<Self>,
        key: Key,
        depends: &Depends,
        found: Found<V>,
        (loader, options): (F, LoadOptions),
    ) where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        if self.is_paused(key.as_bytes(), &found) {
            return;
        }
        let Some(permit) = self.permit() else { return };
        let Some(pilot) = self.lead_over::<V, E>(&key, options.write.schema, depends) else {
            return;
        };
        let (inner, flown) = (Arc::clone(self), Flown::over(found));
        tokio::spawn(async move {
            inner.fly(pilot, key, (loader, options), flown).await;
            drop(permit);
        });
    }

    /// Loads a value that has outlived its TTL, and waits for that as long as the call may. `None`: somebody else does, or the
    /// load has failed, or not ended yet, or is not to be tried.
    async fn replace<F, Fut, V, E>(
        self: &Arc<Self>,
        key: Key,
        depends: &Depends,
        found: Found<V>,
        (loader, options): (F, LoadOptions),
    ) -> Option<Arc<V>>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        if self.background.is_closed() || self.is_paused(key.as_bytes(), &found) {
            return None;
        }
        let pilot = self.lead_over::<V, E>(&key, options.write.schema, depends)?;
        // Nobody waits for it yet, and it for nobody.
        let _waiting = nesting::wait_for(pilot.id()).ok()?;
        let limit = options.soft_timeout.unwrap_or(Duration::MAX);
        let (tell, told) = oneshot::channel();
        let (inner, mut flown) = (Arc::clone(self), Flown::over(found));
        flown.leader = Some(tell);
        tokio::spawn(async move { inner.fly(pilot, key, (loader, options), flown).await });
        match tokio::time::timeout(limit, told).await {
            Ok(outcome) => outcome.ok()?.ok().flatten(),
            Err(_elapsed) => {
                self.counters.count(Counter::TimedOut);
                None
            }
        }
    }

    /// Starts a flight that only those wait for who have no value; `None`: there is one.
    fn lead_over<V, E>(&self, key: &Key, schema: u32, depends: &Depends) -> Option<Pilot<V, E>>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let entered = self
            .flights
            .enter::<V, E>(key.as_bytes(), schema, (depends, true));
        match entered {
            Ok(Entered::Leads(pilot, waiter)) => {
                drop(waiter);
                // Closing waits for the flights that it sees, and this one may be too late for that.
                if self.background.is_closed() && pilot.is_abandoned() {
                    pilot.land(Ok(None));
                    return None;
                }
                Some(pilot)
            }
            // Who has a value does not mind how many wait for the next.
            Ok(Entered::Joins(_)) | Err(_) => None,
        }
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
    ///
    /// # Errors
    /// As [`nesting::wait_for`] and [`Flights::join`](super::flight::Flights::join).
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
        // First of all: a loader that asks for its own key would start one load after another.
        let _waiting = nesting::wait_for(waiter.id())?;
        let ask = |claim| {
            let (inner, key) = (Arc::clone(self), Key::from(key));
            async move { inner.stands(key.as_bytes(), claim).await }
        };
        if waiter.is_fit_for(&self.flights, since, ask).await {
            return Ok(Some(waiter));
        }
        waiter.retire(&self.flights, key);
        Ok(None)
    }

    /// Refuses tags where they are switched off: to load every time instead would go unnoticed.
    fn refuse_tags_that_are_off(&self, options: &LoadOptions) -> Result<()> {
        if self.tagging || options.tags.registers()?.is_empty() {
            return Ok(());
        }
        Err(self.no_tags())
    }
}

fn fresh<V>(value: Arc<V>) -> Served<V> {
    Served {
        value,
        is_stale: false,
    }
}

fn landed<V, E>(outcome: Outcome<V, E>) -> Result<Served<V>, RememberError<E>> {
    let missing = || Error::new(ErrorKind::Internal, "a load came to nothing");
    let value = outcome?.ok_or_else(|| RememberError::Cache(missing()))?;
    Ok(fresh(value))
}

/// Checks how long a call waits, and for how long it takes stale values.
fn check_limits(options: &LoadOptions) -> Result<()> {
    check_stale_for(options.stale_for)?;
    let (soft, hard) = (options.soft_timeout, options.hard_timeout);
    for (name, limit) in [("soft_timeout", soft), ("hard_timeout", hard)] {
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Err(Error::argument(format!("{name} must be more than zero")));
        }
    }
    if let (Some(soft), Some(hard)) = (soft, hard)
        && soft > hard
    {
        let message = format!("the soft_timeout of {soft:?} is over the hard_timeout of {hard:?}");
        return Err(Error::argument(message));
    }
    Ok(())
}

/// Checks for how long values may be served after their TTL.
pub(super) fn check_stale_for(grace: Option<Duration>) -> Result<()> {
    let Some(grace) = grace else { return Ok(()) };
    match Ttl::For(grace).resolve(Ttl::Forever) {
        Ok(_) => Ok(()),
        Err(_) if grace.is_zero() => Err(Error::argument("stale_for must be more than zero")),
        Err(_) => Err(Error::argument("stale_for must be at most 1000 years")),
    }
}
