//! Arguments that are more than words: keys and values of any bytes, lengths of time.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder::{Ttl, parse_duration};

use crate::failure::{Failure, Outcome};

/// More than any value that can be stored, so that a larger one is refused by the store's own words.
const MAX_INPUT_BYTES: u64 = (64 << 20) + 1;

/// One key.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArg {
    /// The key: any bytes, 1 B to 1 KiB
    key: OsString,
    /// The key is given in base64
    #[arg(long)]
    key_base64: bool,
}

impl KeyArg {
    pub(crate) fn bytes(&self) -> Outcome<Vec<u8>> {
        key_bytes(&self.key, self.key_base64)
    }
}

/// Returns the bytes of a key or pattern argument.
pub(crate) fn key_bytes(argument: &OsStr, is_base64: bool) -> Outcome<Vec<u8>> {
    if is_base64 {
        decode_base64(argument.as_bytes(), "the key")
    } else {
        Ok(argument.as_bytes().to_vec())
    }
}

/// Decodes base64 with padding; line breaks at its end are ignored.
pub(crate) fn decode_base64(text: &[u8], what: &str) -> Outcome<Vec<u8>> {
    STANDARD
        .decode(text.trim_ascii_end())
        .map_err(|error| Failure::usage(format!("{what} is not base64: {error}")))
}

pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Returns a value argument's bytes; `-` reads standard input.
pub(crate) fn value_bytes(argument: &OsStr) -> Outcome<Vec<u8>> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_INPUT_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses a TTL: seconds, a length of time such as `10m`, or `forever`.
pub(crate) fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "forever" {
        return Ok(Ttl::Forever);
    }
    let duration = parse_duration(text).map_err(|error| error.message().to_owned())?;
    if duration.is_zero() {
        return Err("a ttl of zero is refused: delete the key, or write `forever`".to_owned());
    }
    Ok(Ttl::For(duration))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ttls_are_positive_lengths_of_time() {
        for (text, seconds) in [("3600", 3600), ("10m", 600), ("1h30m", 5400)] {
            let ttl = Ttl::For(Duration::from_secs(seconds));
            assert_eq!(parse_ttl(text), Ok(ttl));
        }
        assert_eq!(parse_ttl("forever"), Ok(Ttl::Forever));
        for text in ["0", "0s", "-1", "1x", "", "1e3", "10 m"] {
            assert!(parse_ttl(text).is_err(), "{text:?}");
        }
    }
}
