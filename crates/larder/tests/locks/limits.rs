//! Semaphores, rate limits, and TTLs from the history.

use std::sync::atomic::Ordering;
use std::time::Duration;

use larder::ErrorKind;

use super::slow::slow;
use super::{SECOND, by_hand, cache};

#[tokio::test]
async fn a_semaphore_has_so_many_permits_and_each_is_given_back_once() {
    let (cache, time) = by_hand();
    let semaphore = cache.semaphore("job", 2).ttl(10 * SECOND);
    let first = semaphore.acquire().await.unwrap();
    time.advance(5 * SECOND);
    let second = semaphore.acquire().await.unwrap();
    assert!(second.fence() > first.fence());
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    // The first permit ends alone.
    time.advance(5 * SECOND);
    let third = semaphore.try_acquire().await.unwrap().unwrap();
    assert_eq!(
        first.release().await.unwrap_err().kind(),
        ErrorKind::LockLost
    );
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    second.release().await.unwrap();
    second.release().await.unwrap();
    let _fourth = semaphore.try_acquire().await.unwrap().unwrap();
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    drop(third);
    assert!(cache.lock("job").try_acquire().await.unwrap().is_some());
    assert_eq!(cache.locks().list_semaphores().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_limiter_waits_for_its_tokens_or_says_that_it_cannot() {
    let cache = cache();
    let limiter = cache.limiter("api").per(20, SECOND).burst(1);
    let started = std::time::Instant::now();
    for _ in 0..5 {
        limiter.take(1).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(199));
    let slow = cache.limiter("slow").per(1, 3600 * SECOND);
    slow.take(1).await.unwrap();
    let error = slow.take(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_ttl_follows_the_history_of_the_name() {
    let (cache, time) = by_hand();
    let lock = cache.lock("nightly").ttl(5 * SECOND);
    let adaptive = lock.clone().adaptive_ttl(600 * SECOND);
    for _ in 0..4 {
        let guard = adaptive.acquire().await.unwrap();
        time.advance(4 * SECOND);
        guard.release().await.unwrap();
        time.advance(24 * 3600 * SECOND);
    }
    let guard = adaptive.acquire().await.unwrap();
    assert!((11 * SECOND..12 * SECOND).contains(&guard.remaining()));
    guard.release().await.unwrap();
    let guard = lock.acquire().await.unwrap();
    assert!(guard.remaining() < 5 * SECOND);
    guard.release().await.unwrap();
    let bounded = lock.adaptive_ttl(2 * SECOND).acquire().await.unwrap();
    assert!(bounded.remaining() < 2 * SECOND);
}

#[tokio::test]
async fn those_who_wait_for_tokens_do_not_storm_the_store() {
    let (locks, _, store) = slow();
    let limiter = locks
        .limiter("l")
        .per(100, SECOND)
        .burst(1)
        .wait(3 * SECOND);
    let takers: Vec<_> = (0..400)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.take(1).await })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += usize::from(taker.await.unwrap().is_ok());
    }
    let asked = store.takes.load(Ordering::SeqCst);
    // One after the other, 300 tokens in time; all asking for each of them would make 60,000 questions.
    assert!(taken > 200 && asked < 10_000, "{taken} of {asked}");
}
