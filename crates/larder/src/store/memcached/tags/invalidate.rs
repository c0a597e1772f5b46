//! Invalidation: registers go, or change their soft number. It costs the same however many entries depend on them.

use super::super::Memcached;
use super::super::frame::ItemKey;
use super::super::pipe::{Pipe, Reply};
use super::super::read::check_read;
use super::super::register::{register_value, stored, unexpected};
use super::super::reply::Code;
use super::super::request::{Item, Lifetime, Mode};
use super::keep::Kept;
use super::{Held, MAX_REGISTERS, bytes};
use crate::clock::Clock;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Invalidated, Invalidation, MAX_CAS_ATTEMPTS, Register, conflict};
use crate::tag::{Nonces, nonce};

/// A register of the present life of the namespace that is to be changed.
#[derive(Debug)]
struct Target<'a> {
    at: usize,
    key: ItemKey<'a>,
    held: Held,
    version: u64,
    lifetime: Lifetime,
}

impl Memcached {
    /// Cost: one round trip; a soft one takes two, more while others change the same registers.
    pub(in super::super) async fn invalidate_all(
        &self,
        namespace: &Namespace,
        names: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let keys = names
            .iter()
            .map(|name| ItemKey::tag_register(namespace, name));
        let keys: Vec<_> = keys.collect();
        let mut had = Vec::with_capacity(names.len());
        if keys.is_empty() {
            self.remove(namespace, &[]).await?;
        }
        for keys in keys.chunks(MAX_REGISTERS) {
            had.extend(match how {
                Invalidation::Hard => self.remove(namespace, keys).await?,
                Invalidation::Soft => self.soften(namespace, keys).await?,
            });
        }
        Ok(Invalidated {
            had,
            parts: 1,
            missing: 0,
        })
    }

    /// Removes registers; returns which were there.
    async fn remove(&self, namespace: &Namespace, keys: &[ItemKey<'_>]) -> Result<Vec<bool>> {
        let (any, life) = (Register::any(), ItemKey::register(namespace));
        let any = ItemKey::tag_register(namespace, &any);
        self.forget(&any);
        keys.iter().for_each(|key| self.forget(key));
        let build = |pipe: &Pipe| {
            let mut batch = pipe.batch(keys.len() * 128);
            // First: a load that begins from here on sees the row that was changed before.
            batch.delete(&any, None);
            for key in keys {
                batch.get(key);
                batch.delete(key, None);
            }
            batch.get(&life);
            batch
        };
        let replies = self.inner.server.call(self.lane(&any), build).await?;
        let [any, of_keys @ .., life_reply] = &replies[..] else {
            return Err(unexpected());
        };
        was_removed(any)?;
        let life = register_value(&life, life_reply)?;
        let (pairs, rest) = of_keys.as_chunks::<2>();
        if pairs.len() != keys.len() || !rest.is_empty() {
            return Err(unexpected());
        }
        let had = keys.iter().zip(pairs).map(|(key, [read, removed])| {
            check_read(read)?;
            let held = Held::parse(key, read.body.clone());
            // What was removed though there was nothing to read was created in between.
            let counts = read.code == Code::Missing || held.is_some_and(|h| h.of(life).is_some());
            Ok(was_removed(removed)? && counts)
        });
        had.collect()
    }

    /// Changes the soft number of registers; returns which were there.
    async fn soften(&self, namespace: &Namespace, keys: &[ItemKey<'_>]) -> Result<Vec<bool>> {
        let any = Register::any();
        let any = ItemKey::tag_register(namespace, &any);
        self.forget(&any);
        let mut had = vec![false; keys.len()];
        let mut open: Vec<_> = (0..keys.len()).collect();
        for _ in 0..MAX_CAS_ATTEMPTS {
            let targets = self.targets(namespace, &any, keys, &open).await?;
            if targets.is_empty() {
                return Ok(had);
            }
            open = self.change_soft(&targets).await?;
            for target in targets {
                had[target.at] |= !open.contains(&target.at);
            }
            if open.is_empty() {
                return Ok(had);
            }
            tokio::task::yield_now().await;
        }
        Err(conflict("memcached", b""))
    }

    /// Removes what every invalidation changes, and reads registers.
    async fn targets<'a>(
        &self,
        namespace: &Namespace,
        any: &ItemKey<'_>,
        keys: &[ItemKey<'a>],
        open: &[usize],
    ) -> Result<Vec<Target<'a>>> {
        let life = ItemKey::register(namespace);
        let build = |pipe: &Pipe| {
            let mut batch = pipe.batch(open.len() * 64);
            batch.delete(any, None);
            for at in open {
                batch.look(&keys[*at]);
            }
            batch.get(&life);
            batch
        };
        let replies = self.inner.server.call(self.lane(any), build).await?;
        let [any, reads @ .., life_reply] = &replies[..] else {
            return Err(unexpected());
        };
        was_removed(any)?;
        let life = register_value(&life, life_reply)?;
        let now_ms = Clock::system().now_ms();
        let mut targets = Vec::new();
        for (at, read) in open.iter().zip(reads) {
            check_read(read)?;
            let held = Held::parse(&keys[*at], read.body.clone());
            let Some(held) = held.filter(|held| held.of(life).is_some()) else {
                continue;
            };
            let left = read.ttl_s.map(|seconds| seconds.saturating_mul(1000));
            targets.push(Target {
                at: *at,
                key: keys[*at],
                held,
                version: read.cas,
                lifetime: left.map_or(Lifetime::ENDLESS, |ms| Lifetime::ending_in(ms, now_ms)),
            });
        }
        Ok(targets)
    }

    /// Gives registers new soft numbers, unless they changed since; returns which did.
    async fn change_soft(&self, targets: &[Target<'_>]) -> Result<Vec<usize>> {
        let [first, ..] = targets else {
            return Ok(Vec::new());
        };
        let build = |pipe: &Pipe| {
            let mut batch = pipe.batch(targets.len() * 256);
            for target in targets {
                let softened = Nonces {
                    soft: nonce(),
                    ..target.held.nonces
                };
                let item = Item {
                    stamp: target.held.life,
                    expires_at_ms: None,
                    lifetime: target.lifetime,
                    value: &bytes(softened),
                };
                batch.set(&target.key, Mode::Swap(target.version), item);
            }
            batch
        };
        let replies = self.inner.server.call(self.lane(&first.key), build).await?;
        if replies.len() != targets.len() {
            return Err(unexpected());
        }
        let mut changed = Vec::new();
        for (target, reply) in targets.iter().zip(&replies) {
            if !stored(reply)? {
                changed.push(target.at);
            }
        }
        Ok(changed)
    }

    fn forget(&self, key: &ItemKey<'_>) {
        self.inner.known.learn_held(key, Kept::NOTHING);
    }
}

/// Returns whether a removal removed something.
fn was_removed(reply: &Reply) -> Result<bool> {
    match reply.code {
        Code::Done => Ok(true),
        Code::NotFound => Ok(false),
        _ => Err(unexpected()),
    }
}
