//! One connection as its callers see it: batches go in, their replies come out, in order.
//!
//! ```text
//! callers --submit--> queue (one lock) --driver takes all of it--> one write --> server
//!    ^------------------ replies, matched in order and by token <-- one read <----|
//! ```
//! Any number of tasks share a connection; what they ask while a write is on its way leaves with the next one. The
//! socket belongs to the [`super::driver`]; this file knows none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, TryAcquireError, oneshot};

use super::reply::Code;
use super::request::{Batch, Expect};
use crate::clock::{Clock, duration_ms};

/// A reply with its body taken off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: Code,
    pub(super) cas: u64,
    pub(super) body: Bytes,
}

/// Why a batch got no replies. Its commands were carried out or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not within the response timeout.
    Timeout,
    /// The limit of commands in flight was reached all the time.
    Full,
    /// The connection broke, for this reason.
    Lost(&'static str),
}

pub(super) type Replies = Result<Vec<Reply>, Failure>;

/// A batch whose replies are not all there.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) commands: usize,
    pub(super) first_token: u64,
    pub(super) expect: Expect,
    pub(super) deadline_ms: u64,
    pub(super) replies: Vec<Reply>,
    /// `None` once the caller was told that it takes too long.
    pub(super) caller: Option<oneshot::Sender<Replies>>,
}

/// What callers have asked and the driver has not taken.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    pub(super) batches: Vec<Waiting>,
    /// Set while the driver waits for something to do.
    pub(super) driver: Option<Waker>,
}

/// A connection that many tasks share.
#[derive(Debug)]
pub(super) struct Pipe {
    queue: Mutex<Queue>,
    open: AtomicBool,
    next_id: AtomicU64,
    room: Semaphore,
    max_in_flight: usize,
    timeout: Duration,
}

impl Pipe {
    pub(super) fn new(max_in_flight: usize, timeout: Duration) -> Self {
        Self {
            queue: Mutex::default(),
            open: AtomicBool::new(true),
            next_id: AtomicU64::new(1),
            room: Semaphore::new(max_in_flight),
            max_in_flight,
            timeout,
        }
    }

    /// Returns whether the connection still works, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Starts a batch for this connection.
    pub(super) fn batch(&self, body_bytes: usize) -> Batch {
        Batch::new(self.next_id.fetch_add(1, Ordering::Relaxed), body_bytes)
    }

    /// Sends a batch and waits for all its replies. Dropped before it waits for room, it sends nothing; after
    /// that, the batch goes its way.
    pub(super) async fn call(&self, batch: Batch) -> Replies {
        let deadline_ms = now_ms().saturating_add(duration_ms(self.timeout));
        self.take_room(batch.commands).await?;
        let (caller, replies) = oneshot::channel();
        self.submit(batch, deadline_ms, caller)?;
        let dropped = Failure::Lost("the connection was given up");
        replies.await.unwrap_or(Err(dropped))
    }

    /// Takes room for so many commands, which the driver gives back.
    async fn take_room(&self, commands: usize) -> Result<(), Failure> {
        let permits = self.permits(commands);
        let permit = match self.room.try_acquire_many(permits) {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => {
                let acquire = self.room.acquire_many(permits);
                match tokio::time::timeout(self.timeout, acquire).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_closed)) => return Err(Failure::Lost("the connection broke")),
                    Err(_elapsed) => return Err(Failure::Full),
                }
            }
            Err(TryAcquireError::Closed) => return Err(Failure::Lost("the connection broke")),
        };
        permit.forget();
        Ok(())
    }

    /// Gives back the room of a batch that is done with.
    pub(super) fn give_room(&self, commands: usize) {
        self.room.add_permits(self.permits(commands) as usize);
    }

    /// A batch larger than the whole room takes all of it.
    fn permits(&self, commands: usize) -> u32 {
        commands.min(self.max_in_flight) as u32
    }

    fn submit(
        &self,
        batch: Batch,
        deadline_ms: u64,
        caller: oneshot::Sender<Replies>,
    ) -> Result<(), Failure> {
        let waiting = Waiting {
            commands: batch.commands,
            first_token: batch.first_token,
            expect: batch.expect,
            deadline_ms,
            replies: Vec::with_capacity(batch.commands),
            caller: Some(caller),
        };
        let mut queue = self.queue();
        // Under the lock that `close` takes, so that no batch is left in a queue that nobody empties.
        if !self.is_open() {
            return Err(Failure::Lost("the connection broke"));
        }
        if queue.bytes.is_empty() && batch.bytes.len() > queue.bytes.capacity() {
            queue.bytes = batch.bytes;
        } else {
            queue.bytes.extend_from_slice(&batch.bytes);
        }
        queue.batches.push(waiting);
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(())
    }

    /// Locks the queue. No holder can panic half-way through a change.
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses further batches and returns those that were not taken.
    pub(super) fn close(&self) -> Vec<Waiting> {
        let mut queue = self.queue();
        self.open.store(false, Ordering::Release);
        self.room.close();
        queue.bytes = Vec::new();
        std::mem::take(&mut queue.batches)
    }
}

/// Returns the time that deadlines follow: the system's, whatever clock the store has.
pub(super) fn now_ms() -> u64 {
    Clock::system().monotonic_ms()
}
