//! What the operator asks: does it work, and does it help.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use crate::Shop;
use crate::error::AppError;

/// Returns, per cache, what this process and all before it did with it.
pub(crate) async fn stats(State(shop): State<Shop>) -> Result<Json<Value>, AppError> {
    let mut caches = Map::new();
    for name in shop.larder.cache_names() {
        let stats = shop.larder.partition(&name)?.stats().await?;
        let figures = json!({
            "entries": stats.entries,
            "hit_ratio": stats.process.hit_ratio(),
            "process": stats.process,
            "total": stats.total,
            "local": stats.local,
        });
        caches.insert(name, figures);
    }
    Ok(Json(json!({ "caches": caches, "queries": shop.queries() })))
}

/// Returns `ok` if the cache answers. Pages would do without it, but slowly, and somebody should know.
pub(crate) async fn health(State(shop): State<Shop>) -> Result<&'static str, AppError> {
    shop.pages.ping().await?;
    Ok("ok\n")
}
