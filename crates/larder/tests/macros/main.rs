//! Functions under `#[cache]`.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod failures;
mod free;
mod keys;
mod methods;
mod options;
mod shapes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use larder::{Cache, Local, MemoryStore};

/// A cache of its own, with a local tier.
fn cache() -> Cache {
    let local = Local::capacity_bytes(1 << 20);
    Cache::builder(MemoryStore::new())
        .local(local)
        .build()
        .unwrap()
}

/// How often a body ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn count(&self) -> usize {
        self.0.fetch_add(1, Relaxed) + 1
    }

    fn so_far(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// An error that cannot be cloned.
#[derive(Debug)]
enum DbError {
    NoRow(i64),
    Cache(larder::Error),
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRow(id) => write!(f, "no row {id}"),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl From<larder::Error> for DbError {
    fn from(error: larder::Error) -> Self {
        Self::Cache(error)
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}
