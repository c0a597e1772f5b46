//! Keys and namespaces.
//!
//! A key is any sequence of 1 byte to 1 KiB. Its namespace (prefix, cache name, version) travels
//! beside it to the store and is never glued to it as text, so no key can reach into another
//! namespace, and listings return keys without the prefix.

use std::fmt;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// An owned key: any bytes, 1 B to 1 KiB, cheap to clone.
///
/// Every method that takes a key takes `impl Into<KeyRef>`: a `&str`, `String`, `&[u8]`, `Vec<u8>`,
/// `Key` or `&Key`. Bounds are checked when the key is used ([`ErrorKind::InvalidKey`]).
///
/// # Recipes
///
/// [`Key::join`] builds keys from parts that may hold anything. Five shapes that applications use
/// everywhere:
///
/// ```
/// use larder::Key;
/// let user = Key::join(["user", "123", "profile"]);
/// let session = Key::join(["session", "data", "abc123"]);
/// let rate_limit = Key::join(["rate_limit", "api", "192.168.1.1"]);
/// let permission = Key::join(["permissions", "user123", "admin"]);
/// let config = Key::join(["config", "database"]);
/// assert_eq!(user, Key::from("user:123:profile"));
/// # let _ = (session, rate_limit, permission, config);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// Joins parts with `:`; a `:` or `%` inside a part becomes `%3A` or `%25`.
    ///
    /// Different lists of parts always give different keys (apart from the empty list, which is
    /// no valid key, like a single empty part).
    ///
    /// ```
    /// use larder::Key;
    /// assert_eq!(Key::join(["user", "1:2"]), Key::from("user:1%3A2"));
    /// assert_ne!(Key::join(["a:b", "c"]), Key::join(["a", "b:c"]));
    /// ```
    #[must_use]
    pub fn join<I>(parts: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut joined = Vec::with_capacity(64);
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                joined.push(b':');
            }
            for &byte in part.as_ref() {
                match byte {
                    b':' => joined.extend_from_slice(b"%3A"),
                    b'%' => joined.extend_from_slice(b"%25"),
                    other => joined.push(other),
                }
            }
        }
        Self(joined.into())
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the key as text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Shows the key as text, with bytes that are not UTF-8 replaced.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self(Bytes::copy_from_slice(key.as_bytes()))
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(key))
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<Vec<u8>> for Key {
    fn from(key: Vec<u8>) -> Self {
        Self(key.into())
    }
}

impl From<Bytes> for Key {
    fn from(key: Bytes) -> Self {
        Self(key)
    }
}

/// A key on its way into a call: borrowed or owned, so that a lookup by `&str` copies nothing.
#[derive(Debug, Clone)]
pub struct KeyRef<'a>(Repr<'a>);

#[derive(Debug, Clone)]
enum Repr<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl KeyRef<'_> {
    /// Returns the bytes, unchecked.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Owned(bytes) => bytes,
        }
    }

    /// Returns the bytes of a key within the bounds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`]: the key is empty or longer than [`MAX_KEY_BYTES`].
    pub fn checked(&self) -> Result<&[u8]> {
        let bytes = self.as_bytes();
        check(bytes)?;
        Ok(bytes)
    }

    /// Returns an owned key within the bounds; copies a borrowed one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], as for [`KeyRef::checked`].
    pub fn to_key(&self) -> Result<Key> {
        let bytes = match &self.0 {
            Repr::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Repr::Owned(bytes) => bytes.clone(),
        };
        check(&bytes)?;
        Ok(Key(bytes))
    }
}

fn check(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Err(Error::new(ErrorKind::InvalidKey, "a key must not be empty"));
    }
    if bytes.len() > MAX_KEY_BYTES {
        let message = format!(
            "a key of {} bytes is over the limit of {MAX_KEY_BYTES}; hash its long part",
            bytes.len()
        );
        return Err(Error::new(ErrorKind::InvalidKey, message).key(bytes));
    }
    Ok(())
}

macro_rules! borrowed_key {
    ($($source:ty),*) => {$(
        impl<'a> From<&'a $source> for KeyRef<'a> {
            fn from(key: &'a $source) -> Self {
                Self(Repr::Borrowed(key.as_ref()))
            }
        }
    )*};
}
borrowed_key!(str, String, [u8], Vec<u8>, Bytes, Key);

/// A list of references, as `&["a", "b"]` gives them.
macro_rules! borrowed_twice {
    ($($source:ty),*) => {$(
        impl<'a, 'b> From<&'a &'b $source> for KeyRef<'a> {
            fn from(key: &'a &'b $source) -> Self {
                Self::from(*key)
            }
        }
    )*};
}
borrowed_twice!(str, String, [u8], Key);

