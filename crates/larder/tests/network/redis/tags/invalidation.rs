//! Invalidation on a cluster: it reaches every bucket, or says which parts it did not.

use std::collections::HashSet;
use std::time::Duration;

use larder::RedisStore;
use larder::store::{Invalidation, Register};
use larder::{ErrorKind, Store as _};
use xtask::servers::private::{RedisCluster, RedisServer};

use super::super::rig::{keys_on, now, urls};
use super::{Tagged, numbered, tag};
use crate::has_servers;

const KEYS: usize = 400;
const BUCKETS: usize = 64;

async fn connected(cluster: &RedisCluster) -> Tagged {
    let builder = RedisStore::cluster(urls(cluster)).response_timeout(Duration::from_millis(400));
    Tagged::new(builder.connect().await.unwrap())
}

/// Puts entries under a register and checks that another instance reads them.
async fn fill(here: &Tagged, there: &Tagged, keys: &[String], registers: &[Register]) {
    for key in keys {
        here.put(key, "v", registers).await.unwrap();
    }
    let found = there.get_all(keys).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_buckets_of_a_cluster_are_reached() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let (here, there) = (connected(&cluster).await, connected(&cluster).await);
    let keys = numbered(KEYS);
    let registers = [tag("a"), tag("b")];
    fill(&here, &there, &keys, &registers).await;
    let tags: HashSet<String> = cluster
        .nodes()
        .iter()
        .flat_map(|node| {
            now(|| node.call(&["KEYS", "*}r:*"]))
                .unwrap()
                .items()
                .to_vec()
        })
        .map(|name| name.text().split('}').next().unwrap().to_owned())
        .collect();
    assert_eq!(tags.len(), BUCKETS, "the keys are in all buckets");
    let soft = Invalidation::Soft;
    let softened = there.store.invalidate(&there.namespace, &registers, soft);
    let told = softened.await.unwrap();
    assert_eq!(
        (told.had, told.parts, told.missing),
        (vec![true; 2], BUCKETS, 0)
    );
    for key in &keys {
        let names = [key.as_bytes()];
        let read = here.store.get_many(&here.namespace, &names);
        let entry = read.await.unwrap().pop().flatten().unwrap();
        assert!(entry.is_stale, "{key}");
    }
    let told = there.invalidate(&registers[1..]).await.unwrap();
    assert_eq!(
        (told.had, told.parts, told.missing),
        (vec![true], BUCKETS, 0)
    );
    for tagged in [&here, &there] {
        let found = tagged.get_all(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_none));
        for key in &keys {
            assert_eq!(tagged.get(key).await.unwrap(), None, "{key}");
        }
    }
    fill(&here, &there, &keys, &registers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_silent_primary_are_missing_and_the_others_done() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let (here, there) = (connected(&cluster).await, connected(&cluster).await);
    let keys = numbered(KEYS);
    let registers = [tag("a")];
    fill(&here, &there, &keys, &registers).await;
    let silent = &cluster.nodes()[now(|| cluster.master_of(0)).unwrap()];
    let lost: HashSet<_> = now(|| keys_on(silent, &keys)).into_iter().collect();
    now(|| silent.pause()).unwrap();
    let told = there.invalidate(&registers).await;
    now(|| silent.resume()).unwrap();
    let told = told.unwrap();
    assert_eq!((told.had, told.parts), (vec![true], BUCKETS));
    assert!((1..BUCKETS).contains(&told.missing), "{}", told.missing);
    for key in keys.iter().filter(|key| !lost.contains(*key)) {
        assert_eq!(here.get(key).await.unwrap(), None, "{key}");
    }
    let began = std::time::Instant::now();
    loop {
        match there.invalidate(&registers).await {
            Ok(told) if told.missing == 0 => break,
            _ => assert!(began.elapsed() < Duration::from_secs(20)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for key in &keys {
        assert_eq!(here.get(key).await.unwrap(), None, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_an_error() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let builder = RedisStore::builder(server.url()).response_timeout(Duration::from_millis(300));
    let tagged = Tagged::new(builder.connect().await.unwrap());
    tagged.put("key", "v", &[tag("a")]).await.unwrap();
    now(|| server.pause()).unwrap();
    let error = tagged.invalidate(&[tag("a")]).await.unwrap_err();
    now(|| server.resume()).unwrap();
    let is_expected = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable);
    assert!(is_expected, "{error}");
}
