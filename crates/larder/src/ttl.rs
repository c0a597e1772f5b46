//! How long an entry lives.

use std::time::Duration;

use crate::clock::duration_ms;
use crate::error::{Error, Result};

/// The longest finite TTL: 1000 years. Longer is refused; [`Ttl::Forever`] says what is meant.
const MAX_TTL_MS: u64 = 1000 * 365 * 24 * 3600 * 1000;

/// The time to live of an entry, in milliseconds' resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// The default of the cache.
    #[default]
    Default,
    /// This long, from 1 ms to 1000 years; zero is an error, a fraction of a millisecond counts as one.
    For(Duration),
    /// Until it is deleted or evicted.
    Forever,
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

impl Ttl {
    /// Returns the TTL in milliseconds, `None` for [`Ttl::Forever`].
    ///
    /// # Errors
    /// `InvalidArgument`: zero, or over 1000 years.
    pub(crate) fn resolve(self, default: Self) -> Result<Option<u64>> {
        match self {
            Self::Default => match default {
                Self::Default => Ok(None),
                other => other.resolve(Self::Forever),
            },
            Self::Forever => Ok(None),
            Self::For(Duration::ZERO) => Err(Error::argument(
                "a ttl of zero is refused; delete the key instead",
            )),
            Self::For(duration) => match duration_ms(duration).max(1) {
                ms if ms <= MAX_TTL_MS => Ok(Some(ms)),
                _ => Err(Error::argument(
                    "a ttl over 1000 years is refused; use Ttl::Forever",
                )),
            },
        }
    }
}

/// What is left of an entry's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLeft {
    /// It expires in this long.
    Remaining(Duration),
    /// It does not expire.
    Forever,
    /// There is no such entry.
    Missing,
}

/// Parses a length of time: `250ms`, `90s`, `10m`, `1h30m`, `7d`; a bare number is seconds.
///
/// Units are `ms`, `s`, `m`, `h` and `d`; a bare number may have a fraction (`2.5`). The parts of a
/// compound add up.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(larder::parse_duration("1h30m")?, Duration::from_secs(5400));
/// assert_eq!(larder::parse_duration("2.5")?, Duration::from_millis(2500));
/// assert!(larder::parse_duration("1x").is_err());
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument`: empty, negative, an unknown unit, or more than 1000 years.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let trimmed = text.trim();
    let parsed = if trimmed.ends_with(|last: char| last.is_ascii_digit()) {
        parse_seconds(trimmed)
    } else {
        parse_compound(trimmed)
    };
    parsed
        .filter(|duration| duration_ms(*duration) <= MAX_TTL_MS)
        .ok_or_else(|| {
            Error::argument(format!(
                "{text:?} is not a length of time; write seconds or 250ms, 90s, 10m, 1h30m, 7d"
            ))
        })
}

fn parse_seconds(text: &str) -> Option<Duration> {
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn parse_compound(mut rest: &str) -> Option<Duration> {
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit_ms = match &after[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(count.checked_mul(unit_ms)?)?;
        rest = &after[letters..];
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a length of time the way [`parse_duration`] reads it, to the millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut ms = duration_ms(duration);
    if ms == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, unit_ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if ms >= unit_ms {
            text.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn zero_and_endless_ttls_are_refused() {
        for bad in [Duration::ZERO, Duration::MAX] {
            let error = Ttl::For(bad).resolve(Ttl::Forever).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        let tiny = Ttl::For(Duration::from_nanos(1)).resolve(Ttl::Forever);
        assert_eq!(tiny.unwrap(), Some(1));
    }

    #[test]
    fn malformed_durations_are_refused() {
        for bad in [
            "",
            " ",
            "1x",
            "-5",
            "-5s",
            "m",
            "1.5.2",
            "1h-3m",
            "1e3",
            "99999999999999999999",
            "1.5h",
            "NaN",
            "inf",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn formatted_durations_parse_back(ms in 0..MAX_TTL_MS) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
