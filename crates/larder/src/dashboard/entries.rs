//! One entry: read, write, delete.

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::path::EntryPath;
use super::problem::{Kind, Problem};
use super::query::{Query, bad_argument};
use super::{Shared, body, media, tags};
use crate::ttl::{TimeLeft, Ttl};

/// What is left of the entry's life; absent when it does not expire.
const TTL_MS: HeaderName = HeaderName::from_static("larder-ttl-ms");
/// Whether an application stored the entry as a typed value.
const TYPED: HeaderName = HeaderName::from_static("larder-typed");
/// The tags of the entry; absent when it has none.
const TAGS: HeaderName = HeaderName::from_static("larder-tags");
/// What a browser that opens an entry's URL may do with it: show it, and run or load nothing.
const SANDBOX: &str = "sandbox; default-src 'none'";

/// `GET` and `HEAD`: the value as the body.
pub(super) async fn read(
    EntryPath { cache, key }: EntryPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::none(&uri)?;
    let value = cache.get_raw(&key).await?.ok_or_else(Problem::miss)?;
    let ttl_ms = match value.time_left {
        TimeLeft::Missing => return Err(Problem::miss()),
        TimeLeft::Remaining(left) => Some(left.as_millis() as u64),
        TimeLeft::Forever => None,
    };
    let (body, content_type) = media::represent(&value, &headers);
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    if let Some(ttl_ms) = ttl_ms {
        headers.insert(TTL_MS, HeaderValue::from(ttl_ms));
    }
    if let Some(tags) = tags::header(&value.tags) {
        headers.insert(TAGS, tags);
    }
    if value.is_typed {
        headers.insert(TYPED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// `PUT`: stores the body, with `?if=absent` only where there is no entry.
pub(super) async fn write(
    State(shared): State<Shared>,
    EntryPath { cache, key }: EntryPath,
    request: Request,
) -> Result<StatusCode, Problem> {
    let query = Query::parse(request.uri(), &["ttl", "if", "tags", "tag"])?;
    let ttl = query.ttl()?.unwrap_or(Ttl::Default);
    let if_absent = match query.text("if")? {
        None => false,
        Some("absent") => true,
        Some(_) => return Err(bad_argument("if", "can only be \"absent\"")),
    };
    let tags = query.tags()?;
    tags::check(&cache, &tags)?;
    let headers = request.headers().clone();
    let body = body::read(request, shared.max_body_bytes).await?;
    let content_type = media::of_request(&headers, &body)?;
    let mut set = cache.set_raw(&key, body).ttl(ttl).tags(&tags);
    if let Some(content_type) = content_type {
        set = set.content_type(content_type);
    }
    if if_absent {
        set = set.if_absent();
    }
    if set.await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let detail = "the entry was left as it is, since there is one";
        Err(Problem::new(Kind::Present, detail))
    }
}

/// `DELETE`: removes an entry of any kind.
pub(super) async fn delete(
    EntryPath { cache, key }: EntryPath,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    Query::none(&uri)?;
    found(cache.delete(&key).await?)
}

/// Returns the reply to a change that depends on whether there was an entry.
pub(super) fn found(found: bool) -> Result<StatusCode, Problem> {
    if found {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::miss())
    }
}
