//! How fresh an entry is: its soft expiry, the grace after it, and the point from which it is refreshed ahead.
//!
//! ```text
//! written ------------- refresh point ------ soft expiry ------------- expiry in the store
//!          fresh                      due                 stale: grace
//! ```
//!
//! All is counted back from the expiry that the store keeps, so whoever changes that moves the rest along. The refresh ahead
//! by chance is XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.

use crate::envelope::{self, Header};
use crate::error::{Error, Result};
use crate::store::Entry;

/// By how much of itself a refresh point comes earlier, at most: so that entries written together are not due together.
const SPREAD: f64 = 0.05;
/// The last part of its TTL in which an entry may be refreshed by chance.
const CHANCE_PART: f64 = 0.2;
/// A load that takes less than this is not worth a refresh by chance.
const MIN_COST_MS: u32 = 1;
/// An expiry that has moved by less may be the same, read once more.
const SAME_EXPIRY_MS: u64 = 500;

/// When values are refreshed before they expire.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Ahead {
    /// After this part of the TTL.
    pub(super) after: Option<f64>,
    /// By chance, the more so the longer a load takes: the factor of XFetch.
    pub(super) beta: Option<f64>,
}

/// The life of an entry that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) write_id: u64,
    /// From the write to the soft expiry; `None`: unlimited.
    pub(super) ttl_ms: Option<u64>,
    pub(super) grace_ms: u64,
    pub(super) cost_ms: u32,
    /// The soft expiry, by the store's clock.
    pub(super) ends_at_ms: Option<u64>,
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) schema: u32,
    /// Also what has expired softly, less than so long ago.
    pub(super) grace_ms: u64,
    /// When the caller wants to see the entry itself, and no local copy.
    pub(super) ahead: Ahead,
}

impl Wanted {
    /// Only what is fresh.
    pub(super) fn fresh(schema: u32) -> Self {
        Self {
            schema,
            grace_ms: 0,
            ahead: Ahead::default(),
        }
    }
}

/// Returns when an entry expires softly; `None`: never.
pub(super) fn ends_at_ms(entry: &Entry) -> Option<u64> {
    let grace_ms = envelope::grace_ms(&entry.value);
    entry
        .expires_at_ms
        .map(|at_ms| at_ms.saturating_sub(grace_ms))
}

/// Returns whether an entry has expired softly.
pub(super) fn is_over(entry: &Entry, now_ms: u64) -> bool {
    // What has no grace is there as long as the store says so.
    envelope::grace_ms(&entry.value) > 0 && ends_at_ms(entry).is_some_and(|at_ms| at_ms <= now_ms)
}

/// Returns whether an entry expired softly at least `grace_ms` ago.
pub(super) fn is_over_for(entry: &Entry, grace_ms: u64, now_ms: u64) -> bool {
    is_over(entry, now_ms.saturating_sub(grace_ms))
}

impl Life {
    pub(super) fn of(header: &Header, entry: &Entry) -> Self {
        Self {
            write_id: header.write_id,
            ttl_ms: header.ttl_ms(),
            grace_ms: header.grace_ms(),
            cost_ms: header.cost_ms,
            ends_at_ms: ends_at_ms(entry),
        }
    }

    /// Returns what is left until the soft expiry; `None`: unlimited.
    pub(super) fn left_ms(&self, now_ms: u64) -> Option<u64> {
        self.ends_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms))
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.grace_ms > 0 && self.left_ms(now_ms) == Some(0)
    }

    /// Returns whether nobody has written or renewed the entry since it was read as `earlier`.
    pub(super) fn is_still(&self, earlier: &Self) -> bool {
        let is_later = match (self.ends_at_ms, earlier.ends_at_ms) {
            (Some(now), Some(then)) => now > then.saturating_add(SAME_EXPIRY_MS),
            (now, then) => now != then,
        };
        self.write_id == earlier.write_id && !is_later
    }
}

impl Ahead {
    /// # Errors
    /// `InvalidArgument`: the part is not between 0 and 1, or the factor is none.
    pub(super) fn check(&self) -> Result<()> {
        if self.after.is_some_and(|part| !(part > 0.0 && part < 1.0)) {
            let message = "refresh_after must be over 0 and under 1, as a part of the ttl";
            return Err(Error::argument(message));
        }
        if self
            .beta
            .is_some_and(|beta| !(beta > 0.0 && beta <= 1000.0))
        {
            return Err(Error::argument("xfetch must be over 0 and at most 1000"));
        }
        Ok(())
    }

    /// Returns how long before its soft expiry an entry begins to be looked at with a view to refreshing it.
    pub(super) fn window_ms(&self, life: &Life) -> Option<u64> {
        let ttl_ms = life.ttl_ms?;
        let by_part = self.after.map(|part| {
            let part = part * (1.0 - SPREAD * spread(life.write_id));
            (ttl_ms as f64 * (1.0 - part)).ceil() as u64
        });
        by_part.max(self.chance_ms(life))
    }

    /// Returns the last part of the TTL in which chance decides.
    fn chance_ms(&self, life: &Life) -> Option<u64> {
        let ttl_ms = life.ttl_ms?;
        (self.beta.is_some() && life.cost_ms >= MIN_COST_MS)
            .then_some((ttl_ms as f64 * CHANCE_PART) as u64)
    }

    /// Returns whether an entry is to be refreshed now, by a `draw` from 0 (exclusive) to 1.
    pub(super) fn is_due(&self, life: &Life, now_ms: u64, draw: f64) -> bool {
        let Some(left_ms) = life.left_ms(now_ms) else {
            return false;
        };
        let by_part = Self {
            beta: None,
            ..*self
        };
        if by_part
            .window_ms(life)
            .is_some_and(|window_ms| left_ms <= window_ms)
        {
            return true;
        }
        let (Some(beta), Some(window_ms)) = (self.beta, self.chance_ms(life)) else {
            return false;
        };
        left_ms <= window_ms && f64::from(life.cost_ms) * beta * -draw.ln() >= left_ms as f64
    }
}

/// Returns a number over 0 and up to 1, for [`Ahead::is_due`].
pub(super) fn draw() -> f64 {
    1.0 - fastrand::f64()
}

/// Returns a number from 0 to 1 that belongs to a write: all processes agree on it.
fn spread(write_id: u64) -> f64 {
    // Write ids are random, but not to be trusted to be: the finalizer of SplitMix64.
    let mixed = (write_id ^ (write_id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
