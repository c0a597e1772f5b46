//! Capturing registers, and storing what depends on them as they are now.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::{captured, fresh_numbers, stamps, unexpected};
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::redis::Inner;
use crate::store::redis::frame;
use crate::store::redis::place::Place;
use crate::store::redis::read::array;
use crate::store::redis::scripts::{CAPTURE, PUT};
use crate::store::redis::spaces::fresh;
use crate::store::redis::write::{letter, ttl_ms};
use crate::store::{Expiry, MIN_REGISTER_MS, Register, Stamp, Write, conflict};
use crate::tag::Nonces;

/// How often a put begins anew because a register was invalidated or lost meanwhile.
const MAX_PUTS: usize = 64;

/// Where an entry goes, and for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::redis) struct Target<'a> {
    pub(in crate::store::redis) key: &'a [u8],
    pub(in crate::store::redis) expiry: Expiry,
}

/// What makes an entry of its stamps.
type Seal<'a> = &'a (dyn Fn(Vec<Stamp>) -> Result<Bytes> + Sync);

impl Inner {
    pub(in crate::store::redis) async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        names: &[Register],
    ) -> Result<Vec<Stamp>> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, key);
        let keys: Vec<_> = names.iter().map(|name| place.tag_register(name)).collect();
        let mut all: Vec<&[u8]> = vec![&place.register.name];
        all.extend(keys.iter().map(Vec::as_slice));
        let mut command = CAPTURE.command(&all);
        command.arg(&fresh()[..]).arg(MIN_REGISTER_MS);
        for _ in names {
            command.arg(&fresh_numbers()[..]);
        }
        self.pass();
        let reply = self.link.one(&place.script(&CAPTURE, command)).await?;
        let Ok([life, values]) = <[Value; 2]>::try_from(array(reply)) else {
            return Err(unexpected());
        };
        let held = captured(&place, names, &life, values)?;
        self.learn_all(&keys, &held);
        Ok(stamps(names, &held))
    }

    /// Stores an entry under registers as they are: one round trip if their numbers are known, or if they are not there
    /// yet. Numbers that are not known are made up: they become those of a register that is missing.
    pub(in crate::store::redis) async fn put_stamped(
        self: &Arc<Self>,
        namespace: &Namespace,
        to: Target<'_>,
        names: &[Register],
        seal: Seal<'_>,
    ) -> Result<()> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, to.key);
        let keys: Vec<_> = names.iter().map(|name| place.tag_register(name)).collect();
        let mut held: Vec<Option<Nonces>> = keys.iter().map(|key| self.known.held(key)).collect();
        for _ in 0..MAX_PUTS {
            let fresh: Vec<_> = names.iter().map(|_| fresh_numbers()).collect();
            let guess = held.iter().zip(&fresh);
            let guess: Vec<_> = guess
                .map(|(held, fresh)| held.map_or(*fresh, bytes))
                .collect();
            let nonces = guess.iter().filter_map(|bytes| super::numbers(bytes));
            let entry = seal(stamps(names, &nonces.collect::<Vec<_>>()))?;
            if names.is_empty() || to.expiry == Expiry::Keep || envelope::is_sorted_set(&entry) {
                return Box::pin(self.put_in_steps(namespace, to, names, seal)).await;
            }
            let call = self.put_call(&place, names, &entry, (&guess, &fresh, to.expiry));
            self.pass();
            let reply = self.link.one(&call).await?;
            let Ok([stored, life, values]) = <[Value; 3]>::try_from(array(reply)) else {
                return Err(unexpected());
            };
            let now = captured(&place, names, &life, values)?;
            self.learn_all(&keys, &now);
            if stored == Value::Int(1) {
                self.known.learn(&place.entry, names);
                return Ok(());
            }
            held = now.into_iter().map(Some).collect();
        }
        Err(conflict("redis", to.key))
    }

    /// Captures and writes, for what the script does not do.
    async fn put_in_steps(
        self: &Arc<Self>,
        namespace: &Namespace,
        to: Target<'_>,
        names: &[Register],
        seal: Seal<'_>,
    ) -> Result<()> {
        let stamps = match names {
            [] => Vec::new(),
            names => self.capture(namespace, to.key, names).await?,
        };
        let put = Write::put(to.key, seal(stamps)?, to.expiry);
        self.write_many(namespace, &[put]).await.map(drop)
    }

    fn put_call(
        &self,
        place: &Place<'_>,
        names: &[Register],
        entry: &Bytes,
        (guess, fresh_numbers, expiry): (&[[u8; 16]], &[[u8; 16]], Expiry),
    ) -> Call {
        let ttl_ms = ttl_ms(expiry);
        let mut command = place.command(&PUT, &place.members(), names);
        command
            .arg(&fresh()[..])
            .arg(guess.concat())
            .arg(letter(expiry))
            .arg(ttl_ms.unwrap_or(0));
        command
            .arg(&self.expires_at(ttl_ms).unwrap_or(0).to_le_bytes()[..])
            .arg(&[frame::letter(entry)][..])
            .arg(&envelope::write_id(entry).to_le_bytes()[..])
            .arg(&entry[..])
            .arg(MIN_REGISTER_MS);
        for numbers in fresh_numbers {
            command.arg(&numbers[..]);
        }
        place.script(&PUT, command)
    }

    pub(super) fn learn_all(&self, keys: &[Vec<u8>], held: &[Nonces]) {
        for (key, nonces) in keys.iter().zip(held) {
            self.known.learn_held(key, *nonces);
        }
    }
}

fn bytes(nonces: Nonces) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonces.hard.to_le_bytes());
    bytes[8..].copy_from_slice(&nonces.soft.to_le_bytes());
    bytes
}
