//! Merging plain puts: what many tasks write at the same moment goes out as one pipeline, with one look at each
//! register behind it.
//!
//! Writes must keep their order, also where a caller goes away: a batch is taken and handed to the connection under the
//! lock of the queue, puts whose caller is gone are left out, and every other write passes that lock before it is sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;

use super::Inner;
use super::combine::MAX_BATCH;
use super::frame::Stamp;
use super::queue::{Duty, abandoned};
use super::spaces::Space;
use super::write::{MAX_BYTES, stamp};
use crate::error::Result;

/// A plain put.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) space: Arc<Space>,
    pub(super) bucket: usize,
    pub(super) slot: u16,
    pub(super) lane: u64,
    pub(super) command: Cmd,
    /// The length of what it writes.
    pub(super) bytes: usize,
    /// The stamp it carries.
    pub(super) guess: Stamp,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The namespace has another stamp: the script has to write it.
    OtherStamp,
    /// A server refused it, such as one whose slot is on its way: it has to be sent where it belongs.
    Refused,
}

impl Outcome {
    /// Judges the reply to a put, and the one to the look behind it.
    fn of(put: &Value, look: &Value, guess: Stamp) -> Self {
        match (put, look) {
            (Value::Okay, Value::ServerError(_)) => Self::Refused,
            (Value::Okay, now) if stamp(now) == Some(guess) => Self::Done,
            (Value::Okay, _) => Self::OtherStamp,
            _ => Self::Refused,
        }
    }
}

/// A put, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    put: Put,
    tell: oneshot::Sender<Result<Outcome>>,
}

/// Puts of one register and connection: they go out together.
struct Batch {
    puts: Vec<Waiting>,
    bytes: usize,
}

impl Inner {
    /// Writes an entry whose namespace has the stamp that is guessed, or says why not.
    pub(super) async fn put(self: &Arc<Self>, put: Put) -> Result<Outcome> {
        let under_way = self.puts.begin();
        if under_way.is_alone {
            self.pass();
            let (slot, lane, guess) = (put.slot, put.lane, put.guess);
            let look = look(&put);
            let mut pipeline = Pipeline::with_capacity(2);
            pipeline.add_command(put.command).add_command(look);
            let replies = self.link.pipeline(slot, lane, &pipeline).await?;
            return Ok(match replies.as_slice() {
                [put, look] => Outcome::of(put, look, guess),
                _ => Outcome::Refused,
            });
        }
        let (tell, told) = oneshot::channel();
        if self.puts.push(Waiting { put, tell }) {
            tokio::spawn(send(Duty::new(self, |inner| &inner.puts)));
        }
        told.await.unwrap_or_else(|gone| Err(abandoned(gone)))
    }

    /// Waits until no batch is on its way to the connection: a write that is sent after this comes after it.
    pub(super) fn pass(&self) {
        drop(self.puts.waiting());
    }
}

/// Sends what waits, after one turn of everybody else.
async fn send(mut duty: Duty<Waiting>) {
    tokio::task::yield_now().await;
    let inner = Arc::clone(&duty.inner);
    let mut sent = duty.take(|waiting| {
        let batches = sort(waiting);
        let sent = batches
            .into_iter()
            .map(|batch| exchange(Arc::clone(&inner), batch));
        let mut sent: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(join_all(sent));
        // The first step puts the commands into the connection's own queue. Whoever polls next is the one to be woken.
        let is_over = sent
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready();
        (!is_over).then_some(sent)
    });
    if let Some(sent) = &mut sent {
        sent.await;
    }
}

/// Sorts puts into batches, each in the order of arrival, without those that nobody waits for.
fn sort(waiting: Vec<Waiting>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for one in waiting.into_iter().filter(|one| !one.tell.is_closed()) {
        let fits = |batch: &&mut Batch| {
            let put = &batch.puts[0].put;
            put.bucket == one.put.bucket
                && put.lane == one.put.lane
                && Arc::ptr_eq(&put.space, &one.put.space)
        };
        let bytes = one.put.bytes;
        // The latest of its kind; an earlier one is full.
        match batches.iter_mut().rev().find(fits) {
            Some(batch) if batch.puts.len() < MAX_BATCH && batch.bytes < MAX_BYTES => {
                batch.bytes += bytes;
                batch.puts.push(one);
            }
            _ => batches.push(Batch {
                puts: vec![one],
                bytes,
            }),
        }
    }
    batches
}

async fn exchange(inner: Arc<Inner>, mut batch: Batch) {
    let first = &batch.puts[0].put;
    let (slot, lane, look) = (first.slot, first.lane, look(first));
    let mut pipeline = Pipeline::with_capacity(batch.puts.len() + 1);
    for waiting in &mut batch.puts {
        pipeline.add_command(std::mem::take(&mut waiting.put.command));
    }
    pipeline.add_command(look);
    match inner.link.pipeline(slot, lane, &pipeline).await {
        Err(error) => batch.puts.into_iter().for_each(|waiting| {
            // Whoever went away needs no answer.
            let _ = waiting.tell.send(Err(error.clone()));
        }),
        Ok(mut replies) => {
            let look = replies.pop().unwrap_or_default();
            for (waiting, reply) in batch.puts.into_iter().zip(replies) {
                let outcome = Outcome::of(&reply, &look, waiting.put.guess);
                let _ = waiting.tell.send(Ok(outcome));
            }
        }
    }
}

/// Returns the command that reads the register behind a put.
fn look(put: &Put) -> Cmd {
    let register = &put.space.register(put.bucket).name;
    let mut look = Cmd::with_capacity(2, register.len() + 3);
    look.arg("GET").arg(register);
    look
}
