//! The files of locks, semaphores and rate limiters.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ManualClock;
use crate::lease::{Answer, Ask, IDLE_MS, LockStore, Owner, Rate};
use crate::store::host::{Id, Kind};

fn locks(store: &File) -> Arc<dyn LockStore> {
    store.lock_store().unwrap()
}

fn lease_path(store: &File, name: &[u8]) -> PathBuf {
    let id = Id::new(Kind::Lease, &space(), name);
    store
        .disk
        .layout
        .lease_path(&crate::store::file::leases::address(&id))
}

/// Returns the fence if the owner is granted the lock.
fn acquire(store: &File, name: &[u8], owner: &Owner) -> Option<u64> {
    let ask = Ask {
        owner: owner.clone(),
        permits: 1,
        ttl_ms: 60_000,
        heartbeat_ms: None,
        barge: false,
    };
    match block_on(locks(store).acquire(&space(), name, &ask)).unwrap() {
        Answer::Granted { fence, .. } => Some(fence),
        Answer::Busy { .. } => None,
    }
}

fn release(store: &File, name: &[u8], owner: &Owner) -> bool {
    block_on(locks(store).release(&space(), name, owner, None)).unwrap()
}

fn listed(store: &File) -> Vec<Vec<u8>> {
    let listed = block_on(locks(store).list(&space(), &Glob::all(), 100));
    let names = listed
        .unwrap()
        .into_iter()
        .map(|lock| lock.name.as_bytes().to_vec());
    names.collect()
}

#[test]
fn two_stores_on_one_directory_exclude_each_other_under_any_name() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (open(&dir), open(&dir));
    let long = vec![b'n'; 1024];
    for name in [&b"../../name"[..], b"", b"\0\xff/\n", &long] {
        let (a, b) = (Owner::new(), Owner::new());
        let fence = acquire(&one, name, &a).unwrap();
        assert_eq!(acquire(&two, name, &b), None);
        assert_eq!(acquire(&two, name, &a), Some(fence));
        assert_eq!(listed(&two), [name]);
        assert!(!release(&two, name, &b));
        assert!(release(&two, name, &a));
        assert!(acquire(&one, name, &b).unwrap() > fence);
        assert!(release(&one, name, &b));
        let mode = fs::metadata(lease_path(&one, name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}

#[test]
fn a_store_that_closes_frees_nothing_of_a_process_with_another() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (open(&dir), open(&dir));
    let (a, b) = (Owner::new(), Owner::new());
    acquire(&one, b"name", &a).unwrap();
    acquire(&two, b"other", &a).unwrap();
    drop(one);
    assert_eq!(acquire(&two, b"name", &b), None);
}

#[test]
fn clearing_caches_leaves_leases_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let owner = Owner::new();
    let fence = acquire(&store, b"name", &owner);
    set(&store, b"name", "entry");
    block_on(store.clear(&space())).unwrap();
    assert_eq!(acquire(&store, b"name", &owner), fence);
    assert_eq!(get(&store, b"name"), None);
    assert_eq!(stats(&store).entries, Some(0));
}

#[test]
fn a_damaged_file_is_no_lease_and_fences_go_on() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut former = acquire(&store, b"name", &Owner::new());
    let path = lease_path(&store, b"name");
    let whole = fs::read(&path).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "theirs").unwrap();
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(&path, &whole[..whole.len() - 1]).unwrap(),
        &|| fs::write(&path, b"").unwrap(),
        &|| fs::write(&path, vec![0; 5000]).unwrap(),
        &|| {
            acquire(&store, b"other", &Owner::new());
            fs::copy(lease_path(&store, b"other"), &path).unwrap();
        },
        &|| {
            fs::remove_file(&path).unwrap();
            symlink(&precious, &path).unwrap();
        },
    ];
    for damage in damages {
        damage();
        assert!(!listed(&store).contains(&b"name".to_vec()));
        let fence = acquire(&store, b"name", &Owner::new());
        assert!(fence > former, "{fence:?} {former:?}");
        former = fence;
        assert_eq!(acquire(&store, b"name", &Owner::new()), None);
    }
    assert_eq!(fs::read(&precious).unwrap(), b"theirs");
}

#[test]
fn the_sweep_removes_what_nobody_has_used_for_long() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let builder = File::builder(dir.path()).clock(time.clock());
    let store = builder.build().unwrap();
    let owner = Owner::new();
    for n in 0..40_u32 {
        acquire(&store, &n.to_be_bytes(), &owner).unwrap();
    }
    let rate = Rate {
        tokens: 1,
        interval_ms: 1000,
        burst: 5,
    };
    block_on(locks(&store).take(&space(), b"limiter", &rate, 1)).unwrap();
    let buckets = crate::store::file::leases::address(&Id::new(Kind::Bucket, &space(), b"limiter"));
    let bucket = store.disk.layout.lease_path(&buckets);
    assert!(bucket.exists());
    time.advance(Duration::from_secs(5));
    block_on(store.prune(usize::MAX)).unwrap();
    assert!(!bucket.exists(), "it is full again");
    time.advance(Duration::from_millis(60_000 + IDLE_MS - 5001));
    block_on(store.prune(usize::MAX)).unwrap();
    let left = |store: &File| {
        (0..40_u32)
            .filter(|n| lease_path(store, &n.to_be_bytes()).exists())
            .count()
    };
    assert_eq!(left(&store), 40);
    let kept = acquire(&store, &7_u32.to_be_bytes(), &owner);
    time.advance(Duration::from_millis(1));
    let mut runs = 0;
    while left(&store) > 1 {
        store.disk.sweep_leases(10).unwrap();
        runs += 1;
        assert!(runs < 20, "sweeps go on where the last one stopped");
    }
    assert!(runs > 1, "sweeps are bounded");
    assert_eq!(acquire(&store, &7_u32.to_be_bytes(), &owner), kept);
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let owner = Owner::new();
    let former = acquire(&store, b"name", &owner);
    for part in ["leases", "owners", "."] {
        let removed = dir.path().join("cache").join(part);
        fs::remove_dir_all(removed.canonicalize().unwrap()).unwrap();
        assert!(acquire(&store, b"name", &owner) >= former);
        assert_eq!(acquire(&open(&dir), b"name", &Owner::new()), None);
    }
}

#[tokio::test]
async fn a_contended_stripe_is_waited_for_aside() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let address = crate::store::file::leases::address(&Id::new(Kind::Lease, &space(), b"name"));
    let disk = &store.disk;
    let held = disk
        .locks
        .stripe(&disk.layout, address.stripe(), Effort::FULL);
    let held = held.unwrap();
    let ask = Ask {
        owner: Owner::new(),
        permits: 1,
        ttl_ms: 1000,
        heartbeat_ms: None,
        barge: false,
    };
    let (locks, space) = (locks(&store), space());
    let mut waiting = pin!(locks.acquire(&space, b"name", &ask));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "it waits, and this thread does not");
    drop(held);
    assert!(matches!(waiting.await, Ok(Answer::Granted { .. })));
}
