//! Items as stored: a small frame around the sealed entry, and the names they are stored under.
//!
//! ```text
//! kind u8 | stamp u64 | expires at ms u64 (0: never) | if hashed: key length u16, full key | value
//! ```
//! Numbers are little endian. An entry counts only while its stamp is the value of the namespace's register, which is
//! a frame without a value. The value of an entry is the sealed envelope; that of a register of a tag, its two numbers,
//! under the stamp of the namespace when they were made. Memcached's own expiry has whole seconds, so the frame's is the truth.
//!
//! No byte of a user reaches the command line: names of up to 180 bytes travel as base64 (Memcached decodes them),
//! longer ones as a hash, with the full name in the frame to tell a collision from a hit. So do the names of registers of
//! tags: of two with the same hash, each is missing while the other is there, and what is missing makes no entry valid.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};

use crate::envelope::MAX_ENTRY_BYTES;
use crate::key::{MAX_KEY_BYTES, Namespace};
use crate::store::Register;

/// The longest name that travels as itself: 240 characters of base64, under Memcached's limit of 250.
const MAX_PLAIN_BYTES: usize = 180;
/// Half of blake3's 256 bits: no collision is to be expected, and one costs a miss.
const HASH_BYTES: usize = 16;
const FIXED_BYTES: usize = 1 + 8 + 8;
/// The largest frame, of any name: what a reply may bring.
pub(super) const MAX_FRAME_BYTES: usize = MAX_ENTRY_BYTES + FIXED_BYTES + 2 + u16::MAX as usize;
/// What Memcached adds to each item: header, version, and the ends of name and value.
const ITEM_OVERHEAD_BYTES: usize = 59;

/// What an item is; the first byte of its name and of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Kind {
    Entry = b'e',
    Register = b'g',
    TagRegister = b'r',
    Lock = b'l',
    Fences = b'f',
    HoldTimes = b't',
}

/// The name of an item: kind, namespace, `:` and key. It is put together where it is written.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct ItemKey<'a> {
    kind: Kind,
    namespace: &'a [u8],
    key: &'a [u8],
}

impl<'a> ItemKey<'a> {
    /// Returns the name of an entry. A namespace has exactly two colons, so no two pairs share a name.
    pub(super) fn entry(namespace: &'a Namespace, key: &'a [u8]) -> Self {
        Self {
            kind: Kind::Entry,
            namespace: namespace.as_bytes(),
            key,
        }
    }

    /// Returns the name of a namespace's register.
    pub(super) fn register(namespace: &'a Namespace) -> Self {
        Self {
            kind: Kind::Register,
            namespace: namespace.as_bytes(),
            key: b"",
        }
    }

    /// Returns the name of a register of a tag.
    pub(super) fn tag_register(namespace: &'a Namespace, register: &'a Register) -> Self {
        Self {
            kind: Kind::TagRegister,
            namespace: namespace.as_bytes(),
            key: register.as_bytes(),
        }
    }

    /// Returns the name of a lock. Spaces of leases have no such names as those of caches.
    pub(super) fn lock(space: &'a Namespace, name: &'a [u8]) -> Self {
        Self {
            kind: Kind::Lock,
            namespace: space.as_bytes(),
            key: name,
        }
    }

    /// Returns the name of what the fences of a space start from.
    pub(super) fn fences(space: &'a Namespace) -> Self {
        Self {
            kind: Kind::Fences,
            namespace: space.as_bytes(),
            key: b"",
        }
    }

    /// Returns the name of the hold times of a lock.
    pub(super) fn hold_times(space: &'a Namespace, name: &'a [u8]) -> Self {
        Self {
            kind: Kind::HoldTimes,
            namespace: space.as_bytes(),
            key: name,
        }
    }

