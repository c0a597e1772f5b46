//! The embedded default: entries in one SQLite file, shared by many processes of one host.
//!
//! Write-ahead log, `synchronous=NORMAL`: any process may be killed at any moment and every acknowledged
//! write stays; a power failure may lose the last ones, deletes and invalidations included, never the file. Reads run on the caller's thread;
//! writes share transactions ([`writer`]). `clear` gives the namespace a new row id and is O(1). The file is kept under
//! its size bound by evicting what expires soonest, then what was written longest ago. To copy or move the database,
//! take `-wal` and `-shm` along: a store that was open for less than a second leaves its last writes there.

mod database;
mod jobs;
mod journal;
mod leases;
mod purge;
mod readers;
mod registers;
mod tagging;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use self::jobs::{Job, Reply};
use self::journal::Changes;
use self::leases::Leases;
use self::purge::Purge;
use self::readers::{Listing, Readers};
use self::upkeep::Upkeep;
use self::writer::Writer;
use super::host::Ledger;
use super::janitor::Janitor;
use super::{
    Capabilities, Entry, Examined, Expiry, Invalidated, Invalidation, Journal, LoadBegun,
    LoadRequest, Read, Register, RegisterPage, Retirement, ScanPage, Stamp, Store, StoreStats,
    TidyPage, Write, reading,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;

/// The default size bound: 1 GiB.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// The smallest size bound: what an empty file and one large entry need.
const MIN_MAX_BYTES: u64 = 256 << 10;
/// Reads of more keys go to a blocking thread.
const MAX_INLINE_KEYS: usize = 64;
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The embedded store. Cloning shares it.
///
/// # Tags
/// A register is a row, which a read of an entry that depends on it looks up. To list the keys of a tag is to look at all
/// entries that have tags. Entries that were invalidated are removed after a minute, at once when the file is nearly full,
/// and registers once nothing needs them; those of entries that never expire stay until a cleanup finds that nothing
/// carries them, or nothing else is left to evict.
///
/// # Local copies
/// [`Store::journal`] tells all processes of the host what has changed. While somebody reads it, and for ten minutes after,
/// each change writes one more row in its transaction; the last 10,000 are kept, in stores under 640 MiB fewer. A poll
/// without news is one indexed read on the caller's thread.
///
/// # Locks, semaphores and rate limiters
/// Each is a row of its own, which counts towards the file's size and is never evicted. A process that uses them keeps a
/// file locked in `<file>.owners/` while the store is open, so that what it holds is free at once when it is killed or
/// closes its last handle, and not before its time when it only stands still. A restart of the host frees everything; fences go on. Not for NFS; processes in several containers
/// must share the kernel and the directory.
#[derive(Debug, Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Declared first, so dropped first: the thread ends before the connections close.
    janitor: Janitor,
    upkeep: Arc<Upkeep>,
    moved_aside: Option<PathBuf>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.upkeep.close();
    }
}

/// Options of a [`Sqlite`] store.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    path: PathBuf,
    max_bytes: u64,
    clock: Clock,
}

impl Builder {
    /// The size bound of the file in bytes, at least 256 KiB; default 1 GiB. Enforced within a second or 4 MiB of writes.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The clock that expiry follows; default the system's. All processes on one file must agree.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens or creates the file. Blocks for some milliseconds.
    ///
    /// # Errors
    /// `Unavailable`: the file or its directory cannot be created or read. `InvalidArgument`: the bound is
    /// too small. A file that is damaged or not ours is no error: it is renamed, see [`Sqlite::moved_aside`].
    pub fn build(self) -> Result<Sqlite> {
        if self.max_bytes < MIN_MAX_BYTES {
            return Err(Error::argument("a sqlite store needs at least 256 KiB"));
        }
        let path = database::absolute(&self.path)?;
        let (file, moved_aside) = database::prepare(&path)?;
        let owners_dir = database::owners_dir(&path);
        let upkeep = Arc::new(Upkeep {
            ledger: Arc::new(Ledger::new(self.clock.clone(), owners_dir)),
            writer: Arc::new(Writer::open(path.clone(), self.clock.clone())?),
            readers: Arc::new(Readers::new(path.clone())),
            purge: Purge::default(),
            path,
            clock: self.clock,
            max_bytes: self.max_bytes,
            opened: Instant::now(),
            file: Mutex::new(file),
            expired: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            moved_aside: AtomicU64::new(u64::from(moved_aside.is_some())),
        });
        let work = Arc::clone(&upkeep);
        let janitor =
            Janitor::start("sqlite", UPKEEP_INTERVAL, move || work.run()).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot start a thread").caused_by(error)
            })?;
        Ok(Sqlite {
            inner: Arc::new(Inner {
                janitor,
                upkeep,
                moved_aside,
            }),
        })
    }
}

impl Sqlite {
    /// Opens or creates the file with the default options; its directory is created with mode 0700.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).build()
    }

    /// Starts with the defaults: 1 GiB, system clock.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder {
            path: path.as_ref().to_owned(),
            max_bytes: DEFAULT_MAX_BYTES,
            clock: Clock::system(),
        }
    }

    /// Returns where opening moved a file that was damaged or not ours.
    #[must_use]
    pub fn moved_aside(&self) -> Option<&Path> {
        self.inner.moved_aside.as_deref()
    }

    async fn submit(&self, job: Job<'_>) -> Result<Reply> {
        let writer = &self.inner.upkeep.writer;
        let reply = writer.submit(job).await;
        if writer.written() > upkeep::CHECKPOINT_BYTES {
            self.inner.janitor.wake();
        }
        reply
    }

    /// Runs a read on a blocking thread.
    async fn read_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection, u64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let now_ms = inner.upkeep.clock.now_ms();
        run_aside(move || {
            inner
                .upkeep
                .readers
                .read(|connection| work(connection, now_ms))
        })
        .await
    }
}

