//! From the primary to the standby and back.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Inner;
use super::journal::{Generation, Trace};
use super::phase::{Outage, Phase, Seen, is_news};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, Namespace};
use crate::store::Write;

/// The wait before the first probe, and the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_PROBE_WAIT: Duration = Duration::from_secs(2);
/// A primary that takes longer to answer a probe is down.
const MAX_PING: Duration = Duration::from_millis(800);
/// Deletes replayed in one call.
const BATCH: usize = 256;
/// How often a switch begins anew because other processes switch, too.
const MAX_ATTEMPTS: usize = 16;

impl Inner {
    /// Leaves the primary, unless it was left or came back since the failed call began.
    pub(super) async fn switch(self: &Arc<Self>, seen: Seen, error: &Error) -> Result<()> {
        let mut held = self.gate.write().await?;
        let Phase::Primary(known) = *held else {
            return Ok(());
        };
        if self.gate.word() != seen.word {
            return Ok(());
        }
        // First, so that calls to the primary that begin now see it, and `wrote` tells of those before.
        self.gate.set(&mut held, Phase::Unknown);
        let left = self.gate.word();
        match self.leave(&mut held, known, error).await {
            Ok(()) => Ok(()),
            Err(failed) => {
                tracing::warn!(
                    store = self.primary.name(),
                    standby = self.standby.name(),
                    problem = failed.message(),
                    "the standby cannot take over"
                );
                // Unless a return was begun: then others changed something, and it is not known what.
                if self.gate.word() == left {
                    self.gate.set(&mut held, Phase::Primary(known));
                }
                Err(error.clone())
            }
        }
    }

