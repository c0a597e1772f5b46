//! Reading the journal: one range of records from each bucket, from the last one that was seen on.
//!
//! ```text
//! poll   XRANGE {T}j:<ns> <last seen> + COUNT n   the first of them is the last seen: nothing is missing
//!        MGET {T}f:<ns>                           has the value that it had: no put has passed unnoted
//!                                                 else a gap: Note::All, and on from the end
//! ```
//! A journal begins with its first reader and ends ten minutes after its last one; beside it, and before it, the key by which
//! puts see that it is followed. Both may be trimmed, evicted, deleted or lost with their server at any time: each of these is
//! a gap, and so is a connection that was made anew.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::Value;

use super::Inner;
use super::named;
use super::read::array;
use super::scripts::JOURNAL;
use super::spaces::{Space, fresh};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyRef, Namespace};
use crate::redis_conn::Call;
use crate::store::{Journal, Note, Register};

/// How long a journal is kept without a reader.
const KEPT_MS: u64 = 600_000;
/// How often a reader says that he still reads.
const RENEWED_EVERY: Duration = Duration::from_mins(1);
/// Records of one reply.
const PAGE: usize = 200;
/// How often a poll asks a bucket for more: beyond the longest journal.
const MAX_ROUNDS: usize = 40;
/// How often a poll begins anew because a connection was made meanwhile.
const MAX_ATTEMPTS: usize = 2;
/// The bits of the first number that ids are counted from.
const FIRST_BITS: u32 = 48;

/// A reader of the journal of a namespace.
pub(super) struct Reader {
    inner: Arc<Inner>,
    namespace: Namespace,
    space: Arc<Space>,
    parts: Vec<Part>,
    /// The connections that the positions were read from.
    epoch: Option<u64>,
}

/// Where a reader is in one bucket.
#[derive(Debug, Default)]
struct Part {
    /// The record that was seen last; `None`: what comes next is a gap.
    seen: Option<Position>,
    /// The value of the key that says that the journal is followed.
    followed: Vec<u8>,
    /// When the reader last said that he reads.
    renewed: Option<Instant>,
}

/// A record, as far as it has to be known again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    id: Vec<u8>,
    /// Of what it holds: another journal may come to the same id.
    sum: u32,
}

/// A record taken apart.
#[derive(Debug)]
struct Record {
    position: Position,
    notes: Vec<Note>,
}

/// One poll of one bucket.
#[derive(Debug)]
struct Walk {
    seen: Option<Position>,
    followed: Vec<u8>,
    news: Vec<Note>,
    /// How it ended.
    end: Option<Result<()>>,
}

impl Reader {
    pub(super) fn new(inner: Arc<Inner>, namespace: &Namespace) -> Self {
        let parts = inner.buckets.all().iter().map(|_| Part::default());
        Self {
            namespace: namespace.clone(),
            space: inner.spaces.of(namespace, &inner.buckets),
            parts: parts.collect(),
            inner,
            epoch: None,
        }
    }

    /// Makes a gap of what comes next.
    fn forget(&mut self) {
        self.epoch = None;
        self.parts.iter_mut().for_each(|part| part.seen = None);
    }

