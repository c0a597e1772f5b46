//! A shop over a slow database, with Larder in front of it.
//!
//! ```text
//! browser --> visitors (rate limit) --> users | products | overview --> Larder --miss--> db
//! ```
//!
//! What goes where: [`Shop`] holds one cache per kind of thing, so that each can be cleared alone.
//! - `pages`: finished HTML, and which ids are on a page
//! - `users`, `products`: rows of the database by id
//! - `counts`: views and rankings, of no use to the database
//! - `visitors`: who came when, for minutes
//!
//! Several processes may serve one shop, on one directory and one cache; `changes` is about what they show of each
//! other's changes.

mod changes;
mod db;
mod error;
mod overview;
mod pages;
mod products;
mod rankings;
mod stats;
mod users;
mod visitors;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use larder::{Cache, Larder};
use serde::Deserialize;
use tokio::net::TcpListener;

pub use self::error::AppError;

use self::db::Database;

/// How long what comes from the database is kept. A change removes it sooner; this bounds how long a removal that
/// was lost, say to a crash between the two, can be seen.
const TTL: Duration = Duration::from_secs(3600);
/// By how much each entry's life is shortened at random, so that what was loaded together is not reloaded together.
const JITTER: f64 = 0.1;

/// What can be chosen about a shop.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the database `shop.db` and, by default, the cache live; created when it is not there.
    pub dir: PathBuf,
    /// How slow the database is; default 20 ms a query.
    pub query_time: Duration,
    /// A configuration of the cache, a `larder.toml`; by default the cache is a file beside the database.
    pub config: Option<PathBuf>,
    /// How many requests a minute each address may make; default 300.
    pub requests_per_minute: i64,
}

impl Settings {
    /// Returns the defaults for a directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            query_time: Duration::from_millis(20),
            config: None,
            requests_per_minute: 300,
        }
    }
}

/// The state of the application: handles only, so that every request has its own clone.
#[derive(Debug, Clone)]
pub struct Shop {
    larder: Larder,
    pages: Cache,
    users: Cache,
    products: Cache,
    counts: Cache,
    visitors: Cache,
    database: Database,
    requests_per_minute: i64,
}

impl Shop {
    /// Opens the database and the cache. Blocks for some milliseconds, which does not matter before the first request.
    ///
    /// # Errors
    /// The directory or a file in it cannot be created or read; the configuration is wrong, or its server is not there.
    pub async fn open(settings: Settings) -> Result<Self, AppError> {
        std::fs::create_dir_all(&settings.dir)?;
        let larder = match &settings.config {
            Some(file) => Larder::open(file).await?,
            None => Larder::embedded(settings.dir.join("cache")).await?,
        };
        let shop = Self {
            pages: larder.partition("pages")?,
            users: larder.partition("users")?,
            products: larder.partition("products")?,
            counts: larder.partition("counts")?,
            visitors: larder.partition("visitors")?,
            database: Database::open(&settings.dir.join("shop.db"), settings.query_time)?,
            requests_per_minute: settings.requests_per_minute,
            larder,
        };
        users::name_groups(&shop.pages)?;
        rankings::fill_best_sellers(&shop).await?;
        Ok(shop)
    }

    /// Answers requests until `stop` is done and the requests under way are answered.
    ///
    /// # Errors
    /// The cache could not take the last counts.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), AppError> {
        let service = self
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service)
            .with_graceful_shutdown(stop)
            .await?;
        self.larder.shutdown().await?;
        Ok(())
    }

    /// Returns how often the database was asked.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.database.queries()
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/", get(overview::show))
            .route("/users", get(users::list))
            .route("/users/{id}", get(users::show).post(users::rename))
            .route("/users/imported", post(users::imported))
            .route("/products", get(products::list))
            .route("/products/{id}", get(products::show))
            .route("/products/{id}/buy", post(products::buy))
            .route("/stats", get(stats::stats))
            .fallback(|| async { AppError::NotFound })
            .layer(from_fn_with_state(self.clone(), visitors::limit))
            // After the layer, so that a busy monitor is not turned away.
            .route("/healthz", get(stats::health))
            .with_state(self.clone())
    }
}

/// The `?page=` of a list, from 1.
#[derive(Debug, Deserialize)]
struct Paging {
    page: Option<u32>,
}

impl Paging {
    fn number(&self) -> u32 {
        self.page.unwrap_or(1).max(1)
    }
}
