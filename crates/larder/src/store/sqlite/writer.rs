//! The one write connection, shared by flat combining.
//!
//! A caller that finds the connection free and the queue empty makes its change at once, on its own thread. Any other
//! leaves its job in the queue, where the holder picks it up: many writers share one transaction. Jobs are made in the
//! order they came, so that one whose caller has gone away is never made after a later one was acknowledged. When
//! another *process* holds the database, the jobs move to a blocking thread, which waits there, so that an async thread
//! never does.
//!
//! ```text
//! submit: try_lock, queue empty --yes--> run own job --> unlock, look at the queue
//!                               \--no--> enqueue, try_lock once more (the holder may just have left), await the reply
//! ```

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::database::{self, Database};
use super::jobs::{self, Job, OwnedJob, Reply};
use super::store_error;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// How long a blocking thread waits for another process's transaction.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most jobs in one transaction.
const MAX_BATCH: usize = 256;
/// The most jobs that may wait.
const MAX_QUEUE: usize = 65_536;
/// Larger jobs run on a blocking thread.
const MAX_INLINE_BYTES: u64 = 256 << 10;
/// The most batches a caller runs for others before a blocking thread takes over.
const MAX_ROUNDS: usize = 4;

#[derive(Debug)]
struct Pending {
    job: OwnedJob,
    reply: oneshot::Sender<Result<Reply>>,
}

/// The write side of the store.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    clock: Clock,
    connection: Mutex<Database>,
    queue: Mutex<Vec<Pending>>,
    /// Bytes written since the janitor last looked.
    written: AtomicU64,
}

/// What to do with a batch when another process holds the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    PutBack,
    Report,
}

/// Lets a blocking thread wait for other processes while it holds the connection.
struct Patience<'a>(&'a Connection);

impl<'a> Patience<'a> {
    fn on(connection: &'a Connection) -> Self {
        set_patience(connection, PATIENCE);
        Self(connection)
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        set_patience(self.0, Duration::ZERO);
    }
}

fn set_patience(connection: &Connection, patience: Duration) {
    if let Err(error) = connection.busy_timeout(patience) {
        tracing::warn!(%error, "cannot set the busy timeout of the cache database");
    }
}

/// What came of an attempt on the caller's thread.
enum Attempt {
    Done(Result<Reply>),
    Queued(oneshot::Receiver<Result<Reply>>),
}

impl Writer {
    pub(super) fn open(path: PathBuf, clock: Clock) -> Result<Self> {
        let connection = Mutex::new(connect(&path)?);
        // What earlier processes left in the log counts, too.
        let written = AtomicU64::new(database::log_bytes(&path));
        Ok(Self {
            path,
            clock,
            connection,
            queue: Mutex::default(),
            written,
        })
    }

    /// Replaces the connection after the file was replaced; `readers` replaces theirs.
    ///
    /// Between the last write to the old file and the first to the new one, so that no read misses the latter.
    pub(super) fn renew(&self, readers: impl FnOnce()) -> Result<()> {
        let fresh = connect(&self.path)?;
        let mut connection = self.lock();
        readers();
        *connection = fresh;
        drop(connection);
        self.drain_patiently();
        Ok(())
    }

    /// Returns the bytes written since the last call.
    pub(super) fn take_written(&self) -> u64 {
        self.written.swap(0, Ordering::Relaxed)
    }

