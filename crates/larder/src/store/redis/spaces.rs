//! What this process remembers of namespaces: the names of their registers and journals, the stamps it saw last, and
//! whether anybody follows.
//!
//! A remembered stamp is a guess. A write carries it and reads the register behind itself; if they differ, the
//! namespace was cleared meanwhile, and the write is repeated with the register's own value. That somebody follows a journal
//! is a guess of the same kind, see `notes`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use redis::{Cmd, Value};
use rustls::crypto::SecureRandom;

use super::frame::Stamp;
use super::keys::{self, Buckets};
use crate::key::Namespace;

/// The most namespaces remembered; then all are forgotten.
const MAX_SPACES: usize = 10_000;

/// The namespaces that this process used.
#[derive(Debug, Default)]
pub(super) struct Spaces(RwLock<HashMap<Namespace, Arc<Space>>>);

/// One namespace.
#[derive(Debug)]
pub(super) struct Space {
    registers: Box<[Register]>,
    journals: Box<[Journal]>,
}

/// The register of a namespace in one bucket.
#[derive(Debug)]
pub(super) struct Register {
    /// Its key.
    pub(super) name: Vec<u8>,
    /// Its value when last seen; 0: unknown.
    stamp: AtomicU64,
}

/// The journal of a namespace in one bucket.
#[derive(Debug)]
pub(super) struct Journal {
    /// Its key.
    pub(super) name: Vec<u8>,
    /// The key that is there while somebody follows it.
    pub(super) followed: Vec<u8>,
    /// Whether that key was there when last seen.
    is_followed: AtomicBool,
}

/// What a put finds behind itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// The register of the namespace.
    pub(super) stamp: Option<Stamp>,
    /// Whether somebody follows the journal.
    pub(super) is_followed: bool,
}

impl Spaces {
    /// Returns what is remembered of a namespace.
    pub(super) fn of(&self, namespace: &Namespace, buckets: &Buckets) -> Arc<Space> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(space) = known.get(namespace) {
            return Arc::clone(space);
        }
        drop(known);
        let registers = buckets.all().iter().map(|bucket| Register {
            name: keys::register(bucket, namespace),
            stamp: AtomicU64::new(0),
        });
        let journals = buckets.all().iter().map(|bucket| Journal {
            name: keys::journal(bucket, namespace),
            followed: keys::followed(bucket, namespace),
            is_followed: AtomicBool::new(false),
        });
        let space = Arc::new(Space {
            registers: registers.collect(),
            journals: journals.collect(),
        });
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SPACES {
            known.clear();
        }
        Arc::clone(known.entry(namespace.clone()).or_insert(space))
    }
}

impl Space {
    /// Returns the register of a bucket.
    pub(super) fn register(&self, bucket: usize) -> &Register {
        &self.registers[bucket]
    }

    /// Returns the journal of a bucket.
    pub(super) fn journal(&self, bucket: usize) -> &Journal {
        &self.journals[bucket]
    }

    /// Returns the command by which a put looks behind itself.
    pub(super) fn look(&self, bucket: usize) -> Cmd {
        let (register, followed) = (
            &self.registers[bucket].name,
            &self.journals[bucket].followed,
        );
        let mut look = Cmd::with_capacity(3, register.len() + followed.len() + 4);
        look.arg("MGET").arg(register).arg(followed);
        look
    }

    /// Takes the reply to a look apart, and remembers whether anybody follows.
    pub(super) fn seen(&self, bucket: usize, reply: &Value) -> Look {
        let values = match reply {
            Value::Array(values) => values.as_slice(),
            _ => &[],
        };
        let look = Look {
            stamp: values.first().and_then(stamp),
            is_followed: is_followed(reply),
        };
        self.journals[bucket].believe(look.is_followed);
        look
    }

    /// Forgets all stamps.
    pub(super) fn forget(&self) {
        for register in &self.registers {
            register.stamp.store(0, Ordering::Relaxed);
        }
    }
}

impl Register {
    /// Returns the stamp seen last.
    pub(super) fn guess(&self) -> Option<Stamp> {
        match self.stamp.load(Ordering::Relaxed) {
            0 => None,
            stamp => Some(stamp.to_le_bytes()),
        }
    }

    /// Remembers a stamp.
    pub(super) fn learn(&self, stamp: Stamp) {
        self.stamp
            .store(u64::from_le_bytes(stamp), Ordering::Relaxed);
    }
}

impl Journal {
    /// Returns whether somebody was following when last seen.
    pub(super) fn is_followed(&self) -> bool {
        self.is_followed.load(Ordering::Relaxed)
    }

    /// Remembers whether somebody follows.
    pub(super) fn believe(&self, is_followed: bool) {
        self.is_followed.store(is_followed, Ordering::Relaxed);
    }
}

/// Returns whether somebody follows by the reply to a look; a reply that does not tell may hide him.
pub(super) fn is_followed(look: &Value) -> bool {
    !matches!(look, Value::Array(values) if matches!(values[..], [_, Value::Nil]))
}

/// Returns the stamp that a register holds.
pub(super) fn stamp(reply: &Value) -> Option<Stamp> {
    match reply {
        Value::BulkString(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

/// Returns a value for a register that no other register ever had.
///
/// It comes from the system: a process that was forked, or started again from a snapshot of its memory, would repeat
/// its own numbers, and revive with them what was cleared.
pub(super) fn fresh() -> Stamp {
    static SYSTEM: LazyLock<&dyn SecureRandom> =
        LazyLock::new(|| rustls::crypto::ring::default_provider().secure_random);
    let mut stamp = Stamp::default();
    match SYSTEM.fill(&mut stamp) {
        Ok(()) if stamp != Stamp::default() => stamp,
        _ => crate::tag::nonce().to_le_bytes(),
    }
}
