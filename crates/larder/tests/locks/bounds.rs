//! Bad input gets an error that names the field.

use std::time::Duration;

use larder::testing::{Fault, FlakyStore};
use larder::{Cache, ErrorKind, MemoryStore, NullStore};

use super::{SECOND, cache};

#[tokio::test]
async fn options_out_of_bounds_are_refused_by_name() {
    let cache = cache();
    let lock = || cache.lock("l");
    let cases = [
        (lock().ttl(Duration::ZERO), "ttl"),
        (lock().ttl(Duration::from_millis(49)), "ttl"),
        (lock().ttl(25 * 3600 * SECOND), "ttl"),
        (lock().wait(3601 * SECOND), "wait"),
        (lock().adaptive_ttl(Duration::ZERO), "ttl"),
        (cache.semaphore("l", 0), "permits"),
        (cache.semaphore("l", 1001), "permits"),
    ];
    for (lock, field) in cases {
        let error = lock.try_acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{field}");
        assert!(error.message().contains(field), "{error}");
    }
    let guard = lock().acquire().await.unwrap();
    let error = guard.extend(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(guard.is_valid());
}

#[tokio::test]
async fn names_are_one_byte_to_a_kibibyte() {
    let cache = cache();
    for name in [String::new(), "x".repeat(1025), "x".repeat(1 << 20)] {
        let error = cache.lock(&name).acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.to_string().len() < 300);
        let error = cache.locks().force_release(&name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        let limiter = cache.limiter(&name).per(1, SECOND);
        let error = limiter.try_take(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
    }
    for name in [&b"a b\r\n{x}:"[..], &[0xff; 1024], b"\0"] {
        let guard = cache.lock(name).acquire().await.unwrap();
        assert!(cache.lock(name).try_acquire().await.unwrap().is_none());
        guard.release().await.unwrap();
    }
}

#[tokio::test]
async fn rates_out_of_bounds_are_refused() {
    let cache = cache();
    let limiter = || cache.limiter("l");
    let day = 24 * 3600 * SECOND;
    let cases = [
        limiter(),
        limiter().per(0, SECOND),
        limiter().per(1, Duration::ZERO),
        limiter().per(1_000_001, SECOND),
        limiter().per(1, day + SECOND),
        limiter().per(1, SECOND).burst(0),
    ];
    for limiter in cases {
        let error = limiter.try_take(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{limiter:?}");
    }
    let limiter = limiter().per(5, SECOND);
    for tokens in [0, 6, u64::MAX] {
        let error = limiter.try_take(tokens).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let error = limiter.wait(3601 * SECOND).take(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_store_without_locks_says_so() {
    let cache = Cache::builder(NullStore::new()).build().unwrap();
    let error = cache.lock("l").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = cache.locks().list().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = cache.limiter("l").per(1, SECOND).try_take(1).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn releases_that_cannot_be_made_are_bounded() {
    const MOST: usize = 10_000;
    let store = FlakyStore::new(MemoryStore::new(), 3);
    let cache = Cache::builder(store.clone()).build().unwrap();
    let mut guards = Vec::new();
    for n in 0..MOST + 100 {
        let lock = cache.lock(format!("lock:{n}")).ttl(60 * SECOND);
        guards.push(lock.acquire().await.unwrap());
    }
    store.next(u64::MAX, Fault::Refuse);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    drop(guards);
    let behind = tasks() - before;
    assert!((MOST / 2..=MOST + 10).contains(&behind), "{behind}");
}
