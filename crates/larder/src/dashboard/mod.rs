//! The HTTP API and the status page: an axum router over a [`Larder`].
//!
//! For services in other languages, and for people with curl. `docs/http.md` is the reference. Everything that arrives
//! is hostile until parsed here; everything below this module sees checked keys and options only.
//!
//! ```text
//! request -> guard (token or Host, Origin, read-only) -> path, query, body: strict -> one call of the cache -> reply
//!         <- headers (nosniff, CSP, no-store, ..)     <- problem+json on any refusal                       <-
//! ```
//!
//! Files by subject: `entries`, `adjust` (increment, expire), `keys`, `bulk`, `tags`, `stats`, `health`, `page` answer requests;
//! `guard`, `token`, `headers`, `path`, `query`, `body`, `json`, `media`, `problem` are what they share.

/// Compiles the examples of the reference.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/http.md")]
mod reference {}

mod adjust;
mod body;
mod bulk;
mod entries;
mod guard;
mod headers;
mod health;
mod json;
mod keys;
mod media;
mod page;
mod path;
mod problem;
mod query;
mod stats;
mod tags;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{delete, get, post};

use self::token::Token;
use crate::larder::Larder;

/// The default of [`Dashboard::max_body_bytes`].
const DEFAULT_MAX_BODY_BYTES: usize = 16 << 20;

/// The HTTP API and the status page of a [`Larder`], about to become a router.
///
/// Without a [token](Dashboard::token) only requests to `localhost`, `127.0.0.1` or `[::1]` are answered, which keeps
/// web pages that a browser on the same machine has open from reaching the cache by DNS rebinding. It is for a
/// listener on a loopback address; give a token before listening anywhere else.
///
/// # Examples
/// ```no_run
/// use larder::Larder;
/// use larder::dashboard::Dashboard;
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let larder = Larder::embedded("/var/lib/larder").await?;
/// let router = Dashboard::new(larder).read_only(true).router();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:7878").await?;
/// axum::serve(listener, router).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a dashboard does nothing until its router is served"]
pub struct Dashboard {
    larder: Larder,
    token: Option<Token>,
    read_only: bool,
    max_body_bytes: usize,
}

/// What every request handler is given.
type Shared = Arc<Dashboard>;

impl Dashboard {
    /// Starts from the defaults: no token, changes allowed, bodies up to 16 MiB.
    pub fn new(larder: Larder) -> Self {
        Self {
            larder,
            token: None,
            read_only: false,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        }
    }

    /// Demands `Authorization: Bearer <secret>` of every request except `/livez` and `/readyz`, and then accepts any
    /// `Host`. An empty secret is never matched, so it locks everything.
    pub fn token(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.token = Some(Token::new(secret.as_ref()));
        self
    }

    /// Refuses everything that would change a cache, with status 403; default false.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The longest request body, in bytes; default 16 MiB. A longer one is answered with status 413.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Returns the router, to be served at the root of a listener.
    pub fn router(self) -> Router {
        let shared: Shared = Arc::new(self);
        Router::new()
            .route("/", get(page::status))
            .route(page::STYLESHEET_PATH, get(page::stylesheet))
            .route(health::LIVE_PATH, get(health::live))
            .route(health::READY_PATH, get(health::ready))
            .nest("/api/v1", api())
            .fallback(path::unknown)
            .layer(from_fn_with_state(Arc::clone(&shared), guard::check))
            .layer(map_response(headers::finish))
            .with_state(shared)
    }
}

/// The routes under [`path::API`].
fn api() -> Router<Shared> {
    let entry = get(entries::read)
        .put(entries::write)
        .delete(entries::delete);
    Router::new()
        .route("/stats", get(stats::all))
        .route("/caches", get(stats::caches))
        .route("/caches/{cache}/keys", get(keys::list))
        .route("/caches/{cache}/entries", delete(keys::delete))
        .route("/caches/{cache}/entries/{key}", entry)
        .route(
            "/caches/{cache}/entries/{key}/increment",
            post(adjust::increment),
        )
        .route("/caches/{cache}/entries/{key}/expire", post(adjust::expire))
        .route("/caches/{cache}/tags", get(tags::list))
        .route("/caches/{cache}/tags/{tag}", get(tags::show))
        .route(
            "/caches/{cache}/tags/invalidate",
            post(tags::invalidate).get(tags::show),
        )
        .route(
            "/caches/{cache}/tags/cleanup",
            post(tags::cleanup).get(tags::show),
        )
        .route("/caches/{cache}/batch/get", post(bulk::get))
        .route("/caches/{cache}/batch/set", post(bulk::set))
        .route("/caches/{cache}/batch/delete", post(bulk::delete))
}
