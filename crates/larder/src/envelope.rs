//! The stored entry: a versioned, checksummed header and a body.
//!
//! Every store keeps entries in this form, so that the program and the dashboard can explain any
//! of them without knowing its type. All numbers are little endian.
//!
//! ```text
//!  0 magic "LRDR"     4 layout (1)      5 kind          6 encoding        7 compression
//!  8 write id u64    16 created ms u64 24 soft ttl ms  32 hard ttl ms u64 (0: none)
//! 40 load cost ms u32 44 schema u32    48 crc32c u32   52 header length u16
//! 54 registers u8    55 content type length u8         56 plain length u32  60 zero u32
//! 64 content type, then per register: kind u8, name length u16, name, hard stamp u64, soft stamp u64
//! .. body
//! ```
//!
//! The store expires an entry after its hard TTL. The value goes stale earlier where there is a soft TTL: by the difference
//! of the two, its grace. The checksum covers everything but itself. Unknown layouts and damaged bytes are reported as
//! [`Unreadable`], which the cache counts as a miss.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::codec::{
    Compression, Encoding, MAX_PLAIN_BYTES, decode_raw, decompress, format_integer, parse_integer,
};
use crate::error::{Error, ErrorKind, Result};
use crate::tag::{Register, nonce};

/// The largest stored entry, header included: 16 MiB.
pub const MAX_ENTRY_BYTES: usize = 16 << 20;
/// The largest header: 16 KiB.
pub(crate) const MAX_HEADER_BYTES: usize = 16 << 10;
/// The longest content type, in bytes.
const MAX_CONTENT_TYPE_BYTES: usize = 255;
/// The most registers an entry may name.
pub(crate) const MAX_REGISTERS: usize = 64;

const MAGIC: [u8; 4] = *b"LRDR";
const LAYOUT: u8 = 1;
const FIXED_BYTES: usize = 64;
const CRC_AT: usize = 48;
#[cfg(feature = "sqlite")]
const HEADER_LEN_AT: usize = 52;

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Value,
    SortedSet,
    /// No value: somebody loads one. Its write id is what the loader must show.
    Load,
}

impl Kind {
    const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Value),
            1 => Some(Self::SortedSet),
            2 => Some(Self::Load),
            _ => None,
        }
    }
}

/// Why stored bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Written by another version of Larder, or by something else.
    UnknownLayout,
    /// Truncated, altered, or inconsistent.
    Damaged,
}

/// A register that an entry depends on, with the stamps it had when the entry was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub(crate) kind: u8,
    pub(crate) name: Bytes,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

impl Stamp {
    /// Returns whether it is of this register.
    pub(crate) fn is_of(&self, register: &Register) -> bool {
        self.kind == register.kind() && self.name == register.path()
    }

    /// Returns whether it is of a register that decides validity, and not another note.
    pub(crate) fn is_of_register(&self) -> bool {
        matches!(self.kind, Register::EXACT | Register::SUBTREE)
    }
}

/// Everything the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) encoding: Encoding,
    pub(crate) compression: Compression,
    pub(crate) write_id: u64,
    pub(crate) created_ms: u64,
    pub(crate) soft_ttl_ms: u64,
    pub(crate) hard_ttl_ms: u64,
    pub(crate) cost_ms: u32,
    pub(crate) schema: u32,
    pub(crate) content_type: String,
    pub(crate) stamps: Vec<Stamp>,
}

impl Header {
    /// Returns a header of a value that is written now, with a fresh write id.
    pub(crate) fn new(encoding: Encoding, created_ms: u64, ttl_ms: Option<u64>) -> Self {
        Self {
            kind: Kind::Value,
            encoding,
            compression: Compression::None,
            write_id: nonce(),
            created_ms,
            soft_ttl_ms: 0,
            hard_ttl_ms: ttl_ms.unwrap_or(0),
            cost_ms: 0,
            schema: 0,
            content_type: String::new(),
            stamps: Vec::new(),
        }
    }

    /// Returns how long the value may be served after its TTL, in milliseconds.
    pub(crate) fn grace_ms(&self) -> u64 {
        grace(self.soft_ttl_ms, self.hard_ttl_ms)
    }

    /// Returns the TTL that the value was written with, in milliseconds; `None`: unlimited.
    pub(crate) fn ttl_ms(&self) -> Option<u64> {
        let ttl_ms = self.hard_ttl_ms - self.grace_ms();
        (ttl_ms > 0).then_some(ttl_ms)
    }

    fn encoded_len(&self) -> usize {
        let stamps: usize = self.stamps.iter().map(|stamp| 19 + stamp.name.len()).sum();
        FIXED_BYTES + self.content_type.len() + stamps
    }
}

