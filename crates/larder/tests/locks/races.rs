//! What happens while answers of the store are on their way, and on several runtimes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use larder::ErrorKind;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::slow::slow;
use super::{SECOND, cache, until};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_renewal_does_not_undo_an_extension() {
    let (locks, _, store) = slow();
    let guard = locks.lock("l").ttl(SECOND).renew(true);
    let guard = Arc::new(guard.acquire().await.unwrap());
    store.extended.close();
    let extend = |ttl| {
        let guard = Arc::clone(&guard);
        tokio::spawn(async move { guard.extend(ttl).await })
    };
    let first = extend(SECOND);
    store.extended.keeps(1).await;
    let second = extend(3600 * SECOND);
    // Now a renewal is due, and waits for both.
    sleep(Duration::from_millis(500)).await;
    store.extended.open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    sleep(Duration::from_millis(100)).await;
    assert!(guard.remaining() > 3000 * SECOND, "{:?}", guard.remaining());
}

#[tokio::test]
async fn a_dropped_shorter_extension_is_heard_in_time() {
    let (locks, _, store) = slow();
    let guard = locks.lock("l").acquire().await.unwrap();
    store.extended.close();
    assert!(guard.extend(SHORT).now_or_never().is_none());
    assert!(guard.remaining() < SHORT);
    timeout(2 * SECOND, guard.lost()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_shorter_extension_is_renewed_in_time() {
    let (locks, _, store) = slow();
    let lock = locks.lock("l").renew(true);
    let guard = lock.acquire().await.unwrap();
    store.extended.close();
    assert!(guard.extend(SHORT).now_or_never().is_none());
    store.extended.open();
    sleep(2 * SHORT).await;
    assert!(guard.is_valid());
}

#[tokio::test]
async fn a_release_tells_of_a_loss_that_a_renewal_met() {
    let (locks, _, store) = slow();
    let guard = locks.lock("l").ttl(SECOND).renew(true);
    let guard = guard.acquire().await.unwrap();
    store.extended.close();
    locks.force_release("l").await.unwrap();
    store.extended.keeps(1).await;
    let mut releasing = Box::pin(guard.release());
    assert!(releasing.as_mut().now_or_never().is_none());
    store.extended.open();
    let error = releasing.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockLost);
    assert_eq!(locks.stats().lost, 1);
}

#[tokio::test]
async fn an_extension_heard_of_too_late_is_a_loss() {
    let (locks, _, store) = slow();
    let guard = locks.lock("l").ttl(SHORT).acquire().await.unwrap();
    store.extended.close();
    let mut extending = Box::pin(guard.extend(SHORT));
    assert!(extending.as_mut().now_or_never().is_none());
    sleep(2 * SHORT).await;
    store.extended.open();
    let error = extending.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockLost);
}