    /// Reads each bucket to its end.
    async fn read(&mut self) -> Vec<Result<Vec<Note>>> {
        let walks = self.parts.iter().map(|part| Walk {
            seen: part.seen.clone(),
            followed: part.followed.clone(),
            news: Vec::new(),
            end: None,
        });
        let mut walks: Vec<_> = walks.collect();
        let parts = 0..self.parts.len();
        let due = parts.clone().filter(|&at| self.parts[at].is_due());
        let due: Vec<_> = due.collect();
        let checked = parts.filter(|&at| self.parts[at].seen.is_some());
        let checked: Vec<_> = checked.collect();
        for round in 0..MAX_ROUNDS {
            let open: Vec<_> = (0..walks.len())
                .filter(|&at| walks[at].end.is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            let mut calls: Vec<_> = open.iter().map(|&at| self.call(at, &walks[at])).collect();
            if round == 0 {
                calls.extend(checked.iter().map(|&at| self.check(at)));
                calls.extend(due.iter().flat_map(|&at| self.renewals(at)));
            }
            let mut replies = self.inner.link.many(&calls).await.into_iter();
            for (&at, reply) in open.iter().zip(replies.by_ref()) {
                walks[at].take(reply);
            }
            if round == 0 {
                for (&at, reply) in checked.iter().zip(replies) {
                    walks[at].check(reply);
                }
            }
        }
        due.into_iter().for_each(|at| self.parts[at].renew());
        let ends = self.parts.iter_mut().zip(walks);
        ends.map(|(part, walk)| part.after(walk)).collect()
    }

    /// Returns the next call of a walk.
    fn call(&self, at: usize, walk: &Walk) -> Call {
        let (slot, journal) = (self.inner.buckets.all()[at].slot, self.space.journal(at));
        let (journal, followed) = (&journal.name[..], &journal.followed[..]);
        let Some(seen) = &walk.seen else {
            let mut command = JOURNAL.command(&[journal, followed]);
            command.arg(KEPT_MS).arg(&fresh()[..]);
            command.arg(fastrand::u64(..1 << FIRST_BITS));
            return Call::script(slot, &JOURNAL, command);
        };
        let mut command = redis::cmd("XRANGE");
        command.arg(journal).arg(&seen.id).arg("+");
        command.arg("COUNT").arg(PAGE);
        Call::new(slot, command)
    }

    /// Returns what tells whether puts have seen all the time that the journal is followed. No `GET`: another program's key
    /// is as good as none.
    fn check(&self, at: usize) -> Call {
        let mut command = redis::cmd("MGET");
        command.arg(&self.space.journal(at).followed);
        Call::new(self.inner.buckets.all()[at].slot, command)
    }

    /// Returns what keeps a journal; that there is none is for the others to say.
    fn renewals(&self, at: usize) -> [Call; 2] {
        let journal = self.space.journal(at);
        [&journal.followed, &journal.name].map(|key| {
            let mut command = redis::cmd("PEXPIRE");
            command.arg(key).arg(KEPT_MS);
            Call::new(self.inner.buckets.all()[at].slot, command)
        })
    }
}

#[async_trait]
impl Journal for Reader {
    fn parts(&self) -> usize {
        self.parts.len()
    }

    fn part_of(&self, key: &[u8]) -> usize {
        self.inner.buckets.index_of(&self.namespace, key)
    }

    async fn poll(&mut self) -> Vec<Result<Vec<Note>>> {
        if let Err(error) = self.inner.ready().await {
            let error = named(error);
            return self.parts.iter().map(|_| Err(error.clone())).collect();
        }
        let mut read = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            let epoch = self.inner.link.epoch();
            if self.epoch != Some(epoch) {
                self.forget();
            }
            read = self.read().await;
            if self.inner.link.epoch() == epoch {
                self.epoch = Some(epoch);
                return read;
            }
            // Some of it may be the word of a server that is not in charge any more.
            self.forget();
        }
        let all = |read: Result<Vec<Note>>| read.map(|_| vec![Note::All]);
        read.into_iter().map(all).collect()
    }
}

impl Part {
    /// Returns whether the reader has to say again that he reads.
    fn is_due(&self) -> bool {
        let is_late = |renewed: &Instant| renewed.elapsed() >= RENEWED_EVERY;
        self.seen.is_some() && self.renewed.as_ref().is_none_or(is_late)
    }

    fn renew(&mut self) {
        self.renewed = Some(Instant::now());
    }

