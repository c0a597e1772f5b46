//! What is known of a lease that this process got: the guard and the watchdog share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::attempt::Plan;
use super::event::LockEvent;
use super::{Inner, Owner};
use crate::error::{Error, Result};
use crate::key::{Key, Namespace};

/// A lease is presumed to be shorter than the store says, by 1 % and 10 ms, for clocks that run unevenly.
const MARGIN_PART: u64 = 100;
const MARGIN_MS: u64 = 10;
/// Renewals are sent at this part of the TTL.
const RENEW_PART: u64 = 3;
/// A renewal that failed is tried again after this part of the TTL.
const RETRY_PART: u64 = 10;

/// A lease.
pub(super) struct Held {
    /// Never the same twice in a process.
    pub(super) id: u64,
    pub(super) inner: Arc<Inner>,
    pub(super) name: Key,
    pub(super) owner: Owner,
    pub(super) fence: u64,
    pub(super) runtime: Handle,
    space: Namespace,
    since_ms: u64,
    renew: bool,
    keeps_history: bool,
    ttl_ms: AtomicU64,
    valid_until_ms: AtomicU64,
    /// When to renew; never while a renewal is under way, unless something else sets it.
    renew_at_ms: AtomicU64,
    /// When the hold is unusually long; never once that was told.
    long_at_ms: AtomicU64,
    phase: watch::Sender<Phase>,
    /// One change at a time, so that an older one cannot follow a newer one; holds what is known of the release.
    release: tokio::sync::Mutex<Release>,
    /// Nothing is left to be released.
    is_settled: AtomicBool,
}

/// What became of the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    NotSent,
    /// Sent, and the answer was lost.
    Sent,
    Done,
}

/// What is known of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Held,
    /// The holder gave it up; the store knows, or will soon.
    Ended,
    Lost,
}

