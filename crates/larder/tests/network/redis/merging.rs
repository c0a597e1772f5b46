//! Calls that go out together.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use larder::{RedisStore, Result};
use tokio::task::yield_now;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::rig::{Rig, keys_on, now, urls};
use crate::has_servers;

const LONG: Duration = Duration::from_secs(20);

/// More than a task may do in one turn, by the rules of the runtime.
const CROWD: usize = 3_000;

#[tokio::test]
async fn put_dropped_in_a_crowd_is_not_applied_after_a_later_delete() {
    if !has_servers() {
        return;
    }
    let server = RedisServer::start().unwrap();
    let builder = RedisStore::builder(server.url()).response_timeout(LONG);
    let rig = Rig::new(builder.connect().await.unwrap());
    let keys: Vec<String> = (0..CROWD).map(|n| format!("key:{n}")).collect();
    let last = &keys[CROWD - 1];
    for turns in 0..8 {
        rig.set(last, 1).await.unwrap();
        let mut puts: Vec<Pin<Box<dyn Future<Output = Result<()>>>>> = Vec::new();
        for key in &keys {
            let mut put = Box::pin(rig.set(key, 2));
            assert!(put.as_mut().now_or_never().is_none());
            puts.push(put);
        }
        for _ in 0..turns {
            yield_now().await;
        }
        drop(puts.pop());
        rig.delete(last).await.unwrap();
        for put in puts {
            put.await.unwrap();
        }
        assert_eq!(rig.get(last).await.unwrap(), None, "after {turns} turns");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_go_out_together_do_not_wait_for_another_ones_server() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let builder = RedisStore::cluster(urls(&cluster)).response_timeout(Duration::from_secs(1));
    let rig = Rig::new(builder.connect().await.unwrap());
    let keys: Vec<String> = (0..60).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        rig.set(key, 1).await.unwrap();
    }
    let silent = &cluster.nodes()[now(|| cluster.master_of(0)).unwrap()];
    let lost = now(|| keys_on(silent, &keys));
    now(|| silent.pause()).unwrap();
    let rig = &rig;
    let reads = keys.iter().map(|key| async move {
        let began = Instant::now();
        (key, rig.get(key).await, began.elapsed())
    });
    let reads = join_all(reads).await;
    now(|| silent.resume()).unwrap();
    for (key, read, taken) in reads {
        if !lost.contains(key) {
            assert_eq!(read.unwrap(), Some(1), "{key}");
            assert!(taken < Duration::from_millis(500), "{key}: {taken:?}");
        }
    }
}
