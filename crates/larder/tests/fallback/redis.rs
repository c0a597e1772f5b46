//! A real server is killed and comes back with its old data; everything is opened from configuration.

use std::time::{Duration, Instant};

use larder::config::{Config, Sources};
use larder::{Cache, ErrorKind, Larder, Result};
use tempfile::TempDir;
use xtask::servers::find_binary;
use xtask::servers::private::RedisServer;

/// A server that has on its disk whatever it acknowledged.
pub(crate) fn server() -> Option<RedisServer> {
    if find_binary("redis-server").is_none() {
        let is_strict = std::env::var_os("LARDER_TEST_STRICT").is_some();
        assert!(!is_strict, "redis-server is not installed");
        return None;
    }
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    Some(RedisServer::with_args(&args).unwrap())
}

pub(crate) async fn open(
    server: &RedisServer,
    dir: &TempDir,
    fallback: &str,
    at_start: &str,
) -> Result<Larder> {
    let sources = Sources::new()
        .flag("dir", dir.path().to_str().unwrap())
        .flag("cache.default", "redis")
        .flag("cache.fallback", fallback)
        .flag("cache.fallback_at_start", at_start)
        .flag("stores.redis.driver", "redis")
        .flag("stores.redis.url", server.url());
    Larder::from_loaded(Config::load(&sources)?).await
}

async fn state(cache: &Cache) -> String {
    let details = cache.stats().await.unwrap().store.details;
    let found = details.into_iter().find(|(name, _)| name == "fallback");
    found.unwrap().1
}

async fn returned(cache: &Cache) {
    let start = Instant::now();
    while state(cache).await != "primary" {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it does not return"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn get(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_with_its_old_data_serves_none_that_changed() {
    let Some(server) = server() else { return };
    for fallback in ["sqlite", "file"] {
        let dir = tempfile::tempdir().unwrap();
        let larder = open(&server, &dir, fallback, "fail").await.unwrap();
        let idle = open(&server, &dir, fallback, "fail").await.unwrap();
        let (cache, cleared) = (larder.default_cache(), larder.partition("cleared").unwrap());
        for key in ["deleted", "overwritten", "left"] {
            cache.set(key, "old").await.unwrap();
        }
        cleared.set("k", "old").await.unwrap();
        assert_eq!(
            get(&idle.default_cache(), "deleted").await.as_deref(),
            Some("old")
        );
        server.kill();
        assert!(cache.delete("deleted").await.is_ok());
        cache.set("overwritten", "new").await.unwrap();
        cleared.clear().await.unwrap();
        assert_eq!(get(&cache, "overwritten").await.as_deref(), Some("new"));
        assert_eq!(get(&cache, "deleted").await, None);
        assert!(state(&cache).await.starts_with("standby"));
        assert!(cache.add("lock", "me").await.is_err());
        assert!(cache.increment("n", 1).await.is_err());
        server.start_again().unwrap();
        // The other process did nothing meanwhile; it must not read on as if nothing had happened.
        for larder in [&idle, &larder] {
            let (cache, cleared) = (larder.default_cache(), larder.partition("cleared").unwrap());
            for _ in 0..20 {
                for key in ["deleted", "overwritten"] {
                    let read = get(&cache, key).await;
                    assert_ne!(read.as_deref(), Some("old"), "{key} with {fallback}");
                }
                assert_eq!(get(&cleared, "k").await, None);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            returned(&cache).await;
            assert_eq!(get(&cache, "overwritten").await, None);
            assert_eq!(get(&cache, "left").await.as_deref(), Some("old"));
        }
        assert!(cache.add("lock", "me").await.unwrap());
        assert!(cache.delete("lock").await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_does_not_serve_what_changed_when_it_goes_on() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let larder = open(&server, &dir, "sqlite", "fail").await.unwrap();
    let cache = larder.default_cache();
    cache.set("k", "old").await.unwrap();
    server.pause().unwrap();
    // Its fate is not known: the server finds it when it goes on.
    cache.set("k", "new").await.unwrap();
    cache.delete("k").await.unwrap();
    server.resume().unwrap();
    for _ in 0..20 {
        assert_eq!(get(&cache, "k").await, None);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    returned(&cache).await;
    assert_eq!(get(&cache, "k").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_start_configuration_decides_between_failing_and_falling_back() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let larder = open(&server, &dir, "sqlite", "fail").await.unwrap();
    larder.default_cache().set("k", "old").await.unwrap();
    drop(larder);
    server.kill();
    let refused = open(&server, &dir, "sqlite", "fail").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let larder = open(&server, &dir, "sqlite", "fall-back").await.unwrap();
    let cache = larder.default_cache();
    assert!(state(&cache).await.starts_with("standby"));
    cache.set("k", "new").await.unwrap();
    // As if it were killed, too.
    drop((cache, larder));
    server.start_again().unwrap();
    let larder = open(&server, &dir, "sqlite", "fail").await.unwrap();
    assert_eq!(get(&larder.default_cache(), "k").await, None);
}
