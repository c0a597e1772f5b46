//! Tags: each register is an item of its own, beside the entries that depend on it.
//!
//! ```text
//! read       = mg entry + mg of the registers it is believed to have    judge by Rule A; those not believed: one mg more
//! capture    = (ms ME +) mg of each + mg register of the namespace      missing or of before a clear: once more
//! invalidate = md of the one that all invalidations change, then (mg +) md of each
//! ```
//! A register that was made under another register of the namespace is none: what somebody computed before a `clear` stays
//! invalid when it is stored after it. The same protects from a server that was restarted and counts its versions from
//! the start: what a late swap puts into it is of another life.
//!
//! Commands of several connections mix. That does no harm, since numbers never come back: a register that has the stamped
//! number has had it ever since the stamp was taken, so it does not matter which of an entry and its registers was
//! read first.

mod capture;
mod invalidate;
mod keep;

use std::collections::HashMap;

use bytes::Bytes;

pub(super) use self::keep::{Kept, needs};

use super::Memcached;
use super::frame::{Frame, ItemKey};
use super::pipe::{Pipe, Reply};
use super::read::check_read;
use super::register::unexpected;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Register, verdict};
use crate::tag::{Nonces, Verdict};

/// Registers read or changed in one round trip; more take several.
pub(super) const MAX_REGISTERS: usize = 1024;
/// Somebody would have to replace the register, or evict it, between every two round trips.
const MAX_ATTEMPTS: usize = 100;

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    nonces: Nonces,
    /// The register of the namespace when this one was made.
    life: u64,
}

impl Held {
    /// Reads a register; `None`: there is none, or nothing of ours.
    fn parse(key: &ItemKey<'_>, item: Bytes) -> Option<Self> {
        let frame = Frame::parse(key, item)?;
        let (hard, soft) = frame.value.split_first_chunk::<8>()?;
        Some(Self {
            nonces: Nonces {
                hard: u64::from_le_bytes(*hard),
                soft: u64::from_le_bytes(soft.try_into().ok()?),
            },
            life: frame.stamp,
        })
    }

    /// Returns the numbers, if they were made in this life of the namespace.
    fn of(self, life: Option<u64>) -> Option<Nonces> {
        (life == Some(self.life)).then_some(self.nonces)
    }
}

/// Returns numbers as they are stored.
fn bytes(nonces: Nonces) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonces.hard.to_le_bytes());
    bytes[8..].copy_from_slice(&nonces.soft.to_le_bytes());
    bytes
}

/// What was read of registers; `None`: there is none.
#[derive(Debug, Default)]
pub(super) struct Fetched(HashMap<Register, Option<Held>>);

/// What registers say of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weighed {
    Valid,
    Stale,
    Invalid,
    /// It depends on these, and not all of them were read.
    Open(Vec<Register>),
}

impl Fetched {
    /// Takes the replies to reads of registers.
    pub(super) fn take<'a>(
        &mut self,
        namespace: &Namespace,
        names: impl IntoIterator<Item = &'a Register>,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Result<()> {
        let mut replies = replies.into_iter();
        for name in names {
            let reply = replies.next().ok_or_else(unexpected)?;
            check_read(&reply)?;
            let held = Held::parse(&ItemKey::tag_register(namespace, name), reply.body);
            self.0.insert(name.clone(), held);
        }
        Ok(())
    }

    /// Judges an entry of this life of the namespace.
    pub(super) fn weigh(&self, entry: &Bytes, life: Option<u64>) -> Weighed {
        if !envelope::has_stamps(entry) {
            return Weighed::Valid;
        }
        let names = envelope::registers(entry);
        if names.iter().any(|name| !self.has(name)) {
            return Weighed::Open(names);
        }
        let live = |name: &Register| self.0.get(name).copied().flatten()?.of(life);
        match verdict(entry, live) {
            Verdict::Valid => Weighed::Valid,
            Verdict::Stale => Weighed::Stale,
            Verdict::Invalid => Weighed::Invalid,
        }
    }

    /// Returns whether nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a register was read.
    pub(super) fn has(&self, name: &Register) -> bool {
        self.0.contains_key(name)
    }
}

impl Memcached {
    /// Reads registers into what was read before. Cost: one round trip for each [`MAX_REGISTERS`].
    pub(super) async fn fetch(
        &self,
        namespace: &Namespace,
        lane: usize,
        names: &[Register],
        fetched: &mut Fetched,
    ) -> Result<()> {
        for names in names.chunks(MAX_REGISTERS) {
            let read = |pipe: &Pipe| {
                let mut batch = pipe.batch(names.len() * 64);
                for name in names {
                    batch.get(&ItemKey::tag_register(namespace, name));
                }
                batch
            };
            let replies = self.inner.server.call(lane, read).await?;
            fetched.take(namespace, names, replies)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{sealed, stamped};

    fn item(key: &ItemKey<'_>, life: u64, nonces: Nonces) -> Bytes {
        let mut out = Vec::new();
        Frame::write_head(key, life, None, &mut out);
        out.extend_from_slice(&bytes(nonces));
        out.into()
    }

    fn value(body: Bytes) -> Reply {
        Reply {
            code: super::super::reply::Code::Value,
            cas: 1,
            ttl_s: None,
            body,
        }
    }

    #[test]
    fn registers_come_back_and_are_told_from_junk() {
        let namespace = Namespace::new("app", "cache", 1);
        for len in [1, 100, 200] {
            let name = Register::exact(&"\n".repeat(len)).unwrap();
            let key = ItemKey::tag_register(&namespace, &name);
            let nonces = Nonces::fresh();
            let item = item(&key, 7, nonces);
            let held = Held::parse(&key, item.clone()).unwrap();
            assert_eq!((held.of(Some(7)), held.of(Some(8))), (Some(nonces), None));
            assert_eq!(held.of(None), None);
            for cut in 0..item.len() {
                assert_eq!(Held::parse(&key, item.slice(..cut)), None, "{cut}");
            }
            let longer = [&item[..], b"\0"].concat();
            assert_eq!(Held::parse(&key, longer.into()), None);
            let entry = ItemKey::entry(&namespace, name.as_bytes());
            assert_eq!(Held::parse(&entry, item), None, "another kind");
        }
    }

    /// Both names are under the same hash, as far as the reader can tell: the item is there, and is the other one's.
    #[test]
    fn a_register_of_another_name_validates_nothing() {
        let namespace = Namespace::new("app", "cache", 1);
        let name = |letter: &str| Register::exact(&letter.repeat(200)).unwrap();
        let (ours, theirs) = (name("a"), name("b"));
        let nonces = Nonces::fresh();
        let entry = stamped(&sealed(b"v"), vec![nonces.stamp(&ours)]);
        for (holder, expected) in [(&ours, Weighed::Valid), (&theirs, Weighed::Invalid)] {
            let item = item(&ItemKey::tag_register(&namespace, holder), 7, nonces);
            let mut fetched = Fetched::default();
            assert_eq!(
                fetched.weigh(&entry, Some(7)),
                Weighed::Open(vec![ours.clone()])
            );
            fetched.take(&namespace, [&ours], [value(item)]).unwrap();
            assert_eq!(fetched.weigh(&entry, Some(7)), expected);
            assert_eq!(fetched.weigh(&entry, Some(8)), Weighed::Invalid, "cleared");
        }
    }
}
