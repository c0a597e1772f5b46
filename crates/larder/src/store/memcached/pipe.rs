//! One connection as its callers see it: batches go in, their replies come out, in order.
//!
//! ```text
//! callers --submit--> queue (one lock) --driver takes all of it--> one write --> server
//!    ^------------------ replies, matched in order and by token <-- one read <----|
//! ```
//! Any number of tasks share a connection; what they ask while a write is on its way leaves with the next one. Reads
//! that leave together also share one read of their namespace's register, which is as new as if each had asked: it is
//! sent after all of them began. The socket belongs to the [`super::driver`]; this file knows none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, TryAcquireError, oneshot};

use super::frame::ItemKey;
use super::reply::Code;
use super::request::{Batch, Expect};
use crate::clock::{Clock, duration_ms};

/// How much longer than the driver a caller on another runtime waits before it takes the driver for stuck.
const GRACE: Duration = Duration::from_millis(250);

/// A reply with its body taken off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: Code,
    pub(super) cas: u64,
    /// How many seconds it has left, if that was asked and it ends.
    pub(super) ttl_s: Option<u64>,
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

/// A reply that several callers wait for; it comes before their own.
pub(super) type SharedReply = Arc<OnceLock<Reply>>;

/// A batch whose replies are not all there.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) commands: usize,
    pub(super) first_token: u64,
    pub(super) expect: Expect,
    pub(super) deadline_ms: u64,
    pub(super) replies: Vec<Reply>,
    pub(super) answer: Answer,
}

/// Who wants the replies of a batch.
#[derive(Debug)]
pub(super) enum Answer {
    Caller(oneshot::Sender<Replies>),
    /// The read of a register; it takes no room.
    Shared(SharedReply),
    /// The caller was told that it takes too long.
    Nobody,
}

/// What callers have asked and the driver has not taken.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    pub(super) batches: Vec<Waiting>,
    /// The registers that are read with these batches, by namespace.
    pub(super) registers: Vec<(Vec<u8>, SharedReply)>,
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
    /// The runtime of the driver, which keeps the deadlines of calls.
    home: Option<Id>,
}

impl Pipe {
    /// Creates the callers' end of a connection whose driver runs on the present runtime.
    pub(super) fn new(max_in_flight: usize, timeout: Duration) -> Self {
        Self {
            queue: Mutex::default(),
            open: AtomicBool::new(true),
            next_id: AtomicU64::new(1),
            room: Semaphore::new(max_in_flight),
            max_in_flight,
            timeout,
            home: runtime(),
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
        let deadline_ms = self.deadline_ms();
        self.take_room(batch.commands).await?;
        let (caller, replies) = oneshot::channel();
        let queue = self.open_queue()?;
        submit(queue, batch, deadline_ms, caller);
        self.received(replies).await
    }

    /// As [`Pipe::call`], with the read of a register before the replies.
    pub(super) async fn read(
        &self,
        batch: Batch,
        register: &ItemKey<'_>,
    ) -> Result<(SharedReply, Vec<Reply>), Failure> {
        let deadline_ms = self.deadline_ms();
        self.take_room(batch.commands).await?;
        let (caller, replies) = oneshot::channel();
        let shared = {
            let mut queue = self.open_queue()?;
            let shared = self.share_register(&mut queue, register);
            submit(queue, batch, deadline_ms, caller);
            shared
        };
        Ok((shared, self.received(replies).await?))
    }

    /// Waits for replies. A runtime that exists and does not run keeps no deadlines: callers on others do it themselves.
    async fn received(&self, replies: oneshot::Receiver<Replies>) -> Replies {
        let dropped = Failure::Lost("the connection was given up");
        let here = runtime();
        if here.is_none() || here == self.home {
            return replies.await.unwrap_or(Err(dropped));
        }
        match tokio::time::timeout(self.timeout + GRACE, replies).await {
            Ok(replies) => replies.unwrap_or(Err(dropped)),
            Err(_elapsed) => {
                // The next call connects anew.
                for batch in self.close() {
                    batch.answer(Err(dropped));
                }
                Err(Failure::Timeout)
            }
        }
    }

    fn deadline_ms(&self) -> u64 {
        now_ms().saturating_add(duration_ms(self.timeout))
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

    /// Joins the read of a register that is still to be sent, or queues one.
    fn share_register(&self, queue: &mut Queue, register: &ItemKey<'_>) -> SharedReply {
        let same = |(namespace, _): &&(Vec<u8>, SharedReply)| namespace == register.namespace();
        if let Some((_, shared)) = queue.registers.iter().find(same) {
            return Arc::clone(shared);
        }
        let shared = SharedReply::default();
        let mut batch = self.batch(0);
        batch.get(register);
        queue.push(batch, u64::MAX, Answer::Shared(Arc::clone(&shared)));
        let namespace = register.namespace().to_vec();
        queue.registers.push((namespace, Arc::clone(&shared)));
        shared
    }

    /// Locks the queue of a connection that is open: `close` takes the same lock, so no batch is left in a queue that
    /// nobody empties.
    fn open_queue(&self) -> Result<MutexGuard<'_, Queue>, Failure> {
        let queue = self.queue();
        if self.is_open() {
            return Ok(queue);
        }
        Err(Failure::Lost("the connection broke"))
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
        queue.registers = Vec::new();
        std::mem::take(&mut queue.batches)
    }
}

impl Queue {
    /// Returns how many calls wait here.
    pub(super) fn callers(&self) -> usize {
        self.batches.len() - self.registers.len()
    }

    fn push(&mut self, batch: Batch, deadline_ms: u64, answer: Answer) {
        self.batches.push(Waiting {
            commands: batch.commands,
            first_token: batch.first_token,
            expect: batch.expect,
            deadline_ms,
            replies: Vec::with_capacity(batch.commands),
            answer,
        });
        if self.bytes.is_empty() && batch.bytes.len() > self.bytes.capacity() {
            self.bytes = batch.bytes;
        } else {
            self.bytes.extend_from_slice(&batch.bytes);
        }
    }
}

impl Waiting {
    /// Returns the commands that the batch took room for.
    pub(super) fn room(&self) -> usize {
        match self.answer {
            Answer::Shared(_) => 0,
            Answer::Caller(_) | Answer::Nobody => self.commands,
        }
    }

    /// Returns whether a deadline applies.
    pub(super) fn is_waited_for(&self) -> bool {
        matches!(self.answer, Answer::Caller(_))
    }

    /// Hands out the outcome. A caller that went away does not want to know.
    pub(super) fn answer(self, outcome: Result<(), Failure>) {
        match self.answer {
            Answer::Caller(caller) => {
                let _ = caller.send(outcome.map(|()| self.replies));
            }
            Answer::Shared(shared) => {
                if let Some(reply) = self.replies.into_iter().next() {
                    let _ = shared.set(reply);
                }
            }
            Answer::Nobody => {}
        }
    }
}

fn submit(
    mut queue: MutexGuard<'_, Queue>,
    batch: Batch,
    deadline_ms: u64,
    caller: oneshot::Sender<Replies>,
) {
    queue.push(batch, deadline_ms, Answer::Caller(caller));
    let driver = queue.driver.take();
    drop(queue);
    if let Some(driver) = driver {
        driver.wake();
    }
}

/// Returns the runtime that polls the caller.
fn runtime() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// Returns the time that deadlines follow: the system's, whatever clock the store has.
pub(super) fn now_ms() -> u64 {
    Clock::system().monotonic_ms()
}
