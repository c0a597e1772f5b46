//! The HTTP API over a real socket, as other programs and hostile ones see it.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

#[path = "http_api/client.rs"]
mod client;

#[path = "http_api/bulk.rs"]
mod bulk;
#[path = "http_api/entries.rs"]
mod entries;
#[path = "http_api/failures.rs"]
mod failures;
#[path = "http_api/guard.rs"]
mod guard;
#[path = "http_api/hostile.rs"]
mod hostile;
#[path = "http_api/keys.rs"]
mod keys;
#[path = "http_api/status.rs"]
mod status;
#[path = "http_api/tags.rs"]
mod tags;
