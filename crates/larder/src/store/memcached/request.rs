//! Commands of the meta protocol, written one after the other into one buffer: one system call, one round trip.
//!
//! Every command carries a token of its own, which the server copies into the reply; [`super::driver`] compares them.

use std::io::Write as _;

use super::frame::{Frame, ItemKey, push_hex};

/// Commands of one batch at most, so that each has a token of its own.
pub(super) const MAX_COMMANDS: usize = 1 << TOKEN_BITS;
const TOKEN_BITS: u32 = 12;
/// What a command line takes, roughly.
const LINE_BYTES: usize = 96;

/// What kind of replies a batch gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// One to each command, with its token.
    Meta,
    /// One `MN`.
    Pong,
    /// Lines of statistics up to `END`.
    Stats,
}

/// What must hold of the item for a set to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    Set,
    /// There is none.
    Add,
    /// It has this version.
    Swap(u64),
}

/// Commands that travel together, and are answered in order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) commands: usize,
    pub(super) first_token: u64,
    pub(super) expect: Expect,
}

/// By how many seconds Memcached's clock may be off: it has whole seconds and looks at the time once a second, later each
/// time by a ms or so. The present second may thus be almost over, and the next but one be the next that it sees.
pub(super) const CLOCK_ERROR_S: u64 = 2;

/// What a set stores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) stamp: u64,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) lifetime: Lifetime,
    pub(super) value: &'a [u8],
}

/// Memcached's own expiry of an item: `T`, in its terms; 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime(u64);

impl Lifetime {
    pub(super) const ENDLESS: Self = Self(0);
    /// Longer ones are times since the epoch to Memcached.
    const MAX_RELATIVE_S: u64 = 30 * 24 * 3600;

    /// Returns the lifetime of an item that expires in `left_ms`, given the time by the system's clock.
    ///
    /// Never too short; see [`CLOCK_ERROR_S`].
    pub(super) fn ending_in(left_ms: u64, now_ms: u64) -> Self {
        let seconds = left_ms.div_ceil(1000).saturating_add(CLOCK_ERROR_S);
        if seconds <= Self::MAX_RELATIVE_S {
            return Self(seconds);
        }
        let at_s = (now_ms / 1000).saturating_add(seconds);
        // Memcached reads 32 bits with a sign. What would not fit is left to the frame and to eviction.
        if at_s > i32::MAX as u64 {
            return Self::ENDLESS;
        }
        Self(at_s)
    }
}

impl Batch {
    /// Starts a batch; `id` must be new to the connection.
    pub(super) fn new(id: u64, body_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(2 * LINE_BYTES + body_bytes),
            commands: 0,
            first_token: id << TOKEN_BITS,
            expect: Expect::Meta,
        }
    }

    pub(super) fn ping() -> Self {
        Self::plain(b"mn\r\n", Expect::Pong)
    }

    pub(super) fn stats() -> Self {
        Self::plain(b"stats\r\n", Expect::Stats)
    }

    pub(super) fn settings() -> Self {
        Self::plain(b"stats settings\r\n", Expect::Stats)
    }

    fn plain(line: &[u8], expect: Expect) -> Self {
        Self {
            bytes: line.to_vec(),
            commands: 1,
            first_token: 0,
            expect,
        }
    }

    /// Reads an item.
    pub(super) fn get(&mut self, key: &ItemKey<'_>) {
        self.start(b"mg ", key);
        self.bytes.extend_from_slice(b" v");
        self.finish();
    }

    /// Reads an item with its version.
    pub(super) fn get_with_version(&mut self, key: &ItemKey<'_>) {
        self.start(b"mg ", key);
        self.bytes.extend_from_slice(b" v c");
        self.finish();
    }

    /// Reads an item with its version and its remaining lifetime.
    pub(super) fn look(&mut self, key: &ItemKey<'_>) {
        self.start(b"mg ", key);
        self.bytes.extend_from_slice(b" v c t");
        self.finish();
    }

    /// Stores an item.
    pub(super) fn set(&mut self, key: &ItemKey<'_>, mode: Mode, item: Item<'_>) {
        self.bytes.extend_from_slice(b"ms ");
        key.write(&mut self.bytes);
        let size = Frame::len(key, item.value.len());
        self.push(format_args!(" {size}"));
        self.bytes.extend_from_slice(key.flag());
        if item.lifetime != Lifetime::ENDLESS {
            self.push(format_args!(" T{}", item.lifetime.0));
        }
        match mode {
            Mode::Set => {}
            Mode::Add => self.bytes.extend_from_slice(b" ME"),
            Mode::Swap(version) => self.push(format_args!(" C{version}")),
        }
        self.finish();
        Frame::write_head(key, item.stamp, item.expires_at_ms, &mut self.bytes);
        self.bytes.extend_from_slice(item.value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Removes an item; with a version, only that one.
    pub(super) fn delete(&mut self, key: &ItemKey<'_>, version: Option<u64>) {
        self.start(b"md ", key);
        if let Some(version) = version {
            self.push(format_args!(" C{version}"));
        }
        self.finish();
    }

    fn start(&mut self, command: &[u8], key: &ItemKey<'_>) {
        self.bytes.extend_from_slice(command);
        key.write(&mut self.bytes);
        self.bytes.extend_from_slice(key.flag());
    }

    fn finish(&mut self) {
        self.bytes.extend_from_slice(b" O");
        push_hex(&mut self.bytes, self.first_token + self.commands as u64);
        self.bytes.extend_from_slice(b"\r\n");
        self.commands += 1;
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.bytes
            .write_fmt(text)
            .expect("a vector takes all bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Namespace;

    #[test]
    fn commands_are_lines_with_tokens() {
        let namespace = Namespace::new("a", "b", 1);
        let long = [b'\n'; 200];
        let (key, long) = (
            ItemKey::entry(&namespace, b"k\r\n"),
            ItemKey::entry(&namespace, &long),
        );
        let item = Item {
            stamp: u64::from_le_bytes(*b"stampstp"),
            expires_at_ms: None,
            lifetime: Lifetime::ending_in(1, 0),
            value: b"val",
        };
        let mut batch = Batch::new(1, 0);
        batch.get(&key);
        batch.set(&key, Mode::Swap(9), item);
        batch.delete(&long, Some(7));
        let text = String::from_utf8(batch.bytes).unwrap();
        let expected = "mg ZWE6Yjp2MTprDQo= b v O1000\r\n\
            ms ZWE6Yjp2MTprDQo= 20 b T3 C9 O1001\r\ne\
            stampstp\0\0\0\0\0\0\0\0val\r\nmd h:";
        assert!(text.starts_with(expected), "{text:?}");
        assert!(text.ends_with(" C7 O1002\r\n"), "{text:?}");
        assert_eq!(batch.commands, 3);
    }

    #[test]
    fn lifetimes_are_never_too_short() {
        let now_ms = 1_800_000_000_000;
        let day_ms = 24 * 3_600_000;
        for (left_ms, expected) in [
            (1, 3),
            (1000, 3),
            (1001, 4),
            (30 * day_ms - 2000, 30 * 24 * 3600),
            (30 * day_ms, 1_800_000_000 + 30 * 24 * 3600 + 2),
            (20 * 365 * day_ms, 0),
            (u64::MAX, 0),
        ] {
            assert_eq!(
                Lifetime::ending_in(left_ms, now_ms).0,
                expected,
                "{left_ms}"
            );
        }
    }
}
