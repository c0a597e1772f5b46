//! Names of keys: which bucket an entry is in, and what its keys are called.
//!
//! ```text
//! {T}e:<namespace>:<key>   entry, counter, or stamp of a sorted set
//! {T}z:<namespace>:<key>   members of a sorted set
//! {T}g:<namespace>         namespace register: entries stamped with another value are not there
//! {T}r:<namespace>:<name>  register of a tag or of the tags below a path
//! {T}j:<namespace>         journal: what has changed, while somebody reads it; see `journal`
//! {T}f:<namespace>         is there while somebody follows the journal; another value: another time
//! {T}n:<namespace>:<key>   scratch of an addition; never outlives its script
//! {T}l:<namespace>:<key>   lease: holders and fence of a name; the channel that calls its waiters has the same name
//! {T}q:<namespace>:<key>   its queue
//! {T}w:<namespace>:<key>   by when those in the queue ask again
//! {T}h:<namespace>:<key>   its hold times
//! {T}b:<namespace>:<key>   token bucket
//! ```
//! `T` names a bucket, and with it the slot of everything about a key; it is the first `{..}`, so no user text can
//! choose a slot. A namespace is three parts without a bare colon, so what follows the third colon is the key.
//! Namespaces of leases have four parts, and kinds of their own.

use crate::key::Namespace;
use crate::redis_conn::{SLOTS, slot};

/// Where a bucket is, and how its keys begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// `{T}`.
    pub(super) tag: Vec<u8>,
    /// The slot of `T`.
    pub(super) slot: u16,
}

/// All buckets of a store; the same in every process.
#[derive(Debug)]
pub(super) struct Buckets(Vec<Bucket>);

impl Buckets {
    /// Creates `count` buckets, a power of two, whose slots are spread evenly.
    pub(super) fn new(count: u16) -> Self {
        let width = SLOTS / count;
        let bucket = |index: u16| {
            let window = index * width..=index * width + (width - 1);
            let tags = (0_u32..).map(|n| format!("{{{n:x}}}").into_bytes());
            let mut found = tags.map(|tag| Bucket {
                slot: slot(&tag),
                tag,
            });
            found.find(|bucket| window.contains(&bucket.slot))
        };
        Self((0..count).filter_map(bucket).collect())
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns all of them.
    pub(super) fn all(&self) -> &[Bucket] {
        &self.0
    }

    /// Returns the bucket of a key.
    pub(super) fn index_of(&self, namespace: &Namespace, key: &[u8]) -> usize {
        if self.0.len() == 1 {
            return 0;
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(namespace.as_bytes()), key);
        // A checksum is linear; the product's upper bits are mixed well.
        let mixed = u64::from(sum).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        mixed as usize % self.0.len()
    }
}

/// Returns `{T}<kind>:<namespace>:<key>`.
pub(super) fn name(bucket: &Bucket, kind: u8, namespace: &Namespace, key: &[u8]) -> Vec<u8> {
    let space = namespace.as_bytes();
    let mut name = Vec::with_capacity(bucket.tag.len() + space.len() + key.len() + 3);
    name.extend_from_slice(&bucket.tag);
    name.extend_from_slice(&[kind, b':']);
    name.extend_from_slice(space);
    name.push(b':');
    name.extend_from_slice(key);
    name
}

/// Returns `{T}g:<namespace>`.
pub(super) fn register(bucket: &Bucket, namespace: &Namespace) -> Vec<u8> {
    [&bucket.tag, b"g:".as_slice(), namespace.as_bytes()].concat()
}

/// Returns `{T}j:<namespace>`.
pub(super) fn journal(bucket: &Bucket, namespace: &Namespace) -> Vec<u8> {
    [&bucket.tag, b"j:".as_slice(), namespace.as_bytes()].concat()
}

/// Returns `{T}f:<namespace>`.
pub(super) fn followed(bucket: &Bucket, namespace: &Namespace) -> Vec<u8> {
    [&bucket.tag, b"f:".as_slice(), namespace.as_bytes()].concat()
}

/// Returns the pattern that matches all names of a kind in a namespace, and in no other.
pub(super) fn pattern(kind: u8, namespace: &Namespace, literal: &[u8]) -> Vec<u8> {
    let mut pattern = vec![b'{', b'*', b'}', kind, b':'];
    escape(namespace.as_bytes(), &mut pattern);
    pattern.push(b':');
    escape(literal, &mut pattern);
    pattern.push(b'*');
    pattern
}

fn escape(text: &[u8], pattern: &mut Vec<u8>) {
    for &byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
}

/// Returns the bucket and the name of the register of a tag that a key holds, if it is one of the namespace.
pub(super) fn tag_register<'a>(
    buckets: &Buckets,
    namespace: &Namespace,
    name: &'a [u8],
) -> Option<(usize, &'a [u8])> {
    let close = name.iter().position(|&byte| byte == b'}')?;
    let (tag, rest) = name.split_at(close + 1);
    let register = rest
        .strip_prefix(b"r:")?
        .strip_prefix(namespace.as_bytes())?
        .strip_prefix(b":")?;
    let bucket = buckets.0.iter().position(|bucket| bucket.tag == tag)?;
    Some((bucket, register))
}

