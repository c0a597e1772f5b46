//! How long registers are kept: longer than what depends on them, and never shortened.
//!
//! A register is stored again, as it is, with a later end, if it is still the one that was read. `mg .. T` would take one
//! command, and shorten what somebody else prolonged in between. It gets half as long again as is needed, so that not
//! every write has to.

use bytes::Bytes;

use super::super::Memcached;
use super::super::frame::ItemKey;
use super::super::pipe::{Pipe, Reply, now_ms};
use super::super::read::check_read;
use super::super::register::{stored, unexpected};
use super::super::reply::Code;
use super::super::request::{CLOCK_ERROR_S, Item, Lifetime, Mode};
use super::{Held, MAX_ATTEMPTS, MAX_REGISTERS, bytes};
use crate::clock::Clock;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{MIN_REGISTER_MS, REGISTER_GRACE_MS, Register};

/// What was last seen of a register.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Kept {
    /// Its number; 0: there was none.
    pub(super) hard: u64,
    /// Until when it is kept at least, by the monotonic clock.
    pub(super) until_ms: u64,
}

impl Kept {
    pub(super) const NOTHING: Self = Self {
        hard: 0,
        until_ms: 0,
    };

    /// Reads off how long a register is kept.
    pub(super) fn seen(hard: u64, reply: &Reply) -> Self {
        Self {
            hard,
            until_ms: now_ms().saturating_add(left_ms(reply)),
        }
    }
}

/// A register that something depends on.
#[derive(Debug, Clone)]
pub(in super::super) struct Need {
    pub(super) name: Register,
    /// The number that was stamped; no other one is needed.
    pub(super) hard: u64,
    /// For how long; `u64::MAX`: for good.
    pub(super) left_ms: u64,
}

/// Returns what an entry needs that is stored until then; `None`: for good.
pub(in super::super) fn needs(entry: &Bytes, expires_at_ms: Option<u64>, now_ms: u64) -> Vec<Need> {
    let left_ms = expires_at_ms.map_or(u64::MAX, |at| {
        at.saturating_sub(now_ms).saturating_add(REGISTER_GRACE_MS)
    });
    let stamps = envelope::stamps(entry).unwrap_or_default().into_iter();
    let stamps = stamps.filter(|stamp| stamp.is_of_register());
    let need = stamps.map(|stamp| Need {
        name: Register::new(stamp.kind, &stamp.name),
        hard: stamp.hard,
        left_ms,
    });
    need.collect()
}

/// Returns the lifetime of a register that is needed for so long.
pub(super) fn lifetime(needed_ms: u64) -> Lifetime {
    if needed_ms == u64::MAX {
        return Lifetime::ENDLESS;
    }
    let needed_ms = needed_ms.max(MIN_REGISTER_MS);
    Lifetime::ending_in(
        needed_ms.saturating_add(needed_ms / 2),
        Clock::system().now_ms(),
    )
}

/// The least that is left of an item; the server tells whole seconds by its inexact clock.
pub(super) fn left_ms(reply: &Reply) -> u64 {
    reply.ttl_s.map_or(u64::MAX, |seconds| {
        seconds.saturating_sub(CLOCK_ERROR_S) * 1000
    })
}

impl Memcached {
    /// Keeps registers for as long as they are needed. Cost: none, if this process knows that they are; else one round
    /// trip, or two.
    ///
    /// That it fails is no error of the write that needed them: the entry is stored, and may end early.
    pub(in super::super) async fn keep(&self, namespace: &Namespace, mut needs: Vec<Need>) {
        let now_ms = now_ms();
        needs.retain(|need| {
            let known = self.inner.known.held(key(namespace, need));
            let is_kept = |kept: Kept| {
                kept.hard == need.hard && kept.until_ms >= now_ms.saturating_add(need.left_ms)
            };
            !known.is_some_and(is_kept)
        });
        // The longest need first, so that the others find it met.
        needs.sort_by(|a, b| (&a.name, b.left_ms).cmp(&(&b.name, a.left_ms)));
        needs.dedup_by(|next, first| next.name == first.name && next.hard == first.hard);
        for needs in needs.chunks(MAX_REGISTERS) {
            if let Err(error) = self.prolong(namespace, needs.to_vec()).await {
                tracing::debug!(%error, "what depends on a tag may end early");
            }
        }
    }

    async fn prolong(&self, namespace: &Namespace, mut needs: Vec<Need>) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.look(namespace, &needs).await?;
            let short: Vec<_> = needs
                .into_iter()
                .zip(found)
                .filter_map(|(need, (held, reply))| self.is_short(namespace, need, held?, &reply))
                .collect();
            if short.is_empty() {
                return Ok(());
            }
            needs = self.store_longer(namespace, short).await?;
        }
        Ok(())
    }

    /// Reads registers with their versions and how long they are kept.
    async fn look(
        &self,
        namespace: &Namespace,
        needs: &[Need],
    ) -> Result<Vec<(Option<Held>, Reply)>> {
        let [first, ..] = needs else {
            return Ok(Vec::new());
        };
        let lane = self.lane(&key(namespace, first));
        let look = |pipe: &Pipe| {
            let mut batch = pipe.batch(needs.len() * 64);
            for need in needs {
                batch.look(&key(namespace, need));
            }
            batch
        };
        let replies = self.inner.server.call(lane, look).await?;
        let read = needs.iter().zip(replies).map(|(need, reply)| {
            check_read(&reply)?;
            let held = Held::parse(&key(namespace, need), reply.body.clone());
            Ok((held, reply))
        });
        read.collect()
    }

    /// Returns what ends too early; another number is not needed.
    fn is_short(
        &self,
        namespace: &Namespace,
        need: Need,
        held: Held,
        reply: &Reply,
    ) -> Option<(Need, Held, u64)> {
        if held.nonces.hard != need.hard {
            return None;
        }
        let kept = Kept::seen(need.hard, reply);
        self.inner.known.learn_held(key(namespace, &need), kept);
        (left_ms(reply) < need.left_ms).then_some((need, held, reply.cas))
    }

    /// Stores registers with a later end; returns those that changed meanwhile.
    async fn store_longer(
        &self,
        namespace: &Namespace,
        short: Vec<(Need, Held, u64)>,
    ) -> Result<Vec<Need>> {
        let Some((first, ..)) = short.first() else {
            return Ok(Vec::new());
        };
        let lane = self.lane(&key(namespace, first));
        let store = |pipe: &Pipe| {
            let mut batch = pipe.batch(short.len() * 256);
            for (need, held, version) in &short {
                let item = Item {
                    stamp: held.life,
                    expires_at_ms: None,
                    lifetime: lifetime(need.left_ms),
                    value: &bytes(held.nonces),
                };
                batch.set(&key(namespace, need), Mode::Swap(*version), item);
            }
            batch
        };
        let replies = self.inner.server.call(lane, store).await?;
        if replies.len() != short.len() {
            return Err(unexpected());
        }
        let mut changed = Vec::new();
        for ((need, ..), reply) in short.into_iter().zip(replies) {
            if stored(&reply)? {
                let kept = Kept {
                    hard: need.hard,
                    until_ms: now_ms().saturating_add(need.left_ms),
                };
                self.inner.known.learn_held(key(namespace, &need), kept);
            } else if reply.code != Code::NotFound {
                changed.push(need);
            }
        }
        Ok(changed)
    }
}

fn key<'a>(namespace: &'a Namespace, need: &'a Need) -> ItemKey<'a> {
    ItemKey::tag_register(namespace, &need.name)
}
