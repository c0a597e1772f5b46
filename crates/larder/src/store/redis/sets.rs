//! Sorted sets: Redis's own, with a stamp under the entry's key, so that `clear` empties them as it does entries.

use bytes::Bytes;
use redis::{Cmd, Value};

use super::Inner;
use super::frame::Frame;
use super::place::Place;
use super::read::array;
use super::scripts::{ZSET_ADD, ZSET_READ, ZSET_REMOVE};
use super::spaces::{Space, fresh};
use super::write::{letter, ttl_ms};
use crate::codec::{Codec, Encoding};
use crate::envelope::{self, Envelope, Header};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::redis_conn::{Call, Script};
use crate::store::{Entry, Expiry, Register, SortedSetOp, SortedSetReply, sorted_set};

impl Inner {
    pub(super) async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, key);
        let reply = self.on_entry(&place, |known| self.set_call(&place, known, op));
        parse(reply.await?)
    }

    fn set_call(&self, place: &Place<'_>, known: &[Register], op: &SortedSetOp) -> Result<Call> {
        Ok(match op {
            SortedSetOp::Add { members, expiry } => {
                return self.adding(place, known, members, *expiry);
            }
            SortedSetOp::Remove(members) => {
                let mut command = place.on_set(&ZSET_REMOVE, known);
                command.arg(&write_id()[..]).arg("M");
                members.iter().for_each(|member| {
                    command.arg(&member[..]);
                });
                place.script(&ZSET_REMOVE, command)
            }
            SortedSetOp::RemoveByScore { min, max } => {
                let mut command = place.on_set(&ZSET_REMOVE, known);
                command.arg(&write_id()[..]).arg("S");
                let (min, max) = bounds(*min, *max);
                place.script(&ZSET_REMOVE, command.arg(min).arg(max).take())
            }
            SortedSetOp::Range {
                start,
                stop,
                descending,
            } => reading(place, known, |command| {
                command
                    .arg("R")
                    .arg(*start)
                    .arg(*stop)
                    .arg(i32::from(*descending));
            }),
            SortedSetOp::RangeByScore { min, max } => reading(place, known, |command| {
                let (min, max) = bounds(*min, *max);
                command.arg("S").arg(min).arg(max);
            }),
            SortedSetOp::Len => reading(place, known, |command| {
                command.arg("L");
            }),
            SortedSetOp::Score(member) => reading(place, known, |command| {
                command.arg("M").arg(&member[..]);
            }),
        })
    }

    fn adding(
        &self,
        place: &Place<'_>,
        known: &[Register],
        members: &[(f64, Bytes)],
        expiry: Expiry,
    ) -> Result<Call> {
        let expiry = if expiry == Expiry::Keep {
            Expiry::Never
        } else {
            expiry
        };
        let ttl = ttl_ms(expiry);
        let header = Header::new(
            Encoding::Codec(Codec::MessagePack),
            self.clock.now_ms(),
            ttl,
        );
        let template = sorted_set::seal(&header, Vec::new())?;
        let mut command = place.on_set(&ZSET_ADD, known);
        command
            .arg(&fresh()[..])
            .arg(letter(expiry))
            .arg(ttl.unwrap_or(0));
        command.arg(&self.expires_at(ttl).unwrap_or(0).to_le_bytes()[..]);
        command.arg(&write_id()[..]).arg(&template[..]);
        for (score, member) in members {
            if score.is_nan() {
                return Err(Error::argument("a score must be a number").key(member));
            }
            // Makes 0 of -0, as the emulation does.
            command.arg(*score + 0.0).arg(&member[..]);
        }
        Ok(place.script(&ZSET_ADD, command))
    }

    /// Returns a sorted set as other stores keep it: one sealed entry. `met` is its entry, without members.
    pub(super) async fn whole_set(
        &self,
        namespace: &Namespace,
        space: &Space,
        key: &[u8],
        met: &Entry,
    ) -> Result<Option<Entry>> {
        let place = self.place(space, namespace, key);
        let mut head = redis::cmd("GET");
        head.arg(&place.entry);
        let registers = envelope::registers(&met.value);
        let members = reading(&place, &registers, |command| {
            command.arg("R").arg(0).arg(-1).arg(0);
        });
        let mut replies = self
            .link
            .many(&[place.call(head), members])
            .await
            .into_iter();
        let frame = match replies.next().transpose()? {
            Some(Value::BulkString(bytes)) => Frame::parse(&bytes.into()),
            _ => None,
        };
        let members = replies.next().transpose()?.map(parse).transpose()?;
        // Another kind of entry, or none, may stand there by now: then this one is gone.
        let (Some(frame), Some(SortedSetReply::Members(members))) = (frame, members) else {
            return Ok(None);
        };
        let Ok(envelope) = Envelope::open(frame.rest()) else {
            return Ok(None);
        };
        let header = Header {
            write_id: frame.write_id(),
            ..envelope.header
        };
        let value = sorted_set::seal(&header, members)?;
        Ok(Some(Entry {
            is_stale: met.is_stale,
            ..Entry::new(value, frame.expires_at_ms)
        }))
    }
}

impl Place<'_> {
    fn on_set(&self, script: &'static Script, known: &[Register]) -> Cmd {
        self.command(script, &self.members(), known)
    }
}

fn reading(place: &Place<'_>, known: &[Register], arguments: impl FnOnce(&mut Cmd)) -> Call {
    let mut command = place.on_set(&ZSET_READ, known);
    arguments(&mut command);
    place.script(&ZSET_READ, command)
}

fn write_id() -> [u8; 8] {
    fastrand::u64(1..).to_le_bytes()
}

/// Returns bounds that Redis takes; those that are no numbers hold nothing between them.
fn bounds(min: f64, max: f64) -> (f64, f64) {
    if min.is_nan() || max.is_nan() {
        (1.0, 0.0)
    } else {
        (min, max)
    }
}

fn parse(reply: Value) -> Result<SortedSetReply> {
    let mut fields = array(reply).into_iter();
    let word = fields
        .next()
        .and_then(|word| crate::redis_conn::text(&word));
    match (word.as_deref(), fields.next()) {
        (Some("wrong"), _) => Err(envelope::wrong_type()),
        (Some("count"), Some(Value::Int(count))) => {
            Ok(SortedSetReply::Count(u64::try_from(count).unwrap_or(0)))
        }
        (Some("members"), Some(Value::Array(flat))) => {
            let pairs = flat.chunks_exact(2).map(|pair| match pair {
                [Value::BulkString(member), score] => {
                    let score = crate::redis_conn::text(score)?.parse().ok()?;
                    Some((score, Bytes::copy_from_slice(member)))
                }
                _ => None,
            });
            let members: Option<Vec<_>> = pairs.collect();
            members.map(SortedSetReply::Members).ok_or_else(unexpected)
        }
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the script of sorted sets answered something else",
    )
}
