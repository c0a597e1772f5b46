//! The token bucket, as plain data, in whole numbers: exact for ever, and the same in Lua.
//!
//! A level counts tokens times the interval in ms, so that one ms adds exactly `tokens` of it.

use serde::{Deserialize, Serialize};

/// How a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many tokens an interval adds: 1 to [`Rate::MAX_TOKENS`].
    pub tokens: u64,
    /// The interval in ms: 1 to [`Rate::MAX_INTERVAL_MS`].
    pub interval_ms: u64,
    /// How many tokens a full bucket holds: 1 to [`Rate::MAX_TOKENS`].
    pub burst: u64,
}

/// What became of an attempt to take tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    /// Whether they were taken.
    pub allowed: bool,
    /// How many whole tokens are left.
    pub remaining: u64,
    /// When there will be enough, in ms; 0 if they were taken.
    pub retry_after_ms: u64,
}

/// The level of a bucket at a time. A bucket that is not known is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    level: u64,
    interval_ms: u64,
    at_ms: u64,
}

impl Rate {
    /// The most tokens.
    pub const MAX_TOKENS: u64 = 1_000_000;
    /// The longest interval: a day. With it, every number stays exact in a double, which Lua's are.
    pub const MAX_INTERVAL_MS: u64 = 24 * 3600 * 1000;

    fn full(&self) -> u64 {
        self.burst * self.interval_ms
    }

    /// Returns in how many ms an empty bucket is full; a bucket that was not used for so long can be forgotten.
    pub(crate) fn fill_ms(&self) -> u64 {
        self.full().div_ceil(self.tokens)
    }
}

impl Bucket {
    /// Takes tokens, all or none, from a bucket or from a full one; returns its new state as well.
    pub(crate) fn take(
        known: Option<Self>,
        rate: &Rate,
        tokens: u64,
        now_ms: u64,
    ) -> (Self, Taken) {
        let mut level = known.map_or(rate.full(), |bucket| bucket.level_at(rate, now_ms));
        let cost = tokens * rate.interval_ms;
        let allowed = cost <= level;
        if allowed {
            level -= cost;
        }
        let missing = if allowed { 0 } else { cost - level };
        let taken = Taken {
            allowed,
            remaining: level / rate.interval_ms,
            retry_after_ms: missing.div_ceil(rate.tokens),
        };
        let at_ms = known.map_or(now_ms, |bucket| bucket.at_ms.max(now_ms));
        let interval_ms = rate.interval_ms;
        let bucket = Self {
            level,
            interval_ms,
            at_ms,
        };
        (bucket, taken)
    }

    /// Returns the level, filled up to now; of another interval, in whole tokens.
    fn level_at(self, rate: &Rate, now_ms: u64) -> u64 {
        let level = if self.interval_ms == rate.interval_ms {
            self.level
        } else {
            (self.level / self.interval_ms.max(1)).saturating_mul(rate.interval_ms)
        };
        let passed_ms = now_ms.saturating_sub(self.at_ms).min(rate.fill_ms());
        level
            .saturating_add(passed_ms * rate.tokens)
            .min(rate.full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        tokens: 3,
        interval_ms: 1000,
        burst: 5,
    };

    fn take(bucket: &mut Option<Bucket>, tokens: u64, now_ms: u64) -> Taken {
        let (next, taken) = Bucket::take(*bucket, &RATE, tokens, now_ms);
        *bucket = Some(next);
        taken
    }

    #[test]
    fn a_burst_then_the_rate_exactly() {
        let mut bucket = None;
        assert_eq!(take(&mut bucket, 5, 0).remaining, 0);
        let refused = take(&mut bucket, 1, 0);
        assert!(!refused.allowed);
        assert_eq!(refused.retry_after_ms, 334);
        assert!(!take(&mut bucket, 1, 333).allowed);
        assert!(take(&mut bucket, 1, 334).allowed);
        // Over a long time, neither a token more nor one less.
        let taken = (334..=1_000_334).filter(|&ms| take(&mut bucket, 1, ms).allowed);
        assert_eq!(taken.count(), 3000);
    }

    #[test]
    fn extremes_stay_exact() {
        let rate = Rate {
            tokens: Rate::MAX_TOKENS,
            interval_ms: Rate::MAX_INTERVAL_MS,
            burst: Rate::MAX_TOKENS,
        };
        assert!(rate.full() < 1 << 53);
        let (bucket, taken) = Bucket::take(None, &rate, rate.burst, 7);
        assert!(taken.allowed);
        let (_, taken) = Bucket::take(Some(bucket), &rate, rate.burst, u64::MAX);
        assert!(taken.allowed);
        let (_, taken) = Bucket::take(Some(bucket), &rate, rate.burst, 0);
        assert_eq!(taken.retry_after_ms, Rate::MAX_INTERVAL_MS);
    }

    #[test]
    fn a_level_that_makes_no_sense_is_a_full_bucket() {
        for interval_ms in [0, 1, RATE.interval_ms] {
            let known = Bucket {
                level: u64::MAX,
                interval_ms,
                at_ms: 0,
            };
            let (_, taken) = Bucket::take(Some(known), &RATE, 1, 1);
            assert_eq!(taken.remaining, RATE.burst - 1);
        }
    }

    #[test]
    fn another_interval_keeps_whole_tokens() {
        let (bucket, _) = Bucket::take(None, &RATE, 2, 0);
        let slower = Rate {
            interval_ms: 60_000,
            ..RATE
        };
        let (_, taken) = Bucket::take(Some(bucket), &slower, 3, 0);
        assert!(taken.allowed);
        assert_eq!(taken.remaining, 0);
    }
}
