//! Several handles and threads on one directory, and callers that go away.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::*;
use crate::store::file::layout::Layout;
use crate::store::file::lock::Locks;

#[test]
fn increments_through_two_handles_add_up() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let store = &stores[worker % 2];
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                for _ in 0..200 {
                    runtime
                        .block_on(store.increment(&space(), b"n", 1, Expiry::Never))
                        .unwrap();
                }
            });
        }
    });
    let sum = block_on(stores[0].increment(&space(), b"n", 0, Expiry::Never)).unwrap();
    assert_eq!(sum, 1600);
    assert_eq!(temps(&stores[0]).len(), 0);
}

#[test]
fn neither_add_nor_a_reader_meets_a_gap_while_the_entry_is_replaced() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    set(&stores[0], b"k", "0");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..2000 {
                set(&stores[0], b"k", &round.to_string());
            }
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let add = Write::put(b"k", sealed("x"), Expiry::Never).when(Condition::IfAbsent);
                assert!(!write(&stores[1], add));
            }
        });
        while !done.load(Ordering::Relaxed) {
            assert!(get(&stores[1], b"k").is_some());
        }
    });
}

#[test]
fn exactly_one_of_several_adds_wins() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    for round in 0..100 {
        let key = format!("k{round}");
        let wins = std::thread::scope(|scope| {
            let add = |worker: usize| {
                let add = Write::put(key.as_bytes(), sealed("x"), Expiry::Never);
                write(&stores[worker % 2], add.when(Condition::IfAbsent))
            };
            let workers: Vec<_> = (0..4).map(|n| scope.spawn(move || add(n))).collect();
            workers
                .into_iter()
                .map(|w| w.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(wins, 1);
    }
}

#[test]
fn nothing_from_before_a_clear_comes_back() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    let (started, finished, cleared_at) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for store in &stores {
            let (started, finished, cleared_at, done) = (&started, &finished, &cleared_at, &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let before = cleared_at.load(Ordering::SeqCst);
                    started.fetch_add(1, Ordering::SeqCst);
                    let sum = block_on(store.increment(&space(), b"n", 1, Expiry::Never)).unwrap();
                    finished.fetch_add(1, Ordering::SeqCst);
                    let possible = started.load(Ordering::SeqCst) - before;
                    assert!(sum <= possible, "{sum} of {possible} since the clear");
                }
            });
        }
        // Another key keeps bringing the directories back.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                set(&stores[0], b"other", "x");
            }
        });
        for _ in 0..2000 {
            std::thread::sleep(Duration::from_micros(100));
            let at = finished.load(Ordering::SeqCst);
            block_on(stores[0].clear(&space())).unwrap();
            cleared_at.store(at, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(finished.into_inner() > 500);
}

#[test]
fn waiting_for_a_lock_ends() {
    let dir = TempDir::new().unwrap();
    let layout = Layout::open(dir.path(), 2).unwrap();
    let (ours, theirs) = (Locks::new(&layout), Locks::new(&layout));
    let _held = theirs.stripe(&layout, 7, Effort::BRIEF).unwrap();
    let short = Effort::FULL.waiting(Duration::from_millis(20));
    let Err(Fault::Failed(error)) = ours.stripe(&layout, 7, short) else {
        panic!("the lock is not free");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(ours.stripe(&layout, 8, Effort::BRIEF).is_ok());
}

/// Polls a put that must wait for its lock, drops it, and returns what the store holds in the end.
async fn abandoned_put() -> Option<String> {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    let stripe = address(b"k").stripe();
    let layout = &stores[0].disk.layout;
    let held = stores[0]
        .disk
        .locks
        .stripe(layout, stripe, Effort::BRIEF)
        .unwrap();
    let puts = [Write::put(b"k", sealed("abandoned"), Expiry::Never)];
    let name = space();
    let put = stores[1].write_many(&name, &puts);
    let waited = tokio::time::timeout(Duration::from_millis(20), put).await;
    assert!(waited.is_err());
    drop(held);
    tokio::time::sleep(Duration::from_millis(30)).await;
    get(&stores[0], b"k")
}

#[tokio::test]
async fn a_put_that_is_dropped_while_it_waits_is_not_applied() {
    assert_eq!(abandoned_put().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_dropped_while_it_waits_is_not_applied_on_many_threads() {
    assert_eq!(abandoned_put().await, None);
}

#[tokio::test]
async fn large_values_and_bulks_go_through_the_blocking_threads() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let large = "x".repeat(1 << 20);
    let keys: Vec<_> = (0..100).map(|n| format!("k{n}")).collect();
    let mut writes: Vec<_> = keys
        .iter()
        .map(|key| Write::put(key.as_bytes(), sealed(key), Expiry::Never))
        .collect();
    writes.push(Write::put(b"large", sealed(&large), Expiry::Never));
    writes.push(Write::delete(b"k0"));
    writes.push(Write::delete(b"k0"));
    let applied = store.write_many(&space(), &writes).await.unwrap();
    assert_eq!(applied[99..], [true, true, true, false]);
    let mut wanted: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
    wanted.push(b"large");
    let found = store.get_many(&space(), &wanted).await.unwrap();
    assert_eq!(found[0], None);
    assert_eq!(body(found[1].as_ref().unwrap()), "k1");
    assert_eq!(body(found[100].as_ref().unwrap()), large);
    let alone = store.get_many(&space(), &[b"large"]).await.unwrap();
    assert_eq!(body(alone[0].as_ref().unwrap()), large);
    let touched = Write::touch(b"large", Expiry::After(60_000));
    assert_eq!(
        store.write_many(&space(), &[touched]).await.unwrap(),
        [true]
    );
    let error = store
        .write_many(
            &space(),
            &[Write::put(
                b"k",
                vec![0; envelope::MAX_ENTRY_BYTES + 1].into(),
                Expiry::Never,
            )],
        )
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}
