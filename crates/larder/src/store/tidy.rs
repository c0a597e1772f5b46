//! Ending registers that nothing carries any more, without ever ending one that something needs.
//!
//! A register that only entries with a TTL depended on ends by itself, a little after the longest of these. One that an
//! entry without a TTL depended on is kept for good, and nobody notices when the last such entry is gone.
//!
//! ```text
//! tidy all --> what is carried --> retire the rest: Suspect --> tidy all again --> retire what is still not carried: End
//!                                                      ^ whoever stores an entry clears its registers of suspicion
//! ```
//! An entry that is there at the end was either stored after the suspicion, which it cleared, or before, and then the
//! second walk met it. A suspicion changes nothing else, so it may stay when its cleanup dies; its number keeps two
//! cleanups apart. An ended register is kept for a while yet, for those who have captured it and not stored anything yet.

use bytes::Bytes;

use super::Register;

/// A register under suspicion is kept until this time and as many ms as the number of its suspicion: for good, and told
/// from all times to which entries live.
pub(super) const SUSPECT_FROM_MS: u64 = 1 << 62;

/// A step towards the end of registers that nothing carries; see [`Store::retire`](super::Store::retire).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// Changes nothing; applies to registers that are kept for good, under suspicion or not.
    Look,
    /// Puts registers that are kept for good under the suspicion of this number, in place of any other.
    Suspect(u32),
    /// Keeps registers that are still under this suspicion for so many ms from now, and no longer.
    End {
        /// The number of the suspicion.
        suspicion: u32,
        /// How long they are kept yet.
        keep_ms: u64,
    },
}

impl Retirement {
    /// Returns until when a register is kept after this step; `None`: the step does not apply to it.
    pub(super) fn apply(self, until_ms: u64, now_ms: u64) -> Option<u64> {
        let is_for_good = until_ms >= SUSPECT_FROM_MS;
        match self {
            Self::Look => is_for_good.then_some(until_ms),
            Self::Suspect(number) => is_for_good.then(|| suspected(number)),
            Self::End { suspicion, keep_ms } => {
                (until_ms == suspected(suspicion)).then(|| now_ms.saturating_add(keep_ms))
            }
        }
    }
}

fn suspected(number: u32) -> u64 {
    SUSPECT_FROM_MS + u64::from(number)
}

/// Returns whether a register that is kept until then is under suspicion.
pub(super) fn is_suspected(until_ms: u64) -> bool {
    (suspected(0)..=suspected(u32::MAX)).contains(&until_ms)
}

/// Returns until when a register is kept once an entry was stored that needs it for so long: what cleared it of suspicion
/// keeps it for good, since nobody knows what else needs it.
pub(super) fn outliving(until_ms: u64, needed_ms: u64) -> u64 {
    match is_suspected(until_ms) {
        true => u64::MAX,
        false => until_ms.max(needed_ms),
    }
}

/// What one step of a walk over the entries that depend on registers met; see [`Store::tidy`](super::Store::tidy).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TidyPage {
    /// How many entries were removed, or would have been.
    pub removed: u64,
    /// The registers that the others carry, loads under way included; one may be there more than once.
    pub carried: Vec<Register>,
    /// Where the next step starts; `None`: this was the last one.
    pub next: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Retirement = Retirement::End {
        suspicion: 7,
        keep_ms: 100,
    };

    #[test]
    fn only_what_is_kept_for_good_can_be_suspected() {
        for for_good in [u64::MAX, i64::MAX as u64, suspected(3)] {
            assert!(Retirement::Look.apply(for_good, 5).is_some());
            let until_ms = Retirement::Suspect(7).apply(for_good, 5);
            assert_eq!(until_ms, Some(suspected(7)));
        }
        for step in [Retirement::Look, Retirement::Suspect(7), END] {
            assert_eq!(step.apply(1_900_000_000_000, 5), None);
        }
    }

    #[test]
    fn only_what_is_under_this_suspicion_ends() {
        assert_eq!(END.apply(suspected(7), 5), Some(105));
        for other in [u64::MAX, i64::MAX as u64, suspected(8), 105] {
            assert_eq!(END.apply(other, 5), None);
        }
    }

    #[test]
    fn storing_an_entry_clears_of_suspicion() {
        assert_eq!(outliving(suspected(7), 10), u64::MAX);
        assert_eq!(outliving(suspected(u32::MAX), u64::MAX), u64::MAX);
        assert_eq!((outliving(9, 10), outliving(11, 10)), (10, 11));
        assert_eq!(outliving(u64::MAX, 10), u64::MAX);
    }
}
