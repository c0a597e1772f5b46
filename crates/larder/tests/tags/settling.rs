//! Invalidations that the store does not acknowledge at once.

use std::time::Duration;

use larder::testing::{Fault, FlakyStore};
use larder::{Cache, ErrorKind, MemoryStore};

use super::get;

fn flaky() -> (Cache, Cache, FlakyStore) {
    let memory = MemoryStore::new();
    let store = FlakyStore::new(memory.clone(), 7);
    let healthy = Cache::builder(memory).build().unwrap();
    let cache = Cache::builder(store.clone()).build().unwrap();
    (cache, healthy, store)
}

#[tokio::test(start_paused = true)]
async fn a_failed_invalidation_is_made_when_the_store_is_back() {
    for fault in [Fault::Refuse, Fault::LoseReply] {
        let (cache, healthy, store) = flaky();
        healthy.set("k", "old").tags(["t:a"]).await.unwrap();
        healthy.set("l", "old").tags(["s:a"]).await.unwrap();
        store.next(5, fault);
        let first = cache.invalidate_tags(["t:*"]).await.unwrap_err();
        let second = cache.invalidate_tags(["s:[a]"]).await.unwrap_err();
        assert!(first.is_retryable() && second.is_retryable());
        let limit = Duration::from_secs(30);
        for error in [first, second] {
            let settled = tokio::time::timeout(limit, error.await_settled());
            settled.await.unwrap().unwrap();
            error.await_settled().await.unwrap();
        }
        assert_eq!(get(&healthy, "k").await, None);
        assert_eq!(get(&healthy, "l").await, None);
        // What is settled is not done again.
        healthy.set("k", "new").tags(["t:a"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(get(&healthy, "k").await.as_deref(), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_mark_is_made_as_a_mark() {
    let (cache, healthy, store) = flaky();
    healthy.set("k", "old").tags(["t"]).await.unwrap();
    store.next(2, Fault::Refuse);
    let error = cache.mark_stale_tags(["t"]).await.unwrap_err();
    error.await_settled().await.unwrap();
    assert_eq!(get(&healthy, "k").await.as_deref(), Some("old"));
    let load = || async { Ok::<_, std::io::Error>("new".to_owned()) };
    healthy.remember("k", load).tags(["t"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(get(&healthy, "k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn nobody_waits_for_what_cannot_settle() {
    let (cache, _, store) = flaky();
    let refused = cache.invalidate_tags([""]).await.unwrap_err();
    let waited = refused.await_settled().await.unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::InvalidArgument);
    store.next(u64::MAX, Fault::Refuse);
    let failed = cache.invalidate_tags(["t"]).await.unwrap_err();
    drop(cache);
    let waited = failed.await_settled().await.unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::Unavailable);
    assert!(!waited.is_retryable());
}
