//! For people who ask why a read found nothing: what is under a key, valid or not, and what its registers say now.

use bytes::Bytes;

use super::Store;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::tag::{Nonces, Register, RegisterState, standing};

/// What a store keeps under a key, whether it may be used or not; see [`Store::examine`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examined {
    /// The bytes as they are kept: an entry, the mark of a load, or what cannot be read.
    pub value: Bytes,
    /// When it expires, as in [`Entry::expires_at_ms`](super::Entry::expires_at_ms); it may have done so.
    pub expires_at_ms: Option<u64>,
    /// Whether the namespace was cleared since it was written. Most stores find nothing then.
    pub is_cleared: bool,
    /// One for each register that it carries a stamp of, in the order of the stamps.
    pub registers: Vec<ExaminedRegister>,
}

/// A register that an entry depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExaminedRegister {
    /// Its name.
    pub register: Register,
    /// How it compares with the stamp.
    pub state: RegisterState,
}

impl Examined {
    /// Creates one that depends on nothing and whose namespace was not cleared.
    #[must_use]
    pub fn new(value: Bytes, expires_at_ms: Option<u64>) -> Self {
        Self {
            value,
            expires_at_ms,
            is_cleared: false,
            registers: Vec::new(),
        }
    }

    /// Compares its stamps with the registers as they are.
    pub(crate) fn judged(mut self, mut live: impl FnMut(&Register) -> Option<Nonces>) -> Self {
        let stamps = envelope::stamps(&self.value).unwrap_or_default();
        let stamps = stamps.iter().filter(|stamp| stamp.is_of_register());
        let examined = stamps.map(|stamp| {
            let register = Register::new(stamp.kind, &stamp.name);
            let state = standing(stamp, live(&register));
            ExaminedRegister { register, state }
        });
        self.registers = examined.collect();
        self
    }

    /// Returns whether a register makes it invalid.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        let mut states = self.registers.iter().map(|examined| examined.state);
        states.any(RegisterState::is_invalid)
    }
}

impl ExaminedRegister {
    /// Creates one.
    #[must_use]
    pub fn new(register: Register, state: RegisterState) -> Self {
        Self { register, state }
    }
}

/// Examines by reading: finds what is valid, and nothing else.
pub(super) async fn examine<S: Store + ?Sized>(
    store: &S,
    namespace: &Namespace,
    key: &[u8],
) -> Result<Option<Examined>> {
    let entry = store.get_many(namespace, &[key]).await?.pop().flatten();
    let Some(entry) = entry else {
        return Ok(None);
    };
    let registers = match store.capabilities().tags {
        true => envelope::registers(&entry.value),
        false => Vec::new(),
    };
    let examined = Examined::new(entry.value, entry.expires_at_ms);
    if registers.is_empty() {
        return Ok(Some(examined));
    }
    // All are there, or it would not have been found: to capture them is to read them.
    let now = store.capture(namespace, key, &registers).await?;
    let live = |register: &Register| {
        let stamp = now.iter().find(|stamp| stamp.is_of(register))?;
        Some(Nonces {
            hard: stamp.hard,
            soft: stamp.soft,
        })
    };
    Ok(Some(examined.judged(live)))
}
