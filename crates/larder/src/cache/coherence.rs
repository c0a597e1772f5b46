//! Keeps the local tier up with what other processes change.
//!
//! One task for each cache reads the store's journal and applies it. How late it may be is bounded without it: a copy
//! is used only while the last reading that reached the end was sent less than `max_staleness` ago (`Tier::freshen`), so a
//! task that is stuck, a store that is down and messages that are lost make misses, not stale reads.
//!
//! ```text
//! change in the store + note --> acknowledged        poll sent .. notes applied: copies removed, reads under way doomed
//!                                                          --> copies of that part are fresh since "sent"
//! ```
//! A read under way is doomed by a note of its key, since it may have been sent before the change, and would be inserted
//! after the change was told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, SetOnce};
use tokio::task::AbortHandle;

use super::Inner;
use super::local::Tier;
use super::stats::Counter;
use crate::store::{Journal, Note};

/// How often the journal is read while the tier is in use.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often it is read while the tier is not used.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Each bound on staleness is worth so many readings.
const READINGS: u32 = 3;
/// After so many idle readings nothing is read until the tier is used again.
const IDLE_READINGS: u32 = 60;

/// The task that follows the journal; stopped when the cache is dropped.
#[derive(Debug, Default)]
pub(super) struct Follower {
    task: Mutex<Option<AbortHandle>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The journal was asked for the first time.
    has_begun: SetOnce<()>,
    is_used: AtomicBool,
    used: Notify,
}

impl Follower {
    /// Makes sure that the journal is read, if there is one. The first call waits for its first news, so that the copies
    /// that it makes may be used.
    pub(super) async fn ensure(&self, inner: &Arc<Inner>, tier: &Tier) {
        if !tier.is_told() {
            return;
        }
        let shared = &self.shared;
        if !shared.is_used.swap(true, Ordering::AcqRel) {
            shared.used.notify_one();
        }
        if self.is_running(inner) {
            shared.has_begun.wait().await;
        }
    }

    /// Starts the task unless it runs; its runtime may have ended. Returns whether there is one.
    fn is_running(&self, inner: &Arc<Inner>) -> bool {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return true;
        }
        let Some(journal) = inner.store.journal(&inner.namespace) else {
            return false;
        };
        let follow = follow(Arc::downgrade(inner), journal, Arc::clone(&self.shared));
        *task = Some(tokio::spawn(follow).abort_handle());
        true
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

async fn follow(cache: Weak<Inner>, mut journal: Box<dyn Journal>, shared: Arc<Shared>) {
    let (mut hits, mut idle) = (0, 0);
    loop {
        let Some(inner) = cache.upgrade() else { return };
        let Some(tier) = &inner.local else { return };
        inner.read_journal(tier, &mut *journal).await;
        drop(shared.has_begun.set(()));
        let hits_before = std::mem::replace(&mut hits, inner.counters.sum(Counter::LocalHit));
        let is_used = shared.is_used.swap(false, Ordering::AcqRel) || hits != hits_before;
        idle = if is_used { 0 } else { idle + 1 };
        let sleeps = idle >= IDLE_READINGS;
        if sleeps {
            // So that whoever wants a copy wakes this task.
            tier.know_nothing();
        }
        let longest = tier.max_staleness() / READINGS;
        drop(inner);
        let interval = if is_used { INTERVAL } else { IDLE_INTERVAL };
        tokio::select! {
            () = tokio::time::sleep(interval.min(longest)), if !sleeps => {}
            () = shared.used.notified(), if !is_used => {}
        }
    }
}

impl Inner {
    /// Reads the journal once and applies what it says.
    async fn read_journal(&self, tier: &Tier, journal: &mut dyn Journal) {
        let sent_ms = self.clock.monotonic_ms();
        let news = journal.poll().await;
        let notes = || news.iter().flatten().flatten();
        if notes().any(|note| *note == Note::All) {
            self.inflight.doom_all(|| tier.drop_all());
        }
        self.apply(tier, notes());
        for (part, news) in news.iter().enumerate() {
            match news {
                Ok(_applied) => tier.freshen(part, sent_ms),
                Err(error) => {
                    tracing::debug!(cache = %self.name, part, %error, "it is not known what has changed");
                }
            }
        }
    }

    /// Removes what has changed, and dooms the reads that may have been sent before.
    fn apply<'a>(&self, tier: &Tier, notes: impl Iterator<Item = &'a Note>) {
        let (mut registers, mut changed) = (Vec::new(), HashMap::new());
        for note in notes {
            match note {
                Note::Register(register) => registers.push(register),
                // Of several changes of a key the last one tells what the store holds.
                Note::Key { key, write_id } => {
                    changed.insert(key.as_bytes(), *write_id);
                }
                Note::All => {}
            }
        }
        if !registers.is_empty() {
            self.inflight.doom_all(|| {
                for register in registers {
                    tier.invalidate(register);
                }
            });
        }
        for (key, write_id) in changed {
            self.inflight
                .change_now(key, || tier.remove_unless(key, write_id));
        }
    }
}
