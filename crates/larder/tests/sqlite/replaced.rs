//! The file goes away, or another takes its place, while the store is open.

use std::fs;
use std::path::Path;

use larder::store::{Expiry, Sqlite};

use super::{assert_works, create, eventually, get, key, put, value};

fn remove(path: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        let file = format!("{}{suffix}", path.display());
        // The log and its index may not exist.
        let _ = fs::remove_file(file);
    }
}

/// Asserts that what `store` writes is soon what it and a newcomer to the path read.
///
/// A write at the moment of the change may be lost with the former file, so each try is one of its own.
async fn follows(store: &Sqlite, path: &Path) {
    eventually("the open store follows its file", || async {
        let marker = fastrand::u64(..).to_be_bytes();
        let newcomer = Sqlite::open(path).unwrap();
        let written = put(store, b"marker", &marker, Expiry::Never).await;
        let reads = [get(store, b"marker").await, get(&newcomer, b"marker").await];
        let found = |read: &larder::Result<_>| matches!(read, Ok(Some(read)) if *read == marker);
        written.is_ok() && reads.iter().all(found)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_is_created_again() {
    for suffixes in [
        &[""][..],
        &["", "-wal", "-shm"],
        &["", "-wal", "-shm", ".lock"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.db");
        let store = Sqlite::open(&path).unwrap();
        assert_works(&store).await;
        remove(&path, suffixes);
        follows(&store, &path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_directory_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/cache.db");
    let store = Sqlite::open(&path).unwrap();
    assert_works(&store).await;
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    follows(&store, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("cache.db"), dir.path().join("other.db"));
    create(&other, 20).await;
    let store = Sqlite::open(&path).unwrap();
    assert_works(&store).await;
    remove(&path, &["", "-wal", "-shm"]);
    for suffix in ["-wal", "-shm", ""] {
        let named = |path: &Path| format!("{}{suffix}", path.display());
        fs::rename(named(&other), named(&path)).unwrap();
    }
    follows(&store, &path).await;
    for n in 0..20 {
        assert_eq!(get(&store, &key(n)).await.unwrap(), Some(value(n)));
    }
}

/// How another database comes to stand where ours was, beneath the log that we still have open.
type Exchange = fn(from: &Path, to: &Path);

fn by_rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

/// Keeps the file itself and changes what is in it, as `cp` does.
fn by_copy(from: &Path, to: &Path) {
    fs::write(to, fs::read(from).unwrap()).unwrap();
}

/// Reads what is stored under these numbers; an error is possible until the store notices, a wrong value is not.
async fn assert_no_wrong_values(stores: &[&Sqlite], numbers: impl Iterator<Item = usize> + Clone) {
    for store in stores {
        for n in numbers.clone() {
            if let Ok(Some(read)) = get(store, &key(n)).await {
                assert_eq!(read, value(n), "key {n} has another value");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_exchanged_beneath_its_log_gives_no_wrong_values() {
    let numbers = (0..300).chain(1000..1300);
    for (exchange, in_log) in [
        (by_rename as Exchange, 50),
        (by_rename, 150),
        (by_copy, 50),
        (by_copy, 150),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("cache.db"), dir.path().join("other.db"));
        create(&other, 300).await;
        let fill = async |count: usize| {
            let store = Sqlite::open(&path).unwrap();
            for n in 1000..1000 + count {
                put(&store, &key(n), &value(n), Expiry::Never)
                    .await
                    .unwrap();
            }
            store
        };
        drop(fill(300).await);
        let store = fill(in_log).await;
        exchange(&other, &path);
        assert_no_wrong_values(&[&store], numbers.clone()).await;
        follows(&store, &path).await;
        assert_no_wrong_values(&[&store, &Sqlite::open(&path).unwrap()], numbers.clone()).await;
    }
}
