//! The file that changes of one namespace are noted in, while somebody reads them. Little endian.
//!
//! ```text
//! head:    0 magic "LRDJ"   4 layout (1)   5 zero u24   8 generation u64   16 generation before u64
//!         24 when a reader said last that it is there, ms u64
//! record:  0 crc32c u32 of what follows   4 name length u16   6 what u8   7 stage u8   8 ticket u64
//!         16 write id u64   24 name
//! ```
//! Records are appended in one call each, so those of several processes do not mix. One that is cut short or damaged makes
//! useless what comes behind it.

use bytes::Bytes;

use crate::key::Key;
use crate::store::{Note, Register};

const MAGIC: [u8; 4] = *b"LRDJ";
const LAYOUT: u8 = 1;
pub(super) const HEAD_BYTES: usize = 32;
/// Where the time of the last reader is.
pub(super) const SEEN_AT: u64 = 24;
const FIXED_BYTES: usize = 24;

/// What a log says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogHead {
    /// Random: no two logs have the same.
    pub(super) generation: u64,
    /// That of the log whose place it took; 0: of none.
    pub(super) before: u64,
    /// When a reader said last that it is there, by the wall clock.
    pub(super) seen_ms: u64,
}

impl LogHead {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = LAYOUT;
        head[8..16].copy_from_slice(&self.generation.to_le_bytes());
        head[16..24].copy_from_slice(&self.before.to_le_bytes());
        head[24..].copy_from_slice(&self.seen_ms.to_le_bytes());
        head
    }

    /// Decodes a head; `None` if it is none.
    pub(super) fn decode(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(head[at..at + 8].try_into().ok()?));
        (head.starts_with(&MAGIC) && head[4] == LAYOUT).then_some(Self {
            generation: number(8)?,
            before: number(16)?,
            seen_ms: number(24)?,
        })
    }
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Key(Key),
    Register(Register),
    Everything,
}

impl Subject {
    fn name(&self) -> &[u8] {
        match self {
            Self::Key(key) => key.as_bytes(),
            Self::Register(register) => register.as_bytes(),
            Self::Everything => b"",
        }
    }

    /// Returns what to tell of it.
    pub(super) fn note(self, write_id: u64) -> Note {
        match self {
            Self::Key(key) => Note::Key { key, write_id },
            Self::Register(register) => Note::Register(register),
            Self::Everything => Note::All,
        }
    }
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It may be made at any moment from now on, under the lock of its subject.
    Begun,
    /// It was made, or will not be.
    Done,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) subject: Subject,
    pub(super) stage: Stage,
    /// Random; the same for both stages.
    pub(super) ticket: u64,
    pub(super) write_id: u64,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let name = self.subject.name();
        let mut record = vec![0; 4];
        record.reserve(FIXED_BYTES + name.len());
        record.extend_from_slice(&(name.len() as u16).to_le_bytes());
        record.push(match self.subject {
            Subject::Key(_) => 0,
            Subject::Register(_) => 1,
            Subject::Everything => 2,
        });
        record.push(u8::from(self.stage == Stage::Done));
        record.extend_from_slice(&self.ticket.to_le_bytes());
        record.extend_from_slice(&self.write_id.to_le_bytes());
        record.extend_from_slice(name);
        let crc = crc32c::crc32c(&record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        record
    }

    fn decode(fixed: &[u8; FIXED_BYTES], name: &[u8]) -> Option<Self> {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[4..]), name);
        if crc.to_le_bytes() != fixed[..4] {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(fixed[at..at + 8].try_into().ok()?));
        Some(Self {
            subject: match fixed[6] {
                0 => Subject::Key(Key::from(name)),
                1 => Subject::Register(Register::from_bytes(name)?),
                2 => Subject::Everything,
                _ => return None,
            },
            stage: match fixed[7] {
                0 => Stage::Begun,
                1 => Stage::Done,
                _ => return None,
            },
            ticket: number(8)?,
            write_id: number(16)?,
        })
    }
}

/// Decodes the records at the front of `bytes`; returns them and how many bytes they take. `None`: one is damaged.
pub(super) fn records(bytes: &Bytes) -> Option<(Vec<Record>, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(fixed) = bytes[at..].first_chunk::<FIXED_BYTES>() {
        let len = usize::from(u16::from_le_bytes([fixed[4], fixed[5]]));
        let from = at + FIXED_BYTES;
        let Some(name) = bytes.get(from..from + len) else {
            break;
        };
        found.push(Record::decode(fixed, name)?);
        at = from + len;
    }
    Some((found, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(subject: Subject, stage: Stage) -> Record {
        let (ticket, write_id) = (fastrand::u64(..), fastrand::u64(..));
        Record {
            subject,
            stage,
            ticket,
            write_id,
        }
    }

    #[test]
    fn records_read_back_and_every_flipped_bit_is_noticed() {
        let expected = [
            record(Subject::Key(Key::from(&b"key"[..])), Stage::Begun),
            record(
                Subject::Register(Register::exact("a:b").unwrap()),
                Stage::Done,
            ),
            record(Subject::Everything, Stage::Done),
        ];
        let log: Vec<u8> = expected.iter().flat_map(Record::encode).collect();
        let (found, len) = records(&Bytes::from(log.clone())).unwrap();
        assert_eq!((&found[..], len), (&expected[..], log.len()));
        for bit in 0..log.len() * 8 {
            let mut altered = log.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let read = records(&Bytes::from(altered));
            // A length that was altered may point behind the end.
            assert!(
                read.is_none_or(|(found, _)| found.len() < expected.len()),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn what_is_cut_short_is_left_for_later() {
        let whole = record(Subject::Key(Key::from(&b"key"[..])), Stage::Done);
        let log = [whole.encode(), whole.encode()].concat();
        for len in log.len() / 2..log.len() {
            let found = records(&Bytes::copy_from_slice(&log[..len])).unwrap();
            assert_eq!(found, (vec![whole.clone()], log.len() / 2));
        }
    }

    #[test]
    fn a_head_reads_back() {
        let head = LogHead {
            generation: 1,
            before: 2,
            seen_ms: 3,
        };
        assert_eq!(LogHead::decode(&head.encode()), Some(head));
        assert_eq!(LogHead::decode(&[0; HEAD_BYTES]), None);
    }
}