    async fn leave(
        self: &Arc<Self>,
        held: &mut Phase,
        known: Generation,
        error: &Error,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let present = self.journal.generation().await?;
            // Somebody trusts the primary since the failed call began: it may be up.
            if is_news(present, known) && self.ping_primary().await.is_ok() {
                return self.establish(held).await;
            }
            if !self.wrote.load(Ordering::SeqCst) {
                self.enter_standby(held, present, error);
                return Ok(());
            }
            // What others left in the standby may be older than what this process wrote to the primary.
            if let Some(own) = self.journal.leave_from(present).await? {
                self.enter_standby(held, own, error);
                return Ok(());
            }
        }
        Err(self.unavailable("too many processes leave the primary at once"))
    }

    fn enter_standby(self: &Arc<Self>, held: &mut Phase, generation: Generation, error: &Error) {
        self.gate.set(held, Phase::Standby(generation));
        self.ensure_prober();
        if self.gate.outage().is_some() {
            return;
        }
        self.loads.forget();
        self.outages.fetch_add(1, Ordering::Relaxed);
        self.gate.set_outage(Some(Outage {
            since: Instant::now(),
            error: error.clone(),
        }));
        // Without the error's key.
        tracing::warn!(
            store = self.primary.name(), standby = self.standby.name(), kind = %error.kind(), problem = error.message(),
            "the store is down; the standby takes over"
        );
    }

    /// Finds out what there is to replay, where that is not known.
    pub(super) async fn find_out(self: &Arc<Self>) -> Result<()> {
        let mut held = self.gate.write().await?;
        match *held {
            Phase::Unknown => self.establish(&mut held).await,
            Phase::Primary(_) | Phase::Standby(_) => Ok(()),
        }
    }

    /// Finds out whether there was an outage that this process did not notice; returns whether there was none.
    pub(super) async fn verify(self: &Arc<Self>, seen: Seen) -> Result<bool> {
        let mut held = self.gate.write().await?;
        if self.gate.word() == seen.word {
            self.establish(&mut held).await?;
        }
        Ok(
            self.disturbances.load(Ordering::SeqCst) == seen.disturbances
                && matches!(*held, Phase::Primary(_)),
        )
    }

    /// Another process made a new generation: goes on in it, or returns, too.
    pub(super) async fn follow(self: &Arc<Self>) -> Result<()> {
        let mut held = self.gate.write().await?;
        let Phase::Standby(known) = *held else {
            return Ok(());
        };
        let present = self.journal.generation().await?;
        if present == known {
            return Ok(());
        }
        if is_news(present, known) && self.ping_primary().await.is_ok() {
            return self.establish(&mut held).await;
        }
        self.gate.set(&mut held, Phase::Standby(present));
        Ok(())
    }

    /// Replays what any process changed without the primary, and trusts it then; on its failure, the standby goes on.
    ///
    /// # Errors
    /// The journal's: nothing can be trusted, and the next call tries again.
    pub(super) async fn establish(self: &Arc<Self>, held: &mut Phase) -> Result<()> {
        let established = self.replay_and_trust(held).await.map_err(|error| {
            let message = format!(
                "the fallback's journal fails, so that it is not known what changed without the store: {}",
                error.message()
            );
            Error::new(error.kind(), message)
                .store(self.standby.name())
                .caused_by(error)
        });
        self.gate.set_trouble(established.as_ref().err().cloned());
        established
    }

    async fn replay_and_trust(self: &Arc<Self>, held: &mut Phase) -> Result<()> {
        let before = std::mem::replace(held, Phase::Unknown);
        self.gate.set(held, Phase::Unknown);
        // Before anything else: a connection made anew from here on is noticed by the calls to come.
        let epoch = self.primary.connection_epoch();
        let mut generation = self.journal.advance().await?;
        let traces = self.journal.before(generation).await?;
        let known = match before {
            Phase::Primary(known) => Some(known.replayed),
            Phase::Unknown | Phase::Standby(_) => None,
        };
        if !traces.is_empty() || known != Some(generation.replayed) {
            self.disturbances.fetch_add(1, Ordering::SeqCst);
        }
        if !traces.is_empty() {
            // On record before the first delete, for those whose changes it may remove.
            generation = self.journal.advance_to_replay().await?;
            match self.replay(&traces).await {
                Ok(keys) => self.clean_up(&traces, keys).await,
                Err(Setback::Journal(error)) => return Err(error),
                Err(Setback::Primary(error)) => {
                    self.enter_standby(held, generation, &error);
                    return Ok(());
                }
            }
        }
        self.journal.forget_before(generation.number);
        self.wrote.store(false, Ordering::SeqCst);
        self.epoch.store(epoch, Ordering::SeqCst);
        self.gate.set(held, Phase::Primary(generation));
        if let Some(outage) = self.gate.set_outage(None) {
            tracing::info!(
                store = self.primary.name(),
                standby = self.standby.name(),
                down_ms = outage.since.elapsed().as_millis() as u64,
                answered_by_standby = self.standby_calls.load(Ordering::Relaxed),
                "the store is back"
            );
        }
        Ok(())
    }

    /// Deletes from the primary what changed without it.
    async fn replay(&self, traces: &BTreeMap<Namespace, Trace>) -> Result<u64, Setback> {
        let mut replayed = 0;
        for (namespace, trace) in traces {
            if trace.is_everything {
                let cleared = self.primary.clear(namespace).await;
                cleared.map_err(Setback::Primary)?;
                continue;
            }
            let own: HashSet<&[u8]> = trace.keys.iter().map(|key| &key[..]).collect();
            for &generation in &trace.generations {
                let mut cursor: Option<Bytes> = None;
                loop {
                    let page = self.journal.keys(generation, namespace, cursor.as_ref());
                    let (keys, next) = page.await.map_err(Setback::Journal)?;
                    let keys: Vec<&[u8]> = keys
                        .iter()
                        .map(Key::as_bytes)
                        .filter(|key| !own.contains(key))
                        .collect();
                    replayed += self.delete(namespace, &keys).await?;
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
            }
            let own: Vec<&[u8]> = own.into_iter().collect();
            for keys in own.chunks(BATCH) {
                replayed += self.delete(namespace, keys).await?;
            }
        }
        Ok(replayed)
    }

    async fn delete(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<u64, Setback> {
        if keys.is_empty() {
            return Ok(0);
        }
        let deletes: Vec<_> = keys.iter().map(|key| Write::delete(key)).collect();
        let deleted = self.primary.write_many(namespace, &deletes).await;
        deleted.map_err(Setback::Primary)?;
        Ok(keys.len() as u64)
    }

    /// Drops the entries and records of what was replayed. What cannot be dropped is out of reach and is tried again.
    async fn clean_up(&self, traces: &BTreeMap<Namespace, Trace>, keys: u64) {
        let mut problem = None;
        for (namespace, trace) in traces {
            if let Err(error) = self.drop_trace(namespace, trace).await {
                problem = Some(error);
            }
        }
        if let Some(error) = problem {
            tracing::warn!(
                standby = self.standby.name(),
                problem = error.message(),
                "what an outage left in the standby could not be removed; it is tried again"
            );
        }
        tracing::info!(
            store = self.primary.name(),
            keys,
            namespaces = traces.len(),
            "what changed without the store was removed from it"
        );
    }

    async fn drop_trace(&self, namespace: &Namespace, trace: &Trace) -> Result<()> {
        for &number in &trace.generations {
            let entries = self.journal.entries_space(number, namespace);
            self.standby.clear(&entries).await?;
        }
        self.journal.forget(namespace, trace).await
    }

    pub(super) async fn ping_primary(&self) -> Result<()> {
        let ping = tokio::time::timeout(MAX_PING, self.primary.ping()).await;
        ping.unwrap_or_else(|_elapsed| Err(Error::new(ErrorKind::Timeout, "no answer to a probe")))
    }

    /// Starts the task that probes the primary, unless it runs.
    pub(super) fn ensure_prober(self: &Arc<Self>) {
        let mut prober = self.prober.lock().unwrap_or_else(PoisonError::into_inner);
        if prober.as_ref().is_none_or(|task| task.is_finished()) {
            let inner = Arc::downgrade(self);
            *prober = Some(tokio::spawn(probe(inner)).abort_handle());
        }
    }

    /// Returns to the primary if it answers; returns whether the standby is in use no more.
    async fn try_to_return(self: &Arc<Self>) -> bool {
        if self.ping_primary().await.is_err() {
            return false;
        }
        let Ok(mut held) = self.gate.write().await else {
            return false;
        };
        if matches!(*held, Phase::Standby(_))
            && let Err(error) = self.establish(&mut held).await
        {
            tracing::warn!(
                standby = self.standby.name(),
                problem = error.message(),
                "the journal cannot be replayed"
            );
        }
        !matches!(*held, Phase::Standby(_))
    }
}

/// Why a replay stopped.
enum Setback {
    Primary(Error),
    Journal(Error),
}

/// Asks the primary again and again, until it is used again or the store is gone.
async fn probe(inner: Weak<Inner>) {
    let mut wait = FIRST_WAIT;
    loop {
        // Processes that saw the same failure must not all return at once.
        let wait_ms = wait.as_millis() as u64;
        let jitter = fastrand::u64(0..=wait_ms / 2);
        tokio::time::sleep(Duration::from_millis(wait_ms * 3 / 4 + jitter)).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.try_to_return().await {
            return;
        }
        wait = (wait * 2).min(MAX_PROBE_WAIT);
    }
}
