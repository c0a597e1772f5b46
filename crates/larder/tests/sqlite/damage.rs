//! Files that are damaged or not ours.

use std::fs;
use std::path::Path;

use larder::ErrorKind;
use larder::store::{Expiry, Sqlite, Store};
use larder::testing::body;

use super::{assert_works, create, eventually, key, namespace, put, value};

const ENTRIES: usize = 300;

/// Opens the store at a path that holds something else; returns where that went.
async fn open_over(path: &Path) -> std::path::PathBuf {
    let store = Sqlite::open(path).unwrap();
    let aside = store
        .moved_aside()
        .expect("the file was moved aside")
        .to_owned();
    assert_works(&store).await;
    drop(store);
    let store = Sqlite::open(path).unwrap();
    assert_eq!(store.moved_aside(), None, "once is enough");
    assert_works(&store).await;
    aside
}

#[tokio::test]
async fn garbage_is_moved_aside_and_kept() {
    for garbage in [&b"x"[..], b"SQLite format 3\0", &[0xa5; 10_000], &[0; 4096]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.db");
        fs::write(&path, garbage).unwrap();
        let aside = open_over(&path).await;
        assert_eq!(fs::read(aside).unwrap(), garbage);
    }
}

#[tokio::test]
async fn an_empty_file_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    fs::write(&path, b"").unwrap();
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.moved_aside(), None);
    assert_works(&store).await;
}

#[tokio::test]
async fn a_database_without_tables_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let killed = rusqlite::Connection::open(&path).unwrap();
    killed.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(killed);
    assert!(fs::metadata(&path).unwrap().len() > 0);
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.moved_aside(), None);
    assert_works(&store).await;
    drop(store);
    assert_eq!(Sqlite::open(&path).unwrap().moved_aside(), None);
}

#[tokio::test]
async fn a_database_of_another_program_is_moved_aside_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let theirs = rusqlite::Connection::open(&path).unwrap();
    theirs.pragma_update(None, "journal_mode", "WAL").unwrap();
    theirs
        .execute_batch("CREATE TABLE entries (a); INSERT INTO entries VALUES (42);")
        .unwrap();
    drop(theirs);
    let aside = open_over(&path).await;
    let theirs = rusqlite::Connection::open(aside).unwrap();
    let kept: i64 = theirs
        .query_row("SELECT a FROM entries", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 42);
}

/// Reads all entries; those that come back must be right. Returns how many did, or the error met.
async fn read_all(store: &Sqlite) -> Result<usize, ErrorKind> {
    let mut found = 0;
    for n in 0..ENTRIES {
        let read = store.get_many(&namespace(), &[&key(n)]).await;
        let entry = read.map_err(|error| error.kind())?.remove(0);
        // Damaged bytes may come back as they are; whoever reads them sees that they are no entry.
        let Some(read) = entry.and_then(|entry| body(&entry.value)) else {
            continue;
        };
        assert_eq!(read, value(n), "key {n} has another value");
        found += 1;
    }
    Ok(found)
}

/// Opens a damaged file, twice if its damage shows only in use: after that the store works.
async fn recovers(path: &Path, what: &str) {
    let store = Sqlite::open(path).unwrap();
    if let Err(kind) = read_all(&store).await {
        assert_eq!(kind, ErrorKind::Unavailable, "{what}");
        drop(store);
        let store = Sqlite::open(path).unwrap();
        assert!(
            store.moved_aside().is_some(),
            "{what}: damage that was met is moved aside"
        );
        assert_eq!(read_all(&store).await, Ok(0));
        assert_works(&store).await;
    }
}

#[tokio::test]
async fn a_truncated_file_gives_no_wrong_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    create(&path, ENTRIES).await;
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 100_000, "the entries are in the file");
    for len in [
        1,
        100,
        512,
        4095,
        4096,
        4097,
        20_000,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        fs::write(&path, &whole[..len]).unwrap();
        recovers(&path, &format!("cut to {len}")).await;
        clean(dir.path());
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(read_all(&Sqlite::open(&path).unwrap()).await, Ok(ENTRIES));
}

#[tokio::test]
async fn overwritten_pages_give_no_wrong_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    create(&path, ENTRIES).await;
    let whole = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..40 {
        let mut damaged = whole.clone();
        let at = random.usize(..damaged.len() - 64);
        damaged[at..at + 64].fill_with(|| random.u8(..));
        fs::write(&path, &damaged).unwrap();
        recovers(&path, &format!("round {round}, 64 bytes at {at}")).await;
        clean(dir.path());
    }
}

/// A store that runs for weeks must not wait for a restart: what it meets, it heals.
#[tokio::test(flavor = "multi_thread")]
async fn damage_met_while_open_heals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    create(&path, ENTRIES).await;
    let (store, other) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    assert_eq!(read_all(&store).await, Ok(ENTRIES));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(8192).unwrap();
    assert_eq!(read_all(&store).await, Err(ErrorKind::Unavailable));
    for store in [&store, &other] {
        eventually("the store heals", || async {
            put(store, b"healed", b"yes", Expiry::Never).await.is_ok()
                && read_all(store).await == Ok(0)
        })
        .await;
        assert_works(store).await;
    }
    let names = fs::read_dir(dir.path()).unwrap();
    let aside = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".aside-")
    });
    assert!(aside.count() > 0, "the damaged file is kept");
}

/// Removes what a round left behind.
fn clean(dir: &Path) {
    for file in fs::read_dir(dir).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
}
