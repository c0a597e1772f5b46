//! The file of one entry: a checksummed head, the key, the sealed envelope. Little endian.
//!
//! ```text
//!  0 magic "LRDF"    4 layout (1)      5 zero u24       8 expires at ms u64 (2^64-1: never)
//! 16 namespace digest, 16 bytes       32 value length u32                  36 key length u16
//! 38 zero u16       40 crc32c u32 of what precedes and of the key
//! 44 key .. envelope, up to the end of the file
//! ```
//!
//! The envelope brings its own checksum, so a changed expiry need not touch it and a listing need not
//! read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::fault::{Attempt, Effort, Fault, failed};
use super::layout::Layout;
use super::name::{Address, Digest};
use crate::envelope::{self, MAX_ENTRY_BYTES, MAX_HEADER_BYTES};
use crate::key::MAX_KEY_BYTES;
use crate::store::Entry;

const MAGIC: [u8; 4] = *b"LRDF";
const LAYOUT: u8 = 1;
const CRC_AT: usize = 40;
const FIXED_BYTES: usize = 44;
const NEVER: u64 = u64::MAX;
/// The longest head with its key.
const MAX_HEAD_BYTES: usize = FIXED_BYTES + MAX_KEY_BYTES;
/// What is read to judge an entry without stamps, or to see that it has some.
const MAX_PEEK_BYTES: usize = MAX_HEAD_BYTES + 64;
/// The largest file that can be whole.
const MAX_FILE_BYTES: u64 = (MAX_HEAD_BYTES + MAX_ENTRY_BYTES) as u64;

/// What was found at the place of an entry.
#[derive(Debug)]
pub(super) enum Found<T> {
    Missing,
    /// Truncated, altered, of an unknown layout, or not a file of this user.
    Damaged,
    Whole(T),
}

/// What the head of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) expires_at_ms: Option<u64>,
    pub(super) namespace: Digest,
    pub(super) value_len: u64,
    pub(super) key: &'a [u8],
}

impl<'a> Head<'a> {
    /// Returns the bytes that precede the value, key included.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(FIXED_BYTES + self.key.len());
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&[LAYOUT, 0, 0, 0]);
        head.extend_from_slice(&self.expires_at_ms.unwrap_or(NEVER).to_le_bytes());
        head.extend_from_slice(&self.namespace.0);
        head.extend_from_slice(&(self.value_len as u32).to_le_bytes());
        head.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
        head.extend_from_slice(&[0; 2]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), self.key);
        head.extend_from_slice(&crc.to_le_bytes());
        head.extend_from_slice(self.key);
        head
    }

    /// Decodes and verifies the start of a file of this length; `None` if it is not whole.
    pub(super) fn parse(start: &'a [u8], file_len: u64) -> Option<Self> {
        let fixed = start.first_chunk::<FIXED_BYTES>()?;
        if !fixed.starts_with(&MAGIC) || fixed[4] != LAYOUT {
            return None;
        }
        let expires_at_ms = u64::from_le_bytes(fixed[8..16].try_into().ok()?);
        let namespace = Digest(fixed[16..32].try_into().ok()?);
        let value_len = u64::from(u32::from_le_bytes(fixed[32..36].try_into().ok()?));
        let key_len = usize::from(u16::from_le_bytes(fixed[36..38].try_into().ok()?));
        let stored = u32::from_le_bytes(fixed[CRC_AT..].try_into().ok()?);
        let key = start.get(FIXED_BYTES..FIXED_BYTES + key_len)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[..CRC_AT]), key);
        let expected_len = (FIXED_BYTES + key_len) as u64 + value_len;
        (crc == stored && file_len == expected_len).then_some(Self {
            expires_at_ms: Some(expires_at_ms).filter(|at| *at != NEVER),
            namespace,
            value_len,
            key,
        })
    }
}

/// Reads and verifies the entry of a key. A file of another key (equal hash) is `Missing`.
pub(super) fn read(
    layout: &Layout,
    address: &Address,
    key: &[u8],
    effort: Effort<'_>,
) -> Attempt<Found<Entry>> {
    let bytes = match read_file(layout, &layout.entry_path(address), effort)? {
        Found::Missing => return Ok(Found::Missing),
        Found::Damaged => return Ok(Found::Damaged),
        Found::Whole(bytes) => bytes,
    };
    let Some(head) = Head::parse(&bytes, bytes.len() as u64) else {
        return Ok(Found::Damaged);
    };
    if head.key != key || head.namespace != address.namespace {
        return Ok(Found::Missing);
    }
    let expires_at_ms = head.expires_at_ms;
    let value = Bytes::from(bytes).slice(FIXED_BYTES + key.len()..);
    if !envelope::is_readable(&value) {
        return Ok(Found::Damaged);
    }
    Ok(Found::Whole(Entry::new(value, expires_at_ms)))
}

