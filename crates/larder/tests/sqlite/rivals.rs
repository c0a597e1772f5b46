//! Writes that are withdrawn, blocked by another process, or raced by one.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use larder::store::{Expiry, Sqlite, Store, Write};
use rusqlite::Connection;

use super::{create, get, key, namespace, put};

/// Large enough to be written on a blocking thread.
fn large() -> Vec<u8> {
    vec![b'x'; 300 << 10]
}

/// A runtime whose only blocking thread is busy until the sender is dropped.
fn without_blocking_threads() -> (tokio::runtime::Runtime, std::sync::mpsc::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || released.recv().is_err());
    (runtime, release)
}

#[test]
fn a_withdrawn_write_does_not_replace_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("cache.db")).unwrap();
    let (runtime, release) = without_blocking_threads();
    runtime.block_on(async {
        let old = large();
        let withdrawn = put(&store, b"key", &old, Expiry::Never);
        let withdrawn = tokio::time::timeout(Duration::from_millis(20), withdrawn).await;
        assert!(withdrawn.is_err(), "it waits for a blocking thread");
        put(&store, b"key", b"new", Expiry::Never).await.unwrap();
        drop(release);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let read = get(&store, b"key").await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"new"[..]));
    });
}

#[test]
fn a_write_whose_runtime_ended_is_not_left_for_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("cache.db")).unwrap();
    let (runtime, release) = without_blocking_threads();
    let value = large();
    runtime.block_on(async {
        let cut_off = put(&store, b"key", &value, Expiry::Never);
        let cut_off = tokio::time::timeout(Duration::from_millis(20), cut_off).await;
        assert!(cut_off.is_err(), "it waits for a blocking thread");
    });
    runtime.shutdown_background();
    drop(release);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(super::eventually("the write is made", || async {
        get(&store, b"key").await.unwrap() == Some(value.clone())
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_waits_for_a_stuck_process_gives_up_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let store = Sqlite::open(&path).unwrap();
    let stuck = Connection::open(&path).unwrap();
    stuck.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    let writers: Vec<_> = (0..8)
        .map(|n: u8| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &[n], b"value", Expiry::Never).await })
        })
        .collect();
    for writer in writers {
        let error = writer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), larder::ErrorKind::Timeout);
    }
    // Two batches at most: what waited when the first began, and what came meanwhile.
    assert!(start.elapsed() < Duration::from_secs(13));
    stuck.execute_batch("COMMIT").unwrap();
    put(&store, b"key", b"value", Expiry::Never).await.unwrap();
}

#[test]
fn of_two_processes_only_one_deletes_an_entry() {
    const ENTRIES: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let keys: Vec<_> = (0..ENTRIES).map(key).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create(&path, ENTRIES));
    let together = Barrier::new(2);
    let delete_all = || {
        let store = Sqlite::open(&path).unwrap();
        together.wait();
        let delete = async |key: &Vec<u8>| {
            let write = [Write::delete(key)];
            store.write_many(&namespace(), &write).await.unwrap() == [true]
        };
        let count = async || {
            let mut count = 0;
            for key in &keys {
                count += usize::from(delete(key).await);
            }
            count
        };
        runtime.block_on(count())
    };
    let deleted: usize = std::thread::scope(|scope| {
        let rivals = [scope.spawn(delete_all), scope.spawn(delete_all)];
        rivals.into_iter().map(|rival| rival.join().unwrap()).sum()
    });
    assert_eq!(deleted, ENTRIES);
}

#[tokio::test]
async fn pruning_everything_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("cache.db")).unwrap();
    put(&store, b"key", b"value", Expiry::After(1))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let pruned = tokio::time::timeout(Duration::from_secs(10), store.prune(usize::MAX)).await;
    assert!(pruned.expect("an end").unwrap() <= 1);
}
