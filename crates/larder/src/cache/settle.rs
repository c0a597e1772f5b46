//! Invalidations that a store has not acknowledged: they are repeated in the background until it has, and so are the
//! latest of all when a server that may not have heard of them takes over from another.
//!
//! To invalidate again is harmless: it costs misses. So nobody needs to know how far the last attempt got.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Inner;
use crate::clock::duration_ms;
use crate::error::{Error, Result, Settling};
use crate::store::Invalidation;
use crate::tag::Selector;

/// So many invalidations may be unsettled, and so many are repeated for a new server.
const MAX_REMEMBERED: usize = 10_000;
/// How long an invalidation is repeated for a new server.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often the task looks whether another server has taken over.
const LOOK: Duration = Duration::from_millis(250);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Tags of one attempt.
const BATCH: usize = 500;

/// One tag, subtree or pattern, and what is done to it.
type Target = (String, Invalidation);

/// What a cache has invalidated and may have to invalidate again.
#[derive(Debug, Default)]
pub(super) struct Settler {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    unsettled: VecDeque<Unsettled>,
    /// What was invalidated lately, with the time, by the monotonic clock.
    recent: VecDeque<(u64, Target)>,
    /// The store's connection epoch when everything in `recent` was known to be where it belongs.
    epoch: u64,
    task: Option<AbortHandle>,
}

/// An invalidation that is not acknowledged; its sender tells whoever waits.
#[derive(Debug)]
struct Unsettled {
    targets: Vec<Target>,
    settled: watch::Sender<bool>,
    /// It is none of those that are remembered already.
    is_new: bool,
}

impl Unsettled {
    /// What nobody waits for.
    fn unattended(targets: Vec<Target>) -> Self {
        Self {
            targets,
            settled: watch::Sender::new(false),
            is_new: false,
        }
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        if let Some(task) = self.lock().task.take() {
            task.abort();
        }
    }
}

impl Settler {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was invalidated, for servers that take over within a minute. `epoch` was the store's connection epoch
    /// before.
    pub(super) fn note(&self, inner: &Arc<Inner>, tags: &[String], how: Invalidation, epoch: u64) {
        if inner.store.connection_epoch() == 0 {
            // There are no servers.
            return;
        }
        let now_ms = inner.clock.monotonic_ms();
        let targets = tags.iter().map(|tag| (tag.clone(), how));
        let mut state = self.lock();
        if state.recent.is_empty() {
            state.epoch = epoch;
        }
        if state.epoch != epoch && state.unsettled.len() < MAX_REMEMBERED {
            // It was made in the midst of a change that has been dealt with.
            state
                .unsettled
                .push_back(Unsettled::unattended(targets.clone().collect()));
        }
        state.recent.extend(targets.map(|target| (now_ms, target)));
        let over = state.recent.len().saturating_sub(MAX_REMEMBERED);
        state.recent.drain(..over);
        state.ensure(inner);
    }

    /// Repeats a failed invalidation until it has succeeded; returns the error, which tells of that.
    pub(super) fn take_on(
        &self,
        inner: &Arc<Inner>,
        tags: Vec<String>,
        how: Invalidation,
        error: Error,
    ) -> Error {
        let mut state = self.lock();
        let is_full = state.unsettled.len() >= MAX_REMEMBERED;
        if !error.is_retryable() || is_full || !state.ensure(inner) {
            return error;
        }
        let (settled, settling) = watch::channel(false);
        state.unsettled.push_back(Unsettled {
            targets: tags.into_iter().map(|tag| (tag, how)).collect(),
            settled,
            is_new: true,
        });
        error.settling(Settling::new(settling))
    }
}

impl State {
    /// Starts the task, if it does not run; `false`: there is nothing to run it.
    fn ensure(&mut self, inner: &Arc<Inner>) -> bool {
        // It ends with its runtime, if not before.
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return true;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        let task = runtime.spawn(run(Arc::downgrade(inner)));
        self.task = Some(task.abort_handle());
        true
    }

