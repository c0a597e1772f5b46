//! The one error of the application, and what the browser sees of it.

use std::error::Error;
use std::fmt;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::pages;

/// Why a request has no page.
#[derive(Debug)]
pub enum AppError {
    /// There is nothing at this address.
    NotFound,
    /// The form was filled in wrongly.
    Invalid(&'static str),
    /// The product is out of stock.
    SoldOut,
    /// The database failed.
    Database(rusqlite::Error),
    /// The cache failed, or the load of another request that this one waited for.
    Cache(larder::Error),
    /// The system failed: files, sockets, threads.
    System(std::io::Error),
}

impl AppError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::SoldOut => StatusCode::CONFLICT,
            Self::Cache(error) if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Cache(_) | Self::System(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is nothing here"),
            Self::Invalid(why) => f.write_str(why),
            Self::SoldOut => f.write_str("this product is sold out"),
            Self::Database(error) => write!(f, "database: {error}"),
            Self::Cache(error) => write!(f, "cache: {error}"),
            Self::System(error) => write!(f, "system: {error}"),
        }
    }
}

impl Error for AppError {}

/// Goes on without what the cache could not give or take: for figures that are not worth an error page.
pub(crate) fn or_default<T: Default>(result: larder::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        tracing::warn!(%error, "a page does without its cache");
        T::default()
    })
}

impl From<rusqlite::Error> for AppError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// What `RememberError::into_user` asks for: with it, `remember` has the same error type as its loader.
impl From<larder::Error> for AppError {
    fn from(error: larder::Error) -> Self {
        Self::Cache(error)
    }
}

impl From<std::io::Error> for AppError {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let status = self.status();
        // Our own failures are for the log: their text may tell strangers about files and queries.
        let text = if status.is_server_error() {
            tracing::error!(error = ?self, "a request failed");
            "something went wrong".to_owned()
        } else {
            self.to_string()
        };
        let body = format!("<p>{}</p>", pages::escape(&text));
        (status, pages::page(status.as_str(), &body)).into_response()
    }
}
