//! Entries that refuse an older fence.

use larder::ErrorKind;

use super::cache;

#[tokio::test]
async fn an_older_fence_cannot_overwrite_a_newer_one() {
    let cache = cache();
    cache.set("k", "five").fence(5).await.unwrap();
    let refused = cache.set("k", "four").fence(4).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockLost);
    assert!(!refused.is_retryable());
    assert_eq!(cache.get::<String>("k").await.unwrap().unwrap(), "five");
    cache.set("k", "five again").fence(5).await.unwrap();
    cache.set("k", "six").fence(6).await.unwrap();
    assert_eq!(cache.get::<String>("k").await.unwrap().unwrap(), "six");
}

#[tokio::test]
async fn the_fence_ends_with_its_entry() {
    let cache = cache();
    cache.set("k", &7).fence(7).await.unwrap();
    cache.set("k", &8).await.unwrap();
    cache.set("k", &1).fence(1).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    cache.delete("k").await.unwrap();
    cache.set("k", &0).fence(0).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_the_greatest_fence_stays() {
    let cache = cache();
    let write = |fence: u64| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.set("k", &fence).fence(fence).await.is_ok() })
    };
    let writers: Vec<_> = (1..=64).rev().map(write).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(64));
}
