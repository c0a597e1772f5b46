//! Whether the process lives, and whether it can serve: for supervisors and load balancers.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Shared, json};
use crate::error::{Error, ErrorKind, Result};

pub(super) const LIVE_PATH: &str = "/livez";
pub(super) const READY_PATH: &str = "/readyz";

/// How long a store may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /livez`: the process answers; nothing else is looked at.
pub(super) async fn live() -> Response {
    json::reply(&json!({ "status": "pass" }))
}

/// `GET /readyz`: the default store answers.
pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    let start = Instant::now();
    let result = ping(&shared).await;
    let status = if result.is_ok() { "pass" } else { "fail" };
    let mut check = json!({
        "status": status,
        "latency_ms": start.elapsed().as_micros() as f64 / 1000.0,
    });
    if let Err(error) = &result {
        tracing::warn!(%error, "the default store is not ready");
        check["reason"] = Value::from(error.kind().to_string());
    }
    let mut response = json::reply(&json!({ "status": status, "checks": { "store": check } }));
    if result.is_err() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.into_response()
}

async fn ping(shared: &Shared) -> Result<()> {
    let cache = shared.larder.default_cache();
    let answer = tokio::time::timeout(PATIENCE, cache.ping()).await;
    answer.unwrap_or_else(|elapsed| {
        Err(Error::new(ErrorKind::Timeout, "no answer to a ping").caused_by(elapsed))
    })
}
