//! What a guard says and does, from its grant to its end.

use std::time::Duration;

use futures_util::FutureExt;
use larder::lock::{LockEvent, LockGuard};
use larder::{Cache, ErrorKind};

use super::{SECOND, by_hand, cache, until};

async fn guard(cache: &Cache, name: &str) -> LockGuard {
    cache.lock(name).ttl(10 * SECOND).acquire().await.unwrap()
}

async fn is_free(cache: &Cache, name: &str) -> bool {
    let taken = cache.lock(name).try_acquire().await.unwrap();
    match taken {
        None => false,
        Some(guard) => {
            guard.release().await.unwrap();
            true
        }
    }
}

#[tokio::test]
async fn a_released_lock_is_free_and_a_second_release_does_nothing() {
    let cache = cache();
    let first = guard(&cache, "l").await;
    assert!(first.is_valid() && first.remaining() > 9 * SECOND);
    assert!(!is_free(&cache, "l").await);
    first.release().await.unwrap();
    assert!(!first.is_valid() && first.remaining().is_zero());
    let second = guard(&cache, "l").await;
    assert!(second.fence() > first.fence());
    first.release().await.unwrap();
    assert!(!is_free(&cache, "l").await, "the second holder keeps it");
    assert!(first.lost().now_or_never().is_none());
    assert_eq!(cache.locks().stats().lost, 0);
}

#[tokio::test]
async fn a_dropped_guard_releases_in_the_background() {
    let cache = cache();
    drop(guard(&cache, "l").await);
    until("the release", async || is_free(&cache, "l").await).await;
    assert_eq!(cache.locks().stats().held, 0);
}

#[tokio::test]
async fn a_guard_dropped_on_a_plain_thread_releases_too() {
    let cache = cache();
    let guard = guard(&cache, "l").await;
    std::thread::spawn(move || drop(guard)).join().unwrap();
    until("the release", async || is_free(&cache, "l").await).await;
}

#[tokio::test]
async fn a_guard_can_move_to_another_task() {
    let cache = cache();
    let guard = guard(&cache, "l").await;
    let fence = guard.fence();
    let moved = tokio::spawn(async move {
        assert!(guard.is_valid());
        guard.release().await.unwrap();
        guard.fence()
    });
    assert_eq!(moved.await.unwrap(), fence);
    assert!(is_free(&cache, "l").await);
}

#[tokio::test]
async fn a_lease_that_is_over_is_lost_for_good() {
    let (cache, time) = by_hand();
    let mut events = cache.locks().events();
    let old = guard(&cache, "l").await;
    // The lease ends after 10 s by the store, and 110 ms earlier for the holder.
    time.advance(Duration::from_millis(9_880));
    assert!(old.is_valid());
    time.advance(Duration::from_millis(20));
    assert!(!old.is_valid());
    old.lost().await;
    let event = events.recv().await.unwrap();
    assert!(matches!(event, LockEvent::Lost { fence, .. } if fence == old.fence()));
    let refused = old.extend(10 * SECOND).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockLost);
    time.advance(SECOND);
    let new = guard(&cache, "l").await;
    let refused = old.release().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockLost);
    assert!(new.is_valid() && !is_free(&cache, "l").await);
    assert_eq!(cache.locks().stats().lost, 1);
}

#[tokio::test]
async fn a_lease_taken_by_an_operator_is_lost_at_the_release() {
    let cache = cache();
    let guard = guard(&cache, "l").await;
    assert!(cache.locks().force_release("l").await.unwrap());
    assert!(!cache.locks().force_release("l").await.unwrap());
    let error = guard.release().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockLost);
    assert!(guard.lost().now_or_never().is_some());
}

#[tokio::test]
async fn a_renewed_lease_outlives_its_ttl() {
    let cache = cache();
    let lock = cache.lock("l").ttl(Duration::from_millis(300)).renew(true);
    let guard = lock.acquire().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(guard.is_valid() && lock.try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_renewal_notices_that_the_lease_was_taken() {
    let cache = cache();
    let lock = cache.lock("l").ttl(SECOND).renew(true);
    let guard = lock.acquire().await.unwrap();
    cache.locks().force_release("l").await.unwrap();
    let noticed = tokio::time::timeout(5 * SECOND, guard.lost()).await;
    assert!(noticed.is_ok());
    assert!(!guard.is_valid());
}

#[tokio::test]
async fn extending_counts_from_now_and_can_shorten() {
    let (cache, time) = by_hand();
    let guard = guard(&cache, "l").await;
    guard.extend(60 * SECOND).await.unwrap();
    time.advance(30 * SECOND);
    assert!(guard.is_valid() && !is_free(&cache, "l").await);
    guard.extend(SECOND).await.unwrap();
    assert!(guard.remaining() < SECOND);
    time.advance(SECOND);
    assert!(!guard.is_valid() && is_free(&cache, "l").await);
}

#[tokio::test]
async fn work_under_a_fence_ends_with_the_lease() {
    let cache = cache();
    let lock = cache.lock("l").ttl(Duration::from_millis(300)).wait(SECOND);
    let fence = lock.with_fence(async |fence| fence).await.unwrap();
    assert!(fence > 0);
    let endless = lock.with_fence(|_| std::future::pending::<()>());
    assert_eq!(endless.await.unwrap_err().kind(), ErrorKind::LockLost);
    let next = lock.with_fence(async |_| 1).await;
    assert_eq!(next.unwrap(), 1);
}

#[tokio::test]
async fn shutdown_gives_all_up_and_refuses_more() {
    let cache = cache();
    let guards: Vec<_> = [guard(&cache, "a").await, guard(&cache, "b").await].into();
    drop(guard(&cache, "c").await);
    cache.locks().shutdown().await.unwrap();
    assert!(guards.iter().all(|guard| !guard.is_valid()));
    assert!(guards[0].lost().now_or_never().is_some());
    assert_eq!(cache.locks().list().await.unwrap(), []);
    let refused = cache.lock("a").acquire().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(!refused.is_retryable());
    drop(guards);
}

#[tokio::test]
async fn long_holds_are_told_while_they_last() {
    let (cache, time) = by_hand();
    let mut events = cache.locks().events();
    let lock = cache.lock("l").ttl(3600 * SECOND);
    for _ in 0..20 {
        let guard = lock.acquire().await.unwrap();
        time.advance(2 * SECOND);
        guard.release().await.unwrap();
    }
    let guard = lock.acquire().await.unwrap();
    time.advance(5 * SECOND);
    let event = tokio::time::timeout(10 * SECOND, events.recv()).await;
    assert!(
        matches!(event, Ok(Ok(LockEvent::LongHold { .. }))),
        "{event:?}"
    );
    assert!(guard.is_valid());
    assert_eq!(cache.locks().stats().long_holds, 1);
}