    pub(super) fn namespace(&self) -> &'a [u8] {
        self.namespace
    }

    /// Returns the flag that tells Memcached how to read the name.
    pub(super) fn flag(&self) -> &'static [u8] {
        if self.is_hashed() { b"" } else { b" b" }
    }

    /// Appends the name as it stands in a command line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.is_hashed() {
            let mut hasher = blake3::Hasher::new();
            for part in self.parts() {
                hasher.update(part);
            }
            out.extend_from_slice(b"h:");
            for byte in &hasher.finalize().as_bytes()[..HASH_BYTES] {
                push_hex_digit(out, byte >> 4);
                push_hex_digit(out, byte & 15);
            }
            return;
        }
        let mut plain = [0; MAX_PLAIN_BYTES];
        let mut len = 0;
        for part in self.parts() {
            plain[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        out.resize(start + len.div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(&plain[..len], &mut out[start..])
            .expect("base64 takes four characters for three bytes");
    }

    /// Returns a number that is the same for the same name in this process.
    pub(super) fn hash(&self) -> u64 {
        // FNV-1a: spread over a few connections is all that is asked of it.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.parts().into_iter().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^ (hash >> 32)
    }

    fn parts(&self) -> [&[u8]; 4] {
        let kind: &[u8] = match self.kind {
            Kind::Entry => b"e",
            Kind::Register => b"g",
            Kind::TagRegister => b"r",
            Kind::Lock => b"l",
            Kind::Fences => b"f",
            Kind::HoldTimes => b"t",
        };
        [kind, self.namespace, b":", self.key]
    }

    fn len(&self) -> usize {
        2 + self.namespace.len() + self.key.len()
    }

    fn is_hashed(&self) -> bool {
        self.len() > MAX_PLAIN_BYTES
    }

    fn is_named(&self, name: &[u8]) -> bool {
        let rest = self
            .parts()
            .into_iter()
            .try_fold(name, |rest, part| rest.strip_prefix(part));
        rest.is_some_and(<[u8]>::is_empty)
    }
}

fn push_hex_digit(out: &mut Vec<u8>, digit: u8) {
    out.push(if digit < 10 {
        b'0' + digit
    } else {
        b'a' + digit - 10
    });
}

/// Appends a number in base 16.
pub(super) fn push_hex(out: &mut Vec<u8>, number: u64) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        push_hex_digit(out, (number >> (digit * 4)) as u8 & 15);
    }
}

/// What a stored item says, judged against its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stamp: u64,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) value: Bytes,
}

impl Frame {
    /// Returns the length of a frame around `value_len` bytes.
    pub(super) fn len(key: &ItemKey<'_>, value_len: usize) -> usize {
        let name = if key.is_hashed() { 2 + key.len() } else { 0 };
        FIXED_BYTES + name + value_len
    }

    /// Returns how much of Memcached's item limit such an item takes.
    pub(super) fn item_len(key: &ItemKey<'_>, value_len: usize) -> usize {
        Self::len(key, value_len) + key.len().min(MAX_PLAIN_BYTES) + ITEM_OVERHEAD_BYTES
    }

    /// Appends what stands before the value.
    pub(super) fn write_head(
        key: &ItemKey<'_>,
        stamp: u64,
        expires_at_ms: Option<u64>,
        out: &mut Vec<u8>,
    ) {
        out.push(key.kind as u8);
        out.extend_from_slice(&stamp.to_le_bytes());
        let expires = expires_at_ms.map_or(0, |at| at.max(1));
        out.extend_from_slice(&expires.to_le_bytes());
        if key.is_hashed() {
            out.extend_from_slice(&(key.len() as u16).to_le_bytes());
            for part in key.parts() {
                out.extend_from_slice(part);
            }
        }
    }

    /// Reads an item; `None`: a placeholder, another name with the same hash, or nothing of ours.
    pub(super) fn parse(key: &ItemKey<'_>, mut item: Bytes) -> Option<Self> {
        let (stamp, expires, value_at) = Self::parse_head(key, &item)?;
        // Not a slice of it, which would need a reference count of its own.
        item.advance(value_at);
        Some(Self {
            stamp,
            expires_at_ms: (expires != 0).then_some(expires),
            value: item,
        })
    }

    /// Returns the stamp of an item, as [`Frame::parse`] reads it.
    pub(super) fn stamp(key: &ItemKey<'_>, item: &[u8]) -> Option<u64> {
        Self::parse_head(key, item).map(|(stamp, _, _)| stamp)
    }

