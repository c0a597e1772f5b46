//! Capturing registers: what is missing is created, with numbers of its own for every transmission.
//!
//! One that arrives late creates a register with numbers that nobody stamped before it was there; it can never be one that old
//! entries match.

use super::super::Memcached;
use super::super::frame::ItemKey;
use super::super::pipe::{Pipe, Reply};
use super::super::read::check_read;
use super::super::register::{register_value, stored, unexpected};
use super::super::reply::Code;
use super::super::request::{Batch, Item, Mode};
use super::keep::{Kept, Need, left_ms, lifetime};
use super::{Held, MAX_ATTEMPTS, MAX_REGISTERS, bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::store::{MIN_REGISTER_MS, Register, Stamp};
use crate::tag::Nonces;

/// A register that is being captured.
#[derive(Debug)]
struct Wanted<'a> {
    name: &'a Register,
    key: ItemKey<'a>,
    /// What must hold for it to be created; `None`: it is believed to be there.
    create: Option<Mode>,
    captured: Option<Nonces>,
}

impl Memcached {
    /// Returns the stamps of registers. Cost: one round trip; more for those that are not as this process last saw them.
    pub(in super::super) async fn capture_all(
        &self,
        namespace: &Namespace,
        key: &[u8],
        names: &[Register],
    ) -> Result<Vec<Stamp>> {
        let lane = self.lane(&ItemKey::entry(namespace, key));
        let mut wanted: Vec<_> = names
            .iter()
            .map(|name| self.wanted(namespace, name))
            .collect();
        // Whoever finds the one unchanged that all invalidations change knows so of those that he captured before it,
        // so it comes last.
        let mut order: Vec<_> = wanted.iter_mut().collect();
        order.sort_by_key(|wanted| wanted.is_any());
        for wanted in order.chunks_mut(MAX_REGISTERS) {
            self.settle_all(namespace, lane, wanted).await?;
        }
        let stamps = wanted.iter().map(|wanted| {
            let nonces = wanted.captured.ok_or_else(unexpected)?;
            Ok(nonces.stamp(wanted.name))
        });
        stamps.collect()
    }

    fn wanted<'a>(&self, namespace: &'a Namespace, name: &'a Register) -> Wanted<'a> {
        let key = ItemKey::tag_register(namespace, name);
        let is_known = |kept: Kept| kept.hard != 0;
        let create = match self.inner.known.held(key) {
            Some(kept) if is_known(kept) => None,
            // An addition to what is there costs the server the room of one more item.
            _ => Some(Mode::Add),
        };
        Wanted {
            name,
            key,
            create,
            captured: None,
        }
    }

    async fn settle_all(
        &self,
        namespace: &Namespace,
        lane: usize,
        wanted: &mut [&mut Wanted<'_>],
    ) -> Result<()> {
        let mut short = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            self.settle_round(namespace, lane, wanted, &mut short)
                .await?;
            if wanted.iter().all(|wanted| wanted.captured.is_some()) {
                self.keep(namespace, short).await;
                return Ok(());
            }
        }
        let message = "a tag's register is gone as soon as it is created";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Reads what is not captured, and creates what is known to be missing.
    async fn settle_round(
        &self,
        namespace: &Namespace,
        lane: usize,
        wanted: &mut [&mut Wanted<'_>],
        short: &mut Vec<Need>,
    ) -> Result<()> {
        let life_key = ItemKey::register(namespace);
        let life = match self.inner.registers.known(namespace) {
            Some(life) => life,
            None => self.learn(namespace).await?,
        };
        let build = |pipe: &Pipe| {
            let mut batch = pipe.batch(wanted.len() * 256);
            for wanted in wanted.iter().filter(|wanted| wanted.captured.is_none()) {
                wanted.write_to(&mut batch, life);
            }
            batch.get(&life_key);
            batch
        };
        let replies = self.inner.server.call(lane, build).await?;
        let Some((life_reply, mut replies)) = replies.split_last() else {
            return Err(unexpected());
        };
        let seen = register_value(&life_key, life_reply)?;
        if seen != Some(life) {
            self.inner.registers.note(namespace, seen);
        }
        let mut are_all_before_captured = true;
        for wanted in wanted.iter_mut().filter(|wanted| wanted.captured.is_none()) {
            let count = 1 + usize::from(wanted.create.is_some());
            let (own, others) = replies.split_at_checked(count).ok_or_else(unexpected)?;
            replies = others;
            if let Some(kept) = wanted.settle(own, seen)? {
                self.inner.known.learn_held(wanted.key, kept);
                if own
                    .last()
                    .is_some_and(|read| left_ms(read) < MIN_REGISTER_MS)
                {
                    short.push(Need {
                        name: wanted.name.clone(),
                        hard: kept.hard,
                        left_ms: MIN_REGISTER_MS,
                    });
                }
            }
            if wanted.is_any() && !are_all_before_captured {
                // The others are still to come, and it must be read after them.
                wanted.captured = None;
            }
            are_all_before_captured &= wanted.captured.is_some();
        }
        Ok(())
    }
}

impl Wanted<'_> {
    fn is_any(&self) -> bool {
        *self.name == Register::any()
    }

    fn write_to(&self, batch: &mut Batch, life: u64) {
        if let Some(mode) = self.create {
            let item = Item {
                stamp: life,
                expires_at_ms: None,
                lifetime: lifetime(MIN_REGISTER_MS),
                value: &bytes(Nonces::fresh()),
            };
            batch.set(&self.key, mode, item);
        }
        batch.look(&self.key);
    }

    /// Captures what was read, if it is there in this life of the namespace; else finds out how to create it.
    fn settle(&mut self, replies: &[Reply], life: Option<u64>) -> Result<Option<Kept>> {
        let [created @ .., read] = replies else {
            return Err(unexpected());
        };
        if let [created] = created {
            stored(created)?;
        }
        check_read(read)?;
        let held = Held::parse(&self.key, read.body.clone());
        self.captured = held.and_then(|held| held.of(life));
        self.create = match (self.captured, read.code) {
            (Some(_), _) => None,
            // Of before a clear, of another name with the same hash, or nothing of ours.
            (None, Code::Value) => Some(Mode::Swap(read.cas)),
            (None, _) => Some(Mode::Add),
        };
        Ok(self.captured.map(|nonces| Kept::seen(nonces.hard, read)))
    }
}
