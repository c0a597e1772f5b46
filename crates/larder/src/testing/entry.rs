//! Entries made and taken apart by hand, as a store's author needs them.

use bytes::Bytes;

use crate::clock::Clock;
use crate::codec::{Codec, Encoding, format_integer};
use crate::envelope::{self, Envelope, Header, Stamp};

/// Returns an intact entry that holds `body` as raw bytes, with a write id of its own.
///
/// # Panics
/// If the body does not fit an entry: 16 MiB less 64 bytes.
#[must_use]
pub fn sealed(body: &[u8]) -> Bytes {
    seal(Encoding::Raw, "", body)
}

/// Returns an entry of plain text, as `larder cache set` writes it.
///
/// # Panics
/// As [`sealed`].
#[must_use]
pub fn sealed_text(text: &str) -> Bytes {
    seal(Encoding::Raw, "text/plain; charset=utf-8", text.as_bytes())
}

/// Returns an entry of an integer, as a cache's `set` writes it: one that can be incremented.
#[must_use]
pub fn sealed_integer(value: i64) -> Bytes {
    seal(Encoding::Codec(Codec::Json), "", &format_integer(value))
}

/// Returns an intact entry with these stamps in place of those it carries; its write id stays.
///
/// # Panics
/// If it is not intact, or the stamps do not fit it: 64, and 16 KiB with all their names.
#[must_use]
pub fn stamped(entry: &Bytes, stamps: Vec<Stamp>) -> Bytes {
    envelope::restamp(entry, stamps).expect("the entry of a test is intact and takes its stamps")
}

/// Returns bytes that are no entry: what another program or a torn write might leave.
#[must_use]
pub fn unreadable() -> Bytes {
    let mut bytes = sealed(b"torn").to_vec();
    bytes.truncate(bytes.len() - 1);
    bytes.into()
}

/// Returns the plain body of an entry; `None` if it is no intact entry.
#[must_use]
pub fn body(entry: &Bytes) -> Option<Bytes> {
    Envelope::open(entry).ok()?.plain_body().ok()
}

/// Returns the write id of an entry, which `Condition::IfUnchanged` compares; 0 for what is no entry.
#[must_use]
pub fn write_id(entry: &[u8]) -> u64 {
    envelope::write_id(entry)
}

fn seal(encoding: Encoding, content_type: &str, body: &[u8]) -> Bytes {
    let mut header = Header::new(encoding, Clock::system().now_ms(), None);
    header.content_type = content_type.into();
    envelope::seal(&header, body, body.len()).expect("the body of a test fits an entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_entries_open_and_unreadable_ones_do_not() {
        let entry = sealed(b"hello");
        assert_eq!(body(&entry), Some(Bytes::from_static(b"hello")));
        assert_ne!(write_id(&entry), write_id(&sealed(b"hello")));
        assert_eq!(body(&unreadable()), None);
        assert_eq!(body(&sealed_integer(-7)), Some(Bytes::from_static(b"-7")));
        let stamped = stamped(&entry, Vec::new());
        assert_eq!((write_id(&stamped), &stamped), (write_id(&entry), &entry));
    }
}
