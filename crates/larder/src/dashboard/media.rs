//! Media types: of what is stored, and of what the client takes.
//!
//! A stored content type came from whoever wrote the entry. It is checked when it is written here and again when it is
//! sent, since other programs write entries as well.

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use serde::de::IgnoredAny;

use super::problem::{Kind, Problem};
use crate::cache::RawValue;
use crate::error::ErrorKind;

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";
/// What is sent for a stored content type that is not one.
const BINARY: &str = "application/octet-stream";
/// What curl says of any data unless told otherwise, and what nobody who stores a value means.
const FORM: &str = "application/x-www-form-urlencoded";
/// The longest content type that an entry holds, in bytes.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Returns the content type to store a request's body under; `None` leaves the choice to the cache.
pub(super) fn of_request(headers: &HeaderMap, body: &[u8]) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let given = given.to_str().unwrap_or_default();
    if essence(given).eq_ignore_ascii_case(FORM) {
        return Ok(None);
    }
    check(given, body)?;
    Ok(Some(given.to_owned()))
}

/// Checks a content type, and that what is called JSON is JSON.
pub(super) fn check(content_type: &str, body: &[u8]) -> Result<(), Problem> {
    if content_type.len() > MAX_CONTENT_TYPE_BYTES || !is_media_type(content_type) {
        let detail = format!("the content type {content_type:?} is not one, or is over 255 bytes");
        return Err(Problem::new(Kind::BadArgument, detail));
    }
    if is_json(content_type) {
        let text = std::str::from_utf8(body).map_err(|error| not_json(&error))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| not_json(&error))?;
    }
    Ok(())
}

fn not_json(error: &dyn std::error::Error) -> Problem {
    let detail = format!("the content type is JSON, but the value is not: {error}");
    Problem::new(Kind::BadBody, detail)
}

/// Returns a value's body and content type as the client takes them: a typed value as JSON unless it prefers the bytes.
pub(super) fn represent(value: &RawValue, headers: &HeaderMap) -> (bytes::Bytes, HeaderValue) {
    if value.is_typed && prefers_json(headers, &value.content_type) {
        match value.to_json() {
            Ok(json) => return (json, HeaderValue::from_static(JSON)),
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => tracing::debug!(%error, "a typed value is sent as its stored bytes"),
        }
    }
    (value.body.clone(), header_value(&value.content_type))
}

/// Returns a stored content type as a header, or that of plain bytes if it is not fit for one.
fn header_value(content_type: &str) -> HeaderValue {
    let value = HeaderValue::from_str(content_type).ok();
    value
        .filter(|_| is_media_type(content_type))
        .unwrap_or(HeaderValue::from_static(BINARY))
}

/// Returns the media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_media_type(content_type: &str) -> bool {
    let is_token = |part: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !part.is_empty() && part.bytes().all(legal)
    };
    let printable = content_type.bytes().all(|b| (b' '..=b'~').contains(&b));
    let parts = essence(content_type).split_once('/');
    printable && parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type).to_ascii_lowercase();
    essence == JSON || essence.ends_with("+json")
}

/// Returns whether the client takes JSON, and likes it no less than `stored`.
fn prefers_json(headers: &HeaderMap, stored: &str) -> bool {
    let json = quality(headers, JSON);
    json > 0.0 && json >= quality(headers, essence(stored))
}

/// Returns how much the client likes a media type, from 0 to 1: by its most specific range, 1 without `Accept`.
fn quality(headers: &HeaderMap, media_type: &str) -> f32 {
    if !headers.contains_key(ACCEPT) {
        return 1.0;
    }
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let matching = ranges.filter_map(|range| {
        let name = essence(range);
        let specificity = if name.eq_ignore_ascii_case(media_type) {
            3
        } else if name == "*/*" {
            1
        } else {
            let (range_kind, subtype) = name.split_once('/')?;
            let matches = subtype == "*" && range_kind.eq_ignore_ascii_case(kind);
            matches.then_some(2)?
        };
        Some((specificity, weight(range)))
    });
    let best = matching.max_by_key(|(specificity, _)| *specificity);
    best.map_or(0.0, |(_, weight)| weight)
}

/// Returns the parameter `q` of a media range; 1 without one, 0 for a malformed one.
fn weight(range: &str) -> f32 {
    let mut parameters = range.split(';').skip(1).map(str::trim);
    let found = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("q")
            .then(|| value.parse().unwrap_or(0.0))
    });
    found.unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())])
    }

    #[test]
    fn json_is_sent_where_it_is_taken_and_not_liked_less() {
        let msgpack = "application/vnd.msgpack";
        assert!(prefers_json(&HeaderMap::new(), msgpack));
        for json in [
            "*/*",
            "application/*",
            "Application/JSON",
            "text/html, application/json;q=0.1",
            "application/vnd.msgpack;q=0.5, */*",
        ] {
            assert!(prefers_json(&accepting(json), msgpack), "{json}");
        }
        for bytes in [
            "application/vnd.msgpack",
            "application/vnd.msgpack, */*;q=0.1",
            "text/plain",
            "application/json;q=0, */*",
            "application/json; q=x",
            "",
        ] {
            assert!(!prefers_json(&accepting(bytes), msgpack), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_content_type_is_sent_as_bytes() {
        for good in ["text/html; charset=utf-8", "application/vnd.a+json", "a/b"] {
            assert_eq!(header_value(good), good);
        }
        for bad in [
            "",
            "text",
            "a/b\r\nx: y",
            "a/b; \u{e4}",
            "a/b\t",
            "a b/c",
            "/b",
            "a/",
        ] {
            assert_eq!(header_value(bad), BINARY, "{bad:?}");
        }
    }

    #[test]
    fn what_is_called_json_must_be() {
        for good in [&b"{}"[..], b" 1 ", b"\"\xc3\xa4\""] {
            assert!(check("application/JSON; x=y", good).is_ok());
        }
        for bad in [&b""[..], b"{", b"1 2", b"\"\xff\"", b"nul"] {
            assert!(check("application/problem+json", bad).is_err());
        }
        assert!(check("text/plain", b"{").is_ok());
    }
}
