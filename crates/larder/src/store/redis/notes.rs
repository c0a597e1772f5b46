//! Notes of plain changes, for who reads the journal: commands behind the changes, in the same pipeline, so that no change is
//! acknowledged before it is noted. Scripts note what they change themselves.
//!
//! A journal that nobody reads is not there, and a note of it is a command that does nothing. Puts are too many for that:
//! behind each is a look at the key that is there while somebody follows, and without that key, no note. A process believes
//! what it saw last:
//!
//! ```text
//! followed      SET e, XADD j, MGET g f
//! not followed  SET e, MGET g f            f is there: XADD j, before the put is acknowledged
//! ```
//! A reader sets `f` before he reads anything that he keeps. So whoever is not seen by a look behind the put has read the
//! new entry, or will. `f` that was missing in between has another value: readers know that they have missed something.
//!
//! A put that is not acknowledged may be applied and not noted, if its process ends or its connection breaks between the
//! two. Copies of other processes may then be older than the store until they end.
//!
//! A record has one or more fields:
//!
//! ```text
//! k  write id, u64 le, 0: none; and the key      t  the name of a register      f  everything      a  the beginning
//! ```

use std::iter;

use redis::{Cmd, Value};
use tokio::runtime::Handle;

use super::Inner;
use super::spaces;
use crate::error::Result;
use crate::redis_conn::{Call, Link};

/// About how many records a journal keeps.
pub(super) const MAX_RECORDS: usize = 4096;
/// About how many fields a journal keeps, where its records have many.
const MAX_FIELDS: usize = 65_536;
/// How many records it keeps however many fields they have.
const MIN_RECORDS: usize = 256;

/// The note of changes of one slot and lane.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// The key of the journal.
    pub(super) journal: Vec<u8>,
    /// What adds the record.
    pub(super) call: Call,
    /// Which of the calls is the look that tells whether it is needed; `None`: it is sent with the changes.
    pub(super) look: Option<usize>,
}

/// Notes that may be needed for what is on its way: if the replies do not come, or nobody waits for them any more, they are
/// sent.
pub(super) struct Untold<'a, F: FnOnce() -> Vec<Note>> {
    link: &'a Link,
    notes: Option<F>,
}

impl<'a, F: FnOnce() -> Vec<Note>> Untold<'a, F> {
    /// Keeps what makes the notes; `None`: there are none.
    pub(super) fn new(link: &'a Link, notes: Option<F>) -> Self {
        Self { link, notes }
    }

    /// Lets go of them: what they tell of is noted, or nobody follows.
    pub(super) fn settle(mut self) {
        self.notes = None;
    }
}

impl<F: FnOnce() -> Vec<Note>> Drop for Untold<'_, F> {
    fn drop(&mut self) {
        let (Some(notes), Ok(runtime)) = (self.notes.take(), Handle::try_current()) else {
            return;
        };
        let (link, notes) = (self.link.clone(), notes());
        runtime.spawn(async move {
            for note in notes {
                // Nobody was told that the change is made.
                let _ = note_again(&link, &note).await;
            }
        });
    }
}

/// Returns what the note of an entry holds.
pub(super) fn of_key(write_id: u64, key: &[u8]) -> Vec<u8> {
    let mut note = Vec::with_capacity(8 + key.len());
    note.extend_from_slice(&write_id.to_le_bytes());
    note.extend_from_slice(key);
    note
}

/// Returns the command that notes entries.
pub(super) fn keys<'a>(journal: &[u8], notes: impl Iterator<Item = &'a [u8]> + Clone) -> Cmd {
    record(journal, b"k", notes)
}

/// Returns the command that notes registers, at least one.
pub(super) fn registers<'a>(journal: &[u8], names: impl Iterator<Item = &'a [u8]> + Clone) -> Cmd {
    record(journal, b"t", names)
}

/// Returns the command that notes everything.
pub(super) fn everything(journal: &[u8]) -> Cmd {
    record(journal, b"f", iter::once(&b""[..]))
}

fn record<'a>(
    journal: &[u8],
    field: &[u8; 1],
    values: impl Iterator<Item = &'a [u8]> + Clone,
) -> Cmd {
    let (count, bytes) = values.clone().fold((0, 0), |(count, bytes), value| {
        (count + 1, bytes + value.len())
    });
    let length = (MAX_FIELDS / count.max(1)).clamp(MIN_RECORDS, MAX_RECORDS);
    let mut command = Cmd::with_capacity(2 * count + 7, journal.len() + bytes + count + 32);
    command.arg("XADD").arg(journal).arg("NOMKSTREAM");
    command.arg("MAXLEN").arg("~").arg(length).arg("*");
    for value in values {
        command.arg(field).arg(value);
    }
    command
}

/// Returns whether a note was refused, which says nothing about what it tells of.
pub(super) fn is_refused(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(_))
}

impl Inner {
    /// Sends changes, and behind those of a slot and lane what notes them; one result each, same order. Notes that have a
    /// look are sent only if it tells that somebody follows.
    ///
    /// A change that had to follow a moving slot may have come after its note, or its look: it is noted again.
    pub(super) async fn many_noted(
        &self,
        mut calls: Vec<Call>,
        notes: Vec<Note>,
    ) -> (Vec<Result<Value>>, Vec<Result<()>>) {
        let count = calls.len();
        let sent = notes.iter().filter(|note| note.look.is_none());
        calls.extend(sent.map(|note| note.call.clone()));
        let kept = || notes.iter().filter(|note| note.look.is_some());
        let kept = kept().next().map(|_| || kept().cloned().collect());
        let untold = Untold::new(&self.link, kept);
        let (mut replies, followed) = self.link.many_followed(&calls).await;
        let mut noted = replies.split_off(count).into_iter();
        let mut told = Vec::with_capacity(notes.len());
        for note in &notes {
            let is_about = |at: &usize| {
                let change = calls[..count].get(*at);
                change.is_some_and(|it| it.slot == note.call.slot && it.lane == note.call.lane)
            };
            let (reply, is_needless) = match note.look.map(|at| &replies[at]) {
                None => (noted.next().unwrap_or(Ok(Value::Nil)), false),
                Some(look) => (
                    Ok(Value::Nil),
                    look.as_ref().is_ok_and(|look| !spaces::is_followed(look)),
                ),
            };
            let is_sent = note.look.is_none() && reply.is_ok();
            let is_settled = (is_sent || is_needless) && !followed.iter().any(is_about);
            let is_made = (0..count).any(|at| is_about(&at) && replies[at].is_ok());
            told.push(if is_settled || !is_made {
                reply.map(drop)
            } else {
                note_again(&self.link, note).await
            });
        }
        if replies.iter().all(Result::is_ok) {
            untold.settle();
        }
        (replies, told)
    }

    /// Notes what was not noted, or too early.
    pub(super) async fn note_again(&self, note: &Note) -> Result<()> {
        note_again(&self.link, note).await
    }
}

/// Sends a note. A journal that takes none, as on a server that is full, ends: then its readers know that they have missed
/// something.
async fn note_again(link: &Link, note: &Note) -> Result<()> {
    if link.one(&note.call).await.is_ok() {
        return Ok(());
    }
    let mut end = redis::cmd("DEL");
    end.arg(&note.journal);
    let end = Call::new(note.call.slot, end).lane(note.call.lane);
    link.one(&end).await.map(drop)
}
