//! Names on disk: hashes in hexadecimal, so that no key can reach a path, whatever it holds.

use bytes::Bytes;

use crate::error::{Error, Result};

/// The bytes of a [`Digest`] in hexadecimal.
pub(super) const HEX_LEN: usize = 32;
/// What temporary files are called, before a random number.
pub(super) const TEMP_PREFIX: &str = "tmp-";
/// What namespace directories are called, before their digest.
pub(super) const NAMESPACE_PREFIX: &str = "ns-";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The first 128 bits of a BLAKE3 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest(pub(super) [u8; 16]);

impl Digest {
    /// Returns the digest of a key or of a namespace's name.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Self(digest)
    }

    /// Appends the hexadecimal form.
    pub(super) fn push_hex(self, text: &mut String) {
        for byte in self.0 {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }

    /// Returns the hexadecimal form.
    pub(super) fn hex(self) -> String {
        let mut text = String::with_capacity(HEX_LEN);
        self.push_hex(&mut text);
        text
    }

    /// Reads the hexadecimal form, lower case only.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != 16 || !rest.is_empty() {
            return None;
        }
        let mut digest = [0; 16];
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(digest))
    }

    /// Reads a listing's cursor.
    ///
    /// # Errors
    /// `InvalidArgument`: it is none of this store's.
    pub(super) fn from_cursor(cursor: &Bytes) -> Result<Self> {
        Self::parse(cursor).ok_or_else(|| Error::argument("the cursor is not of this store"))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Where an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) namespace: Digest,
    pub(super) key: Digest,
}

impl Address {
    pub(super) fn new(namespace: Digest, key: &[u8]) -> Self {
        Self {
            namespace,
            key: Digest::of(key),
        }
    }

    /// Returns which lock guards this entry.
    pub(super) fn stripe(&self) -> u8 {
        self.namespace.0[15] ^ self.key.0[15]
    }
}

/// Returns whether this is the name of one hashed level: two hexadecimal digits.
pub(super) fn is_level(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|digit| nibble(digit).is_some())
}

/// Returns whether this is the name of a temporary file.
pub(super) fn is_temp(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX).is_some_and(|number| {
        number.len() == 16 && number.bytes().all(|digit| nibble(digit).is_some())
    })
}

/// Returns the namespace that a directory of this name holds.
pub(super) fn parse_namespace(name: &str) -> Option<Digest> {
    Digest::parse(name.strip_prefix(NAMESPACE_PREFIX)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_and_nothing_else_does() {
        let digest = Digest::of(b"key");
        assert_eq!(Digest::parse(digest.hex().as_bytes()), Some(digest));
        for junk in [
            "",
            "0",
            &digest.hex()[1..],
            &digest.hex().to_uppercase(),
            "..",
        ] {
            assert_eq!(Digest::parse(junk.as_bytes()), None, "{junk}");
        }
    }

    #[test]
    fn names_of_other_programs_are_not_ours() {
        assert!(is_temp("tmp-0123456789abcdef"));
        assert!(!is_temp("tmp-notes") && !is_temp("0123456789abcdef"));
        assert!(is_level("0f") && !is_level("..") && !is_level("0F"));
        assert!(parse_namespace("ns-music").is_none());
    }
}
