//! What the caches are and do, as JSON.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::query::Query;
use super::{Shared, json};
use crate::cache::{Cache, CacheStats, Counts};
use crate::store::StoreStats;

/// `GET /api/v1/caches`: names, stores, and what these can do.
pub(super) async fn caches(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    Query::none(&uri)?;
    let caches: Vec<_> = named(&shared).iter().map(describe).collect();
    Ok(json::reply(&json!({ "caches": caches })))
}

/// `GET /api/v1/stats`: figures of every cache; those of a failed store are replaced by the kind of failure.
pub(super) async fn all(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    Query::none(&uri)?;
    let mut caches = Vec::new();
    for (name, cache) in named(&shared) {
        let mut figures = match cache.stats().await {
            Ok(stats) => figures(&cache, &stats),
            Err(error) => {
                tracing::warn!(cache = name, %error, "the figures of a cache cannot be read");
                let store = cache.store_name();
                json!({ "error": error.kind().to_string(), "store": { "name": store } })
            }
        };
        figures["name"] = Value::from(name);
        caches.push(figures);
    }
    Ok(json::reply(&json!({ "caches": caches })))
}

/// Returns the caches that are configured or were opened, under the names that requests use.
pub(super) fn named(shared: &Shared) -> Vec<(String, Cache)> {
    let names = shared.larder.cache_names().into_iter();
    names
        .filter_map(|name| {
            let cache = shared.larder.cache(&name).ok()?;
            Some((name, cache))
        })
        .collect()
}

fn describe((name, cache): &(String, Cache)) -> Value {
    let can = cache.capabilities();
    json!({
        "name": name,
        "store": cache.store_name(),
        "capabilities": {
            "shared": can.shared,
            "persistent": can.persistent,
            "enumeration": can.enumeration,
            "counters": can.counters,
            "sorted_sets": can.sorted_sets,
        },
    })
}

fn figures(cache: &Cache, stats: &CacheStats) -> Value {
    let local = stats.local.as_ref().map(|local| {
        json!({
            "entries": local.entries,
            "bytes": local.bytes,
            "capacity_bytes": local.capacity_bytes,
            "evicted": local.evicted,
            "lag_ms": local.lag_ms,
            "gaps": local.gaps,
            "errors": local.errors,
        })
    });
    json!({
        "hit_ratio": stats.total.hit_ratio(),
        "entries": stats.entries,
        "process": counts(&stats.process),
        "total": counts(&stats.total),
        "local": local,
        "store": store(cache.store_name(), &stats.store),
    })
}

fn counts(counts: &Counts) -> Value {
    let mut value = json!(counts);
    value["hit_ratio"] = json!(counts.hit_ratio());
    value
}

fn store(name: &str, stats: &StoreStats) -> Value {
    let details = stats.details.iter();
    let details: Map<_, _> = details.map(|(k, v)| (k.clone(), json!(v))).collect();
    json!({
        "name": name,
        "entries": stats.entries,
        "bytes": stats.bytes,
        "capacity_bytes": stats.capacity_bytes,
        "evicted": stats.evicted,
        "expired": stats.expired,
        "quarantined": stats.quarantined,
        "details": details,
    })
}
