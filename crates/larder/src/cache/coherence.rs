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
use tokio::time::{sleep, timeout};

use super::Inner;
use super::local::Tier;
use super::stats::Counter;
use crate::store::{Journal, Note, Register};

/// How often the journal is read while the tier is in use.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often it is read while the tier is not used.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Each bound on staleness is worth so many readings.
const READINGS: u32 = 3;
/// After so long without use nothing is read until the tier is used again.
const IDLE: Duration = Duration::from_secs(60);
/// How long the first read of a cache waits for the first news; the task may be in a runtime that stands still.
const FIRST_NEWS: Duration = Duration::from_secs(1);

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
        if self.is_running(inner) && shared.has_begun.get().is_none() {
            drop(timeout(FIRST_NEWS, shared.has_begun.wait()).await);
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
    let (mut hits, mut idle) = (0, Duration::ZERO);
    loop {
        let Some(inner) = cache.upgrade() else { return };
        let Some(tier) = &inner.local else { return };
        inner.read_journal(tier, &mut *journal).await;
        drop(shared.has_begun.set(()));
        let hits_before = std::mem::replace(&mut hits, inner.counters.sum(Counter::LocalHit));
        let is_used = shared.is_used.swap(false, Ordering::AcqRel) || hits != hits_before;
        let interval = if is_used { INTERVAL } else { IDLE_INTERVAL };
        let interval = interval.min(tier.max_staleness() / READINGS);
        idle = if is_used {
            Duration::ZERO
        } else {
            idle + interval
        };
        let sleeps = idle >= IDLE;
        if sleeps {
            // So that whoever wants a copy wakes this task.
            tier.know_nothing();
        }
        drop(inner);
        tokio::select! {
            () = sleep(interval), if !sleeps => {}
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
            self.inflight.hear_of_all(|| tier.drop_all());
        }
        self.apply(tier, notes());
        for (part, news) in news.iter().enumerate() {
            match news {
                Ok(_applied) => tier.freshen(part, sent_ms),
                Err(error) => {
                    tier.count_error();
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
                // A pattern was meant; what is no longer listed may have matched.
                Note::Register(register) if *register == Register::any() => {
                    self.inflight.hear_of_all(|| tier.clear());
                }
                Note::Register(register) => registers.push(register),
                Note::Key { key, write_id } => {
                    let known = changed.entry(key.as_bytes()).or_insert(*write_id);
                    if *known != *write_id {
                        // Notes may be in another order than the changes: it is not known which entry there is.
                        *known = 0;
                    }
                }
                Note::All => {}
            }
        }
        if !registers.is_empty() {
            self.inflight.hear_of_all(|| {
                for register in registers {
                    tier.invalidate(register);
                }
            });
        }
        for (key, write_id) in changed {
            self.inflight
                .hear(key, || tier.remove_unless(key, write_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::store::Entry;
    use crate::{Cache, Local, MemoryStore, envelope};

    /// Returns a cache with a copy of a key, and the write id of its entry.
    async fn cache_with_copy() -> (Cache, u64) {
        let cache = Cache::builder(MemoryStore::new()).local(Local::capacity_bytes(1 << 16));
        let cache = cache.build().unwrap();
        cache.set("k", &1_u32).await.unwrap();
        let entry: Option<Entry> = cache.inner.fetch(b"k").await.unwrap();
        let write_id = envelope::write_id(&entry.unwrap().value);
        (cache, write_id)
    }

    /// Applies notes that say which write ids the key holds; returns whether the copy is still there.
    fn keeps_copy(cache: &Cache, write_ids: &[u64]) -> bool {
        let tier = cache.inner.local.as_ref().unwrap();
        let note = |write_id: &u64| Note::Key {
            key: Key::from(&b"k"[..]),
            write_id: *write_id,
        };
        let notes: Vec<_> = write_ids.iter().map(note).collect();
        cache.inner.apply(tier, notes.iter());
        let now_ms = cache.inner.clock.monotonic_ms();
        tier.get::<u32>(b"k", 0, now_ms).is_some()
    }

    #[tokio::test]
    async fn a_copy_stays_only_if_no_note_tells_of_another_entry() {
        let (cache, own) = cache_with_copy().await;
        assert!(keeps_copy(&cache, &[own]));
        assert!(keeps_copy(&cache, &[own, own]));
        // Made before the other entry, but noted after it.
        assert!(!keeps_copy(&cache, &[own ^ 1, own]));
        let (cache, own) = cache_with_copy().await;
        assert!(!keeps_copy(&cache, &[own, 0]));
        let (cache, own) = cache_with_copy().await;
        assert!(!keeps_copy(&cache, &[own, own ^ 1, own]));
    }

    /// A journal that cannot be read.
    #[derive(Debug)]
    struct Down;

    #[async_trait::async_trait]
    impl Journal for Down {
        fn parts(&self) -> usize {
            1
        }

        fn part_of(&self, _key: &[u8]) -> usize {
            0
        }

        async fn poll(&mut self) -> Vec<crate::Result<Vec<Note>>> {
            vec![Err(crate::Error::unsupported("this"))]
        }
    }

    #[tokio::test]
    async fn news_that_cannot_be_had_is_counted() {
        let (cache, _own) = cache_with_copy().await;
        let tier = cache.inner.local.as_ref().unwrap();
        cache.inner.read_journal(tier, &mut Down).await;
        let figures = cache.stats().await.unwrap().local.unwrap();
        assert_eq!((figures.errors, figures.gaps), (1, 0));
    }

    /// What a pattern was about may have been evicted from the store, so that no note names it.
    #[tokio::test]
    async fn a_note_of_a_pattern_ends_all_copies() {
        let (cache, _own) = cache_with_copy().await;
        let tier = cache.inner.local.as_ref().unwrap();
        let other = Note::Register(Register::exact("t").unwrap());
        cache.inner.apply(tier, [other].iter());
        assert!(keeps_copy(&cache, &[]));
        let pattern = Note::Register(Register::any());
        cache.inner.apply(tier, [pattern].iter());
        assert!(!keeps_copy(&cache, &[]));
    }
}
