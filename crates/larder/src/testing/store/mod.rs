//! The store laws, by theme, and what they run on.
//!
//! Each law takes a [`StoreUnderTest`] and works in a fresh random namespace, so that suites run in parallel on
//! one server. Time passes through the [`ManualClock`] where the store takes one, else by waiting. A law about
//! something that the store's capabilities exclude returns early; [`health::capabilities_are_honest`] checks them.

mod journal_space;
#[macro_use]
mod list;
mod lock_space;
mod set_space;
mod space;
mod tag_space;

pub mod conditions;
pub mod contention;
pub mod counters;
pub mod entries;
pub mod expiry;
pub mod health;
pub mod journal;
pub mod keys;
pub mod limiters;
pub mod listing;
pub mod lock_lists;
pub mod lock_names;
pub mod lock_queues;
pub mod locks;
pub mod namespaces;
pub mod rankings;
pub mod semaphores;
pub mod sorted_sets;
pub mod tags_entries;
pub mod tags_examined;
pub mod tags_listings;
pub mod tags_loads;
pub mod tags_races;
pub mod tags_registers;
pub mod tags_retirement;

use std::any::Any;
use std::fmt;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use self::space::Space;
use crate::clock::ManualClock;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Capabilities, Expiry, Store};

/// A law takes longer than this only if something hangs.
const LAW_DEADLINE: Duration = Duration::from_secs(120);
/// An expiry that laws wait for: long enough that a slow machine sees the entry alive where time is real.
const SOON: Expiry = Expiry::After(SOON_MS);
const SOON_MS: u64 = 400;
/// Waiting this much longer than a TTL lets every store notice.
const REAL_SLACK: Duration = Duration::from_millis(20);

/// A store and what the laws must know about it. Cloning shares the store.
#[derive(Clone)]
pub struct StoreUnderTest {
    store: Arc<dyn Store>,
    time: Option<ManualClock>,
    kept: Option<Arc<dyn Any + Send + Sync>>,
    max_entry_bytes: usize,
}

impl StoreUnderTest {
    /// Starts with a store that follows real time.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self {
            store: Arc::new(store),
            time: None,
            kept: None,
            max_entry_bytes: usize::MAX,
        }
    }

    /// The clock that the store was built with, so that laws need not wait.
    #[must_use]
    pub fn time(mut self, time: ManualClock) -> Self {
        self.time = Some(time);
        self
    }

    /// The largest entry that a server was set up to take, where that is under 1 MiB and a little.
    #[must_use]
    pub fn max_entry_bytes(mut self, bytes: usize) -> Self {
        self.max_entry_bytes = bytes;
        self
    }

    /// Keeps a value, such as a temporary directory, for as long as the store.
    #[must_use]
    pub fn keep(mut self, value: impl Any + Send + Sync) -> Self {
        self.kept = Some(Arc::new(value));
        self
    }

    /// Returns the store in a namespace that nothing else uses.
    fn space(&self) -> Space {
        self.space_of(&fresh_name())
    }

    /// Returns the store in the namespace with this prefix.
    fn space_of(&self, prefix: &str) -> Space {
        let namespace = Namespace::new(prefix, "cache", 1);
        Space::new(Arc::clone(&self.store), namespace)
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    /// Lets the life of an entry that was to expire [`SOON`] pass.
    async fn outlive(&self) {
        self.pass(Duration::from_millis(SOON_MS)).await;
    }

    /// Lets this much time pass.
    async fn pass(&self, time: Duration) {
        match &self.time {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time + REAL_SLACK).await,
        }
    }
}

impl fmt::Debug for StoreUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreUnderTest")
            .field("store", &self.store)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// Returns a name that no other law, test or process uses.
fn fresh_name() -> String {
    format!("law-{:016x}", fastrand::u64(..))
}

/// Runs one law on a thread and a runtime of its own; what [`store_conformance!`](crate::store_conformance)
/// expands to.
///
/// # Panics
/// If the law is broken, fails, or does not finish.
pub fn check<W: Future<Output = Result<()>>>(law: impl FnOnce() -> W + Send + 'static) {
    // A thread, since a store that hogs every worker would also stop a timeout of the runtime.
    let (finished, outcome) = mpsc::channel();
    let name = thread::current().name().unwrap_or("law").to_owned();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        // The receiver is gone only after the deadline.
        let _ = finished.send(runtime.block_on(law()));
    };
    let thread = thread::Builder::new()
        .name(name)
        .spawn(run)
        .expect("a thread can be started");
    match outcome.recv_timeout(LAW_DEADLINE) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("the law could not be checked: {error:?}"),
        Err(RecvTimeoutError::Timeout) => panic!("the law hangs: {LAW_DEADLINE:?} are over"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(broken) => panic::resume_unwind(broken),
            Ok(()) => unreachable!("a thread that does not panic sends its outcome"),
        },
    }
}
