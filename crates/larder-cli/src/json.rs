//! The shapes that several commands print under `--json`. They are stable: fields are added, never changed.

use larder::TimeLeft;
use serde::Serialize;

use crate::input::encode_base64;

/// A key: as text, or in base64 when it is not UTF-8.
#[derive(Debug, Serialize)]
pub(crate) struct KeyFields {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
}

impl KeyFields {
    pub(crate) fn new(key: &[u8]) -> Self {
        match std::str::from_utf8(key) {
            Ok(text) => Self {
                key: text.to_owned(),
                key_encoding: None,
            },
            Err(_) => Self {
                key: encode_base64(key),
                key_encoding: Some("base64"),
            },
        }
    }
}

/// Returns what is left of a life in milliseconds; `None` is forever.
pub(crate) fn ttl_ms(left: TimeLeft) -> Option<u64> {
    match left {
        TimeLeft::Remaining(left) => Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        TimeLeft::Forever | TimeLeft::Missing => None,
    }
}
