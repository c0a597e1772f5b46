//! Cleaning up in the background, as the configuration says.

use std::path::Path;
use std::time::Duration;

use larder::config::{Config, Sources};
use larder::{Larder, Ttl};

use super::get;

async fn open(dir: &Path, every: &str) -> Larder {
    let sources = Sources::new()
        .flag("dir", dir.to_str().unwrap())
        .flag("tags.cleanup_every", every);
    Larder::from_loaded(Config::load(&sources).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_cleaned_by_one_process_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path(), "1s").await, open(dir.path(), "1s").await);
    let cache = one.partition("pages").unwrap();
    drop(other.partition("pages").unwrap());
    cache
        .set("idle", "v")
        .ttl(Ttl::Forever)
        .tags(["idle"])
        .await
        .unwrap();
    cache
        .set("used", "v")
        .ttl(Ttl::Forever)
        .tags(["used"])
        .await
        .unwrap();
    cache.delete("idle").await.unwrap();
    let idle = async || cache.cleanup_tags().dry_run().await.unwrap().tags;
    assert_eq!(idle().await, 1);
    let mut waited = Duration::ZERO;
    while idle().await > 0 {
        assert!(waited < Duration::from_secs(30), "nobody cleans up");
        tokio::time::sleep(Duration::from_millis(100)).await;
        waited += Duration::from_millis(100);
    }
    assert!(get(&cache, "used").await.is_some());
    one.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_runs_when_it_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let larder = open(dir.path(), "0").await;
    let cache = larder.default_cache();
    cache
        .set("idle", "v")
        .ttl(Ttl::Forever)
        .tags(["idle"])
        .await
        .unwrap();
    cache.delete("idle").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cache.cleanup_tags().dry_run().await.unwrap().tags, 1);
    larder.shutdown().await.unwrap();
}
