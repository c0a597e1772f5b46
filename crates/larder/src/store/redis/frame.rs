//! What stands under an entry's key: a short header that scripts can read, and the sealed envelope.
//!
//! ```text
//!  0 kind: E entry, C counter, Z sorted set, U unreadable, L mark of a load
//!  1 stamp: the namespace register when it was written        8 bytes, opaque
//!  9 expires at, ms since the epoch by the server's clock     u64 le, 0: never
//! 17 write id                                                 u64 le
//! 25 E, U: the bytes given     C: length u8, decimal text, envelope of the counter     Z: envelope without members
//!    L: envelope as far as its stamps, with any checksum
//! ```
//! Lua neither checks checksums nor makes them: a counter's text is beside its envelope, and the reader puts it in.

use std::io::Write as _;

use bytes::Bytes;
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

use crate::codec::format_integer;
use crate::envelope::{self, Envelope};
use crate::store::Entry;

/// The bytes before what the kind adds.
pub(super) const HEAD_BYTES: usize = 25;
/// A register's value: random, compared for equality only.
pub(super) type Stamp = [u8; 8];

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    Counter,
    SortedSet,
    Unreadable,
    /// Somebody loads a value; what follows the head is for scripts only.
    Load,
}

/// A frame taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) stamp: Stamp,
    pub(super) expires_at_ms: Option<u64>,
    write_id: u64,
    rest: Bytes,
}

impl Frame {
    /// Takes a frame apart; `None`: it is none, or of a layout that this version does not know.
    pub(super) fn parse(bytes: &Bytes) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let kind = match head[0] {
            b'E' => Kind::Entry,
            b'C' => Kind::Counter,
            b'Z' => Kind::SortedSet,
            b'U' => Kind::Unreadable,
            b'L' => Kind::Load,
            _ => return None,
        };
        let number = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let expires_at_ms = number(9)?;
        Some(Self {
            kind,
            stamp: head[1..9].try_into().ok()?,
            expires_at_ms: (expires_at_ms > 0).then_some(expires_at_ms),
            write_id: number(17)?,
            rest: bytes.slice(HEAD_BYTES..),
        })
    }

    /// Returns the entry; `None`: damaged, or the mark of a load. A sorted set's comes without its members.
    pub(super) fn into_entry(self) -> Option<Entry> {
        let value = match self.kind {
            Kind::Load => return None,
            Kind::Entry | Kind::Unreadable | Kind::SortedSet => self.rest,
            Kind::Counter => {
                let len = usize::from(*self.rest.first()?);
                let text = self.rest.get(1..1 + len)?;
                let value = std::str::from_utf8(text).ok()?.parse().ok()?;
                let mut envelope = Envelope::open(&self.rest.slice(1 + len..)).ok()?;
                envelope.header.write_id = self.write_id;
                let body = format_integer(value);
                envelope::seal(&envelope.header, &body, body.len()).ok()?
            }
        };
        Some(Entry::new(value, self.expires_at_ms))
    }

    /// Returns the write id, which changes with every change of a sorted set.
    pub(super) fn write_id(&self) -> u64 {
        self.write_id
    }

    /// Returns the envelope, which may be cut off.
    pub(super) fn envelope(&self) -> Bytes {
        let text_len = match self.kind {
            Kind::Counter => 1 + self.rest.first().map_or(0, |len| usize::from(*len)),
            _ => 0,
        };
        self.rest.slice(text_len.min(self.rest.len())..)
    }

    /// Returns what follows the head.
    pub(super) fn rest(&self) -> &Bytes {
        &self.rest
    }
}

/// The frame of an entry, on its way into a command without a copy of its own.
pub(super) struct Framed<'a> {
    head: [u8; HEAD_BYTES],
    entry: &'a Bytes,
}

impl<'a> Framed<'a> {
    /// Frames an entry.
    pub(super) fn new(stamp: Stamp, expires_at_ms: Option<u64>, entry: &'a Bytes) -> Self {
        let mut head = [letter(entry); HEAD_BYTES];
        head[1..9].copy_from_slice(&stamp);
        head[9..17].copy_from_slice(&expires_at_ms.unwrap_or(0).to_le_bytes());
        head[17..].copy_from_slice(&envelope::write_id(entry).to_le_bytes());
        Self { head, entry }
    }

    /// Returns its length.
    pub(super) fn len(&self) -> usize {
        HEAD_BYTES + self.entry.len()
    }
}

impl ToRedisArgs for Framed<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        let written = argument.write_all(&self.head);
        let written = written.and_then(|()| argument.write_all(self.entry));
        debug_assert!(
            written.is_ok(),
            "a command is memory, which takes everything"
        );
    }
}

impl ToSingleRedisArg for Framed<'_> {}

/// Returns the kind of an entry as scripts know it.
pub(super) fn letter(entry: &Bytes) -> u8 {
    match envelope::is_readable(entry) {
        true if envelope::is_load(entry) => b'L',
        true => b'E',
        false => b'U',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_is_read_as_a_sealed_integer() {
        let (sealed, _) = envelope::increment(None, 1, 5, None).unwrap();
        let mut bytes = vec![b'C'];
        bytes.extend([7; 8]);
        bytes.extend(9_u64.to_le_bytes());
        bytes.extend(77_u64.to_le_bytes());
        bytes.extend(b"\x03-42");
        bytes.extend(&sealed);
        let entry = Frame::parse(&bytes.into()).unwrap().into_entry().unwrap();
        assert_eq!(entry.expires_at_ms, Some(9));
        assert_eq!(envelope::write_id(&entry.value), 77);
        assert_eq!(
            Envelope::open(&entry.value)
                .unwrap()
                .decode::<i64>()
                .unwrap(),
            -42
        );
    }

    proptest! {
        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..6_usize) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = b"ECZULx"[kind];
            }
            if let Some(frame) = Frame::parse(&bytes.into()) {
                let _ = frame.into_entry();
            }
        }
    }
}