/// A decoded header with its body, still compressed.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) header: Header,
    pub(crate) body: Bytes,
    plain_len: usize,
}

/// Builds the stored form of an entry from its header and its plain or compressed body.
///
/// # Errors
/// `TooLarge`: the entry is over 16 MiB, its plain body over 64 MiB, its header over 16 KiB, or it
/// names more than 64 registers. `InvalidArgument`: a content type over 255 bytes.
pub(crate) fn seal(header: &Header, body: &[u8], plain_len: usize) -> Result<Bytes> {
    check_limits(header, body.len(), plain_len)?;
    let header_len = header.encoded_len();
    let mut out = BytesMut::with_capacity(header_len + body.len());
    out.put_slice(&MAGIC);
    out.put_slice(&[
        LAYOUT,
        header.kind as u8,
        header.encoding.id(),
        header.compression.id(),
    ]);
    out.put_u64_le(header.write_id);
    out.put_u64_le(header.created_ms);
    out.put_u64_le(header.soft_ttl_ms);
    out.put_u64_le(header.hard_ttl_ms);
    out.put_u32_le(header.cost_ms);
    out.put_u32_le(header.schema);
    out.put_u32_le(0);
    out.put_u16_le(header_len as u16);
    out.put_slice(&[header.stamps.len() as u8, header.content_type.len() as u8]);
    out.put_u32_le(plain_len as u32);
    out.put_u32_le(0);
    out.put_slice(header.content_type.as_bytes());
    for stamp in &header.stamps {
        out.put_u8(stamp.kind);
        out.put_u16_le(stamp.name.len() as u16);
        out.put_slice(&stamp.name);
        out.put_u64_le(stamp.hard);
        out.put_u64_le(stamp.soft);
    }
    out.put_slice(body);
    let crc = checksum(&out);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(out.freeze())
}

fn check_limits(header: &Header, body_len: usize, plain_len: usize) -> Result<()> {
    let header_len = header.encoded_len();
    if header.content_type.len() > MAX_CONTENT_TYPE_BYTES {
        return Err(Error::argument(format!(
            "a content type of {} bytes is over the limit of {MAX_CONTENT_TYPE_BYTES}",
            header.content_type.len()
        )));
    }
    let over = if header.stamps.len() > MAX_REGISTERS {
        let first = String::from_utf8_lossy(&header.stamps[MAX_REGISTERS].name).into_owned();
        format!("more than {MAX_REGISTERS} registers, from tag {first:?} on")
    } else if header_len > MAX_HEADER_BYTES {
        format!("a header of {header_len} bytes is over the limit of {MAX_HEADER_BYTES}")
    } else if header_len + body_len > MAX_ENTRY_BYTES {
        format!("a stored value of {body_len} bytes is over the limit of {MAX_ENTRY_BYTES}")
    } else if plain_len > MAX_PLAIN_BYTES {
        format!("a value of {plain_len} bytes is over the limit of {MAX_PLAIN_BYTES}")
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::TooLarge, over))
}

fn checksum(entry: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&entry[..CRC_AT]), &entry[CRC_AT + 4..])
}

/// Returns the write id of a stored entry, without checking the rest; 0 for what is no entry.
pub(crate) fn write_id(entry: &[u8]) -> u64 {
    match entry.get(8..16) {
        Some(id) if entry.starts_with(&MAGIC) => Reader(id).u64().unwrap_or(0),
        _ => 0,
    }
}

fn grace(soft_ttl_ms: u64, hard_ttl_ms: u64) -> u64 {
    match soft_ttl_ms {
        0 => 0,
        soft_ttl_ms => hard_ttl_ms.saturating_sub(soft_ttl_ms),
    }
}

/// Returns how long before its expiry the value of an entry goes stale, in milliseconds, without checking the rest; 0 for
/// what is no entry.
pub(crate) fn grace_ms(entry: &[u8]) -> u64 {
    match entry.get(24..40) {
        Some(ttls) if entry.starts_with(&MAGIC) => {
            let mut reader = Reader(ttls);
            let soft_ttl_ms = reader.u64().unwrap_or(0);
            grace(soft_ttl_ms, reader.u64().unwrap_or(0))
        }
        _ => 0,
    }
}

/// Returns how long an entry says that its load took, in milliseconds, without checking the rest.
pub(crate) fn cost_ms(entry: &[u8]) -> u32 {
    match entry.get(40..44) {
        Some(cost) if entry.starts_with(&MAGIC) => Reader(cost).u32().unwrap_or(0),
        _ => 0,
    }
}

