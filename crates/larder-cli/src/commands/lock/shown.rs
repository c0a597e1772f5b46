//! Locks as the commands show them.

use std::time::Duration;

use larder::format_duration;
use larder::lock::{HolderStatus, LockStatus};
use serde::Serialize;

use crate::escape;
use crate::input::encode_base64;

/// A name: as text, or in base64 when it is not UTF-8.
#[derive(Debug, Serialize)]
pub(super) struct NameFields {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_encoding: Option<&'static str>,
}

impl NameFields {
    pub(super) fn new(name: &[u8]) -> Self {
        match std::str::from_utf8(name) {
            Ok(text) => Self {
                name: text.to_owned(),
                name_encoding: None,
            },
            Err(_) => Self {
                name: encode_base64(name),
                name_encoding: Some("base64"),
            },
        }
    }
}

/// A lock under `--json`.
#[derive(Debug, Serialize)]
pub(super) struct LockFields<'a> {
    #[serde(flatten)]
    name: NameFields,
    holders: &'a [HolderStatus],
    waiters: u64,
}

impl<'a> LockFields<'a> {
    pub(super) fn new(status: &'a LockStatus) -> Self {
        Self {
            name: NameFields::new(status.name.as_bytes()),
            holders: &status.holders,
            waiters: status.waiters,
        }
    }
}

/// Returns a line on a holder.
pub(super) fn holder(holder: &HolderStatus) -> String {
    let (owner, fence) = (owner(holder), holder.fence);
    let (held, left) = (time(holder.held_ms), time(holder.left_ms));
    format!("{owner}, fence {fence}, for {held}, {left} left")
}

/// Returns an owner as it may stand on a terminal.
pub(super) fn owner(holder: &HolderStatus) -> String {
    escape::text(holder.owner.as_bytes())
}

/// Returns a length of time as people need it: to the second from ten seconds on.
pub(super) fn time(ms: u64) -> String {
    let ms = if ms < 10_000 { ms } else { ms - ms % 1000 };
    format_duration(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_to_the_second() {
        for (ms, text) in [
            (0, "0s"),
            (850, "850ms"),
            (9_250, "9s250ms"),
            (10_999, "10s"),
            (3_723_400, "1h2m3s"),
        ] {
            assert_eq!(time(ms), text);
        }
    }

    #[test]
    fn names_that_are_no_text_are_in_base64() {
        let name = |bytes| serde_json::to_string(&NameFields::new(bytes)).unwrap();
        assert_eq!(name(b"report"), r#"{"name":"report"}"#);
        let bytes = name(b"\xff");
        assert_eq!(bytes, r#"{"name":"/w==","name_encoding":"base64"}"#);
    }
}