    /// Forgets what is old; returns whether there is anything left to do.
    fn tidy(&mut self, now_ms: u64) -> bool {
        let horizon_ms = now_ms.saturating_sub(duration_ms(REMEMBERED));
        while self.recent.front().is_some_and(|(at, _)| *at < horizon_ms) {
            self.recent.pop_front();
        }
        let is_needed = !(self.recent.is_empty() && self.unsettled.is_empty());
        if !is_needed {
            self.task = None;
        }
        is_needed
    }

    /// Makes what is recent unsettled if another server may have taken over.
    fn notice(&mut self, epoch: u64) {
        if self.epoch == epoch {
            return;
        }
        self.epoch = epoch;
        let mut targets: HashSet<Target> = self.recent.iter().map(|(_, it)| it.clone()).collect();
        // One for all: servers may come and go many times before anything can be settled.
        for old in self.unsettled.iter_mut().filter(|it| !it.is_new) {
            targets.extend(old.targets.drain(..));
        }
        self.unsettled.retain(|it| it.is_new);
        if !targets.is_empty() {
            tracing::debug!(
                tags = targets.len(),
                "invalidations are repeated for a new server"
            );
            let targets = targets.into_iter().collect();
            self.unsettled.push_back(Unsettled::unattended(targets));
        }
    }
}

async fn run(cache: Weak<Inner>) {
    let mut retry = FIRST_RETRY;
    loop {
        let Some(inner) = cache.upgrade() else { return };
        let count = {
            let mut state = inner.settler.lock();
            if !state.tidy(inner.clock.monotonic_ms()) {
                return;
            }
            state.notice(inner.store.connection_epoch());
            state.unsettled.len()
        };
        let rest = match inner.settle_all(count).await {
            Ok(()) => {
                retry = FIRST_RETRY;
                LOOK
            }
            Err(error) => {
                tracing::debug!(cache = %inner.name, %error, "invalidations are not settled yet");
                let rest = retry;
                retry = (retry * 2).min(LAST_RETRY);
                rest
            }
        };
        drop(inner);
        tokio::time::sleep(rest).await;
    }
}

impl Inner {
    /// Repeats the first `count` unsettled invalidations: all at once, or one by one if that can never succeed.
    async fn settle_all(self: &Arc<Self>, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let epoch = self.store.connection_epoch();
        let targets: Vec<Vec<Target>> = {
            let state = self.settler.lock();
            let first = state.unsettled.iter().take(count);
            first.map(|it| it.targets.clone()).collect()
        };
        let all: HashSet<Target> = targets.iter().flatten().cloned().collect();
        let mut outcomes = vec![true; targets.len()];
        match self.repeat(&all).await {
            Err(error) if error.is_retryable() => return Err(error),
            Err(_) => {
                for (outcome, targets) in outcomes.iter_mut().zip(targets) {
                    let repeated = self.repeat(&targets.into_iter().collect()).await;
                    *outcome = match repeated {
                        Err(error) if error.is_retryable() => return Err(error),
                        repeated => repeated.is_ok(),
                    };
                }
            }
            Ok(()) => {}
        }
        // What local copies depend on nobody knows; after the store has changed, so that what is read meanwhile goes, too.
        if self.local.is_some() {
            drop(self.change_all().await);
        }
        let settled: Vec<_> = self.settler.lock().unsettled.drain(..count).collect();
        for (it, is_made) in settled.into_iter().zip(outcomes) {
            if is_made && it.is_new {
                for (tag, how) in &it.targets {
                    self.settler
                        .note(self, std::slice::from_ref(tag), *how, epoch);
                }
            }
            // Who waits for what can never be made hears that its sender is gone.
            if is_made {
                it.settled.send_replace(true);
            }
        }
        Ok(())
    }

    async fn repeat(&self, targets: &HashSet<Target>) -> Result<()> {
        for how in [Invalidation::Hard, Invalidation::Soft] {
            let tags = targets.iter().filter(|(_, its_own)| *its_own == how);
            let selectors = tags.map(|(tag, _)| Selector::parse(tag));
            let selectors = selectors.collect::<Result<Vec<_>>>()?;
            for selectors in selectors.chunks(BATCH) {
                self.invalidate_in_store(selectors, how).await?;
                self.flights.forget_depending(selectors);
            }
        }
        Ok(())
    }
}