/// Returns when an entry says that it was made, without checking the rest; 0 for what is no entry.
#[cfg(feature = "redis")]
pub(crate) fn created_ms(entry: &[u8]) -> u64 {
    match entry.get(16..24) {
        Some(at) if entry.starts_with(&MAGIC) => Reader(at).u64().unwrap_or(0),
        _ => 0,
    }
}

/// Returns whether these bytes are an intact entry.
pub(crate) fn is_readable(entry: &Bytes) -> bool {
    Envelope::open(entry).is_ok()
}

/// Returns whether an entry says that it is a sorted set; it need not be intact.
pub(crate) fn is_sorted_set(entry: &[u8]) -> bool {
    entry.starts_with(&MAGIC)
        && entry.get(5).copied().and_then(Kind::from_id) == Some(Kind::SortedSet)
}

/// Returns whether these bytes only say that somebody loads a value.
pub(crate) fn is_load(entry: &[u8]) -> bool {
    entry.get(5) == Some(&(Kind::Load as u8)) && entry.starts_with(&MAGIC)
}

/// Returns the stamps of an entry without checking the rest; `None`: they cannot be read.
pub(crate) fn stamps(entry: &Bytes) -> Option<Vec<Stamp>> {
    let count = usize::from(*entry.get(54)?);
    if count == 0 || !entry.starts_with(&MAGIC) {
        return Some(Vec::new());
    }
    let from = FIXED_BYTES + usize::from(*entry.get(55)?);
    let mut reader = Reader(entry.get(from..)?);
    (0..count).map(|_| reader.stamp()).collect()
}

/// Returns whether an entry carries stamps or other notes, without looking at them.
pub(crate) fn has_stamps(entry: &Bytes) -> bool {
    entry.get(54).is_some_and(|count| *count > 0) && entry.starts_with(&MAGIC)
}

/// Returns the header of an entry that carries notes or is the mark of a load: all that says whether it may be used.
/// `None`: nothing needs to.
#[cfg(feature = "sqlite")]
pub(crate) fn head(entry: &Bytes) -> Option<Bytes> {
    if !has_stamps(entry) && !is_load(entry) {
        return None;
    }
    let len = Reader(entry.get(HEADER_LEN_AT..)?).u16()?;
    Some(entry.slice(..usize::from(len).min(entry.len())))
}

/// Returns the registers that an entry carries stamps of.
pub(crate) fn registers(entry: &Bytes) -> Vec<Register> {
    let stamps = stamps(entry).unwrap_or_default().into_iter();
    let stamps = stamps.filter(Stamp::is_of_register);
    stamps
        .map(|stamp| Register::new(stamp.kind, &stamp.name))
        .collect()
}

/// Returns whether an entry carries a stamp of the register.
pub(crate) fn carries(entry: &Bytes, register: &Register) -> bool {
    stamps(entry).is_some_and(|stamps| stamps.iter().any(|stamp| stamp.is_of(register)))
}

/// Returns an intact entry with these stamps of registers in place of those it carries; its write id stays.
///
/// # Errors
/// As [`seal`]; `Corrupted`: it is not intact.
pub(crate) fn restamp(entry: &Bytes, stamps: Vec<Stamp>) -> Result<Bytes> {
    alter(entry, |header| {
        header.stamps.retain(|stamp| !stamp.is_of_register());
        header.stamps.extend(stamps);
    })
}

/// Returns an intact entry with a header that `change` has changed.
///
/// # Errors
/// As [`restamp`].
pub(crate) fn alter(entry: &Bytes, change: impl FnOnce(&mut Header)) -> Result<Bytes> {
    let Envelope {
        mut header,
        body,
        plain_len,
    } = Envelope::open(entry)
        .map_err(|_unreadable| Error::new(ErrorKind::Corrupted, "the entry's bytes are damaged"))?;
    change(&mut header);
    seal(&header, &body, plain_len)
}

/// Returns an entry that says that whoever has this token loads the value, under these stamps.
///
/// # Errors
/// As [`seal`].
pub(crate) fn load(token: u64, stamps: Vec<Stamp>, now_ms: u64) -> Result<Bytes> {
    let header = Header {
        kind: Kind::Load,
        write_id: token,
        stamps,
        ..Header::new(Encoding::Raw, now_ms, None)
    };
    seal(&header, b"", 0)
}