impl<'a, const N: usize> From<&'a [u8; N]> for KeyRef<'a> {
    fn from(key: &'a [u8; N]) -> Self {
        Self(Repr::Borrowed(key))
    }
}

impl<'a> From<&'a KeyRef<'_>> for KeyRef<'a> {
    fn from(key: &'a KeyRef<'_>) -> Self {
        Self(Repr::Borrowed(key.as_bytes()))
    }
}

macro_rules! owned_key {
    ($($source:ty),*) => {$(
        impl From<$source> for KeyRef<'_> {
            fn from(key: $source) -> Self {
                Self(Repr::Owned(key.into()))
            }
        }
    )*};
}
owned_key!(String, Vec<u8>, Bytes);

impl From<Key> for KeyRef<'_> {
    fn from(key: Key) -> Self {
        Self(Repr::Owned(key.0))
    }
}

/// The space that a cache's keys live in: prefix, cache name and version.
///
/// Two namespaces with any differing part share no key, and `clear` empties exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Key);

impl Namespace {
    /// Creates the namespace of a cache.
    #[must_use]
    pub fn new(prefix: &str, cache: &str, version: u32) -> Self {
        Self(Key::join([prefix, cache, &format!("v{version}")]))
    }

    /// Returns the name as stores know it: the parts joined as by [`Key::join`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the namespace of leases of one sort, such as locks, under an application's prefix.
    pub(crate) fn leases(prefix: &str, sort: &str) -> Self {
        Self(Key::join([prefix, "", "leases", sort]))
    }

    /// Returns the sibling namespace that holds Larder's own records about this prefix.
    pub(crate) fn internal(prefix: &str) -> Self {
        Self(Key::join([prefix, "", "internal"]))
    }

    /// Returns the sibling namespace that holds notes of what was invalidated lately.
    pub(crate) fn invalidations(prefix: &str) -> Self {
        Self(Key::join([prefix, "", "invalidations"]))
    }

    /// Returns the sibling namespace in which whoever replaces an entry of a cache, of this schema version, says so.
    pub(crate) fn refreshes(prefix: &str, (cache, version): (&str, u32), schema: u32) -> Self {
        let (version, schema) = (format!("v{version}"), format!("s{schema}"));
        Self(Key::join([
            prefix,
            "",
            "refreshes",
            cache,
            &version,
            &schema,
        ]))
    }

    /// Returns a namespace for a store's own records. It has four parts or more, so [`Namespace::new`] makes none like it.
    pub(crate) fn reserved(parts: &[&[u8]]) -> Self {
        let reserved: [&[u8]; 3] = [b"", b"", b"reserved"];
        Self(Key::join(reserved.iter().chain(parts)))
    }

    /// Returns the namespace of this name, which another namespace's [`Namespace::as_bytes`] gave.
    pub(crate) fn from_name(name: &[u8]) -> Self {
        Self(Key::from(name))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn join_is_injective(
            a in proptest::collection::vec("[a:%b]{0,4}", 1..4),
            b in proptest::collection::vec("[a:%b]{0,4}", 1..4),
        ) {
            prop_assert_eq!(Key::join(&a) == Key::join(&b), a == b);
        }
    }

    #[test]
    fn bounds_are_checked_on_use() {
        let key = KeyRef::from("");
        assert_eq!(key.checked().unwrap_err().kind(), ErrorKind::InvalidKey);
        let long = "k".repeat(MAX_KEY_BYTES);
        assert!(KeyRef::from(&long).checked().is_ok());
        let longer = "k".repeat(MAX_KEY_BYTES + 1);
        assert_eq!(
            KeyRef::from(&longer).to_key().unwrap_err().kind(),
            ErrorKind::InvalidKey
        );
    }

    #[test]
    fn namespaces_cannot_be_forged_through_their_parts() {
        assert_ne!(Namespace::new("a:b", "c", 1), Namespace::new("a", "b:c", 1));
        assert_ne!(Namespace::new("app", "", 1), Namespace::internal("app"));
        assert_ne!(Namespace::internal("app"), Namespace::invalidations("app"));
        let reserved = Namespace::reserved(&[b"x"]);
        assert_ne!(Namespace::new("", "", 1), reserved);
        assert_ne!(Namespace::new(":", "reserved:x", 1), reserved);
        assert_eq!(Namespace::from_name(reserved.as_bytes()), reserved);
    }
}
