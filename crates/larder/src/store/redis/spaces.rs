//! What this process remembers of namespaces: the names of their registers and journals, and the stamps it saw last.
//!
//! A remembered stamp is a guess. A write carries it and reads the register behind itself; if they differ, the
//! namespace was cleared meanwhile, and the write is repeated with the register's own value.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

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
    journals: Box<[Vec<u8>]>,
}

/// The register of a namespace in one bucket.
#[derive(Debug)]
pub(super) struct Register {
    /// Its key.
    pub(super) name: Vec<u8>,
    /// Its value when last seen; 0: unknown.
    stamp: AtomicU64,
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
        let journals = buckets.all().iter();
        let space = Arc::new(Space {
            registers: registers.collect(),
            journals: journals
                .map(|bucket| keys::journal(bucket, namespace))
                .collect(),
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

    /// Returns the key of the journal of a bucket.
    pub(super) fn journal(&self, bucket: usize) -> &[u8] {
        &self.journals[bucket]
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
