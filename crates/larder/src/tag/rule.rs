//! The rule of validity: the one place that decides whether an entry may be used.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::name::Register;
use crate::envelope::Stamp;

/// What a register holds: random numbers, new whenever it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nonces {
    /// Another one: what was stamped before is invalid.
    pub(crate) hard: u64,
    /// Another one: what was stamped before is stale.
    pub(crate) soft: u64,
}

impl Nonces {
    /// Returns what a new register holds.
    pub(crate) fn fresh() -> Self {
        Self {
            hard: nonce(),
            soft: nonce(),
        }
    }

    /// Returns the stamp of this state.
    pub(crate) fn stamp(self, register: &Register) -> Stamp {
        Stamp {
            kind: register.kind(),
            name: register.path(),
            hard: self.hard,
            soft: self.soft,
        }
    }
}

/// Returns a random number that is never used again, not 0: a keyed hash of a count, whose keys are the system's. Other
/// generators begin with the time, which two processes may share.
pub(crate) fn nonce() -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let keys = KEYS.get_or_init(RandomState::new);
    loop {
        let nonce = keys.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
        if nonce != 0 {
            return nonce;
        }
    }
}

/// Whether an entry may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    /// By those who accept what somebody wants to be refreshed.
    Stale,
    Invalid,
}

/// How a register compares with the stamp that an entry carries of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegisterState {
    /// It holds what was stamped.
    Same,
    /// It was invalidated softly since: the entry is stale.
    Stale,
    /// It is a new one: the entry is invalid.
    Changed,
    /// It is not there: the entry is invalid.
    Missing,
}

impl RegisterState {
    /// Returns whether entries with this stamp are invalid.
    #[must_use]
    pub fn is_invalid(self) -> bool {
        matches!(self, Self::Changed | Self::Missing)
    }
}

/// Compares a stamp with what its register holds now.
pub(crate) fn standing(stamp: &Stamp, now: Option<Nonces>) -> RegisterState {
    match now {
        None => RegisterState::Missing,
        Some(now) if now.hard != stamp.hard => RegisterState::Changed,
        Some(now) if now.soft != stamp.soft => RegisterState::Stale,
        Some(_) => RegisterState::Same,
    }
}

/// Judges stamps by the registers as they are: a register that is not there, or has another value, makes the entry
/// invalid.
pub(crate) fn judge(
    stamps: &[Stamp],
    mut live: impl FnMut(&Register) -> Option<Nonces>,
) -> Verdict {
    let mut verdict = Verdict::Valid;
    for stamp in stamps.iter().filter(|stamp| stamp.is_of_register()) {
        match standing(stamp, live(&Register::new(stamp.kind, &stamp.name))) {
            RegisterState::Same => {}
            RegisterState::Stale => verdict = Verdict::Stale,
            RegisterState::Changed | RegisterState::Missing => return Verdict::Invalid,
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_must_be_there_with_the_stamped_value() {
        let (a, b) = (Register::new(b'=', b"a"), Register::new(b'/', b"b"));
        let (of_a, of_b) = (Nonces::fresh(), Nonces::fresh());
        let stamps = [of_a.stamp(&a), of_b.stamp(&b)];
        let live = |now_a: Option<Nonces>, now_b: Option<Nonces>| {
            judge(&stamps, |name| if *name == a { now_a } else { now_b })
        };
        assert_eq!(live(Some(of_a), Some(of_b)), Verdict::Valid);
        assert_eq!(live(Some(of_a), None), Verdict::Invalid);
        assert_eq!(live(Some(Nonces::fresh()), Some(of_b)), Verdict::Invalid);
        let softened = Nonces { soft: 1, ..of_b };
        assert_eq!(live(Some(of_a), Some(softened)), Verdict::Stale);
        assert_eq!(live(None, Some(softened)), Verdict::Invalid);
        let fence = Stamp {
            kind: b'F',
            ..of_a.stamp(&a)
        };
        assert_eq!(judge(&[fence], |_| None), Verdict::Valid);
    }
}
