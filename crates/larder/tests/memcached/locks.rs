//! Locks on a cache server, and what they lose.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::lock::{Answer, Ask, HOLD_TIMES, LockStore, Owner, Rate};
use larder::store::{Memcached, Store};
use larder::{ErrorKind, Glob, Namespace};

use super::server::{Server, fences_name, lock_name, raw};
use super::{large, namespace, put};

const TTL_MS: u64 = 60_000;

async fn connect(address: String) -> (Memcached, Arc<dyn LockStore>) {
    // Other tests keep the machine busy.
    let patient = Duration::from_secs(5);
    let builder = Memcached::builder(address).connect_timeout(patient);
    let store = builder.response_timeout(patient).connect().await.unwrap();
    let locks = store.lock_store().unwrap();
    (store, locks)
}

fn ask(owner: &Owner, ttl_ms: u64) -> Ask {
    Ask {
        owner: owner.clone(),
        permits: 1,
        ttl_ms,
        heartbeat_ms: Some(5000),
        barge: false,
    }
}

/// Asks for the lock; returns the fence if it is granted.
async fn acquire(
    locks: &dyn LockStore,
    (space, name): (&Namespace, &[u8]),
    owner: &Owner,
) -> Option<u64> {
    let answer = locks.acquire(space, name, &ask(owner, TTL_MS)).await;
    match answer.unwrap() {
        Answer::Granted { fence, left_ms } => {
            assert!((1..=TTL_MS).contains(&left_ms));
            Some(fence)
        }
        Answer::Busy { ahead, retry_ms } => {
            assert_eq!(ahead, 0);
            assert!((1..=TTL_MS + 2000).contains(&retry_ms), "{retry_ms}");
            None
        }
    }
}

async fn release(locks: &dyn LockStore, (space, name): (&Namespace, &[u8]), owner: &Owner) -> bool {
    locks.release(space, name, owner, None).await.unwrap()
}

