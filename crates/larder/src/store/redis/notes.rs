//! Notes of plain changes, for who reads the journal: commands behind the changes, in the same pipeline, so that no change is
//! acknowledged before it is noted. Scripts note what they change themselves.
//!
//! A journal that nobody reads is not there, and a note of it is a command that does nothing. A record has one or more
//! fields:
//!
//! ```text
//! k  write id, u64 le, 0: none; and the key      t  the name of a register      f  everything      a  the beginning
//! ```

use std::iter;

use redis::{Cmd, Value};

use super::Inner;
use crate::error::Result;
use crate::redis_conn::Call;

/// About how many records a journal keeps.
pub(super) const MAX_RECORDS: usize = 4096;
/// About how many fields a journal keeps, where its records have many.
const MAX_FIELDS: usize = 65_536;
/// How many records it keeps however many fields they have.
const MIN_RECORDS: usize = 256;

/// The note of changes of one slot and lane.
#[derive(Debug)]
pub(super) struct Note {
    /// The key of the journal.
    pub(super) journal: Vec<u8>,
    /// What adds the record.
    pub(super) call: Call,
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
    /// Sends changes, and behind those of a slot and lane what notes them; one result each, same order.
    ///
    /// A change that had to follow a moving slot may have come after its note: it is noted again.
    pub(super) async fn many_noted(
        &self,
        mut calls: Vec<Call>,
        notes: Vec<Note>,
    ) -> (Vec<Result<Value>>, Vec<Result<()>>) {
        let count = calls.len();
        let (mut made, journals): (Vec<_>, Vec<_>) = notes
            .into_iter()
            .map(|note| (note.call, note.journal))
            .unzip();
        calls.append(&mut made);
        let (mut replies, followed) = self.link.many_followed(&calls).await;
        let noted = replies.split_off(count);
        let (changes, notes) = calls.split_at(count);
        let mut told = Vec::with_capacity(notes.len());
        for ((note, journal), reply) in notes.iter().zip(&journals).zip(noted) {
            let is_about = |at: &usize| {
                let change = changes.get(*at);
                change.is_some_and(|it| it.slot == note.slot && it.lane == note.lane)
            };
            let is_settled = reply.is_ok() && !followed.iter().any(is_about);
            let is_made = (0..count).any(|at| is_about(&at) && replies[at].is_ok());
            told.push(if is_settled || !is_made {
                reply.map(drop)
            } else {
                self.note_again(note, journal).await
            });
        }
        (replies, told)
    }

    /// Notes what was not noted, or too early. A journal that takes no note, as on a server that is full, ends: then its
    /// readers know that they have missed something.
    pub(super) async fn note_again(&self, note: &Call, journal: &[u8]) -> Result<()> {
        if self.link.one(note).await.is_ok() {
            return Ok(());
        }
        let mut end = redis::cmd("DEL");
        end.arg(journal);
        let end = Call::new(note.slot, end).lane(note.lane);
        self.link.one(&end).await.map(drop)
    }
}
