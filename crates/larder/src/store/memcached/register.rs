//! Registers: one random number per namespace, which every entry repeats as its stamp.
//!
//! `clear` deletes the register, and with it the validity of all entries: O(1). A number is random for every single
//! transmission, so one that arrives late or twice can create a register, but never one that old entries match. The
//! number known to this process is a hint: every write compares it with the register in the same round trip.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::Memcached;
use super::frame::{Frame, ItemKey};
use super::pipe::{Pipe, Reply};
use super::read::check_read;
use super::reply::Code;
use super::request::{Item, Lifetime, Mode};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;

/// Namespaces remembered at a time; beyond, all are forgotten and learnt again.
const MAX_KNOWN: usize = 4096;
/// Somebody would have to clear the namespace or evict its register between every two round trips.
const MAX_ATTEMPTS: usize = 100;

/// What this process knows of registers.
#[derive(Debug, Default)]
pub(super) struct Registers(RwLock<HashMap<Namespace, u64>>);

impl Registers {
    pub(super) fn known(&self, namespace: &Namespace) -> Option<u64> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(namespace).copied()
    }

    pub(super) fn note(&self, namespace: &Namespace, value: Option<u64>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(value) = value else {
            known.remove(namespace);
            return;
        };
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(namespace.clone(), value);
    }
}

/// Returns the value of a register, as a read of it found it; `None`: there is none, so that nothing counts.
pub(super) fn register_value(key: &ItemKey<'_>, reply: &Reply) -> Result<Option<u64>> {
    check_read(reply)?;
    Ok(Frame::stamp(key, &reply.body))
}

impl Memcached {
    /// Returns the register's value, and creates it where there is none. Cost: one round trip.
    pub(super) async fn learn(&self, namespace: &Namespace) -> Result<u64> {
        let key = ItemKey::register(namespace);
        let server = &self.inner.server;
        let lane = self.lane(&key);
        for _ in 0..MAX_ATTEMPTS {
            let register = Item {
                stamp: fastrand::u64(1..),
                expires_at_ms: None,
                lifetime: Lifetime::ENDLESS,
                value: b"",
            };
            let create = |pipe: &Pipe| {
                let mut batch = pipe.batch(128);
                batch.set(&key, Mode::Add, register);
                batch.get_with_version(&key);
                batch
            };
            let replies = server.call(lane, create).await?;
            let [created, read] = &replies[..] else {
                return Err(unexpected());
            };
            stored(created)?;
            if let Some(value) = register_value(&key, read)? {
                self.inner.registers.note(namespace, Some(value));
                return Ok(value);
            }
            if read.code == Code::Value {
                // What stands under our name is not ours.
                let version = read.cas;
                let remove = |pipe: &Pipe| {
                    let mut batch = pipe.batch(0);
                    batch.delete(&key, Some(version));
                    batch
                };
                server.call(lane, remove).await?;
            }
        }
        let message = "the namespace's register is gone as soon as it is created";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Deletes the register: every entry of the namespace is absent. Cost: one round trip.
    pub(super) async fn delete_register(&self, namespace: &Namespace) -> Result<()> {
        let key = ItemKey::register(namespace);
        self.inner.registers.note(namespace, None);
        let replies = self.inner.server.call(self.lane(&key), |pipe| {
            let mut batch = pipe.batch(0);
            batch.delete(&key, None);
            batch
        });
        match replies.await?[..] {
            [ref reply] if matches!(reply.code, Code::Done | Code::NotFound) => Ok(()),
            _ => Err(unexpected()),
        }
    }
}

/// Returns whether a set was applied.
///
/// # Errors
/// `TooLarge`, and `Unavailable` where the server has no memory and may not evict.
pub(super) fn stored(reply: &Reply) -> Result<bool> {
    match reply.code {
        Code::Done => Ok(true),
        Code::NotStored | Code::Exists | Code::NotFound => Ok(false),
        Code::TooLarge => Err(Error::new(
            ErrorKind::TooLarge,
            "the server refuses items of this size",
        )),
        Code::OutOfMemory => Err(Error::new(
            ErrorKind::Unavailable,
            "the server is out of memory and may not evict",
        )
        // It is no outage: reads go on, and a fallback would take them away.
        .retryable(false)),
        _ => Err(unexpected()),
    }
}

/// The error for a reply with the right token and a code that its command never has.
pub(super) fn unexpected() -> Error {
    Error::new(ErrorKind::Unavailable, "the server's reply makes no sense")
}