#[tokio::test]
async fn only_its_owner_keeps_and_releases_a_lock() {
    let (_one, a) = connect(large()).await;
    let (store, b) = connect(large()).await;
    let (space, name) = (namespace(), b"lock");
    let place = (&space, &name[..]);
    let (first, second) = (Owner::new(), Owner::new());
    let fence = acquire(&*a, place, &first).await;
    assert!(fence.is_some());
    assert_eq!(acquire(&*b, place, &second).await, None);
    assert!(!release(&*b, place, &second).await);
    assert!(!b.extend(&space, name, &second, TTL_MS).await.unwrap());
    store.clear(&space).await.unwrap();
    assert_eq!(acquire(&*b, place, &first).await, fence, "asked again");
    assert!(b.extend(&space, name, &first, TTL_MS).await.unwrap());
    assert_eq!(
        acquire(&*a, place, &first).await,
        fence,
        "after an extension"
    );
    assert!(release(&*b, place, &first).await);
    assert!(!release(&*a, place, &first).await);
    assert!(!a.extend(&space, name, &first, TTL_MS).await.unwrap());
    assert!(acquire(&*b, place, &second).await > fence);
    assert_eq!(a.evict(&space, name).await.unwrap(), 1);
    assert_eq!(a.evict(&space, name).await.unwrap(), 0);
    assert!(!b.extend(&space, name, &second, TTL_MS).await.unwrap());
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_granted_the_lock() {
    let stores = [connect(large()).await, connect(large()).await];
    let space = namespace();
    for round in 0..20_u8 {
        let attempt = async |n: usize| {
            let owner = Owner::new();
            acquire(&*stores[n % 2].1, (&space, &[round]), &owner).await
        };
        let answers = futures_util::future::join_all((0..32).map(attempt)).await;
        assert_eq!(answers.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_asked_and_three_seconds_more_at_most() {
    let (_store, locks) = connect(large()).await;
    let space = namespace();
    let owner = Owner::new();
    let short = ask(&owner, 1200);
    let start = Instant::now();
    let granted = locks.acquire(&space, b"short", &short).await.unwrap();
    let Answer::Granted { fence, left_ms } = granted else {
        panic!("{granted:?}");
    };
    assert_eq!(left_ms, 1200);
    let mut latest = None;
    while latest.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        latest = acquire(&*locks, (&space, b"short"), &Owner::new()).await;
    }
    let lasted = start.elapsed();
    assert!(lasted >= Duration::from_millis(1200), "{lasted:?}");
    assert!(lasted < Duration::from_millis(1200 + 3500), "{lasted:?}");
    assert!(latest > Some(fence));
    assert!(!locks.extend(&space, b"short", &owner, 1200).await.unwrap());
}

#[tokio::test]
async fn an_extended_lease_outlasts_its_first_time() {
    let (_store, locks) = connect(large()).await;
    let (space, owner) = (namespace(), Owner::new());
    let short = ask(&owner, 100);
    locks.acquire(&space, b"lock", &short).await.unwrap();
    let extended = locks.extend(&space, b"lock", &owner, TTL_MS).await;
    assert!(extended.unwrap());
    tokio::time::sleep(Duration::from_millis(4200)).await;
    assert_eq!(
        acquire(&*locks, (&space, b"lock"), &Owner::new()).await,
        None
    );
}

#[tokio::test]
async fn a_restarted_server_has_lost_its_locks_and_fences_go_on() {
    let mut server = Server::start(&[]).await;
    let (store, locks) = connect(server.address()).await;
    let space = namespace();
    let place = (&space, &b"lock"[..]);
    // What a server has stored before its first lock must not carry fences ahead of the time of day.
    for n in 0..3000_u32 {
        put(&store, &space, &n.to_be_bytes(), b"entry")
            .await
            .unwrap();
    }
    let owner = Owner::new();
    let former = acquire(&*locks, place, &owner).await.unwrap();
    server.kill();
    let lost = locks.extend(&space, b"lock", &owner, TTL_MS).await;
    let kind = lost.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout));
    server.restart().await;
    super::eventually("the lock is known to be lost", || async {
        let extended = locks.extend(&space, b"lock", &owner, TTL_MS).await;
        matches!(extended, Ok(false))
    })
    .await;
    assert!(acquire(&*locks, place, &Owner::new()).await.unwrap() > former);
}

#[tokio::test]
async fn fences_grow_whatever_is_evicted() {
    let (store, locks) = connect(large()).await;
    let space = namespace();
    let place = (&space, &b"lock"[..]);
    let fences = fences_name(&space);
    let mut former = None;
    for n in 0..1000_u32 {
        let owner = Owner::new();
        let fence = acquire(&*locks, place, &owner).await;
        assert!(fence > former, "{fence:?} after {former:?}");
        former = fence;
        assert!(release(&*locks, place, &owner).await);
        match n % 100 {
            7 => drop(raw(&large(), &format!("md {fences} b")).await),
            17 => drop(raw(&large(), &format!("ms {fences} 4 b\r\njunk")).await),
            27 => put(&store, &space, b"other", b"entry").await.unwrap(),
            _ => {}
        }
    }
}

#[tokio::test]
async fn no_name_breaks_out_of_its_command() {
    let (_store, locks) = connect(large()).await;
    let space = namespace();
    let mut names: Vec<Vec<u8>> = ["", "\r\nflush_all\r\n", "a b", "\0", "\u{feff}"]
        .map(|name| name.as_bytes().to_vec())
        .to_vec();
    names.push(vec![0xff, 0xfe, b'\r', b'\n']);
    for len in [150, 180, 250, 1023, 1024] {
        let mut name = vec![b'n'; len];
        name[len - 2..].copy_from_slice(b"\r\n");
        names.push(name);
    }
    let (first, second) = (Owner::new(), Owner::new());
    for name in &names {
        let granted = acquire(&*locks, (&space, name), &first).await;
        assert!(granted.is_some(), "{}", name.escape_ascii());
    }
    for name in &names {
        let place = (&space, &name[..]);
        assert_eq!(acquire(&*locks, place, &second).await, None);
        assert!(locks.extend(&space, name, &first, TTL_MS).await.unwrap());
        assert!(release(&*locks, place, &first).await);
        assert!(acquire(&*locks, place, &second).await.is_some());
    }
    let too_long = locks.evict(&space, &[b'n'; 1025]).await;
    assert_eq!(too_long.unwrap_err().kind(), ErrorKind::InvalidKey);
}

#[tokio::test]
async fn what_is_not_ours_is_no_lock() {
    let (_store, locks) = connect(large()).await;
    let (space, owner) = (namespace(), Owner::new());
    let place = (&space, &b"lock"[..]);
    let lock = lock_name(&space, b"lock");
    raw(&large(), &format!("ms {lock} 4 b T1\r\njunk")).await;
    assert_eq!(acquire(&*locks, place, &owner).await, None);
    assert!(!release(&*locks, place, &owner).await);
    super::eventually("it ends", || async {
        acquire(&*locks, place, &owner).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn the_latest_hold_times_are_remembered() {
    let (_store, locks) = connect(large()).await;
    let (space, owner) = (namespace(), Owner::new());
    let times = locks.hold_times(&space, b"lock").await.unwrap();
    assert!(times.is_empty());
    for held_ms in 0..40 {
        acquire(&*locks, (&space, b"lock"), &owner).await.unwrap();
        let released = locks.release(&space, b"lock", &owner, Some(held_ms));
        assert!(released.await.unwrap());
    }
    let times = locks.hold_times(&space, b"lock").await.unwrap();
    let expected: Vec<_> = (0..40).rev().take(HOLD_TIMES).collect();
    assert_eq!(times, expected);
}

#[tokio::test]
async fn who_waits_in_the_same_process_is_woken() {
    let (_store, locks) = connect(large()).await;
    let (space, owner, waiter) = (namespace(), Owner::new(), Owner::new());
    let place = (&space, &b"lock"[..]);
    acquire(&*locks, place, &owner).await.unwrap();
    let listener = locks.listen(&space, b"lock", &waiter).await;
    let silent = tokio::time::timeout(Duration::from_millis(20), listener.rung()).await;
    assert!(silent.is_err());
    release(&*locks, place, &owner).await;
    let rung = tokio::time::timeout(Duration::from_secs(5), listener.rung()).await;
    assert!(rung.is_ok());
}

#[tokio::test]
async fn what_a_cache_server_cannot_do_is_refused() {
    let (store, locks) = connect(large()).await;
    let space = namespace();
    let can = store.capabilities();
    assert!(can.locks && !can.fair_locks && !can.durable_fences);
    assert!(!can.locks_freed_on_death && !can.limiters);
    let two = Ask {
        permits: 2,
        ..ask(&Owner::new(), TTL_MS)
    };
    let rate = Rate {
        tokens: 1,
        interval_ms: 1000,
        burst: 1,
    };
    let refusals = [
        locks.acquire(&space, b"lock", &two).await.err(),
        locks.list(&space, &Glob::all(), 1).await.err(),
        locks.take(&space, b"limiter", &rate, 1).await.err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap().kind(), ErrorKind::Unsupported);
    }
}
