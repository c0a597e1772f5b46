//! Merging plain puts: what many tasks write at the same moment goes out as one pipeline, with one look behind it, and
//! one note in the journal if somebody follows it.
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
use super::notes::{self, Note, Untold};
use super::queue::{Duty, abandoned};
use super::spaces::Space;
use super::write::MAX_BYTES;
use crate::error::Result;
use crate::redis_conn::Call;

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
    /// The entry is there and valid, and the journal was told if somebody follows it.
    Done,
    /// It carries an old stamp: the script has to write it.
    Stale,
    /// It is written, but the register is elsewhere: its stamp is to be looked at, and the journal to be told.
    Unseen,
    /// It is not written, as where its slot moves.
    Refused,
}

/// What comes back behind puts.
struct Behind {
    /// The look failed: the register is elsewhere.
    is_unseen: bool,
    /// The register, as the look has found it.
    stamp: Option<Stamp>,
    /// Whether the journal was told, or nobody follows it.
    is_settled: bool,
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
            return self.put_alone(put).await;
        }
        let (tell, told) = oneshot::channel();
        if self.puts.push(Waiting { put, tell }) {
            tokio::spawn(send(Duty::new(self, |inner| &inner.puts)));
        }
        told.await.unwrap_or_else(|gone| Err(abandoned(gone)))
    }

    async fn put_alone(&self, mut put: Put) -> Result<Outcome> {
        self.pass();
        let journal = put.space.journal(put.bucket);
        let is_noted = journal.is_followed();
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.add_command(std::mem::take(&mut put.command));
        if is_noted {
            let note = iter::once(&put.note[..]);
            pipeline.add_command(notes::keys(&journal.name, note));
        }
        pipeline.add_command(put.space.look(put.bucket));
        let note = || vec![put.noting(iter::once(&put.note[..]))];
        let untold = Untold::new(&self.link, (!is_noted).then_some(note));
        let mut replies = self.link.pipeline(put.slot, put.lane, &pipeline).await?;
        let behind = Behind::take(&mut replies, &put, is_noted);
        let outcome = replies
            .first()
            .map_or(Outcome::Refused, |set| behind.outcome(set, put.guess));
        if outcome == Outcome::Done && !behind.is_settled {
            let note = put.noting(iter::once(&put.note[..]));
            self.note_again(&note).await?;
        }
        untold.settle();
        Ok(outcome)
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
    let (space, bucket) = (Arc::clone(&first.space), first.bucket);
    let (slot, lane, look) = (first.slot, first.lane, space.look(bucket));
    let is_noted = space.journal(bucket).is_followed();
    let mut puts = batch.puts;
    let make = || {
        puts.retain(|waiting| !waiting.tell.is_closed());
        let mut pipeline = Pipeline::with_capacity(puts.len() + 2);
        for waiting in &mut puts {
            pipeline.add_command(std::mem::take(&mut waiting.put.command));
        }
        if is_noted && !puts.is_empty() {
            let notes = puts.iter().map(|waiting| &waiting.put.note[..]);
            pipeline.add_command(notes::keys(&space.journal(bucket).name, notes));
        }
        pipeline.add_command(look);
        pipeline
    };
    let turn = inner.puts.lock();
    let sent = inner.link.pipeline_in_turn(slot, lane, turn, make).await;
    let Some(first) = puts.first() else {
        return;
    };
    let notes = puts.iter().map(|waiting| &waiting.put.note[..]);
    let note = || first.put.noting(notes.clone());
    let mut replies = match sent {
        Ok(replies) => replies,
        Err(error) => {
            // It may be applied all the same.
            let note = (!is_noted).then(note);
            tell(puts, |_| Err(error.clone()));
            if let Some(note) = note {
                let _ = inner.note_again(&note).await;
            }
            return;
        }
    };
    let behind = Behind::take(&mut replies, &first.put, is_noted);
    let outcomes = puts.iter().zip(&replies);
    let outcomes = outcomes.map(|(waiting, set)| behind.outcome(set, waiting.put.guess));
    let outcomes: Vec<_> = outcomes.collect();
    let is_due = !behind.is_settled && outcomes.contains(&Outcome::Done);
    let noted = match is_due {
        true => inner.note_again(&note()).await,
        false => Ok(()),
    };
    tell(puts, |at| match outcomes.get(at) {
        Some(Outcome::Done) => noted.clone().map(|()| Outcome::Done),
        outcome => Ok(outcome.copied().unwrap_or(Outcome::Refused)),
    });
}

/// Tells everybody what became of his put.
fn tell(puts: Vec<Waiting>, outcome: impl Fn(usize) -> Result<Outcome>) {
    for (at, waiting) in puts.into_iter().enumerate() {
        // Whoever went away needs no answer.
        let _ = waiting.tell.send(outcome(at));
    }
}

impl Put {
    /// Returns what notes puts of this register and connection.
    fn noting<'a>(&self, notes: impl Iterator<Item = &'a [u8]> + Clone) -> Note {
        let journal = &self.space.journal(self.bucket).name;
        Note {
            journal: journal.clone(),
            call: Call::new(self.slot, notes::keys(journal, notes)).lane(self.lane),
            look: None,
        }
    }
}

impl Behind {
    /// Takes what came back behind puts.
    fn take(replies: &mut Vec<Value>, put: &Put, is_noted: bool) -> Self {
        let look = replies.pop().unwrap_or_default();
        let seen = put.space.seen(put.bucket, &look);
        let note = is_noted.then(|| replies.pop().unwrap_or_default());
        Self {
            is_unseen: matches!(look, Value::ServerError(_)),
            stamp: seen.stamp,
            is_settled: match note {
                Some(reply) => !notes::is_refused(&reply),
                None => !seen.is_followed,
            },
        }
    }

    /// Returns what became of a put.
    fn outcome(&self, set: &Value, guess: Stamp) -> Outcome {
        match set {
            Value::Okay if self.is_unseen => Outcome::Unseen,
            Value::Okay if self.stamp == Some(guess) => Outcome::Done,
            Value::Okay => Outcome::Stale,
            _ => Outcome::Refused,
        }
    }
}
