//! Locks and rate limiters in the database file, among its entries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder::lock::{Answer, Ask, IDLE_MS, LockStore, Owner, Rate};
use larder::store::{Expiry, Sqlite, Store};
use larder::{Glob, ManualClock, Namespace, Result};
use rusqlite::Connection;

use super::{eventually, get, namespace, put};

const DAMAGE: &str = "UPDATE leases SET record = ?1";

fn open(path: &Path) -> (Sqlite, Arc<dyn LockStore>) {
    let store = Sqlite::open(path).unwrap();
    let locks = store.lock_store().unwrap();
    (store, locks)
}

fn ask(owner: &Owner) -> Ask {
    Ask {
        owner: owner.clone(),
        permits: 1,
        ttl_ms: 60_000,
        heartbeat_ms: None,
        barge: false,
    }
}

/// Returns the fence if the owner is granted the lock.
async fn acquire(locks: &dyn LockStore, name: &[u8], owner: &Owner) -> Result<Option<u64>> {
    let answer = locks.acquire(&namespace(), name, &ask(owner)).await?;
    Ok(match answer {
        Answer::Granted { fence, .. } => Some(fence),
        Answer::Busy { .. } => None,
    })
}

async fn release(locks: &dyn LockStore, name: &[u8], owner: &Owner) -> bool {
    let namespace = namespace();
    let released = locks.release(&namespace, name, owner, None);
    released.await.unwrap()
}

