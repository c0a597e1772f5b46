//! How everything about a name is kept: a checksum, then MessagePack that begins with whose record it is.

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;

/// The crc32c of what follows, little endian.
const CHECKSUM_BYTES: usize = 4;

/// More levels than a record has: a body that goes deeper would take the stack of a small thread.
const MAX_DEPTH: usize = 16;

/// What is kept under an [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum Kind {
    Lease,
    Bucket,
}

/// Which record: no two names, spaces or kinds share one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Id {
    pub(in crate::store) kind: Kind,
    pub(in crate::store) space: Bytes,
    pub(in crate::store) name: Bytes,
}

/// A record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<T> {
    pub(super) id: Id,
    /// The start of the host that the times of leases count from; empty: not known.
    pub(super) boot: String,
    /// When the record says nothing any more: by the clock of leases, and in ms since the Unix epoch.
    pub(super) idle_at_ms: u64,
    pub(super) keep_until_ms: u64,
    pub(super) state: T,
}

impl Id {
    pub(in crate::store) fn new(kind: Kind, space: &Namespace, name: &[u8]) -> Self {
        Self {
            kind,
            space: Bytes::copy_from_slice(space.as_bytes()),
            name: Bytes::copy_from_slice(name),
        }
    }
}

impl<T: Serialize> Record<T> {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; CHECKSUM_BYTES];
        rmp_serde::encode::write(&mut bytes, self).map_err(|error| {
            Error::new(ErrorKind::Internal, "a lease cannot be encoded").caused_by(error)
        })?;
        let checksum = crc32c::crc32c(&bytes[CHECKSUM_BYTES..]);
        bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }
}

impl<T: DeserializeOwned> Record<T> {
    /// Decodes a record; `None`: it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (checksum, body) = bytes.split_first_chunk::<CHECKSUM_BYTES>()?;
        let is_whole = u32::from_le_bytes(*checksum) == crc32c::crc32c(body);
        if !is_whole {
            return None;
        }
        let mut decoder = rmp_serde::Deserializer::from_read_ref(body);
        decoder.set_max_depth(MAX_DEPTH);
        Self::deserialize(&mut decoder).ok()
    }
}

/// Returns whose record the bytes are; `None`: they are damaged.
#[cfg(feature = "file")]
pub(in crate::store) fn id_of(bytes: &[u8]) -> Option<Id> {
    decode_head(bytes).map(|record| record.id)
}

/// Decodes a record but for its state.
pub(super) fn decode_head(bytes: &[u8]) -> Option<Record<IgnoredAny>> {
    Record::decode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lease::Lease;

    fn id() -> Id {
        Id::new(Kind::Lease, &Namespace::new("app", "locks", 1), b"na\0me")
    }

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_is_noticed() {
        let bytes = Record {
            id: id(),
            boot: "boot".to_owned(),
            idle_at_ms: 7,
            keep_until_ms: 8,
            state: Lease::default(),
        };
        let bytes = bytes.encode().unwrap();
        let record = Record::<Lease>::decode(&bytes).unwrap();
        assert_eq!(
            (record.id, &*record.boot, record.idle_at_ms),
            (id(), "boot", 7)
        );
        assert_eq!(record.state, Lease::default());
        assert_eq!(decode_head(&bytes).unwrap().id, id());
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::<Lease>::decode(&altered).is_none(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Record::<Lease>::decode(&bytes[..end]).is_none());
        }
    }

    #[test]
    fn nested_without_end_is_damage() {
        let record = Record {
            id: id(),
            boot: String::new(),
            idle_at_ms: 7,
            keep_until_ms: 8,
            state: Lease::default(),
        };
        let bytes = record.encode().unwrap();
        let state = rmp_serde::to_vec(&record.state).unwrap();
        let head = &bytes[CHECKSUM_BYTES..bytes.len() - state.len()];
        for nested in [vec![0x91; 1 << 20], vec![0x81; 1 << 20]] {
            let body = [head, &nested].concat();
            let bytes = [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat();
            assert!(decode_head(&bytes).is_none());
            assert!(Record::<Lease>::decode(&bytes).is_none());
        }
        // Lengths of what is not there.
        for long in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdb, 0xff, 0xff, 0xff, 0xff],
        ] {
            let body = [head, long].concat();
            let bytes = [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat();
            assert!(decode_head(&bytes).is_none());
            assert!(Record::<Lease>::decode(&bytes).is_none());
        }
    }

    proptest! {
        #[test]
        fn decoding_junk_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat();
            prop_assert!(Record::<Lease>::decode(&bytes).is_none());
        }
    }
}
