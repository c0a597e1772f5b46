//! Invalidations that servers have not heard of, or have forgotten, are made again.

use std::time::Duration;

use larder::{Cache, ErrorKind, RedisStore};
use tokio::time::timeout;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::super::rig::{now, urls};
use crate::has_servers;

const PATIENCE: Duration = Duration::from_secs(20);

async fn value(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_last_invalidations_hears_of_them_again() {
    if !has_servers() {
        return;
    }
    let server = now(|| RedisServer::with_args(&["--save", "3600 1"])).unwrap();
    let store = RedisStore::connect(server.url()).await.unwrap();
    let cache = Cache::builder(store).strict(true).build().unwrap();
    for (key, tag) in [("exact", "t:a"), ("pattern", "p:a:q"), ("kept", "other")] {
        cache.set(key, "old").tags([tag]).await.unwrap();
    }
    now(|| server.call(&["SAVE"])).unwrap();
    cache.invalidate_tags(["t:a", "p:*:q"]).await.unwrap();
    assert_eq!(value(&cache, "exact").await, None);
    now(|| server.kill());
    now(|| server.start_again()).unwrap();
    // The server is as it was before the invalidation.
    let gone = async {
        loop {
            let keys = ["exact", "pattern", "kept"];
            let values = cache.get_many::<String>(keys).await;
            if values.is_ok_and(|values| values == [None, None, Some("old".to_owned())]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it stays invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_paused_is_settled_when_it_is_back() {
    if !has_servers() {
        return;
    }
    // Its replica is not to take over meanwhile.
    let args = ["--cluster-node-timeout", "60000"];
    let cluster = now(|| RedisCluster::with_args(&args)).unwrap();
    let store = RedisStore::cluster(urls(&cluster));
    let store = store.response_timeout(Duration::from_millis(300));
    let cache = Cache::builder(store.connect().await.unwrap());
    let cache = cache.strict(true).build().unwrap();
    let keys: Vec<_> = (0..50).map(|n| format!("k{n}")).collect();
    for key in &keys {
        cache.set(key.as_str(), "old").tags(["t"]).await.unwrap();
    }
    let master = now(|| cluster.master_of(0)).unwrap();
    now(|| cluster.nodes()[master].pause()).unwrap();
    let error = cache.invalidate_tags(["t"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
    assert!(
        timeout(Duration::from_millis(500), error.await_settled())
            .await
            .is_err()
    );
    now(|| cluster.nodes()[master].resume()).unwrap();
    let settled = timeout(PATIENCE, error.await_settled()).await;
    settled.expect("the server is back").unwrap();
    for key in &keys {
        assert_eq!(value(&cache, key).await, None, "{key}");
    }
}
