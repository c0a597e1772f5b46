//! One entry as a line: from the cache and back.

use std::time::Duration;

use bytes::Bytes;
use larder::{Cache, ErrorKind, TimeLeft, Ttl};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::input::{decode_base64, encode_base64};
use crate::json::ttl_ms;

/// What to do with a key that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    Replace,
    Skip,
}

/// How a string of a line stands for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Utf8,
    Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EntryKind {
    /// Bytes with a content type, in `value`.
    #[default]
    Raw,
    /// What an application wrote, in `sealed`.
    Typed,
    /// A sorted set, in `sealed`.
    SortedSet,
}

/// A line between the first and the last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryLine {
    key: String,
    #[serde(default, skip_serializing_if = "is_utf8")]
    key_encoding: Encoding,
    #[serde(default)]
    kind: EntryKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "is_utf8")]
    encoding: Encoding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// The stored form in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    /// The tags of a raw entry; others have theirs in `sealed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// What is left of its life; absent: forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

// serde passes a reference.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_utf8(encoding: &Encoding) -> bool {
    *encoding == Encoding::Utf8
}

impl EntryLine {
    /// Reads an entry of any kind; `None` if it is gone or damaged.
    pub(crate) async fn read(cache: &Cache, key: &[u8]) -> Outcome<Option<Self>> {
        let Some(sealed) = cache.get_sealed(key).await? else {
            return Ok(None);
        };
        let (kind, content_type) = match sealed.to_raw() {
            Ok(value) if value.is_typed => (EntryKind::Typed, Some(value.content_type)),
            Ok(value) => {
                let line = Self::new(key, EntryKind::Raw, sealed.time_left);
                let tags = value.tags;
                let line = line.map(|line| Self { tags, ..line });
                return Ok(line.map(|line| line.with_value(&value.body, value.content_type)));
            }
            Err(error) if error.kind() == ErrorKind::WrongType => (EntryKind::SortedSet, None),
            Err(error) if error.kind() == ErrorKind::Corrupted => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let line = Self::new(key, kind, sealed.time_left);
        Ok(line.map(|line| Self {
            content_type,
            sealed: Some(encode_base64(&sealed.entry)),
            ..line
        }))
    }

    /// Returns a line without a value; `None` for an entry whose time is up.
    fn new(key: &[u8], kind: EntryKind, left: TimeLeft) -> Option<Self> {
        let ttl_ms = ttl_ms(left);
        if ttl_ms == Some(0) || left == TimeLeft::Missing {
            return None;
        }
        let (key, key_encoding) = encode(key);
        Some(Self {
            key,
            key_encoding,
            kind,
            value: None,
            encoding: Encoding::Utf8,
            content_type: None,
            sealed: None,
            tags: Vec::new(),
            ttl_ms,
        })
    }

    fn with_value(self, body: &[u8], content_type: String) -> Self {
        let (value, encoding) = encode(body);
        Self {
            value: Some(value),
            encoding,
            content_type: Some(content_type),
            ..self
        }
    }

    /// Stores the entry; returns whether it was stored.
    pub(crate) async fn store(self, cache: &Cache, conflict: Conflict) -> Outcome<bool> {
        let key = decode(&self.key, self.key_encoding, "`key`")?;
        let ttl = match self.ttl_ms {
            Some(0) => return Err(Failure::failed("`ttl_ms` is 0")),
            Some(ms) => Ttl::For(Duration::from_millis(ms)),
            None => Ttl::Forever,
        };
        let skips = conflict == Conflict::Skip;
        match (self.kind, self.value, self.sealed) {
            (EntryKind::Raw, Some(value), None) => {
                let value = decode(&value, self.encoding, "`value`")?;
                let mut set = cache.set_raw(&key, value).ttl(ttl).tags(&self.tags);
                if let Some(content_type) = self.content_type {
                    set = set.content_type(content_type);
                }
                Ok(if skips { set.if_absent() } else { set }.await?)
            }
            (EntryKind::Typed | EntryKind::SortedSet, None, Some(sealed)) => {
                let entry = decode(&sealed, Encoding::Base64, "`sealed`")?;
                let set = cache.set_sealed(&key, Bytes::from(entry)).ttl(ttl);
                Ok(if skips { set.if_absent() } else { set }.await?)
            }
            (EntryKind::Raw, ..) => Err(Failure::failed("a raw entry needs `value` alone")),
            (EntryKind::Typed | EntryKind::SortedSet, ..) => {
                Err(Failure::failed("a typed entry needs `sealed` alone"))
            }
        }
    }
}

/// Returns bytes as text that people can read, or in base64: control characters would multiply in JSON.
fn encode(bytes: &[u8]) -> (String, Encoding) {
    let is_plain = |text: &&str| {
        !text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
    };
    match std::str::from_utf8(bytes).ok().filter(is_plain) {
        Some(text) => (text.to_owned(), Encoding::Utf8),
        None => (encode_base64(bytes), Encoding::Base64),
    }
}

fn decode(text: &str, encoding: Encoding, what: &str) -> Outcome<Vec<u8>> {
    match encoding {
        Encoding::Utf8 => Ok(text.as_bytes().to_vec()),
        Encoding::Base64 => decode_base64(text.as_bytes(), what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readable_text_is_written_as_text() {
        assert_eq!(encode(b"a\nb"), ("a\nb".to_owned(), Encoding::Utf8));
        for bytes in [&b"\xff"[..], b"\x1b", b"\0"] {
            let (text, encoding) = encode(bytes);
            assert_eq!(encoding, Encoding::Base64);
            assert_eq!(decode(&text, encoding, "it").unwrap(), bytes);
        }
    }
}
