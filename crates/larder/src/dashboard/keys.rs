//! Many keys by pattern: listing and deleting.

use axum::http::Uri;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::json::{self, KeyEncoding};
use super::path::CachePath;
use super::problem::{Kind, Problem};
use super::query::{Query, bad_argument};
use crate::cache::Cache;
use crate::error::ErrorKind;
use crate::store::ScannedKey;

/// Keys in a page, unless the client says otherwise.
const DEFAULT_LIMIT: i64 = 100;
/// The most keys in a page.
const MAX_LIMIT: i64 = 1000;

/// A listed key.
#[derive(Debug, Serialize)]
struct Listed {
    key: String,
    #[serde(skip_serializing_if = "KeyEncoding::is_text")]
    key_encoding: KeyEncoding,
    bytes: u64,
    expires_at_ms: Option<u64>,
}

impl From<ScannedKey> for Listed {
    fn from(scanned: ScannedKey) -> Self {
        let (key, key_encoding) = KeyEncoding::encode(&scanned.key);
        Self {
            key,
            key_encoding,
            bytes: scanned.bytes,
            expires_at_ms: scanned.expires_at_ms,
        }
    }
}

/// `GET .../keys?pattern=&limit=&cursor=`: one page of the keys that match.
pub(super) async fn list(CachePath(cache): CachePath, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["pattern", "limit", "cursor"])?;
    let pattern = query.bytes("pattern").unwrap_or(b"*");
    let limit = limit(&query)?;
    let cursor = query.bytes("cursor").map(decode_cursor).transpose()?;
    let (keys, next) = cache.keys_page(pattern, cursor, limit).await?;
    let keys: Vec<_> = keys.into_iter().map(Listed::from).collect();
    let cursor = next.map(|next| BASE64_URL.encode(next));
    Ok(json::reply(&json!({ "keys": keys, "cursor": cursor })))
}

/// Returns the parameter `limit` of a listing.
pub(super) fn limit(query: &Query) -> Result<usize, Problem> {
    let limit = query.integer("limit")?.unwrap_or(DEFAULT_LIMIT);
    check_limit("limit", limit)?;
    Ok(limit as usize)
}

/// Checks how many keys are asked for.
pub(super) fn check_limit(name: &str, limit: i64) -> Result<(), Problem> {
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(());
    }
    Err(bad_argument(name, "must be from 1 to 1000"))
}

fn decode_cursor(text: &[u8]) -> Result<Bytes, Problem> {
    let decoded = BASE64_URL.decode(text).map(Bytes::from);
    decoded.map_err(|_malformed| bad_argument("cursor", "was not given out by this server"))
}

/// `DELETE .../entries?pattern=user:*` or `?all=true`.
pub(super) async fn delete(CachePath(cache): CachePath, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["pattern", "all"])?;
    let deleted = match (query.bytes("pattern"), query.text("all")?) {
        (Some(pattern), None) => Some(cache.delete_matching(pattern).await?),
        (None, Some("true")) => clear(&cache).await?,
        (None, Some(_)) => return Err(bad_argument("all", "can only be \"true\"")),
        (Some(_), Some(_)) => return Err(bad_argument("all", "excludes \"pattern\"")),
        (None, None) => {
            let detail = "say what to delete: ?pattern=user:* or ?all=true";
            return Err(Problem::new(Kind::MissingParameter, detail));
        }
    };
    Ok(json::reply(&json!({ "deleted": deleted })))
}

/// Empties the cache; returns how many entries it had just before, where the store can count.
async fn clear(cache: &Cache) -> Result<Option<u64>, Problem> {
    let count = match cache.count("*").await {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => return Err(error.into()),
    };
    cache.clear().await?;
    Ok(count)
}