    /// Goes where a walk ended, unless it failed.
    fn after(&mut self, walk: Walk) -> Result<Vec<Note>> {
        match walk.end {
            Some(Err(error)) => Err(named(error)),
            Some(Ok(())) => {
                if self.seen.is_none() {
                    self.renew();
                }
                self.seen = walk.seen;
                self.followed = walk.followed;
                Ok(walk.news)
            }
            // There is no end to it: what is left counts as lost.
            None => {
                self.seen = None;
                Ok(vec![Note::All])
            }
        }
    }
}

impl Walk {
    /// Takes the reply to the call of this walk.
    fn take(&mut self, reply: Result<Value>) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return self.end = Some(Err(error)),
        };
        let Some(seen) = self.seen.take() else {
            self.news = vec![Note::All];
            return self.end = Some(self.begin(reply).ok_or_else(unexpected));
        };
        let Some((position, notes, is_end)) = page(reply, &seen) else {
            return;
        };
        self.seen = Some(position);
        self.news.extend(notes);
        self.end = is_end.then_some(Ok(()));
    }

    /// Goes where the script says that the journal ends.
    fn begin(&mut self, reply: Value) -> Option<()> {
        let [followed, record] = <[Value; 2]>::try_from(array(reply)).ok()?;
        let Value::BulkString(followed) = followed else {
            return None;
        };
        self.seen = Some(Record::parse(record)?.position);
        self.followed = followed;
        Some(())
    }

    /// Takes the reply that tells whether puts have seen all the time that the journal is followed.
    fn check(&mut self, reply: Result<Value>) {
        match reply.map(array) {
            Err(error) => self.end = Some(Err(error)),
            Ok(values) if values == [Value::BulkString(self.followed.clone())] => {}
            Ok(_) if matches!(self.end, Some(Err(_))) => {}
            // Anything may have been put: it begins anew.
            Ok(_) => (self.seen, self.end) = (None, None),
        }
    }
}

/// Takes a range apart: its last record, what the others behind the first say, and whether it is the end; `None`: a gap.
fn page(reply: Value, seen: &Position) -> Option<(Position, Vec<Note>, bool)> {
    let records = array(reply);
    let is_end = records.len() < PAGE;
    let mut records = records.into_iter().map(Record::parse);
    let first = records.next()??;
    if first.position != *seen {
        return None;
    }
    let (mut last, mut notes) = (first.position, Vec::new());
    for record in records {
        let record = record?;
        last = record.position;
        notes.extend(record.notes);
    }
    Some((last, notes, is_end))
}

impl Record {
    /// Takes a record apart; `None`: it is none. What is not known in it may be anything.
    fn parse(value: Value) -> Option<Self> {
        let [id, fields] = <[Value; 2]>::try_from(array(value)).ok()?;
        let (Value::BulkString(id), Value::Array(fields)) = (id, fields) else {
            return None;
        };
        let (mut sum, mut notes) = (0, Vec::new());
        for pair in fields.chunks(2) {
            let [Value::BulkString(field), Value::BulkString(value)] = pair else {
                notes.push(Note::All);
                continue;
            };
            sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, field), value);
            notes.extend(note(field, value));
        }
        let position = Position { id, sum };
        Some(Self { position, notes })
    }
}

/// Returns what a field says; `None`: nothing.
fn note(field: &[u8], value: &[u8]) -> Option<Note> {
    let known = match field {
        b"a" => return None,
        b"k" => entry(value),
        b"t" => Register::from_bytes(value).map(Note::Register),
        _ => None,
    };
    Some(known.unwrap_or(Note::All))
}

fn entry(value: &[u8]) -> Option<Note> {
    let (write_id, key) = value.split_first_chunk::<8>()?;
    Some(Note::Key {
        key: KeyRef::from(key).to_key().ok()?,
        write_id: u64::from_le_bytes(*write_id),
    })
}

