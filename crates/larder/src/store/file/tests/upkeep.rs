//! Clearing, sweeping and listing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::store::file::name::is_level;

#[test]
fn clear_empties_one_namespace_and_the_sweep_reclaims_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let other = Namespace::new("test", "files", 2);
    for n in 0..50 {
        set(&store, format!("k{n}").as_bytes(), "v");
    }
    let kept = Write::put(b"k", sealed("kept"), Expiry::Never);
    block_on(store.write_many(&other, &[kept])).unwrap();
    block_on(store.clear(&space())).unwrap();
    block_on(store.clear(&space())).unwrap();
    assert_eq!(block_on(store.count(&space(), &Glob::all())).unwrap(), 0);
    assert_eq!(block_on(store.count(&other, &Glob::all())).unwrap(), 1);
    while fs::read_dir(store.disk.layout.trash()).unwrap().count() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sweeps_go_on_where_the_last_one_stopped() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let store = File::builder(dir.path())
        .clock(time.clock())
        .build()
        .unwrap();
    for n in 0..60 {
        let expiry = if n % 3 == 0 {
            Expiry::Never
        } else {
            Expiry::After(1000)
        };
        let key = format!("k{n}");
        assert!(write(
            &store,
            Write::put(key.as_bytes(), sealed("v"), expiry)
        ));
    }
    time.advance(Duration::from_secs(2));
    let (mut position, mut runs) = (None, 0);
    loop {
        store.disk.sweep(&mut position, 25).unwrap();
        runs += 1;
        if position.is_none() {
            break;
        }
    }
    assert!((3..40).contains(&runs), "{runs}");
    let after = stats(&store);
    assert_eq!((after.entries, after.expired), (Some(20), 40));
    store.disk.sweep(&mut None, 10_000).unwrap();
    let levels = tree(dir.path())
        .iter()
        .filter(|path| is_level(path.file_name().unwrap().to_str().unwrap()) && path.is_dir())
        .count();
    assert!(levels <= 40, "empty directories go: {levels}");
    assert_eq!(block_on(store.prune(10)).unwrap(), 0);
}

#[test]
fn prune_keeps_to_its_limit() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let store = File::builder(dir.path())
        .clock(time.clock())
        .depth(0)
        .build()
        .unwrap();
    for n in 0..10 {
        let key = format!("k{n}");
        assert!(write(
            &store,
            Write::put(key.as_bytes(), sealed("v"), Expiry::After(5))
        ));
    }
    assert_eq!(block_on(store.prune(10)).unwrap(), 0);
    time.advance(Duration::from_secs(1));
    for expected in [4, 4, 2, 0] {
        assert_eq!(block_on(store.prune(4)).unwrap(), expected);
    }
}

#[test]
fn pages_cover_everything_at_any_depth() {
    for depth in 0..=4 {
        let dir = TempDir::new().unwrap();
        let store = File::builder(dir.path()).depth(depth).build().unwrap();
        for n in 0..50 {
            set(&store, format!("k{n}").as_bytes(), "v");
        }
        let (mut keys, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = block_on(store.scan(&space(), &Glob::all(), cursor.as_ref(), 7)).unwrap();
            assert!(page.keys.len() <= 7);
            keys.extend(page.keys.into_iter().map(|scanned| scanned.key));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(keys.len(), 50, "depth {depth}");
        assert_eq!(stats(&store).entries, Some(50));
    }
}

#[test]
fn a_foreign_cursor_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for cursor in ["", "0", &"g".repeat(32), &"0".repeat(33)] {
        let cursor = Bytes::copy_from_slice(cursor.as_bytes());
        let error = block_on(store.scan(&space(), &Glob::all(), Some(&cursor), 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
