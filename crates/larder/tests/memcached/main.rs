//! The Memcached store against real servers that die, stall and restart, and against ones that lie.
//!
//! `LARDER_TEST_MEMCACHED` names a server that takes items of 32 MiB, `LARDER_TEST_MEMCACHED_SMALL` one with its
//! default limits, both as `host:port`. Without them the tests fail: a test that is skipped looks like one that passed.
//! Tests that harm a server start one of their own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod items;
mod keys;
mod lies;
mod limits;
mod locks;
mod proxy;
mod server;
mod status;
mod tag_history;
mod tags;

use std::time::{Duration, Instant};

use larder::store::{Expiry, Memcached, Store, Write};
use larder::testing::{body, sealed};
use larder::{Namespace, Result};

/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the address of the server that takes large items.
fn large() -> String {
    address("LARDER_TEST_MEMCACHED")
}

/// Returns the address of the server with the default limits.
fn small() -> String {
    address("LARDER_TEST_MEMCACHED_SMALL")
}

fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} must name a Memcached server as host:port; `cargo xtask test` starts one"
        )
    })
}

/// Returns a namespace that nothing else uses.
fn namespace() -> Namespace {
    Namespace::new(&format!("t{:016x}", fastrand::u64(..)), "memcached", 1)
}

async fn put(store: &Memcached, space: &Namespace, key: &[u8], value: &[u8]) -> Result<()> {
    let write = Write::put(key, sealed(value), Expiry::Never);
    let applied = store.write_many(space, &[write]).await?;
    assert_eq!(applied, [true]);
    Ok(())
}

/// Reads the body of an entry; what is there and cannot be read is `Some` of nothing.
async fn get(store: &Memcached, space: &Namespace, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let entry = store.get_many(space, &[key]).await?.remove(0);
    Ok(entry.map(|entry| body(&entry.value).unwrap_or_default().to_vec()))
}

/// Waits until the check holds.
async fn eventually<W: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> W) {
    let start = Instant::now();
    while !check().await {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
