//! The task that looks after all leases of a runtime on a store: renews them and notices when one is over.
//!
//! Each runtime has its own, so that a lease does not depend on a runtime that is busy with something else, or ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::Inner;
use super::held::Held;
use crate::error::Result;

/// Timers stand still while the host is suspended; so the clock is looked at this often while there are leases.
const TICK: Duration = Duration::from_millis(250);

/// The first pause before a release is tried again, and the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// More releases than this are not tried at a time: those locks end with their TTL.
const MAX_BEHIND: usize = 10_000;

/// What looks after leases.
#[derive(Default)]
pub(super) struct Watchdog {
    runtimes: Mutex<HashMap<Id, Leases>>,
    /// Releases that nobody waits for.
    behind: Mutex<JoinSet<()>>,
}

/// The leases of a runtime, by when they need a look.
#[derive(Default)]
struct Leases {
    by_due: BTreeMap<(u64, u64), Arc<Held>>,
    due_of: HashMap<u64, u64>,
    task: Option<JoinHandle<()>>,
    wake: Arc<Notify>,
    /// When the task looks by itself; nobody needs to wake it for later than that.
    looks_at_ms: u64,
}

impl Watchdog {
    /// Looks after a lease from now on.
    pub(super) fn watch(&self, held: &Arc<Held>) {
        let mut runtimes = self.runtimes();
        // Of runtimes that have ended.
        runtimes.retain(|_, leases| leases.is_watched() || !leases.by_due.is_empty());
        let runtime = &held.runtime;
        let leases = runtimes.entry(runtime.id()).or_default();
        leases.insert(held);
        if !leases.is_watched() {
            let inner = Arc::downgrade(&held.inner);
            let task = run(inner, runtime.id(), Arc::clone(&leases.wake));
            leases.looks_at_ms = 0;
            leases.task = Some(runtime.spawn(task));
        }
        leases.wake_for(held);
    }

    /// Looks at a lease at another time, if it is looked after.
    pub(super) fn reschedule(&self, held: &Held) {
        self.of(held.runtime.id(), |leases| {
            if let Some(held) = leases.remove(held.id) {
                leases.insert(&held);
                leases.wake_for(&held);
            }
        });
    }

    /// Forgets a lease.
    pub(super) fn unwatch(&self, held: &Held) {
        let removed = self.of(held.runtime.id(), |leases| leases.remove(held.id));
        // If this was the last one to know the lease, it is dropped without the mutex.
        drop(removed);
    }

    /// Returns how many leases there are.
    pub(super) fn held(&self) -> u64 {
        let count = |leases: &Leases| leases.by_due.len() as u64;
        self.runtimes().values().map(count).sum()
    }

    /// Gives something up in the background: tries again until `until_ms`, when it is over anyway. A shutdown waits for it.
    pub(super) fn give_up<F>(
        &self,
        runtime: &Handle,
        inner: &Arc<Inner>,
        until_ms: u64,
        release: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<()>> + Send,
    {
        let inner = Arc::clone(inner);
        let work = async move {
            let mut pause = FIRST_RETRY;
            while let Err(error) = release().await {
                if !error.is_retryable() || inner.now_ms() >= until_ms {
                    tracing::debug!(%error, "a lock ends with its TTL, for it could not be released");
                    return;
                }
                sleep(pause).await;
                pause = (2 * pause).min(LAST_RETRY);
            }
        };
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        while behind.try_join_next().is_some() {}
        if behind.len() >= MAX_BEHIND {
            tracing::warn!(
                "a lock ends with its TTL, for {MAX_BEHIND} others wait for their release"
            );
            return;
        }
        behind.spawn_on(work, runtime);
    }

    /// Ends all leases and waits until the store knows.
    pub(super) async fn release_all(&self) -> Result<()> {
        let all: Vec<_> = {
            let runtimes = self.runtimes();
            let leases = runtimes.values().flat_map(|leases| leases.by_due.values());
            leases.cloned().collect()
        };
        all.iter().for_each(|held| held.abandon());
        let released = join_all(all.iter().map(|held| held.release())).await;
        let mut behind = {
            let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *behind)
        };
        while behind.join_next().await.is_some() {}
        released.into_iter().collect()
    }

    /// Returns the leases of a runtime that need a look now.
    fn due(&self, runtime: Id, now_ms: u64) -> Vec<Arc<Held>> {
        let due = self.of(runtime, |leases| {
            let due = leases.by_due.range(..=(now_ms, u64::MAX));
            due.map(|(_, held)| Arc::clone(held)).collect()
        });
        due.unwrap_or_default()
    }

    /// Returns when the next lease needs a look; from now on, who brings one that needs it earlier wakes the task.
    fn next_look(&self, runtime: Id) -> Option<u64> {
        self.of(runtime, |leases| {
            let next_ms = leases.by_due.keys().next().map(|(due_ms, _)| *due_ms);
            leases.looks_at_ms = next_ms.unwrap_or(u64::MAX);
            next_ms
        })?
    }

    /// Does something with the leases of a runtime, if there ever were some.
    fn of<T>(&self, runtime: Id, work: impl FnOnce(&mut Leases) -> T) -> Option<T> {
        self.runtimes().get_mut(&runtime).map(work)
    }

    fn runtimes(&self) -> MutexGuard<'_, HashMap<Id, Leases>> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases {
    fn insert(&mut self, held: &Arc<Held>) {
        let due_ms = held.due_ms();
        self.due_of.insert(held.id, due_ms);
        self.by_due.insert((due_ms, held.id), Arc::clone(held));
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Held>> {
        let due_ms = self.due_of.remove(&id)?;
        self.by_due.remove(&(due_ms, id))
    }

    /// Returns whether the task runs.
    fn is_watched(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    fn wake_for(&self, held: &Held) {
        if held.due_ms() < self.looks_at_ms {
            self.wake.notify_one();
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        // The task ends.
        self.wake.notify_one();
    }
}

/// Looks at leases when they are due, for as long as somebody has the locks or holds one.
async fn run(inner: Weak<Inner>, runtime: Id, wake: Arc<Notify>) {
    let mut renewals = FuturesUnordered::new();
    loop {
        let next_ms = {
            let Some(inner) = inner.upgrade() else { return };
            let watchdog = &inner.watchdog;
            let now_ms = inner.now_ms();
            for held in watchdog.due(runtime, now_ms) {
                if held.look(now_ms) {
                    renewals.push(renew(Arc::clone(&held)));
                }
                watchdog.reschedule(&held);
            }
            let left_ms = |at_ms: u64| at_ms.saturating_sub(inner.now_ms());
            watchdog.next_look(runtime).map(left_ms)
        };
        let rest = async {
            match next_ms {
                Some(left_ms) => sleep(TICK.min(Duration::from_millis(left_ms))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            Some(()) = renewals.next() => {}
            () = rest => {}
        }
    }
}

async fn renew(held: Arc<Held>) {
    held.renew().await;
    held.inner.watchdog.reschedule(&held);
}