    /// Returns stamp, expiry, and where the value starts.
    fn parse_head(key: &ItemKey<'_>, item: &[u8]) -> Option<(u64, u64, usize)> {
        let (kind, rest) = item.split_first()?;
        let (stamp, rest) = rest.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        if *kind != key.kind as u8 {
            return None;
        }
        let mut value_at = FIXED_BYTES;
        if key.is_hashed() {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            let name = rest.get(..usize::from(u16::from_le_bytes(*len)))?;
            if !key.is_named(name) {
                return None;
            }
            value_at += 2 + name.len();
        }
        let (stamp, expires) = (u64::from_le_bytes(*stamp), u64::from_le_bytes(*expires));
        Some((stamp, expires, value_at))
    }

    /// Returns whether the frame is an entry that can be read now, given the register.
    pub(super) fn is_live(&self, register: Option<u64>, now_ms: u64) -> bool {
        register == Some(self.stamp) && self.expires_at_ms.is_none_or(|at| at > now_ms)
    }
}

/// A namespace so long that its names do not fit a frame cannot be stored.
pub(super) const MAX_NAMESPACE_BYTES: usize = u16::MAX as usize - MAX_KEY_BYTES - 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: &ItemKey<'_>, value: &[u8]) -> Bytes {
        let mut out = Vec::new();
        Frame::write_head(key, 7, Some(99), &mut out);
        out.extend_from_slice(value);
        assert_eq!(out.len(), Frame::len(key, value.len()));
        out.into()
    }

    fn wire(key: &ItemKey<'_>) -> String {
        let mut out = Vec::new();
        key.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_come_back_and_are_told_from_junk() {
        let namespace = Namespace::new("app", "cache", 1);
        for len in [1, 10, 165, 166, 167, 251, 1024] {
            let user_key = vec![b'\n'; len];
            let key = ItemKey::entry(&namespace, &user_key);
            let item = stored(&key, b"value");
            let frame = Frame::parse(&key, item.clone()).unwrap();
            assert_eq!((frame.stamp, frame.expires_at_ms), (7, Some(99)));
            assert_eq!(frame.value, "value");
            let head = item.len() - b"value".len();
            for cut in 0..head {
                assert_eq!(Frame::parse(&key, item.slice(..cut)), None, "{cut}");
            }
            let register = ItemKey::register(&namespace);
            assert_eq!(Frame::stamp(&register, &item), None);
        }
        let key = ItemKey::entry(&namespace, b"k");
        assert_eq!(Frame::parse(&key, Bytes::new()), None, "a placeholder");
    }

    #[test]
    fn another_name_with_the_same_hash_is_a_miss() {
        let namespace = Namespace::new("app", "cache", 1);
        let (ours, theirs) = ([b'a'; 300], [b'b'; 300]);
        let ours = ItemKey::entry(&namespace, &ours);
        let theirs = ItemKey::entry(&namespace, &theirs);
        let item = stored(&theirs, b"value");
        assert_eq!(Frame::parse(&ours, item.clone()), None);
        let longer = [b'b'; 301];
        let longer = ItemKey::entry(&namespace, &longer);
        assert_eq!(Frame::parse(&longer, item.clone()), None);
        assert!(Frame::parse(&theirs, item).is_some());
    }

    #[test]
    fn names_on_the_wire_are_short_and_plain() {
        let namespace = Namespace::new("app", "cache", 1);
        let mut seen = std::collections::HashSet::new();
        for len in 1..=1024 {
            let user_key = vec![0; len];
            let key = ItemKey::entry(&namespace, &user_key);
            let name = wire(&key);
            assert!(name.len() <= 250 && name.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(key.flag().is_empty(), name.contains(':'));
            assert!(seen.insert(name), "{len}");
        }
    }

    #[test]
    fn numbers_are_written_in_base_16() {
        for number in [0, 1, 15, 16, 255, 256, 0xdead_beef, u64::MAX] {
            let mut out = Vec::new();
            push_hex(&mut out, number);
            assert_eq!(out, format!("{number:x}").into_bytes());
        }
    }
}
