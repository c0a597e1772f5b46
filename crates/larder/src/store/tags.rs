//! What stores do for tags: registers, loads under way, and the rule of validity.
//!
//! A register belongs to a namespace and, where a store spreads keys, to the part of it that a key is in: everything about
//! an entry is in one place. What tags mean, stores do not know.

use std::fmt;

use bytes::Bytes;

use super::{Condition, Entry, Expiry, Store, Write};
use crate::envelope::{self, Stamp};
use crate::error::Result;
use crate::key::Namespace;
use crate::tag::{Nonces, Register, Verdict, judge};

/// A register that was created is kept for at least this long, so that a load can use it: 1 hour.
pub const MIN_REGISTER_MS: u64 = 3600 * 1000;
/// A register is kept so much longer than the entries that depend on it: 1 minute.
pub const REGISTER_GRACE_MS: u64 = 60 * 1000;

/// An entry that will depend on registers.
#[derive(Clone, Copy)]
pub struct StampedPut<'a> {
    /// What it depends on.
    pub registers: &'a [Register],
    /// When it expires.
    pub expiry: Expiry,
    /// Makes it from the stamps of the registers; may be called more than once.
    pub seal: &'a (dyn Fn(Vec<Stamp>) -> Result<Bytes> + Sync),
}

impl fmt::Debug for StampedPut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StampedPut")
            .field("registers", &self.registers)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

/// A load that is about to begin.
#[derive(Debug, Clone, Copy)]
pub struct LoadRequest<'a> {
    /// What the value will depend on.
    pub registers: &'a [Register],
    /// What the loader must show to store the value: random, never used before, not 0.
    pub token: u64,
    /// How long nobody else may begin a load under the same stamps, in ms.
    pub lease_ms: u64,
}

/// What the store says to a load that is about to begin.
#[derive(Debug, Clone)]
pub struct LoadBegun {
    /// The stamps of the registers, same order, captured before this was returned.
    pub stamps: Vec<Stamp>,
    /// Whether the loader may store its value, under [`Condition::IfUnchanged`] with its token.
    pub is_granted: bool,
    /// The valid entry, if there is one after all.
    pub entry: Option<Entry>,
}

/// What an invalidation does to registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// Entries that carry their stamps are gone.
    Hard,
    /// Entries that carry their stamps are stale: [`Entry::is_stale`].
    Soft,
}

/// What an invalidation came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invalidated {
    /// Which of the registers were there, anywhere; same order.
    pub had: Vec<bool>,
    /// Into how many parts the store spreads its keys.
    pub parts: usize,
    /// How many of these have not acknowledged it; an entry in one of them may still be valid.
    pub missing: usize,
}

/// Begins a load by single steps: what [`Store::begin_load`] does unless a store can do it at once.
pub(super) async fn begin_load<S: Store + ?Sized>(
    store: &S,
    namespace: &Namespace,
    key: &[u8],
    load: &LoadRequest<'_>,
) -> Result<LoadBegun> {
    let stamps = match load.registers {
        [] => Vec::new(),
        registers => store.capture(namespace, key, registers).await?,
    };
    let now_ms = store.clock().now_ms();
    let placeholder = envelope::load(load.token, stamps.clone(), now_ms)?;
    let put = Write::put(key, placeholder, Expiry::After(load.lease_ms));
    let vacant = put.when(Condition::IfVacant);
    let is_granted = store.write_many(namespace, &[vacant]).await? == [true];
    let entry = if is_granted {
        None
    } else {
        store.get_many(namespace, &[key]).await?.pop().flatten()
    };
    Ok(LoadBegun {
        stamps,
        is_granted,
        entry,
    })
}

/// Judges a stored entry by the registers as they are. Bytes that cannot be read are nobody's: they are valid here, and
/// whoever opens them finds out.
pub(crate) fn verdict(entry: &Bytes, live: impl FnMut(&Register) -> Option<Nonces>) -> Verdict {
    match envelope::stamps(entry) {
        Some(stamps) if !stamps.is_empty() => judge(&stamps, live),
        _ => Verdict::Valid,
    }
}