async fn run_aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(ErrorKind::Internal, "a blocking task ended early").caused_by(error)
    })?
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::Internal, format!("unexpected reply {reply:?}")).store("sqlite")
}

/// Converts the client's error and decides whether trying again can help.
fn store_error(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let (kind, message, retryable) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Timeout,
            "another process holds the database",
            true,
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::Unavailable, "the disk is full", true),
        Some(ErrorCode::TooBig) => (
            ErrorKind::TooLarge,
            "the entry is over SQLite's limit",
            false,
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorKind::Unavailable,
            "the database file is damaged; reopening moves it aside",
            false,
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            ErrorKind::Unavailable,
            "the database file is not writable",
            false,
        ),
        _ => (ErrorKind::Unavailable, "the database failed", true),
    };
    Error::new(kind, message)
        .retryable(retryable)
        .store("sqlite")
        .caused_by(error)
}

#[async_trait]
impl Store for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            persistent: true,
            enumeration: true,
            counters: true,
            sorted_sets: true,
            tags: true,
            tag_listing: true,
            examination: true,
            coherent_local: true,
            locks: true,
            fair_locks: true,
            durable_fences: true,
            locks_freed_on_death: true,
            limiters: true,
            ..Capabilities::default()
        }
    }

    fn clock(&self) -> Clock {
        self.inner.upkeep.clock.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.read_many(namespace, keys).await.map(reading::entries)
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let now_ms = self.inner.upkeep.clock.now_ms();
        if keys.len() <= MAX_INLINE_KEYS {
            let read = |connection: &_| readers::read_many(connection, namespace, keys, now_ms);
            return self.inner.upkeep.readers.read(read);
        }
        let namespace = namespace.clone();
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        self.read_aside(move |connection, now_ms| {
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            readers::read_many(connection, &namespace, &keys, now_ms)
        })
        .await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        match self.submit(Job::Write { namespace, writes }).await? {
            Reply::Applied(applied) => Ok(applied),
            other => Err(unexpected(&other)),
        }
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        match self
            .submit(Job::Increment {
                namespace,
                key,
                by,
                expiry,
            })
            .await?
        {
            Reply::Sum(sum) => Ok(sum),
            other => Err(unexpected(&other)),
        }
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.submit(Job::Clear { namespace }).await.map(drop)
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.list_keys(Listing {
            namespace: namespace.clone(),
            pattern: pattern.clone(),
            register: None,
            cursor: cursor.cloned(),
            limit,
        })
        .await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        _key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        self.capture_registers(namespace, registers).await
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        self.begin_marked_load(namespace, key, load).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        self.invalidate_registers(namespace, registers, how).await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        self.list_registers(namespace, pattern, cursor, limit).await
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.list_keys(Listing {
            namespace: namespace.clone(),
            pattern: Glob::all(),
            register: Some(register.clone()),
            cursor: cursor.cloned(),
            limit,
        })
        .await
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        let read = |connection: &_| readers::examine(connection, namespace, key);
        self.inner.upkeep.readers.read(read)
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        let (namespace, pattern) = (namespace.clone(), pattern.clone());
        self.read_aside(move |connection, now_ms| {
            readers::count(connection, &namespace, &pattern, now_ms)
        })
        .await
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        let inner = Arc::clone(&self.inner);
        run_aside(move || {
            inner.upkeep.prune_leases()?;
            inner.upkeep.prune_registers()?;
            inner.upkeep.sweep(limit)
        })
        .await
    }

    async fn stats(&self) -> Result<StoreStats> {
        let inner = Arc::clone(&self.inner);
        run_aside(move || {
            let upkeep = &inner.upkeep;
            let total = "SELECT count(*) FROM entries";
            let entries: i64 = upkeep
                .readers
                .read(|connection| connection.query_row(total, [], |row| row.get(0)))?;
            Ok(StoreStats {
                entries: Some(entries as u64),
                bytes: Some(upkeep.used_bytes()?),
                capacity_bytes: Some(upkeep.max_bytes),
                evicted: upkeep.evicted.load(Ordering::Relaxed),
                expired: upkeep.expired.load(Ordering::Relaxed),
                quarantined: upkeep.moved_aside.load(Ordering::Relaxed),
                details: vec![("file".into(), upkeep.path.display().to_string())],
            })
        })
        .await
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        self.tidy_entries(namespace, cursor, limit, removes).await
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        self.retire_registers(namespace, registers, step).await
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn Journal>> {
        Some(Box::new(Changes::new(&self.inner, namespace)))
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        Some(Arc::new(Leases(self.clone())))
    }

    async fn ping(&self) -> Result<()> {
        let ask = |connection: &rusqlite::Connection| {
            connection.query_row("SELECT count(*) FROM namespaces", [], |_| Ok(()))
        };
        self.inner.upkeep.readers.read(ask)
    }
}