    /// Returns the bytes written since the janitor last looked.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Runs maintenance on the write connection, waiting for other processes. Only for blocking threads.
    pub(super) fn maintain<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let result = {
            let connection = self.lock();
            let _patient = Patience::on(&connection);
            let rollback = |_: &rusqlite::Error| drop(connection.execute_batch("ROLLBACK"));
            connection.watch(work(&connection)).inspect_err(rollback)
        };
        // Callers queued up meanwhile, and found the lock taken.
        self.drain_patiently();
        result.map_err(store_error)
    }

    /// Makes a change; on return it is committed. Dropping the future leaves it made or not made.
    pub(super) async fn submit(self: &Arc<Self>, job: Job<'_>) -> Result<Reply> {
        self.written.fetch_add(job.bytes(), Ordering::Relaxed);
        let receiver = match self.attempt(job)? {
            Attempt::Done(reply) => return reply,
            Attempt::Queued(receiver) => receiver,
        };
        receiver.await.unwrap_or_else(|_dropped| {
            Err(Error::new(ErrorKind::Internal, "the writing thread ended early").store("sqlite"))
        })
    }

    /// Runs the job now if it is short, the connection is free, no job came before and no other process writes, else
    /// queues it.
    fn attempt(self: &Arc<Self>, job: Job<'_>) -> Result<Attempt> {
        let mut needs_patience = job.bytes() > MAX_INLINE_BYTES;
        // Jobs that wait go first: their callers may be gone, and what is asked now must not be undone by them.
        if !needs_patience
            && let Some(connection) = self.try_lock()
            && lock(&self.queue).is_empty()
        {
            let result = connection.watch(jobs::run_all(&connection, &[job], self.clock.now_ms()));
            drop(connection);
            needs_patience = result.as_ref().is_err_and(is_busy);
            if !needs_patience {
                self.drain_quickly();
                let replies = result.map_err(store_error);
                return Ok(Attempt::Done(replies.and_then(only_reply)));
            }
        }
        let queued = self.enqueue(job);
        // Also when the queue is full: who filled it may have found the connection taken by this caller.
        if needs_patience {
            self.drain_on_blocking_thread();
        } else {
            self.drain_quickly();
        }
        queued.map(Attempt::Queued)
    }

    /// Runs queued jobs on this thread, handing a long queue or a busy database to a blocking one.
    ///
    /// Whoever unlocks the connection looks at the queue afterwards, and whoever queues a job tries the lock
    /// afterwards: so no job is left behind.
    fn drain_quickly(self: &Arc<Self>) {
        for _ in 0..MAX_ROUNDS {
            if lock(&self.queue).is_empty() {
                return;
            }
            let Some(connection) = self.try_lock() else {
                return;
            };
            if !self.run_batch(&connection, Busy::PutBack) {
                break;
            }
        }
        if !lock(&self.queue).is_empty() {
            self.drain_on_blocking_thread();
        }
    }

    fn drain_on_blocking_thread(self: &Arc<Self>) {
        let writer = Arc::clone(self);
        tokio::task::spawn_blocking(move || writer.drain_patiently());
    }

    fn drain_patiently(&self) {
        while !lock(&self.queue).is_empty() {
            let connection = self.lock();
            let _patient = Patience::on(&connection);
            self.run_batch(&connection, Busy::Report);
        }
    }

    /// Runs one batch of the queue in a transaction; returns `false` when the database is busy and the batch was put back.
    fn run_batch(&self, connection: &Database, busy: Busy) -> bool {
        let batch: Vec<Pending> = {
            let mut queue = lock(&self.queue);
            let count = queue.len().min(MAX_BATCH);
            queue.drain(..count).collect()
        };
        match self.run_jobs(connection, &batch) {
            Ok(replies) => answer(batch, replies.into_iter()),
            Err(error) if is_busy(&error) && busy == Busy::PutBack => {
                lock(&self.queue).splice(..0, batch);
                return false;
            }
            Err(error) if is_busy(&error) => {
                // One wait is for all of them: each alone would wait as long, one after the other.
                let error = store_error(error);
                answer(batch, std::iter::repeat_with(|| Err(error.clone())));
            }
            Err(_) => {
                // One of them fails, or all: each gets its own verdict.
                let alone = |pending: &Pending| {
                    let replies = self.run_jobs(connection, std::slice::from_ref(pending));
                    replies.map_err(store_error).and_then(only_reply)
                };
                let replies: Vec<_> = batch.iter().map(alone).collect();
                answer(batch, replies.into_iter());
            }
        }
        true
    }

    fn run_jobs(
        &self,
        connection: &Database,
        batch: &[Pending],
    ) -> rusqlite::Result<Vec<Result<Reply>>> {
        let writes: Vec<_> = batch.iter().map(|pending| pending.job.writes()).collect();
        let jobs: Vec<_> = batch
            .iter()
            .zip(&writes)
            .map(|(pending, writes)| pending.job.borrow(writes))
            .collect();
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        connection.watch(jobs::run_all(connection, &jobs, self.clock.now_ms()))
    }

    fn enqueue(&self, job: Job<'_>) -> Result<oneshot::Receiver<Result<Reply>>> {
        let (reply, receiver) = oneshot::channel();
        let mut queue = lock(&self.queue);
        if queue.len() >= MAX_QUEUE {
            let message = format!("{MAX_QUEUE} writes wait already");
            return Err(Error::new(ErrorKind::Overloaded, message).store("sqlite"));
        }
        queue.push(Pending {
            job: job.to_owned(),
            reply,
        });
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Database> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Database>> {
        match self.connection.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn only_reply(mut replies: Vec<Result<Reply>>) -> Result<Reply> {
    replies.pop().unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Internal, "a job has no reply").store("sqlite"))
    })
}

fn answer(batch: Vec<Pending>, replies: impl Iterator<Item = Result<Reply>>) {
    for (pending, reply) in batch.into_iter().zip(replies) {
        // The caller may be gone; its change is made all the same.
        let _ = pending.reply.send(reply);
    }
}

fn connect(path: &std::path::Path) -> Result<Database> {
    let connection = database::connect(path)?;
    connection
        .busy_timeout(Duration::ZERO)
        .map_err(store_error)?;
    Ok(connection)
}

fn lock(queue: &Mutex<Vec<Pending>>) -> MutexGuard<'_, Vec<Pending>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
