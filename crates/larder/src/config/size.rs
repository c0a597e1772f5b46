//! Sizes in bytes: `64MiB`, `1GB`, `512k`, or a bare number.

use crate::error::{Error, Result};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Parses a size: a bare number is bytes; `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024; `k`, `M`,
/// `G`, `T` and `kB`, `MB`, `GB`, `TB` are powers of 1000.
///
/// Letter case does not matter; one space before the unit is allowed; fractions are not.
///
/// ```
/// use larder::config::parse_size;
/// assert_eq!(parse_size("64MiB")?, 64 << 20);
/// assert_eq!(parse_size("512k")?, 512_000);
/// assert_eq!(parse_size("4096")?, 4096);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument`: not of this form, or over 2^64 - 1 bytes.
pub fn parse_size(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    number
        .parse::<u64>()
        .ok()
        .zip(unit_bytes(unit))
        .and_then(|(count, bytes)| count.checked_mul(bytes))
        .ok_or_else(|| {
            Error::argument(format!(
                "{text:?} is not a size; write bytes or 512k, 64MiB, 1GB"
            ))
        })
}

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => KIB,
        "mib" => MIB,
        "gib" => GIB,
        "tib" => TIB,
        _ => return None,
    })
}

/// Writes a size the way [`parse_size`] reads it: in the largest binary unit that is exact, else in bytes.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (name, unit) in [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_powers_of_1000_or_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1b", 1),
            ("1k", 1000),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("2m", 2_000_000),
            ("1 GiB", 1 << 30),
            (" 3TB ", 3_000_000_000_000),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn malformed_sizes_are_refused() {
        for bad in [
            "",
            "MiB",
            "-1",
            "1.5GiB",
            "1  MiB",
            "1x",
            "20000000TiB",
            "1 0",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn formatted_sizes_parse_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,20}") {
            let _ = parse_size(&text);
        }
    }
}