impl Envelope {
    /// Decodes and verifies a stored entry.
    pub(crate) fn open(entry: &Bytes) -> Result<Self, Unreadable> {
        if entry.len() < FIXED_BYTES || !entry.starts_with(&MAGIC) || entry[4] != LAYOUT {
            let ours = entry.starts_with(&MAGIC) && entry.get(4).is_none_or(|l| *l == LAYOUT);
            return Err(if ours {
                Unreadable::Damaged
            } else {
                Unreadable::UnknownLayout
            });
        }
        let stored = Reader(&entry[CRC_AT..]).u32().ok_or(Unreadable::Damaged)?;
        if entry.len() > MAX_ENTRY_BYTES || checksum(entry) != stored {
            return Err(Unreadable::Damaged);
        }
        Self::parse(entry).ok_or(Unreadable::Damaged)
    }

    fn parse(entry: &Bytes) -> Option<Self> {
        let mut reader = Reader(&entry[5..]);
        let kind = Kind::from_id(reader.u8()?)?;
        let encoding = Encoding::from_id(reader.u8()?)?;
        let compression = Compression::from_id(reader.u8()?)?;
        let write_id = reader.u64()?;
        let created_ms = reader.u64()?;
        let soft_ttl_ms = reader.u64()?;
        let hard_ttl_ms = reader.u64()?;
        let cost_ms = reader.u32()?;
        let schema = reader.u32()?;
        let _crc = reader.u32()?;
        let header_len = usize::from(reader.u16()?);
        let registers = usize::from(reader.u8()?);
        let content_type_len = usize::from(reader.u8()?);
        let plain_len = reader.u32()? as usize;
        let _reserved = reader.u32()?;
        let content_type = std::str::from_utf8(reader.take(content_type_len)?).ok()?;
        if registers > MAX_REGISTERS || header_len > MAX_HEADER_BYTES {
            return None;
        }
        let stamps = (0..registers)
            .map(|_| reader.stamp())
            .collect::<Option<Vec<_>>>()?;
        let header = Header {
            kind,
            encoding,
            compression,
            write_id,
            created_ms,
            soft_ttl_ms,
            hard_ttl_ms,
            cost_ms,
            schema,
            content_type: content_type.to_owned(),
            stamps,
        };
        let body = entry.slice(header_len.min(entry.len())..);
        let consistent = header.encoded_len() == header_len
            && (compression != Compression::None || plain_len == body.len());
        consistent.then_some(Self {
            header,
            body,
            plain_len,
        })
    }

    /// Returns the body, decompressed.
    ///
    /// # Errors
    /// `Corrupted`: it does not decompress within the limits.
    pub(crate) fn plain_body(&self) -> Result<Bytes> {
        if self.header.compression == Compression::None {
            return Ok(self.body.clone());
        }
        decompress(self.header.compression, &self.body, self.plain_len).map(Bytes::from)
    }

    /// Decodes the body as the asked type.
    ///
    /// # Errors
    /// `WrongType`: a sorted set. `Corrupted`: it does not decompress. `Codec`: another type.
    pub(crate) fn decode<V: DeserializeOwned>(&self) -> Result<V> {
        if self.header.kind != Kind::Value {
            return Err(wrong_type());
        }
        let body = self.plain_body()?;
        match self.header.encoding {
            Encoding::Raw => decode_raw(&self.header.content_type, &body),
            Encoding::Codec(codec) => codec.decode(&body),
        }
    }

    /// Returns the size of the plain body in bytes.
    pub(crate) fn plain_len(&self) -> usize {
        self.plain_len
    }
}

/// The error of an operation on an entry that holds another kind of value.
pub(crate) fn wrong_type() -> Error {
    Error::new(
        ErrorKind::WrongType,
        "the entry holds another kind of value",
    )
}

/// Adds to an integer entry, or starts one at `by`: the pure core of every store's `increment`.
///
/// Returns the new entry and its value. The header (created, TTL, stamps, content type) is kept, the
/// write id is new. An entry that cannot be read counts as absent.
///
/// # Errors
/// `WrongType`: the entry is no integer. `Overflow`: the sum leaves `i64`.
pub(crate) fn increment(
    old: Option<&Bytes>,
    by: i64,
    now_ms: u64,
    ttl_ms: Option<u64>,
) -> Result<(Bytes, i64)> {
    let opened = old.and_then(|entry| Envelope::open(entry).ok());
    let (mut header, value) = match opened {
        Some(envelope) => {
            let value = integer_body(&envelope)?;
            (envelope.header, value)
        }
        None => {
            let json = Encoding::Codec(crate::codec::Codec::Json);
            (Header::new(json, now_ms, ttl_ms), 0)
        }
    };
    let sum = value.checked_add(by).ok_or_else(|| {
        Error::new(
            ErrorKind::Overflow,
            format!("{value} plus {by} is out of range"),
        )
    })?;
    header.write_id = nonce();
    let body = format_integer(sum);
    Ok((seal(&header, &body, body.len())?, sum))
}