impl Held {
    /// Describes a lease that was granted for `left_ms` to a question that was sent at `sent_ms`.
    pub(super) fn new(plan: &Plan, owner: &Owner, fence: u64, sent_ms: u64, left_ms: u64) -> Self {
        let inner = Arc::clone(&plan.locks.inner);
        let renew_at_ms = if plan.renew {
            sent_ms + left_ms / RENEW_PART
        } else {
            u64::MAX
        };
        let usual_ms = inner.usual.long_hold_ms(&plan.name);
        let long_at_ms = usual_ms.map_or(u64::MAX, |ms| sent_ms.saturating_add(ms));
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            inner,
            name: plan.name.clone(),
            owner: owner.clone(),
            fence,
            runtime: plan.runtime.clone(),
            space: plan.space.clone(),
            since_ms: sent_ms,
            renew: plan.renew,
            keeps_history: plan.keeps_history,
            ttl_ms: AtomicU64::new(plan.ttl_ms),
            valid_until_ms: AtomicU64::new(certain_until_ms(sent_ms, left_ms)),
            renew_at_ms: AtomicU64::new(renew_at_ms),
            long_at_ms: AtomicU64::new(long_at_ms),
            phase: watch::Sender::new(Phase::Held),
            release: tokio::sync::Mutex::new(Release::NotSent),
            is_settled: AtomicBool::new(false),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// Returns when the lease is over in any case.
    pub(super) fn over_at_ms(&self) -> u64 {
        let ttl_ms = self.ttl_ms.load(Ordering::Acquire);
        self.inner.now_ms().saturating_add(ttl_ms)
    }

    pub(super) fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    pub(super) fn remaining(&self) -> Duration {
        if self.phase() != Phase::Held {
            return Duration::ZERO;
        }
        let until_ms = self.valid_until_ms.load(Ordering::Acquire);
        Duration::from_millis(until_ms.saturating_sub(self.inner.now_ms()))
    }

    /// Returns when the watchdog must look again.
    pub(super) fn due_ms(&self) -> u64 {
        let at = |time: &AtomicU64| time.load(Ordering::Acquire);
        at(&self.valid_until_ms)
            .min(at(&self.renew_at_ms))
            .min(at(&self.long_at_ms))
    }

    /// Notes what the time has brought; returns whether a renewal is to be sent.
    pub(super) fn look(&self, now_ms: u64) -> bool {
        if self.phase() == Phase::Held && now_ms >= self.valid_until_ms.load(Ordering::Acquire) {
            self.lose();
        }
        if self.phase() != Phase::Held {
            return false;
        }
        if now_ms >= self.long_at_ms.load(Ordering::Acquire) {
            self.long_at_ms.store(u64::MAX, Ordering::Release);
            self.inner.counters.long_hold();
            self.inner.tell(LockEvent::LongHold {
                name: self.name.clone(),
                owner: self.owner.clone(),
                held: self.held_for(),
            });
        }
        let is_due = now_ms >= self.renew_at_ms.load(Ordering::Acquire);
        if is_due {
            self.renew_at_ms.store(u64::MAX, Ordering::Release);
        }
        is_due
    }

    /// Renews the lease and decides when to do so again.
    pub(super) async fn renew(&self) {
        if let Err(error) = self.prolong(None).await {
            tracing::debug!(lock = %self.name, %error, "a lease could not be renewed yet");
            let ttl_ms = self.ttl_ms.load(Ordering::Acquire);
            let again_ms = self.inner.now_ms() + (ttl_ms / RETRY_PART).max(1);
            self.renew_at_ms.store(again_ms, Ordering::Release);
        }
    }

    /// Makes the lease last from now, for `ttl_ms` or for as long as the last time; `false`: it is not held.
    pub(super) async fn prolong(&self, ttl_ms: Option<u64>) -> Result<bool> {
        let mut release = self.release.lock().await;
        if !self.is_valid() {
            return Ok(false);
        }
        let ttl_ms = ttl_ms.unwrap_or_else(|| self.ttl_ms.load(Ordering::Acquire));
        let sent_ms = self.inner.now_ms();
        self.sent(sent_ms, ttl_ms);
        let store = self.inner.store()?;
        let extended = store.extend(&self.space, self.name.as_bytes(), &self.owner, ttl_ms);
        if !extended.await? {
            *release = Release::Done;
            self.is_settled.store(true, Ordering::Release);
            self.lose();
            // The holder may have ended it meanwhile.
            self.lost_unnoticed();
            return Ok(false);
        }
        if !self.is_valid() {
            // Too late: the holder may know already that it is over.
            self.lose();
            return Ok(false);
        }
        let until_ms = certain_until_ms(sent_ms, ttl_ms);
        self.valid_until_ms.store(until_ms, Ordering::Release);
        if self.renew {
            let at_ms = sent_ms + ttl_ms / RENEW_PART;
            self.renew_at_ms.store(at_ms, Ordering::Release);
        }
        self.inner.watchdog.reschedule(self);
        Ok(true)
    }

    /// Notes that the store is asked to make the lease last for `ttl_ms`; until the answer is here, the worse case counts.
    fn sent(&self, sent_ms: u64, ttl_ms: u64) {
        let before_ms = self.ttl_ms.swap(ttl_ms, Ordering::AcqRel);
        let until_ms = certain_until_ms(sent_ms, ttl_ms);
        self.valid_until_ms.fetch_min(until_ms, Ordering::AcqRel);
        if self.renew && ttl_ms < before_ms {
            let at_ms = sent_ms + ttl_ms / RENEW_PART;
            self.renew_at_ms.fetch_min(at_ms, Ordering::AcqRel);
        }
        self.inner.watchdog.reschedule(self);
    }

    /// Ends the hold: it was given up, or is lost already.
    pub(super) fn end(&self) {
        if !self.is_valid() {
            self.lose();
        }
        self.leave(Phase::Ended);
    }

    /// Notes that the lease is lost.
    pub(super) fn lose(&self) {
        if self.leave(Phase::Lost) {
            self.tell_of_loss();
        }
    }

    fn tell_of_loss(&self) {
        self.inner.counters.lost();
        self.inner.tell(LockEvent::Lost {
            name: self.name.clone(),
            fence: self.fence,
            held: self.held_for(),
        });
    }

    /// Ends the hold because the process ends: its holder hears that it is lost, and nobody is alarmed.
    pub(super) fn abandon(&self) {
        self.leave(Phase::Lost);
    }

    /// Leaves the phase of holding, once.
    fn leave(&self, next: Phase) -> bool {
        let left = self.phase.send_if_modified(|phase| {
            let is_held = *phase == Phase::Held;
            if is_held {
                *phase = next;
            }
            is_held
        });
        if left {
            self.inner.watchdog.unwatch(self);
            self.inner.usual.add(&self.name, self.held_for());
            self.inner.counters.held(self.held_for());
        }
        left
    }

    /// Tells the store that the hold has ended. May be called again.
    ///
    /// A store that does not know the owner any more has lost the lease before, unless an earlier release was heard.
    pub(super) async fn release(&self) -> Result<()> {
        let mut release = self.release.lock().await;
        if *release == Release::Done {
            return Ok(());
        }
        let was_sent = std::mem::replace(&mut *release, Release::Sent) == Release::Sent;
        let held_ms = self
            .keeps_history
            .then(|| self.held_for().as_millis() as u64);
        let store = self.inner.store()?;
        let name = self.name.as_bytes();
        let was_held = store
            .release(&self.space, name, &self.owner, held_ms)
            .await?;
        *release = Release::Done;
        self.is_settled.store(true, Ordering::Release);
        if !was_held && !was_sent {
            self.lost_unnoticed();
        }
        Ok(())
    }

    /// Notes that a lease was lost before its holder ended it.
    fn lost_unnoticed(&self) {
        let was_ended = self.phase.send_if_modified(|phase| {
            let was_ended = *phase == Phase::Ended;
            *phase = Phase::Lost;
            was_ended
        });
        if was_ended {
            self.tell_of_loss();
        }
    }

    pub(super) fn named(&self, error: Error, operation: &'static str) -> Error {
        self.inner.named(error, operation, self.name.as_bytes())
    }

    fn held_for(&self) -> Duration {
        Duration::from_millis(self.inner.now_ms().saturating_sub(self.since_ms))
    }
}

/// Returns until when a lease is held for certain.
fn certain_until_ms(sent_ms: u64, ttl_ms: u64) -> u64 {
    let margin_ms = ttl_ms / MARGIN_PART + MARGIN_MS;
    sent_ms.saturating_add(ttl_ms.saturating_sub(margin_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_ends_before_the_lease() {
        assert_eq!(certain_until_ms(1000, 30_000), 1000 + 30_000 - 310);
        assert_eq!(certain_until_ms(1000, 50), 1040);
        assert_eq!(certain_until_ms(1000, 5), 1000);
    }
}
