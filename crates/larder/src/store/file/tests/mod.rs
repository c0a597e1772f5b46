//! What holds for files in particular. What holds for every store is a law in `testing`.

mod damage;
mod faults;
mod journal;
mod leases;
mod registers;
mod rivals;
mod safety;
mod upkeep;

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tempfile::TempDir;

use super::name::{Address, is_temp};
use super::*;
use crate::codec::Encoding;
use crate::envelope::{self, Envelope, Header};
use crate::error::ErrorKind;

fn space() -> Namespace {
    Namespace::new("test", "files", 1)
}

fn sealed(body: &str) -> Bytes {
    let header = Header::new(Encoding::Raw, 0, None);
    envelope::seal(&header, body.as_bytes(), body.len()).unwrap()
}

fn body(entry: &Entry) -> String {
    let body = Envelope::open(&entry.value).unwrap().body;
    String::from_utf8(body.to_vec()).unwrap()
}

fn open(dir: &TempDir) -> File {
    File::open(dir.path().join("cache")).unwrap()
}

fn address(key: &[u8]) -> Address {
    Address::new(Digest::of(space().as_bytes()), key)
}

fn path_of(store: &File, key: &[u8]) -> PathBuf {
    store.disk.layout.entry_path(&address(key))
}

/// Runs a future without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return done;
        }
        std::thread::yield_now();
    }
}

fn write(store: &File, write: Write<'_>) -> bool {
    block_on(store.write_many(&space(), &[write])).unwrap()[0]
}

fn set(store: &File, key: &[u8], text: &str) {
    assert!(write(store, Write::put(key, sealed(text), Expiry::Never)));
}

fn try_get(store: &File, key: &[u8]) -> Result<Option<String>> {
    let entry = block_on(store.get_many(&space(), &[key]))?.remove(0);
    Ok(entry.as_ref().map(body))
}

fn get(store: &File, key: &[u8]) -> Option<String> {
    try_get(store, key).unwrap()
}

fn stats(store: &File) -> StoreStats {
    block_on(store.stats()).unwrap()
}

/// Returns all paths below a directory.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found
}

fn temps(store: &File) -> Vec<PathBuf> {
    let mut paths = tree(store.disk.layout.root());
    paths.retain(|path| is_temp(path.file_name().unwrap().to_str().unwrap()));
    paths
}
