//! Visitors: a rate limit and a welcome, each an entry that expires by itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use larder::{Key, TimeLeft};

use crate::Shop;

const MINUTE: Duration = Duration::from_secs(60);

/// Turns away an address that asked too often within a minute.
pub(crate) async fn limit(
    State(shop): State<Shop>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let key = key("rate", peer.ip());
    // The first request of a minute creates the counter and its TTL; the others only add to it.
    match shop.visitors.increment(&key, 1).ttl(MINUTE).await {
        Ok(requests) if requests > shop.requests_per_minute => too_many(&shop, &key).await,
        Ok(_) => next.run(request).await,
        Err(error) => {
            // Better a visitor too many than a shop that is closed because nobody can count.
            tracing::warn!(%error, "a request was not counted");
            next.run(request).await
        }
    }
}

async fn too_many(shop: &Shop, key: &Key) -> Response {
    let wait_s = match shop.visitors.ttl(key).await {
        Ok(TimeLeft::Remaining(left)) => left.as_secs() + 1,
        _ => 1,
    };
    let headers = [(header::RETRY_AFTER, wait_s.to_string())];
    (
        StatusCode::TOO_MANY_REQUESTS,
        headers,
        "too many requests\n",
    )
        .into_response()
}

/// Returns whether an address has not been welcomed within a minute: only the first of many can add the entry.
pub(crate) async fn is_new(shop: &Shop, address: IpAddr) -> Result<bool, larder::Error> {
    shop.visitors
        .add(key("welcome", address), &true)
        .ttl(MINUTE)
        .await
}

/// Returns a key for an address; joined, since an IPv6 address has colons of its own.
fn key(what: &str, address: IpAddr) -> Key {
    Key::join([what, &address.to_string()])
}