/// Reads whatever is at the place of a key, with its expiry: the bytes of the entry, intact or not, or the whole of a file
/// whose head is damaged. A file of another key (equal hash) is nothing.
pub(super) fn read_any(
    layout: &Layout,
    address: &Address,
    key: &[u8],
    effort: Effort<'_>,
) -> Attempt<Option<(Bytes, Option<u64>)>> {
    let bytes = match read_file(layout, &layout.entry_path(address), effort)? {
        Found::Missing | Found::Damaged => return Ok(None),
        Found::Whole(bytes) => Bytes::from(bytes),
    };
    let Some(head) = Head::parse(&bytes, bytes.len() as u64) else {
        return Ok(Some((bytes, None)));
    };
    if head.key != key || head.namespace != address.namespace {
        return Ok(None);
    }
    let value = bytes.slice(FIXED_BYTES + key.len()..);
    Ok(Some((value, head.expires_at_ms)))
}

/// Reads a file of ours as it is.
pub(super) fn read_file(
    layout: &Layout,
    path: &Path,
    effort: Effort<'_>,
) -> Attempt<Found<Vec<u8>>> {
    let (mut file, len) = match open(layout, path)? {
        Found::Missing => return Ok(Found::Missing),
        Found::Damaged => return Ok(Found::Damaged),
        Found::Whole(opened) => opened,
    };
    if len > effort.max_read_bytes {
        return Err(Fault::Busy);
    }
    let bytes = read_next(layout, &mut file, len as usize)?;
    Ok(bytes.map_or(Found::Damaged, Found::Whole))
}

/// Reads and verifies the head of a file only, and shows it to `look`, with enough of the envelope to judge it.
pub(super) fn peek<T>(
    layout: &Layout,
    address: &Address,
    look: impl FnOnce(&Head<'_>, &Bytes) -> T,
) -> Attempt<Found<T>> {
    let path = layout.entry_path(address);
    let (mut file, len) = match open(layout, &path)? {
        Found::Missing => return Ok(Found::Missing),
        Found::Damaged => return Ok(Found::Damaged),
        Found::Whole(opened) => opened,
    };
    let len_read = (len as usize).min(MAX_PEEK_BYTES);
    let Some(start) = read_next(layout, &mut file, len_read)? else {
        return Ok(Found::Damaged);
    };
    let start = Bytes::from(start);
    let Some(head) = Head::parse(&start, len) else {
        return Ok(Found::Damaged);
    };
    let front = start.slice(FIXED_BYTES + head.key.len()..);
    if !envelope::has_stamps(&front) {
        return Ok(Found::Whole(look(&head, &front)));
    }
    let rest = (len as usize - len_read).min(MAX_HEADER_BYTES);
    let Some(rest) = read_next(layout, &mut file, rest)? else {
        return Ok(Found::Damaged);
    };
    let front = Bytes::from([&front[..], &rest].concat());
    Ok(Found::Whole(look(&head, &front)))
}

/// Opens a file of ours and returns its length.
///
/// Links are not followed, other users' files are refused, and a pipe in the place does not block.
fn open(layout: &Layout, path: &Path) -> Attempt<Found<(fs::File, u64)>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits() as i32)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) if is_no_file(&error) => return Ok(Found::Damaged),
        Err(error) => return Err(failed("open an entry", layout.root(), error).into()),
    };
    let metadata = file
        .metadata()
        .map_err(|error| failed("open an entry", layout.root(), error))?;
    let ours = metadata.is_file() && metadata.uid() == layout.uid();
    if !ours || metadata.len() > MAX_FILE_BYTES {
        return Ok(Found::Damaged);
    }
    Ok(Found::Whole((file, metadata.len())))
}

/// Says that there is a symbolic link or a socket in the place of the file.
fn is_no_file(error: &io::Error) -> bool {
    [Errno::LOOP, Errno::NXIO, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Reads the next so many bytes; `None` if there are fewer.
fn read_next(layout: &Layout, file: &mut fs::File, len: usize) -> Attempt<Option<Vec<u8>>> {
    let mut bytes = vec![0; len];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(failed("read an entry", layout.root(), error).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(key: &[u8], expires_at_ms: Option<u64>) -> Head<'_> {
        Head {
            expires_at_ms,
            namespace: Digest::of(b"namespace"),
            value_len: 7,
            key,
        }
    }

    proptest! {
        #[test]
        fn a_head_reads_back(key in proptest::collection::vec(any::<u8>(), 1..1025), expires in any::<Option<u64>>()) {
            let head = head(&key, expires.filter(|at| *at != NEVER));
            let bytes = head.encode();
            prop_assert_eq!(Head::parse(&bytes, bytes.len() as u64 + 7), Some(head));
        }

        #[test]
        fn parsing_junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in any::<u64>()) {
            let mut bytes = bytes;
            if bytes.len() > 5 {
                bytes[..5].copy_from_slice(b"LRDF\x01");
            }
            prop_assert_eq!(Head::parse(&bytes, len), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_noticed() {
        let bytes = head(b"key", Some(5)).encode();
        let len = bytes.len() as u64 + 7;
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::parse(&altered, len), None, "bit {bit}");
        }
    }
}
