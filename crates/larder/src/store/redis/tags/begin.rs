//! Loads that begin: one script captures their registers and leaves the mark.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::{captured, fresh_numbers, stamps, unexpected};
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::{Call, text};
use crate::store::redis::Inner;
use crate::store::redis::frame::Frame;
use crate::store::redis::place::Place;
use crate::store::redis::read::array;
use crate::store::redis::scripts::BEGIN_LOAD;
use crate::store::redis::spaces::fresh;
use crate::store::redis::write::ttl_ms;
use crate::store::{
    Entry, Expiry, LoadBegun, LoadRequest, MIN_REGISTER_MS, REGISTER_GRACE_MS, Register,
};
use crate::tag::Nonces;

/// The fixed part of an envelope, before its stamps.
const FIXED_BYTES: usize = 64;

impl Inner {
    pub(in crate::store::redis) async fn begin_load(
        self: &Arc<Self>,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, key);
        let mark = self.mark(load)?;
        let beginning = |known: &[Register]| Ok(self.load_call(&place, load, &mark, known));
        let mut words = array(self.on_entry(&place, beginning).await?).into_iter();
        let mut next = || words.next().ok_or_else(unexpected);
        let word = text(&next()?);
        let held = captured(&place, load.registers, &next()?, next()?)?;
        let keys = load.registers.iter().map(|name| place.tag_register(name));
        self.learn_all(&keys.collect::<Vec<_>>(), &held);
        let is_granted = word.as_deref() == Some("granted");
        if is_granted {
            self.known.learn(&place.entry, load.registers);
        }
        let entry = match word.as_deref() {
            Some("granted" | "busy") => None,
            Some("entry") => {
                let is_stale = next()? == Value::Int(1);
                match next()? {
                    Value::BulkString(frame) if !frame.is_empty() => {
                        let entry = Frame::parse(&Bytes::from(frame)).and_then(Frame::into_entry);
                        entry.map(|entry| Entry { is_stale, ..entry })
                    }
                    // A sorted set: its members are elsewhere.
                    _ => self.get_many(namespace, &[key]).await?.pop().flatten(),
                }
            }
            _ => return Err(unexpected()),
        };
        Ok(LoadBegun {
            stamps: stamps(load.registers, &held),
            is_granted,
            entry,
        })
    }

    /// Returns the fixed part of the mark's envelope; its stamps are the script's.
    fn mark(&self, load: &LoadRequest<'_>) -> Result<Bytes> {
        let nothing = Nonces { hard: 0, soft: 0 };
        let room = load.registers.iter().map(|name| nothing.stamp(name));
        let mark = envelope::load(load.token, room.collect(), self.clock.now_ms())?;
        Ok(mark.slice(..FIXED_BYTES))
    }

    fn load_call(
        &self,
        place: &Place<'_>,
        load: &LoadRequest<'_>,
        mark: &Bytes,
        known: &[Register],
    ) -> Call {
        let others = known.iter().filter(|name| !load.registers.contains(name));
        let lease_ms = ttl_ms(Expiry::After(load.lease_ms));
        let lease_ms = lease_ms.unwrap_or(load.lease_ms);
        let ends_at_ms = self.expires_at(Some(lease_ms)).unwrap_or(0);
        let kept_ms = MIN_REGISTER_MS.max(lease_ms.saturating_add(REGISTER_GRACE_MS));
        let registers = load.registers.iter().chain(others);
        let mut command = place.command(&BEGIN_LOAD, &place.members(), registers);
        command
            .arg(&fresh()[..])
            .arg(load.registers.len())
            .arg(&load.token.to_le_bytes()[..])
            .arg(lease_ms);
        command
            .arg(&ends_at_ms.to_le_bytes()[..])
            .arg(kept_ms)
            .arg(&mark[..]);
        for _ in load.registers {
            command.arg(&fresh_numbers()[..]);
        }
        place.script(&BEGIN_LOAD, command)
    }
}
