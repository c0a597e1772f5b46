//! Tags: what depends on them, and invalidating them.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::json::{self, KeyEncoding};
use super::path::{CachePath, TagPath};
use super::problem::{Kind, Problem};
use super::query::Query;
use super::{Shared, keys};
use crate::cache::{Cache, InvalidatedTag};
use crate::error::ErrorKind;
use crate::glob::Glob;
use crate::key::Key;
use crate::tag::{self, Selector};
use crate::ttl::parse_duration;

/// The most tags of one invalidation.
const MAX_TAGS: usize = 1000;

/// A key of a tag.
#[derive(Debug, Serialize)]
struct Listed {
    key: String,
    #[serde(skip_serializing_if = "KeyEncoding::is_text")]
    key_encoding: KeyEncoding,
}

impl From<&Key> for Listed {
    fn from(key: &Key) -> Self {
        let (key, key_encoding) = KeyEncoding::encode(key);
        Self { key, key_encoding }
    }
}

/// The body of an invalidation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    tags: Vec<String>,
    group: Option<String>,
    /// How many keys of each tag to list.
    keys: Option<usize>,
    /// Only mark the entries stale.
    #[serde(default)]
    stale: bool,
}

/// `GET .../tags?pattern=`: the tags that entries may carry, and the groups.
pub(super) async fn list(CachePath(cache): CachePath, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["pattern"])?;
    let pattern = Glob::new(query.bytes("pattern").unwrap_or(b"*"))?;
    let mut tags = cache.tag_names().await?;
    tags.retain(|tag| pattern.matches(tag.as_bytes()));
    let groups = cache.tag_groups();
    Ok(json::reply(&json!({ "tags": tags, "groups": groups })))
}

/// `GET .../tags/{tag}?limit=`: the keys of the entries with a tag, or with one of a subtree.
pub(super) async fn show(path: TagPath, uri: Uri) -> Result<Response, Problem> {
    let TagPath { cache, tag } = path;
    let query = Query::parse(&uri, &["limit"])?;
    let limit = keys::limit(&query)?;
    check_selector(&tag)?;
    let mut keys = cache.tag_keys(&tag, limit + 1).await?;
    let more = keys.len() > limit;
    keys.truncate(limit);
    let keys: Vec<_> = keys.iter().map(Listed::from).collect();
    let reply = json!({ "tag": tag, "keys": keys, "more": more });
    Ok(json::reply(&reply))
}

/// `POST .../tags/invalidate`: makes all entries with any of the tags absent, or marks them stale.
pub(super) async fn invalidate(
    State(shared): State<Shared>,
    CachePath(cache): CachePath,
    request: Request,
) -> Result<Response, Problem> {
    Query::none(request.uri())?;
    let asked: Asked = json::read(request, shared.max_body_bytes).await?;
    let tags = all_tags(&cache, asked.tags, asked.group.as_deref())?;
    tags.iter().try_for_each(|tag| check_selector(tag))?;
    needs_tags(&cache)?;
    let mut invalidation = match asked.stale {
        true => cache.mark_stale_tags(tags),
        false => cache.invalidate_tags(tags),
    };
    if let Some(keys) = asked.keys {
        keys::check_limit("keys", i64::try_from(keys).unwrap_or(i64::MAX))?;
        invalidation = invalidation.with_keys(keys);
    }
    let outcome = invalidation.await?;
    let tags: Vec<_> = outcome.tags.iter().map(done).collect();
    let reply = json!({ "tags": tags, "parts": outcome.parts });
    Ok(json::reply(&reply))
}

/// The body of a cleanup.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cleaning {
    #[serde(default)]
    dry_run: bool,
    /// How long a tag that nothing carries is kept yet.
    max_tag_age: Option<String>,
}

/// `POST .../tags/cleanup`: removes invalid entries, and lets tags go that nothing carries.
pub(super) async fn cleanup(
    State(shared): State<Shared>,
    CachePath(cache): CachePath,
    request: Request,
) -> Result<Response, Problem> {
    Query::none(request.uri())?;
    let asked: Cleaning = json::read(request, shared.max_body_bytes).await?;
    needs_tags(&cache)?;
    let mut cleanup = cache.cleanup_tags();
    if let Some(age) = asked.max_tag_age {
        cleanup = cleanup.max_tag_age(parse_duration(&age)?);
    }
    if asked.dry_run {
        cleanup = cleanup.dry_run();
    }
    Ok(json::reply(&cleanup.await?))
}

fn all_tags(
    cache: &Cache,
    given: Vec<String>,
    group: Option<&str>,
) -> Result<Vec<String>, Problem> {
    let mut tags = given;
    if let Some(group) = group {
        tags.extend(cache.group_tags(group)?);
    }
    if tags.is_empty() {
        let detail = "say what to invalidate: {\"tags\":[..]} or {\"group\":\"name\"}";
        return Err(Problem::new(Kind::BadBody, detail));
    }
    if tags.len() > MAX_TAGS {
        let detail = format!("{} tags are over the limit of {MAX_TAGS}", tags.len());
        return Err(Problem::new(Kind::BadTag, detail));
    }
    Ok(tags)
}

fn done(tag: &InvalidatedTag) -> serde_json::Value {
    let mut done = json!({ "tag": tag.tag, "existed": tag.existed });
    if let Some(keys) = &tag.keys {
        done["keys"] = json!(keys.iter().map(Listed::from).collect::<Vec<_>>());
    }
    done
}

/// Checks the tags of an entry that is about to be written.
pub(super) fn check<T: AsRef<str>>(cache: &Cache, tags: &[T]) -> Result<(), Problem> {
    tag::registers(tags).map_err(|error| Problem::new(Kind::BadTag, error.message()))?;
    if tags.is_empty() {
        return Ok(());
    }
    needs_tags(cache)
}

/// Refuses tags where there are none; what to do about it is no secret.
fn needs_tags(cache: &Cache) -> Result<(), Problem> {
    cache.check_tags().map_err(|error| match error.kind() {
        ErrorKind::InvalidConfig => Problem::new(Kind::Unsupported, error.message()),
        _ => error.into(),
    })
}

fn check_selector(tag: &str) -> Result<(), Problem> {
    let parsed = Selector::parse(tag);
    parsed
        .map(drop)
        .map_err(|error| Problem::new(Kind::BadTag, error.message()))
}

/// Returns tags as the value of a header: separated by commas, with `%XX` for what cannot stand there and for commas.
pub(super) fn header(tags: &[String]) -> Option<HeaderValue> {
    let mut text = String::new();
    for (index, tag) in tags.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for byte in tag.bytes() {
            if byte.is_ascii_graphic() && !matches!(byte, b',' | b'%') {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    let value = HeaderValue::from_str(&text).ok();
    value.filter(|_| !tags.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_any_tags_unambiguously() {
        let text = |tags: &[&str]| {
            let tags: Vec<_> = tags.iter().map(|&tag| tag.to_owned()).collect();
            header(&tags).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(text(&[]), None);
        assert_eq!(text(&["users", "user:1"]).unwrap(), "users,user:1");
        let encoded = text(&["a,b", "\r\nx: y", "\u{fc}%"]).unwrap();
        assert_eq!(encoded, "a%2Cb,%0D%0Ax:%20y,%C3%BC%25");
    }
}
