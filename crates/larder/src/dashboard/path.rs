//! What a path names, from its raw text.
//!
//! A key is one segment, percent-decoded to any bytes. The framework's own path parameters would refuse what is not
//! UTF-8, so they only choose the route and the text is parsed here.

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;

use super::Shared;
use super::problem::{Kind, Problem};
use crate::cache::Cache;
use crate::key::{Key, KeyRef};

/// Where the paths of caches begin; the router strips what comes before, where it stripped it.
const CACHES: &str = "/caches/";
/// The prefix of the API.
pub(super) const API: &str = "/api/v1";

/// The cache that a path names.
#[derive(Debug)]
pub(super) struct CachePath(pub(super) Cache);

/// The cache and key that a path names.
#[derive(Debug)]
pub(super) struct EntryPath {
    pub(super) cache: Cache,
    pub(super) key: Key,
}

/// The cache and tag that a path names.
#[derive(Debug)]
pub(super) struct TagPath {
    pub(super) cache: Cache,
    pub(super) tag: String,
}

impl FromRequestParts<Shared> for TagPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let mut segments = segments(parts.uri.path());
        let cache = cache(shared, segments.next().unwrap_or_default())?;
        let tag = tag(segments.nth(1).unwrap_or_default())?;
        Ok(Self { cache, tag })
    }
}

impl FromRequestParts<Shared> for CachePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let mut segments = segments(parts.uri.path());
        cache(shared, segments.next().unwrap_or_default()).map(Self)
    }
}

impl FromRequestParts<Shared> for EntryPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let mut segments = segments(parts.uri.path());
        let cache = cache(shared, segments.next().unwrap_or_default())?;
        let key = key(segments.nth(1).unwrap_or_default())?;
        Ok(Self { cache, key })
    }
}

/// Returns the raw segments behind `/caches/`.
fn segments(path: &str) -> std::str::Split<'_, char> {
    let path = path.strip_prefix(API).unwrap_or(path);
    path.strip_prefix(CACHES).unwrap_or_default().split('/')
}

fn cache(shared: &Shared, segment: &str) -> Result<Cache, Problem> {
    let unknown = || {
        let detail = format!("there is no cache named {segment:?}; /api/v1/caches lists them");
        Problem::new(Kind::UnknownCache, detail)
    };
    let name = percent_decode(segment).and_then(|name| String::from_utf8(name).ok());
    let cache = shared.larder.cache(&name.ok_or_else(unknown)?);
    cache.map_err(|_no_such_name| unknown())
}

fn key(segment: &str) -> Result<Key, Problem> {
    let bytes = percent_decode(segment).ok_or_else(|| {
        let detail = "a % in a key must be followed by two hexadecimal digits; write %25 for a %";
        Problem::new(Kind::BadKey, detail)
    })?;
    Ok(KeyRef::from(bytes).to_key()?)
}

fn tag(segment: &str) -> Result<String, Problem> {
    let text = percent_decode(segment).and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| {
        let detail = "a tag is UTF-8 with %XX for what cannot stand in a path";
        Problem::new(Kind::BadTag, detail)
    })
}

/// Decodes `%XX`; `None` when a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    Some(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Returns whether the path is that of a batch read, the one POST that changes nothing.
pub(super) fn is_batch_get(path: &str) -> bool {
    let mut segments = segments(path).skip(1);
    let rest = [segments.next(), segments.next(), segments.next()];
    rest == [Some("batch"), Some("get"), None]
}

/// Answers paths that no route has, and says so where a key was not written as one segment.
pub(super) async fn unknown(uri: Uri) -> Problem {
    let mut segments = segments(uri.path()).skip(1);
    if segments.next() == Some("entries") {
        return match segments.next() {
            Some("") => Problem::new(Kind::BadKey, "a key must not be empty"),
            _ => Problem::new(Kind::BadKey, "write a / inside a key as %2F"),
        };
    }
    Problem::new(Kind::UnknownRoute, "no route has this path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_byte_can_be_written() {
        assert_eq!(percent_decode("a%2Fb").unwrap(), b"a/b");
        assert_eq!(percent_decode("%ff%00%FF").unwrap(), [0xff, 0, 0xff]);
        assert_eq!(percent_decode("a+b").unwrap(), b"a+b");
        assert_eq!(percent_decode("%2525").unwrap(), b"%25");
        assert_eq!(percent_decode("").unwrap(), b"");
    }

    #[test]
    fn malformed_encoding_is_refused() {
        for bad in ["%", "%4", "%zz", "%4g", "a%", "%+1", "%%41", "%\u{e4}1"] {
            assert_eq!(percent_decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_a_batch_read_is_a_batch_read() {
        assert!(is_batch_get("/api/v1/caches/c/batch/get"));
        for other in [
            "/api/v1/caches/c/batch/set",
            "/api/v1/caches/c/batch/get/",
            "/api/v1/caches/c/entries/batch/get",
            "/api/v1/caches/c/x/batch/get",
            "/batch/get",
        ] {
            assert!(!is_batch_get(other), "{other}");
        }
    }
}
