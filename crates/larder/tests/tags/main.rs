//! Tags as applications use them. Scenarios in which others serve what was invalidated cite their numbers in the
//! collection of such failures, as C1.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod bounds;
mod loads;
mod switch;
mod views;

use larder::{Cache, MemoryStore};

fn cache() -> Cache {
    Cache::builder(MemoryStore::new()).build().unwrap()
}

async fn get(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}