fn count_rows(path: &Path) -> i64 {
    let database = Connection::open(path).unwrap();
    let count = "SELECT count(*) FROM leases";
    database.query_row(count, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn two_stores_on_one_file_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let ((one, a), (_two, b)) = (open(&path), open(&path));
    let (first, second) = (Owner::new(), Owner::new());
    let name = b"na\0me\xff";
    let fence = acquire(&*a, name, &first).await.unwrap().unwrap();
    assert_eq!(acquire(&*b, name, &second).await.unwrap(), None);
    assert!(!release(&*b, name, &second).await);
    let listed = b.list(&namespace(), &Glob::all(), 10).await.unwrap();
    assert_eq!(listed[0].name.as_bytes(), name);
    assert_eq!(listed[0].holders[0].fence, fence);
    drop((one, a));
    assert_eq!(
        acquire(&*b, name, &second).await.unwrap(),
        None,
        "its process is alive, and has the file open"
    );
    assert!(release(&*b, name, &first).await, "on any of its stores");
    assert!(acquire(&*b, name, &second).await.unwrap().unwrap() > fence);
}

#[tokio::test]
async fn two_hundred_tasks_of_two_stores_share_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let stores = [open(&path), open(&path)];
    let fences = std::sync::Mutex::new(Vec::new());
    let contend = async |n: usize| {
        let (locks, owner) = (&stores[n % 2].1, Owner::new());
        loop {
            if let Some(fence) = acquire(&**locks, b"shared", &owner).await.unwrap() {
                fences.lock().unwrap().push(fence);
                assert!(release(&**locks, b"shared", &owner).await);
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    futures_util::future::join_all((0..200).map(contend)).await;
    let fences = fences.into_inner().unwrap();
    assert!(fences.is_sorted_by(|a, b| a < b));
    assert_eq!(fences.len(), 200);
}

#[tokio::test]
async fn neither_clear_nor_the_size_bound_drops_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let store = Sqlite::builder(&path).max_bytes(512 << 10).build().unwrap();
    let locks = store.lock_store().unwrap();
    let owner = Owner::new();
    let fence = acquire(&*locks, b"kept", &owner).await.unwrap();
    store.clear(&namespace()).await.unwrap();
    for n in 0..2000_u32 {
        put(&store, &n.to_be_bytes(), &[7; 1000], Expiry::Never)
            .await
            .unwrap();
    }
    eventually("entries are evicted", || async {
        store.stats().await.unwrap().evicted > 0
    })
    .await;
    assert_eq!(acquire(&*locks, b"kept", &owner).await.unwrap(), fence);
    assert_eq!(
        acquire(&*locks, b"kept", &Owner::new()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn leases_that_nobody_uses_are_pruned_and_held_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let time = ManualClock::new();
    let store = Sqlite::builder(&path).clock(time.clock()).build().unwrap();
    let locks = store.lock_store().unwrap();
    let owner = Owner::new();
    for n in 0..600_u32 {
        acquire(&*locks, &n.to_be_bytes(), &owner).await.unwrap();
    }
    let rate = Rate {
        tokens: 1,
        interval_ms: 1000,
        burst: 5,
    };
    locks
        .take(&namespace(), b"limiter", &rate, 1)
        .await
        .unwrap();
    assert_eq!(count_rows(&path), 601);
    time.advance(Duration::from_secs(5));
    store.prune(1).await.unwrap();
    assert_eq!(count_rows(&path), 600, "the bucket is full again");
    let held = b"held for long";
    let long = Ask {
        ttl_ms: 2 * IDLE_MS,
        ..ask(&owner)
    };
    locks.acquire(&namespace(), held, &long).await.unwrap();
    time.advance(Duration::from_millis(60_000 + IDLE_MS));
    // Whatever keeps a row is judged by the clock of leases too: as if the date had been moved.
    let database = Connection::open(&path).unwrap();
    database
        .execute("UPDATE leases SET keep_until = 0", [])
        .unwrap();
    store.prune(usize::MAX).await.unwrap();
    assert_eq!(count_rows(&path), 1);
    assert_eq!(acquire(&*locks, held, &Owner::new()).await.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_row_is_no_lease_and_fences_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let (_store, locks) = open(&path);
    let former = acquire(&*locks, b"name", &Owner::new()).await.unwrap();
    let database = Connection::open(&path).unwrap();
    let junk: [&dyn rusqlite::ToSql; 3] = [&b"junk".to_vec(), &"text", &17];
    for junk in junk {
        assert_eq!(database.execute(DAMAGE, [junk]).unwrap(), 1);
        let listed = locks.list(&namespace(), &Glob::all(), 10).await.unwrap();
        assert!(listed.is_empty());
        let times = locks.hold_times(&namespace(), b"name").await.unwrap();
        assert!(times.is_empty());
        assert!(acquire(&*locks, b"name", &Owner::new()).await.unwrap() > former);
    }
}

#[tokio::test]
async fn fences_go_on_in_a_file_that_was_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let (store, locks) = open(&path);
    let mut former = None;
    for _ in 0..50 {
        let owner = Owner::new();
        former = acquire(&*locks, b"name", &owner).await.unwrap();
        release(&*locks, b"name", &owner).await;
    }
    let held = Owner::new();
    acquire(&*locks, b"name", &held).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    eventually("the file is made anew", || async { path.exists() }).await;
    eventually("the lease is known to be lost", || async {
        let extended = locks.extend(&namespace(), b"name", &held, 60_000).await;
        matches!(extended, Ok(false))
    })
    .await;
    assert!(acquire(&*locks, b"name", &Owner::new()).await.unwrap() > former);
    assert_eq!(get(&store, b"name").await.unwrap(), None);
}

#[tokio::test]
async fn a_file_of_an_older_schema_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    drop(open(&path));
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch("DROP TABLE leases; PRAGMA user_version = 1;")
        .unwrap();
    drop(database);
    let (store, locks) = open(&path);
    assert!(store.moved_aside().is_some());
    let granted = acquire(&*locks, b"name", &Owner::new()).await.unwrap();
    assert!(granted.is_some());
}

#[tokio::test]
async fn a_lease_that_waits_behind_another_process_is_granted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let (_store, locks) = open(&path);
    let busy = Connection::open(&path).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (locks_too, owner) = (Arc::clone(&locks), Owner::new());
    let waiting = tokio::spawn({
        let owner = owner.clone();
        async move { acquire(&*locks_too, b"name", &owner).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    busy.execute_batch("COMMIT").unwrap();
    let granted = waiting.await.unwrap().unwrap();
    assert!(granted.is_some());
    assert_eq!(acquire(&*locks, b"name", &owner).await.unwrap(), granted);
}

#[tokio::test]
async fn a_cache_may_use_the_namespace_of_leases() {
    let dir = tempfile::tempdir().unwrap();
    let (store, locks) = open(&dir.path().join("cache.db"));
    let owner = Owner::new();
    acquire(&*locks, b"name", &owner).await.unwrap();
    put(&store, b"name", b"entry", Expiry::Never).await.unwrap();
    assert!(release(&*locks, b"name", &owner).await);
    let entry = get(&store, b"name").await.unwrap();
    assert_eq!(entry.as_deref(), Some(&b"entry"[..]));
    let elsewhere = Namespace::new("test", "other", 1);
    let listed = locks.list(&elsewhere, &Glob::all(), 10).await.unwrap();
    assert!(listed.is_empty());
}