fn unexpected() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the script of journals answered something else",
    )
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("namespace", &self.namespace)
            .field("parts", &self.parts)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::notes;

    fn text(bytes: impl AsRef<[u8]>) -> Value {
        Value::BulkString(bytes.as_ref().to_vec())
    }

    fn record(id: &str, fields: &[(&[u8], &[u8])]) -> Value {
        let fields = fields
            .iter()
            .flat_map(|(field, value)| [text(field), text(value)]);
        Value::Array(vec![text(id), Value::Array(fields.collect())])
    }

    fn position(value: &Value) -> Position {
        Record::parse(value.clone()).unwrap().position
    }

    fn key(key: &[u8], write_id: u64) -> Note {
        let key = KeyRef::from(key).to_key().unwrap();
        Note::Key { key, write_id }
    }

    #[test]
    fn records_say_what_has_changed_in_order() {
        let (one, none) = (notes::of_key(7, b"k:1"), notes::of_key(0, b"\0"));
        let fields: [(&[u8], &[u8]); 5] = [
            (b"k", &one),
            (b"t", b"=tag"),
            (b"a", b"anything"),
            (b"k", &none),
            (b"f", b""),
        ];
        let tag = Note::Register(Register::exact("tag").unwrap());
        let said = Record::parse(record("1-0", &fields)).unwrap().notes;
        assert_eq!(said, [key(b"k:1", 7), tag, key(b"\0", 0), Note::All]);
    }

    #[test]
    fn what_is_not_known_may_be_anything() {
        let long = notes::of_key(1, &[b'k'; 1025]);
        let fields: [(&[u8], &[u8]); 7] = [
            (b"x", b"of a later version"),
            (b"", b""),
            (b"k", b"short"),
            (b"k", b"\0\0\0\0\0\0\0\0"),
            (b"k", &long),
            (b"t", b"no register"),
            (b"kk", b""),
        ];
        for field in fields {
            let said = Record::parse(record("1-0", &[field])).unwrap().notes;
            assert_eq!(said, [Note::All], "{field:?}");
        }
        for odd in [vec![text("k")], vec![text("k"), Value::Int(1)]] {
            let odd = Value::Array(vec![text("1-0"), Value::Array(odd)]);
            assert_eq!(Record::parse(odd).unwrap().notes, [Note::All]);
        }
        for none in [Value::Nil, text("1-0"), Value::Array(vec![text("1-0")])] {
            assert!(Record::parse(none).is_none());
        }
    }

    #[test]
    fn a_range_that_begins_elsewhere_is_a_gap() {
        let (a, b) = (notes::of_key(1, b"a"), notes::of_key(2, b"b"));
        let first = record("5-0", &[(b"k", &a)]);
        let second = record("5-1", &[(b"k", &b)]);
        let seen = position(&first);
        let both = Value::Array(vec![first.clone(), second.clone()]);
        let (last, notes, is_end) = page(both, &seen).unwrap();
        assert_eq!(
            (&last, notes, is_end),
            (&position(&second), vec![key(b"b", 2)], true)
        );
        let nothing_new = page(Value::Array(vec![first]), &seen).unwrap();
        assert_eq!(nothing_new, (seen.clone(), vec![], true));
        // The id is right, what it holds is not: another journal.
        let other = record("5-0", &[(b"k", &b)]);
        for gap in [vec![], vec![second], vec![other], vec![Value::Nil]] {
            assert_eq!(page(Value::Array(gap), &seen), None);
        }
        assert_eq!(page(Value::Nil, &seen), None);
    }

    #[test]
    fn a_full_page_is_not_the_end() {
        let records = (0..PAGE).map(|n| record(&format!("1-{n}"), &[(b"a", b"")]));
        let records: Vec<_> = records.collect();
        let seen = position(&records[0]);
        let (last, notes, is_end) = page(Value::Array(records), &seen).unwrap();
        assert_eq!(last.id, format!("1-{}", PAGE - 1).as_bytes());
        assert!(notes.is_empty() && !is_end);
    }
}