fn integer_body(envelope: &Envelope) -> Result<i64> {
    let header = &envelope.header;
    let plain_text = header.kind == Kind::Value && header.compression == Compression::None;
    let number = match header.encoding {
        Encoding::Raw | Encoding::Codec(crate::codec::Codec::Json) if plain_text => {
            parse_integer(&envelope.body)
        }
        _ => None,
    };
    number.ok_or_else(|| Error::new(ErrorKind::WrongType, "the entry is not an integer"))
}

/// Reads little-endian fields off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let kind = self.u8()?;
        let len = usize::from(self.u16()?);
        let name = Bytes::copy_from_slice(self.take(len)?);
        Some(Stamp {
            kind,
            name,
            hard: self.u64()?,
            soft: self.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Codec;

    fn sample() -> Bytes {
        let mut header = Header::new(Encoding::Raw, 1000, Some(5000));
        header.content_type = "text/plain".into();
        header.stamps.push(Stamp {
            kind: 1,
            name: Bytes::from_static(b"users"),
            hard: 7,
            soft: 8,
        });
        seal(&header, b"hello", 5).unwrap()
    }

    #[test]
    fn a_sealed_entry_opens_with_the_same_header_and_body() {
        let entry = sample();
        let envelope = Envelope::open(&entry).unwrap();
        assert_eq!(envelope.header.content_type, "text/plain");
        assert_eq!(envelope.header.stamps[0].hard, 7);
        assert_eq!(envelope.header.hard_ttl_ms, 5000);
        assert_eq!(envelope.decode::<String>().unwrap(), "hello");
        assert_eq!(write_id(&entry), envelope.header.write_id);
        assert_ne!(write_id(&entry), 0);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let entry = sample();
        for len in 0..entry.len() {
            assert!(Envelope::open(&entry.slice(..len)).is_err(), "cut at {len}");
        }
        for bit in 0..entry.len() * 8 {
            let mut altered = entry.to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(Envelope::open(&altered.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_layout_is_told_from_damage() {
        let mut entry = sample().to_vec();
        entry[4] = 2;
        let unknown = Envelope::open(&entry.clone().into()).unwrap_err();
        assert_eq!(unknown, Unreadable::UnknownLayout);
        entry[4] = 1;
        entry[70] ^= 1;
        assert_eq!(
            Envelope::open(&entry.into()).unwrap_err(),
            Unreadable::Damaged
        );
    }

    #[test]
    fn limits_are_enforced_when_written() {
        let mut header = Header::new(Encoding::Raw, 0, None);
        let big = vec![0; MAX_ENTRY_BYTES];
        let error = seal(&header, &big, big.len()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let stamp = Stamp {
            kind: 0,
            name: Bytes::from_static(b"t"),
            hard: 0,
            soft: 0,
        };
        header.stamps = vec![stamp; MAX_REGISTERS + 1];
        assert_eq!(
            seal(&header, b"", 0).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
    }

    #[test]
    fn increments_keep_the_header_and_refuse_what_is_no_integer() {
        let (one, value) = increment(None, 5, 10, Some(99)).unwrap();
        assert_eq!(value, 5);
        let (two, value) = increment(Some(&one), -7, 20, None).unwrap();
        let header = Envelope::open(&two).unwrap().header;
        assert_eq!((value, header.created_ms, header.hard_ttl_ms), (-2, 10, 99));
        assert_ne!(write_id(&one), write_id(&two));
        let (max, _) = increment(None, i64::MAX, 0, None).unwrap();
        assert_eq!(
            increment(Some(&max), 1, 0, None).unwrap_err().kind(),
            ErrorKind::Overflow
        );
        let error = increment(Some(&sample()), 1, 0, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        assert_eq!(Envelope::open(&two).unwrap().decode::<i32>().unwrap(), -2);
        assert_eq!(Encoding::Codec(Codec::Json), header.encoding);
    }

    proptest! {
        #[test]
        fn opening_junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), crc in any::<bool>()) {
            let mut entry = bytes;
            if entry.len() >= FIXED_BYTES {
                entry[..5].copy_from_slice(b"LRDR\x01");
                if crc {
                    let sum = checksum(&entry).to_le_bytes();
                    entry[CRC_AT..CRC_AT + 4].copy_from_slice(&sum);
                }
            }
            if let Ok(envelope) = Envelope::open(&entry.into()) {
                let _ = envelope.decode::<serde_json::Value>();
            }
        }
    }
}
