//! What a store must see of an entry, read by its documented layout.

use bytes::Bytes;
use larder::store::{Register, Stamp};
use larder::testing::{sealed, stamped};

/// The numbers of a register that an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) register: Register,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

/// Returns whether an entry only says that somebody loads it.
pub(crate) fn is_load(entry: &[u8]) -> bool {
    entry.get(5) == Some(&2)
}

/// Returns the stamps of an intact entry.
pub(crate) fn carried(entry: &Bytes) -> Vec<Carried> {
    let (Some(count), Some(content_type)) = (entry.get(54), entry.get(55)) else {
        return Vec::new();
    };
    let mut rest = &entry[64 + usize::from(*content_type)..];
    let mut take = |len: usize| {
        let (taken, left) = rest.split_at(len);
        rest = left;
        taken
    };
    let mut stamps = Vec::new();
    for _ in 0..*count {
        let kind = take(1)[0];
        let len = u16::from_le_bytes(take(2).try_into().unwrap());
        let name = [&[kind], take(len.into())].concat();
        let hard = u64::from_le_bytes(take(8).try_into().unwrap());
        let soft = u64::from_le_bytes(take(8).try_into().unwrap());
        stamps.extend(Register::from_bytes(&name).map(|register| Carried {
            register,
            hard,
            soft,
        }));
    }
    stamps
}

/// Returns the numbers of a stamp.
pub(crate) fn numbers(stamp: &Stamp) -> Carried {
    carried(&stamped(&sealed(b""), vec![stamp.clone()])).remove(0)
}
