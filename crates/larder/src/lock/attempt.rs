//! One attempt to acquire: asks, waits, asks again, and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::event::LockEvent;
use super::guard::LockGuard;
use super::held::Held;
use super::{Answer, Ask, Inner, Listener, Locks, Owner};
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, Namespace};

/// A waiter that does not ask again for so long is presumed dead.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The first pause between two questions.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Spreads those who would ask at the same time.
const SPREAD_MS: u64 = 20;

/// A checked attempt.
pub(super) struct Plan {
    pub(super) locks: Locks,
    /// Where the lease is renewed and given up in the background.
    pub(super) runtime: Handle,
    pub(super) space: Namespace,
    pub(super) name: Key,
    pub(super) permits: u32,
    pub(super) ttl_ms: u64,
    pub(super) wait: Duration,
    pub(super) renew: bool,
    pub(super) is_fair: bool,
    pub(super) keeps_history: bool,
}

/// An owner who may be a holder or in the queue; if dropped, it is neither, soon.
struct Attempt {
    plan: Plan,
    owner: Owner,
    /// Whether the store may know the owner.
    is_open: bool,
    asked: u32,
    started: Instant,
}

/// What one question led to.
enum Step {
    Guard(LockGuard),
    Busy { ahead: u64, retry_ms: u64 },
}

/// Waits for the lock; see [`super::Lock::acquire`].
pub(super) async fn acquire(plan: Plan) -> Result<LockGuard> {
    let mut attempt = Attempt::new(plan);
    let locks = attempt.plan.locks.clone();
    let outcome = locks.inner.door.while_open(attempt.wait()).await;
    let guard = attempt.conclude(outcome)?;
    attempt.count();
    Ok(guard)
}

/// Asks once; see [`super::Lock::try_acquire`].
pub(super) async fn try_acquire(plan: Plan) -> Result<Option<LockGuard>> {
    let mut attempt = Attempt::new(plan);
    let locks = attempt.plan.locks.clone();
    let outcome = locks.inner.door.while_open(attempt.ask(None)).await;
    match attempt.conclude(outcome)? {
        Step::Guard(guard) => {
            attempt.count();
            Ok(Some(guard))
        }
        Step::Busy { .. } => {
            // The store knows nothing of this owner.
            attempt.is_open = false;
            Ok(None)
        }
    }
}

impl Attempt {
    fn new(plan: Plan) -> Self {
        plan.locks.inner.door.enter();
        Self {
            plan,
            owner: Owner::new(),
            is_open: false,
            asked: 0,
            started: Instant::now(),
        }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.plan.locks.inner
    }

