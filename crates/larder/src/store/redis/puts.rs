//! Merging plain puts: what many tasks write at the same moment goes out as one pipeline, with one note in the journal
//! and one look at the register behind it.
//!
//! Writes must keep their order, also where a caller goes away: once its connection stands, a batch is put together,
//! without the puts whose caller is gone, and handed to the connection in one step under the lock of the queue; and
//! every other write passes that lock before it is sent.

use std::iter;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;

use super::Inner;
use super::combine::MAX_BATCH;
use super::frame::Stamp;
use super::notes;
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
    /// What the journal is told.
    pub(super) note: Vec<u8>,
    /// The length of what it writes.
    pub(super) bytes: usize,
    /// The stamp it carries.
    pub(super) guess: Stamp,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The entry is there and valid.
    Done,
    /// So it is, but the journal was not told, as where it is elsewhere.
    Unnoted,
    /// It carries an old stamp: the script has to write it.
    Stale,
    /// It is written, but the register is elsewhere: its stamp is to be looked at, and the journal to be told.
    Unseen,
    /// It is not written, as where its slot moves.
    Refused,
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
    /// Writes an entry whose namespace has the stamp that is guessed.
    pub(super) async fn put(self: &Arc<Self>, put: Put) -> Result<Outcome> {
        let under_way = self.puts.begin();
        if under_way.is_alone {
            self.pass();
            let (slot, lane, guess) = (put.slot, put.lane, put.guess);
            let note = notes::keys(put.space.journal(put.bucket), iter::once(&put.note[..]));
            let look = look(&put);
            let mut pipeline = Pipeline::with_capacity(3);
            pipeline.add_command(put.command);
            pipeline.add_command(note).add_command(look);
            let replies = self.link.pipeline(slot, lane, &pipeline).await?;
            return Ok(match replies.as_slice() {
                [set, noted, now] => outcome(set, noted, now, guess),
                _ => Outcome::Refused,
            });
        }
        let (tell, told) = oneshot::channel();
        if self.puts.push(Waiting { put, tell }) {
            tokio::spawn(send(Duty::new(self, |inner| &inner.puts)));
        }
        told.await.unwrap_or_else(|gone| Err(abandoned(gone)))
    }

    /// Waits while a batch is handed to its connection: a write that is sent after this comes after it.
    pub(super) fn pass(&self) {
        drop(self.puts.waiting());
    }
}

/// Sends what waits, after one turn of everybody else.
async fn send(mut duty: Duty<Waiting>) {
    tokio::task::yield_now().await;
    let batches = sort(duty.take()).into_iter();
    join_all(batches.map(|batch| exchange(&duty.inner, batch))).await;
}

/// Sorts puts into batches, each in the order of arrival.
fn sort(waiting: Vec<Waiting>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for one in waiting {
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

async fn exchange(inner: &Inner, batch: Batch) {
    let first = &batch.puts[0].put;
    let (slot, lane, look) = (first.slot, first.lane, look(first));
    let journal = first.space.journal(first.bucket).to_vec();
    let mut puts = batch.puts;
    let make = || {
        puts.retain(|waiting| !waiting.tell.is_closed());
        let mut pipeline = Pipeline::with_capacity(puts.len() + 2);
        for waiting in &mut puts {
            pipeline.add_command(std::mem::take(&mut waiting.put.command));
        }
        if !puts.is_empty() {
            let notes = puts.iter().map(|waiting| &waiting.put.note[..]);
            pipeline.add_command(notes::keys(&journal, notes));
        }
        pipeline.add_command(look);
        pipeline
    };
    let turn = inner.puts.lock();
    match inner.link.pipeline_in_turn(slot, lane, turn, make).await {
        Err(error) => puts.into_iter().for_each(|waiting| {
            // Whoever went away needs no answer.
            let _ = waiting.tell.send(Err(error.clone()));
        }),
        Ok(mut replies) => {
            let now = replies.pop().unwrap_or_default();
            let noted = replies.pop().unwrap_or_default();
            for (waiting, reply) in puts.into_iter().zip(replies) {
                let outcome = outcome(&reply, &noted, &now, waiting.put.guess);
                let _ = waiting.tell.send(Ok(outcome));
            }
        }
    }
}

fn outcome(set: &Value, noted: &Value, now: &Value, guess: Stamp) -> Outcome {
    match (set, now) {
        (Value::Okay, Value::ServerError(_)) => Outcome::Unseen,
        (Value::Okay, now) if stamp(now) == Some(guess) && notes::is_refused(noted) => {
            Outcome::Unnoted
        }
        (Value::Okay, now) if stamp(now) == Some(guess) => Outcome::Done,
        (Value::Okay, _) => Outcome::Stale,
        _ => Outcome::Refused,
    }
}

/// Returns the command that reads the register behind a put.
fn look(put: &Put) -> Cmd {
    let register = &put.space.register(put.bucket).name;
    let mut look = Cmd::with_capacity(2, register.len() + 3);
    look.arg("GET").arg(register);
    look
}
