//! Many entries by name: batch reads, writes and deletes.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::json::{self, KeyEncoding};
use super::path::CachePath;
use super::problem::{Kind, Problem};
use super::query::{Query, parse_ttl};
use super::{Shared, media, tags};
use crate::cache::{Cache, RawValue};
use crate::key::Key;
use crate::ttl::{TimeLeft, Ttl};

/// The most keys of one request.
const MAX_KEYS: usize = 1000;
/// Keys read in one round trip: bounds what is held at once besides the reply.
const READ_AT_ONCE: usize = 100;
/// Entries written at the same time.
const WRITTEN_AT_ONCE: usize = 16;
/// The most bytes of values in one reply.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// The body of a batch read or delete.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<String>,
    #[serde(default)]
    key_encoding: KeyEncoding,
}

/// The body of a batch write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    entries: BTreeMap<String, NewEntry>,
    #[serde(default)]
    key_encoding: KeyEncoding,
    ttl: Option<JsonTtl>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEntry {
    value: String,
    content_type: Option<String>,
}

/// A TTL as text, or as a number of seconds.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JsonTtl {
    Text(String),
    Seconds(serde_json::Number),
}

/// An entry of a reply.
#[derive(Debug, Serialize)]
struct Found {
    value: String,
    content_type: String,
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    typed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// `POST .../batch/get`: the entries that are there, typed values as JSON.
pub(super) async fn get(
    State(shared): State<Shared>,
    CachePath(cache): CachePath,
    request: Request,
) -> Result<Response, Problem> {
    let asked = read_keys(&shared, request).await?;
    let keys = asked.decode()?;
    let mut entries = BTreeMap::new();
    let mut bytes = 0;
    let chunks = keys.chunks(READ_AT_ONCE);
    for (names, keys) in asked.keys.chunks(READ_AT_ONCE).zip(chunks) {
        let values = cache.get_many_raw(keys).await?;
        for (name, value) in names.iter().zip(values) {
            if let Some(found) = value.and_then(|value| found(&value)) {
                bytes += found.value.len();
                entries.insert(name, found);
            }
        }
        if bytes > MAX_REPLY_BYTES {
            let detail = "the values are over 64 MiB together; ask for fewer at once";
            return Err(Problem::new(Kind::TooLarge, detail));
        }
    }
    Ok(json::reply(&match asked.key_encoding {
        KeyEncoding::Utf8 => json!({ "entries": entries }),
        encoding @ KeyEncoding::Base64 => {
            json!({ "entries": entries, "key_encoding": encoding })
        }
    }))
}

/// `POST .../batch/delete`: returns how many entries there were.
pub(super) async fn delete(
    State(shared): State<Shared>,
    CachePath(cache): CachePath,
    request: Request,
) -> Result<Response, Problem> {
    let keys = read_keys(&shared, request).await?.decode()?;
    let deleted = cache.delete_many(&keys).await?;
    Ok(json::reply(&json!({ "deleted": deleted })))
}

/// `POST .../batch/set`: nothing is written unless all of it is well formed.
pub(super) async fn set(
    State(shared): State<Shared>,
    CachePath(cache): CachePath,
    request: Request,
) -> Result<StatusCode, Problem> {
    Query::none(request.uri())?;
    let new: Entries = json::read(request, shared.max_body_bytes).await?;
    tags::check(&cache, &new.tags)?;
    check_count(new.entries.len())?;
    let ttl = match new.ttl {
        None => Ttl::Default,
        Some(JsonTtl::Text(text)) => parse_ttl(&text)?,
        Some(JsonTtl::Seconds(seconds)) => parse_ttl(&seconds.to_string())?,
    };
    let parsed = new
        .entries
        .into_iter()
        .map(|(name, entry)| Parsed::new(new.key_encoding, &name, entry));
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    for chunk in parsed.chunks(WRITTEN_AT_ONCE) {
        let writes = chunk
            .iter()
            .map(|entry| entry.write(&cache, ttl, &new.tags));
        try_join_all(writes).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// An entry of a batch write, checked.
struct Parsed {
    key: Key,
    value: Bytes,
    content_type: Option<String>,
}

impl Parsed {
    fn new(encoding: KeyEncoding, name: &str, entry: NewEntry) -> Result<Self, Problem> {
        let key = encoding.decode(name)?;
        let value = json::decode_value(name, &entry.value)?;
        if let Some(content_type) = &entry.content_type {
            media::check(content_type, &value)?;
        }
        Ok(Self {
            key,
            value,
            content_type: entry.content_type,
        })
    }

    async fn write(&self, cache: &Cache, ttl: Ttl, tags: &[String]) -> Result<bool, Problem> {
        let set = cache.set_raw(&self.key, self.value.clone());
        let mut set = set.ttl(ttl).tags(tags);
        if let Some(content_type) = &self.content_type {
            set = set.content_type(content_type);
        }
        Ok(set.await?)
    }
}

async fn read_keys(shared: &Shared, request: Request) -> Result<Keys, Problem> {
    Query::none(request.uri())?;
    let keys: Keys = json::read(request, shared.max_body_bytes).await?;
    check_count(keys.keys.len())?;
    Ok(keys)
}

impl Keys {
    fn decode(&self) -> Result<Vec<Key>, Problem> {
        let keys = self.keys.iter();
        keys.map(|key| self.key_encoding.decode(key)).collect()
    }
}

fn check_count(keys: usize) -> Result<(), Problem> {
    if keys > MAX_KEYS {
        let detail = format!("{keys} keys are over the limit of {MAX_KEYS} in one request");
        return Err(Problem::new(Kind::TooManyKeys, detail));
    }
    Ok(())
}

/// Returns the entry as it is sent; `None` if it has just expired.
fn found(value: &RawValue) -> Option<Found> {
    let ttl_ms = match value.time_left {
        TimeLeft::Missing => return None,
        TimeLeft::Remaining(left) => Some(left.as_millis() as u64),
        TimeLeft::Forever => None,
    };
    let (body, content_type) = media::represent(value, &axum::http::HeaderMap::new());
    Some(Found {
        value: json::encode_bytes(&body),
        content_type: content_type.to_str().unwrap_or_default().to_owned(),
        ttl_ms,
        typed: value.is_typed,
        tags: value.tags.clone(),
    })
}