/// Returns the user's key of a name, if the name is of the kind and the namespace, and in the bucket of that key.
pub(super) fn user_key<'a>(
    buckets: &Buckets,
    kind: u8,
    namespace: &Namespace,
    name: &'a [u8],
) -> Option<&'a [u8]> {
    let open = name.iter().position(|&byte| byte == b'}')?;
    let (tag, rest) = name.split_at(open + 1);
    let rest = rest.strip_prefix(&[kind, b':'])?;
    let key = rest
        .strip_prefix(namespace.as_bytes())?
        .strip_prefix(b":")?;
    let bucket = &buckets.0[buckets.index_of(namespace, key)];
    (bucket.tag == tag && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_spread_evenly_and_never_change() {
        let buckets = Buckets::new(64);
        assert_eq!(buckets.len(), 64);
        for (index, bucket) in buckets.all().iter().enumerate() {
            assert_eq!(usize::from(bucket.slot) / 256, index);
            assert!(bucket.tag.len() <= 12);
        }
        assert_eq!(Buckets::new(1).all()[0].tag, b"{0}");
        assert_eq!(Buckets::new(1024).len(), 1024);
        assert_eq!(buckets.all()[0].tag, b"{10}");
    }

    #[test]
    fn keys_are_spread_evenly_over_buckets() {
        let buckets = Buckets::new(64);
        let namespace = Namespace::new("app", "main", 1);
        let mut counts = [0_u32; 64];
        for n in 0..64_000 {
            counts[buckets.index_of(&namespace, format!("user:{n}").as_bytes())] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 800 && *most < 1200, "{least}..{most}");
    }

    #[test]
    fn braces_of_users_choose_no_slot() {
        let buckets = Buckets::new(64);
        let namespace = Namespace::new("a{x}", "m", 1);
        for key in [&b"{other}k"[..], b"}{", b"{}", b"}"] {
            let bucket = &buckets.all()[buckets.index_of(&namespace, key)];
            for kind in *b"ezrnlqwhb" {
                assert_eq!(slot(&name(bucket, kind, &namespace, key)), bucket.slot);
            }
            assert_eq!(slot(&register(bucket, &namespace)), bucket.slot);
            assert_eq!(slot(&journal(bucket, &namespace)), bucket.slot);
            assert_eq!(slot(&followed(bucket, &namespace)), bucket.slot);
            let entry = name(bucket, b'e', &namespace, key);
            assert_eq!(user_key(&buckets, b'e', &namespace, &entry), Some(key));
            let longer = Namespace::new("a{x}", "m", 11);
            assert_eq!(user_key(&buckets, b'e', &longer, &entry), None);
        }
    }
}
