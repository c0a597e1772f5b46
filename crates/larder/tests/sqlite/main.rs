//! What the embedded store does with damaged, foreign, replaced and full files, and how it keeps its bound.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bound;
mod copies;
mod damage;
mod disk;
mod leases;
mod replaced;
mod rivals;

use std::path::Path;
use std::time::{Duration, Instant};

use larder::store::{Expiry, Sqlite, Store, Write};
use larder::testing::{body, sealed};
use larder::{Namespace, Result};

/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn namespace() -> Namespace {
    Namespace::new("test", "sqlite", 1)
}

async fn put(store: &Sqlite, key: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
    let write = Write::put(key, sealed(value), expiry);
    store.write_many(&namespace(), &[write]).await.map(drop)
}

/// Reads the body of an entry; panics if it is there and cannot be read.
async fn get(store: &Sqlite, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let entry = store.get_many(&namespace(), &[key]).await?.remove(0);
    Ok(entry.map(|entry| body(&entry.value).expect("a whole entry").to_vec()))
}

/// Asserts that the store takes a write and reads it back.
async fn assert_works(store: &Sqlite) {
    put(store, b"works", b"yes", Expiry::Never).await.unwrap();
    assert_eq!(
        get(store, b"works").await.unwrap().as_deref(),
        Some(&b"yes"[..])
    );
}

/// Waits until the check holds.
async fn eventually<W: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> W) {
    let start = Instant::now();
    while !check().await {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Creates a store with so many entries `key-n` of `value-n`, padded to 500 bytes, and closes it.
async fn create(path: &Path, entries: usize) {
    let store = Sqlite::open(path).unwrap();
    for n in 0..entries {
        put(&store, &key(n), &value(n), Expiry::Never)
            .await
            .unwrap();
    }
}

fn key(n: usize) -> Vec<u8> {
    format!("key-{n}").into()
}

fn value(n: usize) -> Vec<u8> {
    format!("value-{n:<500}").into()
}
