//! A loader that counts how it is used and fails when told to.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Stands in for what a cache loads from: counts the loads and, as told, takes time, fails or panics.
///
/// Cloning shares the counts and the plan.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use larder::testing::LoadCounter;
/// let loads = LoadCounter::new();
/// loads.fail_next(1);
/// assert!(loads.load("value").await.is_err());
/// assert_eq!(loads.load("value").await, Ok("value"));
/// assert_eq!((loads.runs(), loads.finished(), loads.max_parallel()), (2, 1, 1));
/// # });
/// ```
#[derive(Debug, Clone, Default)]
pub struct LoadCounter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    runs: AtomicU64,
    finished: AtomicU64,
    running: AtomicU64,
    max_parallel: AtomicU64,
    plan: Mutex<Plan>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    delay: Duration,
    failures: u64,
    panics: u64,
}

/// The error of a load that was told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadFailed;

impl fmt::Display for LoadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the load was told to fail")
    }
}

impl std::error::Error for LoadFailed {}

impl LoadCounter {
    /// Creates a loader that answers at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes each load from now on take this long.
    pub fn delay(&self, delay: Duration) {
        self.plan(|plan| plan.delay = delay);
    }

    /// Makes the next `loads` fail, after their delay.
    pub fn fail_next(&self, loads: u64) {
        self.plan(|plan| plan.failures = loads);
    }

    /// Makes the next `loads` panic, after their delay; panics come before failures.
    pub fn panic_next(&self, loads: u64) {
        self.plan(|plan| plan.panics = loads);
    }

    /// Loads `value`: the body of a loader under test.
    ///
    /// # Errors
    /// [`LoadFailed`], as [`LoadCounter::fail_next`] said.
    ///
    /// # Panics
    /// As [`LoadCounter::panic_next`] said.
    pub async fn load<T>(&self, value: T) -> Result<T, LoadFailed> {
        let shared = &*self.shared;
        shared.runs.fetch_add(1, Ordering::SeqCst);
        let _running = Running::start(shared);
        let delay = self.plan(|plan| plan.delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let (panics, fails) = self.plan(|plan| {
            let panics = plan.panics > 0;
            let fails = !panics && plan.failures > 0;
            plan.panics -= u64::from(panics);
            plan.failures -= u64::from(fails);
            (panics, fails)
        });
        assert!(!panics, "the load was told to panic");
        if fails {
            return Err(LoadFailed);
        }
        shared.finished.fetch_add(1, Ordering::SeqCst);
        Ok(value)
    }

    /// Returns how many loads began.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.shared.runs.load(Ordering::SeqCst)
    }

    /// Returns how many loads returned their value.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.shared.finished.load(Ordering::SeqCst)
    }

    /// Returns how many loads run now; one whose future was dropped does not.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// Returns the most loads that ever ran at the same time.
    #[must_use]
    pub fn max_parallel(&self) -> u64 {
        self.shared.max_parallel.load(Ordering::SeqCst)
    }

    fn plan<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let mut plan = self
            .shared
            .plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut plan)
    }
}

/// Counts a load as running until it ends or is dropped.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn start(shared: &'a Shared) -> Self {
        let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
        shared.max_parallel.fetch_max(running, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn parallel_loads_are_counted_and_dropped_ones_are_not_running() {
        let loads = LoadCounter::new();
        loads.delay(Duration::from_secs(1));
        let (a, b) = tokio::join!(loads.load(1), loads.load(2));
        assert_eq!((a, b), (Ok(1), Ok(2)));
        let abandoned = tokio::time::timeout(Duration::from_millis(10), loads.load(3)).await;
        assert!(abandoned.is_err());
        assert_eq!((loads.runs(), loads.finished()), (3, 2));
        assert_eq!((loads.running(), loads.max_parallel()), (0, 2));
    }

    #[tokio::test]
    async fn panics_come_before_failures_and_both_run_out() {
        let loads = LoadCounter::new();
        loads.fail_next(1);
        loads.panic_next(1);
        let load = |loads: LoadCounter| async move { loads.load(()).await };
        assert!(
            tokio::spawn(load(loads.clone()))
                .await
                .is_err_and(|error| error.is_panic())
        );
        assert_eq!(load(loads.clone()).await, Err(LoadFailed));
        assert_eq!(load(loads.clone()).await, Ok(()));
        assert_eq!((loads.runs(), loads.finished(), loads.running()), (3, 1, 0));
    }
}
