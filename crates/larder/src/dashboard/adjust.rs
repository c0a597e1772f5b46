//! Changes of one entry in place: counters and expiry.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::path::EntryPath;
use super::problem::{Kind, Problem};
use super::query::Query;
use super::{body, entries, json};
use crate::ttl::Ttl;

/// `POST .../increment?by=1`: adds to a counter; `ttl` is that of a counter which this creates.
pub(super) async fn increment(
    EntryPath { cache, key }: EntryPath,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri(), &["by", "ttl"])?;
    let by = query.integer("by")?.unwrap_or(1);
    let ttl = query.ttl()?.unwrap_or(Ttl::Default);
    body::refuse(request.into_body()).await?;
    let value = cache.increment(&key, by).ttl(ttl).await?;
    Ok(json::reply(&json!({ "value": value })))
}

/// `POST .../expire?ttl=60s`: changes how long an entry lives from now on.
pub(super) async fn expire(
    EntryPath { cache, key }: EntryPath,
    request: Request,
) -> Result<StatusCode, Problem> {
    let query = Query::parse(request.uri(), &["ttl"])?;
    let ttl = query.ttl()?.ok_or_else(|| {
        let detail = "the parameter \"ttl\" is missing; write ttl=60s or ttl=forever";
        Problem::new(Kind::MissingParameter, detail)
    })?;
    body::refuse(request.into_body()).await?;
    entries::found(cache.expire(&key, ttl).await?)
}
