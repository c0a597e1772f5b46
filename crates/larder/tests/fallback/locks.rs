//! While the server is down, nothing is locked, limited or granted on its standby.

use std::time::{Duration, Instant};

use larder::{ErrorKind, Larder};

use super::redis::{open, server};

const SECOND: Duration = Duration::from_secs(1);

/// Asks for everything that a standby must not grant; all answers must be errors.
async fn nothing_is_granted(larder: &Larder) {
    let cache = larder.default_cache();
    for name in ["held", "free"] {
        let lock = larder.lock(name).wait(Duration::from_millis(300));
        for _ in 0..3 {
            let refused = lock.try_acquire().await.unwrap_err();
            assert!(is_an_outage(refused.kind()), "{refused}");
        }
        let refused = lock.acquire().await.unwrap_err();
        assert!(is_an_outage(refused.kind()), "{refused}");
        let refused = lock.fair(false).try_acquire().await.unwrap_err();
        assert!(is_an_outage(refused.kind()), "{refused}");
    }
    assert!(cache.semaphore("s", 9).try_acquire().await.is_err());
    let limiter = cache.limiter("l").per(100, SECOND);
    assert!(limiter.try_take(1).await.is_err());
    assert!(larder.locks().list().await.is_err());
    assert!(larder.locks().force_release("held").await.is_err());
}

fn is_an_outage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_is_granted_while_the_server_is_down() {
    let Some(server) = server() else { return };
    for fallback in ["sqlite", "file"] {
        let dir = tempfile::tempdir().unwrap();
        let larder = open(&server, &dir, fallback, "fail").await.unwrap();
        let cache = larder.default_cache();
        let lock = larder.lock("held").ttl(3 * SECOND).renew(true);
        let held = lock.acquire().await.unwrap();
        server.kill();
        cache.set("k", "on the standby").await.unwrap();
        nothing_is_granted(&larder).await;
        // A process that starts meanwhile gets none either.
        let late = open(&server, &dir, fallback, "fall-back").await.unwrap();
        nothing_is_granted(&late).await;
        // Who holds one hears in time that it can no longer be sure.
        let heard = tokio::time::timeout(4 * SECOND, held.lost()).await;
        assert!(heard.is_ok() && !held.is_valid());
        server.start_again().unwrap();
        let next = lock.wait(20 * SECOND).acquire().await.unwrap();
        assert!(next.fence() > held.fence());
        next.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_grants_nothing_and_the_standby_neither() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let larder = open(&server, &dir, "sqlite", "fail").await.unwrap();
    larder
        .lock("free")
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    server.pause().unwrap();
    let started = Instant::now();
    nothing_is_granted(&larder).await;
    assert!(started.elapsed() < 60 * SECOND);
    server.resume().unwrap();
    // Attempts that the server finds when it goes on are given up behind them, long before their TTL.
    let lock = larder.lock("free").wait(20 * SECOND);
    lock.acquire().await.unwrap().release().await.unwrap();
}