#[tokio::test]
async fn a_shutdown_forgets_no_attempt() {
    let (locks, others, store) = slow();
    let holder = others.lock("w").acquire().await.unwrap();
    let acquire = |name| {
        let lock = locks.lock(name);
        tokio::spawn(async move { lock.acquire().await })
    };
    let waiter = acquire("w");
    until("the waiter", async || {
        others.list().await.unwrap()[0].waiters == 1
    })
    .await;
    store.acquired.close();
    let late = acquire("l");
    store.acquired.keeps(1).await;
    locks.shutdown().await.unwrap();
    let listed = others.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].waiters), (1, 0), "{listed:?}");
    for attempt in [waiter, late] {
        let error = attempt.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    holder.release().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_an_attempt_that_nobody_polls() {
    let (locks, others, _) = slow();
    let holder = others.lock("l").acquire().await.unwrap();
    let lock = locks.lock("l");
    let mut attempt = Box::pin(lock.acquire());
    assert!(attempt.as_mut().now_or_never().is_none());
    let guard = locks.lock("mine").acquire().await.unwrap();
    timeout(SECOND, locks.shutdown()).await.unwrap().unwrap();
    assert!(!guard.is_valid());
    assert_eq!(attempt.await.unwrap_err().kind(), ErrorKind::Unavailable);
    holder.release().await.unwrap();
}

#[tokio::test]
async fn a_call_between_the_question_and_the_listening_is_not_missed() {
    let (locks, others, store) = slow();
    let holder = others.lock("l").acquire().await.unwrap();
    let second = others.lock("l");
    let second = tokio::spawn(async move { second.acquire().await.unwrap() });
    let waiting = async |count| others.list().await.unwrap()[0].waiters == count;
    until("the second", async || waiting(1).await).await;
    store.listens.close();
    let third = locks.lock("l");
    let third = tokio::spawn(async move { third.acquire().await.unwrap() });
    store.listens.keeps(1).await;
    holder.release().await.unwrap();
    second.await.unwrap().release().await.unwrap();
    store.listens.open();
    let called = Instant::now();
    third.await.unwrap().release().await.unwrap();
    assert!(called.elapsed() < SHORT, "{:?}", called.elapsed());
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn leases_live_on_when_another_runtime_ends() {
    let cache = cache();
    let lock = cache.lock("l").ttl(SHORT).renew(true);
    let (first, second) = (runtime(), runtime());
    let other = first.block_on(cache.lock("other").acquire()).unwrap();
    let guard = second.block_on(lock.acquire()).unwrap();
    drop(first);
    second.block_on(async { sleep(2 * SHORT).await });
    assert!(guard.is_valid());
    let lost = guard.lost();
    second.block_on(cache.locks().force_release("l")).unwrap();
    second.block_on(async { timeout(5 * SECOND, lost).await.unwrap() });
    drop(other);
}

#[test]
fn leases_live_on_while_another_runtime_is_busy() {
    let cache = cache();
    let lock = cache.lock("l").ttl(SHORT).renew(true);
    let (idle, busy) = (runtime(), runtime());
    let other = idle.block_on(cache.lock("other").acquire()).unwrap();
    let guard = busy.block_on(lock.acquire()).unwrap();
    busy.block_on(async { sleep(2 * SHORT).await });
    assert!(guard.is_valid());
    drop(other);
}

#[test]
fn a_runtime_can_end_during_a_release() {
    let runtime = runtime();
    let ends = runtime.block_on(async {
        let (locks, _, store) = slow();
        let guard = locks.lock("l").renew(true).acquire().await.unwrap();
        store.released.close();
        drop(guard);
        store.released.keeps(1).await;
        Arc::downgrade(&store)
    });
    assert!(ends.strong_count() > 0);
    drop(runtime);
    assert_eq!(ends.strong_count(), 0);
}

#[test]
fn an_attempt_dropped_on_a_plain_thread_leaves_the_queue() {
    let cache = cache();
    let runtime = runtime();
    let holder = runtime.block_on(cache.lock("l").acquire()).unwrap();
    let lock = cache.lock("l");
    let mut attempt = Box::pin(lock.acquire());
    let waiting = async |count| cache.locks().list().await.unwrap()[0].waiters == count;
    runtime.block_on(async {
        let _ = timeout(Duration::from_millis(50), &mut attempt).await;
        assert!(waiting(1).await);
    });
    drop(attempt);
    // Long before it would be presumed dead.
    runtime.block_on(async {
        let gone = until("the empty queue", async || waiting(0).await);
        timeout(SECOND, gone).await.unwrap();
    });
    drop(holder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_leaves_nothing_behind() {
    let (locks, others, store) = slow();
    let ends = Arc::downgrade(&store);
    let chaos = |_| {
        let locks = locks.clone();
        tokio::spawn(async move {
            for round in 0..60 {
                let lock = match round % 3 {
                    0 => locks.lock("l"),
                    1 => locks.semaphore("s", 2),
                    _ => locks.lock("l").fair(false),
                };
                let lock = lock.ttl(SECOND).renew(true).wait(5 * SECOND);
                let patience = Duration::from_micros(fastrand::u64(..4000));
                let work = async {
                    match fastrand::u8(..3) {
                        0 => drop(lock.with_fence(|_| sleep(patience)).await),
                        1 => drop(lock.try_acquire().await.map(|_| ())),
                        _ => {
                            let guard = lock.acquire().await?;
                            guard.extend(2 * SECOND).await?;
                            guard.release().await?;
                        }
                    }
                    larder::Result::Ok(())
                };
                let _: Result<larder::Result<()>, _> = timeout(patience, work).await;
            }
        })
    };
    for task in (0..40).map(chaos).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let nothing = async || {
        let semaphores = others.list_semaphores().await.unwrap();
        others.list().await.unwrap().is_empty() && semaphores.is_empty()
    };
    timeout(SECOND, until("the end of all", nothing))
        .await
        .unwrap();
    assert_eq!(locks.stats().held, 0);
    assert_eq!(locks.stats().lost, 0);
    drop((locks, store));
    until("the end of the store", async || ends.strong_count() == 0).await;
}
