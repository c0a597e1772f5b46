//! Tags as applications use them, on every store that has them. Scenarios in which others serve what was invalidated cite
//! their numbers in the collection of such failures, as C1.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

#[macro_use]
mod rig;

#[cfg(feature = "config")]
mod background;
mod bounds;
mod cleanup;
mod explain;
mod listed;
mod loads;
mod overtaken;
mod patterns;
mod peers;
mod settling;
mod snapshots;
mod soft;
mod stampede;
mod switch;
mod views;

use larder::{Cache, MemoryStore};

async fn get(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}

/// A cache in memory, for what does not depend on the store.
fn cache() -> Cache {
    Cache::builder(MemoryStore::new()).build().unwrap()
}
