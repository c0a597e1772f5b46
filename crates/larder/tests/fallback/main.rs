//! The fallback store: a primary goes away and comes back with its old data, and nothing old is ever served.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod history;
mod locks;
mod outage;
mod patience;
mod recovery;
mod redis;
mod state;
mod support;
