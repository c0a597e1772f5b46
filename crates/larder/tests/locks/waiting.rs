//! Waiting for a lock: in order, in bounds, and without a trace when given up.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder::ErrorKind;
use larder::lock::LockEvent;

use super::{SECOND, by_hand, cache, until};

#[tokio::test]
async fn waiters_are_served_in_the_order_of_their_coming() {
    let cache = cache();
    let holder = cache.lock("l").acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for number in 0..8 {
        let (lock, order) = (cache.lock("l").wait(30 * SECOND), Arc::clone(&order));
        waiters.push(tokio::spawn(async move {
            let guard = lock.acquire().await.unwrap();
            order.lock().unwrap().push(number);
            guard.release().await.unwrap();
        }));
        let waiting = async || {
            let listed = cache.locks().list().await.unwrap();
            listed[0].waiters == number + 1
        };
        until("the next waiter", waiting).await;
    }
    holder.release().await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
    let stats = cache.locks().stats();
    assert_eq!((stats.acquired, stats.contended, stats.failed), (9, 8, 0));
    assert_eq!((stats.wait.count, stats.hold.count), (9, 9));
}

#[tokio::test]
async fn a_wait_that_is_over_is_a_timeout_and_leaves_the_queue() {
    let cache = cache();
    let mut events = cache.locks().events();
    let holder = cache.lock("l").acquire().await.unwrap();
    let started = Instant::now();
    let lock = cache.lock("l").wait(Duration::from_millis(200));
    let error = lock.acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(started.elapsed() >= Duration::from_millis(200));
    let event = events.recv().await.unwrap();
    assert!(
        matches!(event, LockEvent::NotAcquired { waited, .. } if waited >= Duration::from_millis(200))
    );
    let gone = async || cache.locks().list().await.unwrap()[0].waiters == 0;
    until("the empty queue", gone).await;
    assert_eq!(cache.locks().stats().failed, 1);
    holder.release().await.unwrap();
}

#[tokio::test]
async fn a_dropped_waiter_leaves_the_queue() {
    let cache = cache();
    let holder = cache.lock("l").acquire().await.unwrap();
    let lock = cache.lock("l").wait(60 * SECOND);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    let waiting = |count| {
        let cache = &cache;
        async move || cache.locks().list().await.unwrap()[0].waiters == count
    };
    until("the waiter", waiting(1)).await;
    waiter.abort();
    until("the empty queue", waiting(0)).await;
    holder.release().await.unwrap();
}

#[tokio::test]
async fn a_try_never_overtakes_those_who_wait_unless_told() {
    let (cache, time) = by_hand();
    let holder = cache.lock("l").ttl(SECOND).acquire().await.unwrap();
    let lock = cache.lock("l").wait(60 * SECOND);
    let waiter = tokio::spawn(async move { lock.acquire().await.unwrap() });
    let waiting = async || cache.locks().list().await.unwrap()[0].waiters == 1;
    until("the waiter", waiting).await;
    time.advance(SECOND);
    assert!(cache.lock("l").try_acquire().await.unwrap().is_none());
    let overtaking = cache.lock("l").fair(false).try_acquire().await.unwrap();
    if let Some(guard) = overtaking {
        guard.release().await.unwrap();
    }
    let next = waiter.await.unwrap();
    assert!(next.fence() > holder.fence());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tasks_share_a_lock_one_at_a_time() {
    let cache = cache();
    let log = Arc::new(Mutex::new((0_u64, 0)));
    let task = |_| {
        let (lock, log) = (cache.lock("l").wait(60 * SECOND), Arc::clone(&log));
        tokio::spawn(async move {
            for _ in 0..5 {
                let guard = lock.acquire().await.unwrap();
                {
                    let mut log = log.try_lock().expect("nobody else is inside");
                    assert!(guard.fence() > log.0);
                    *log = (guard.fence(), log.1 + 1);
                }
                guard.release().await.unwrap();
            }
        })
    };
    for task in (0..100).map(task).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(log.lock().unwrap().1, 500);
}
