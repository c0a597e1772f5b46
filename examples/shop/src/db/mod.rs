//! The slow source: an SQLite database that takes its time. Knows nothing of caches.

mod products;
mod users;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

pub(crate) use self::products::{Product, ProductId, Purchase};
pub(crate) use self::users::{User, UserId};

use crate::error::AppError;

/// The database. Cheap to clone, so that a loader can own it.
#[derive(Clone)]
pub(crate) struct Database(Arc<Inner>);

struct Inner {
    /// One connection: with a cache in front, queries are too rare to wait for each other.
    connection: Mutex<Connection>,
    query_time: Duration,
    queries: AtomicU64,
}

impl Database {
    /// Opens the file, and creates and fills its tables if they are not there. Blocks.
    pub(crate) fn open(path: &Path, query_time: Duration) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(include_str!("schema.sql"))?;
        Ok(Self(Arc::new(Inner {
            connection: Mutex::new(connection),
            query_time,
            queries: AtomicU64::new(0),
        })))
    }

    /// Returns how many queries were made.
    pub(crate) fn queries(&self) -> u64 {
        self.0.queries.load(Ordering::Relaxed)
    }

    /// Makes a query on a thread that may block, and lets it take as long as a busy server over a network would.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, AppError> {
        let inner = Arc::clone(&self.0);
        inner.queries.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::task::spawn_blocking(move || {
            std::thread::sleep(inner.query_time);
            let mut connection = inner
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            query(&mut connection)
        });
        Ok(answer.await.map_err(std::io::Error::from)??)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("queries", &self.queries())
            .finish_non_exhaustive()
    }
}