    /// Asks until the lock is granted or the time is over.
    async fn wait(&mut self) -> Result<LockGuard> {
        let deadline = self.started + self.plan.wait;
        let mut pauses = Pauses::new(self.inner().store()?.longest_pause());
        let mut listener: Option<Listener> = None;
        loop {
            let asked = self.ask(Some(duration_ms(HEARTBEAT))).await;
            let (pause, ahead) = match asked {
                Ok(Step::Guard(guard)) => return Ok(guard),
                Ok(Step::Busy { ahead, retry_ms }) => (pauses.next(ahead, retry_ms), Ok(ahead)),
                Err(error) if is_passing(&error) => (pauses.next(0, u64::MAX), Err(error)),
                Err(error) => return Err(error),
            };
            if Instant::now() >= deadline {
                return Err(self.overdue(ahead));
            }
            if listener.is_none() && ahead.is_ok() {
                listener = Some(self.listen().await?);
                // A call that came before is missed.
                continue;
            }
            let until = deadline.min(Instant::now() + pause);
            match &listener {
                None => sleep_until(until).await,
                Some(listener) => tokio::select! {
                    () = listener.rung() => pauses.restart(),
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    async fn listen(&self) -> Result<Listener> {
        let store = self.inner().store()?;
        let (space, name) = (&self.plan.space, self.plan.name.as_bytes());
        Ok(store.listen(space, name, &self.owner).await)
    }

    /// Asks the store once.
    async fn ask(&mut self, heartbeat_ms: Option<u64>) -> Result<Step> {
        let inner = Arc::clone(self.inner());
        let ask = Ask {
            owner: self.owner.clone(),
            permits: self.plan.permits,
            ttl_ms: self.plan.ttl_ms,
            heartbeat_ms,
            barge: !self.plan.is_fair,
        };
        self.is_open = true;
        self.asked += 1;
        let sent_ms = inner.now_ms();
        let (space, name) = (&self.plan.space, self.plan.name.as_bytes());
        match inner.store()?.acquire(space, name, &ask).await? {
            Answer::Busy { ahead, retry_ms } => Ok(Step::Busy { ahead, retry_ms }),
            Answer::Granted { fence, left_ms } => {
                let left_ms = left_ms.min(self.plan.ttl_ms);
                self.granted(fence, sent_ms, left_ms).await
            }
        }
    }

    /// Makes a guard, unless the answer came so late that the lease is over.
    async fn granted(&mut self, fence: u64, sent_ms: u64, left_ms: u64) -> Result<Step> {
        let (plan, inner) = (&self.plan, self.inner());
        let held = Held::new(plan, &self.owner, fence, sent_ms, left_ms);
        if held.is_valid() {
            self.is_open = false;
            return Ok(Step::Guard(LockGuard::new(held)));
        }
        let (space, name) = (&plan.space, plan.name.as_bytes());
        inner
            .store()?
            .release(space, name, &self.owner, None)
            .await?;
        let message = "the store's answer came after the end of the lease";
        Err(Error::new(ErrorKind::Timeout, message))
    }

    /// Makes the store forget the owner, in the background.
    fn give_up(&self) {
        let (plan, inner) = (&self.plan, self.inner());
        let until_ms = inner.now_ms().saturating_add(plan.ttl_ms);
        let place = (
            plan.locks.clone(),
            plan.space.clone(),
            plan.name.clone(),
            self.owner.clone(),
        );
        let release = move || {
            let (locks, space, name, owner) = place.clone();
            async move {
                let store = locks.inner.store()?;
                let left = store.release(&space, name.as_bytes(), &owner, None);
                left.await.map(drop)
            }
        };
        let watchdog = &inner.watchdog;
        watchdog.give_up(&plan.runtime, inner, until_ms, release);
    }

    fn overdue(&self, ahead: Result<u64>) -> Error {
        let waited = self.plan.wait;
        match ahead {
            Err(error) => error,
            Ok(ahead) => {
                let message = format!("not granted within {waited:?}; {ahead} were ahead");
                Error::new(ErrorKind::Timeout, message)
            }
        }
    }

    /// Counts a success.
    fn count(&self) {
        let waited = self.started.elapsed();
        self.inner().counters.acquired(waited, self.asked > 1);
    }

    /// Counts a failure and tells of it.
    fn conclude<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| {
            let (inner, name) = (self.inner(), self.plan.name.clone());
            let error = inner.named(error, "lock", name.as_bytes());
            inner.counters.failed();
            inner.tell(LockEvent::NotAcquired {
                name,
                waited: self.started.elapsed(),
                error: error.clone(),
            });
            error
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_open {
            self.give_up();
        }
        self.inner().door.leave();
    }
}

/// Returns whether a waiter may hope that the error goes away.
fn is_passing(error: &Error) -> bool {
    error.is_retryable() && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// How long a waiter sleeps between two questions.
struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    fn new(longest: Duration) -> Self {
        Self {
            next: FIRST_PAUSE,
            longest,
        }
    }

    /// Begins with short pauses again.
    fn restart(&mut self) {
        self.next = FIRST_PAUSE;
    }

    /// Returns the next pause. Whoever is first asks more and more rarely, down to every `longest`, but at once when
    /// the lease of the holder ends; the others, for whom a turn of many must pass, as often as their place is good,
    /// and in time to show that they live.
    fn next(&mut self, ahead: u64, retry_ms: u64) -> Duration {
        let retry = Duration::from_millis(retry_ms.saturating_add(1 + fastrand::u64(..SPREAD_MS)));
        let pause = if ahead == 0 {
            let pause = self
                .next
                .min(self.longest)
                .mul_f64(0.5 + fastrand::f64() / 2.0);
            self.next = self.next.saturating_mul(2).min(self.longest);
            pause
        } else {
            let places = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
            self.longest.saturating_mul(places)
        };
        pause.min(retry).min(HEARTBEAT / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_the_heartbeat() {
        let longest = Duration::from_millis(500);
        let mut pauses = Pauses::new(longest);
        assert!(pauses.next(0, u64::MAX) <= FIRST_PAUSE);
        for _ in 0..10 {
            pauses.next(0, u64::MAX);
        }
        let pause = pauses.next(0, u64::MAX);
        assert!(pause >= longest / 2 && pause <= longest, "{pause:?}");
        assert!(pauses.next(0, 5) <= Duration::from_millis(5 + 1 + SPREAD_MS));
        assert!(pauses.next(1, u64::MAX) >= 2 * longest);
        assert!(pauses.next(u64::MAX, u64::MAX) <= HEARTBEAT / 3);
        pauses.restart();
        assert!(pauses.next(0, u64::MAX) <= FIRST_PAUSE);
    }
}
