//! Locks as applications use them.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod bounds;
mod fences;
mod guards;
mod limits;
mod races;
mod slow;
mod waiting;

use std::time::Duration;

use larder::{Cache, ManualClock, MemoryStore};

const SECOND: Duration = Duration::from_secs(1);

/// A cache in memory whose time moves by hand.
fn by_hand() -> (Cache, ManualClock) {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    (Cache::builder(store).build().unwrap(), time)
}

/// A cache in memory in real time.
fn cache() -> Cache {
    Cache::builder(MemoryStore::new()).build().unwrap()
}

/// Waits until something holds; panics after ten seconds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come");
}
