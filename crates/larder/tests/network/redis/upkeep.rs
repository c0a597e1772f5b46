//! What the store does besides calls: sweeping, loading scripts, repairing registers, checking the layout.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use larder::store::{Condition, Expiry, Write};
use larder::testing::sealed;
use larder::{ErrorKind, RedisStore, Store as _};
use tokio::time::{sleep, timeout};
use xtask::servers::private::{RedisCluster, RedisServer};

use super::rig::{Rig, now, put, urls};
use crate::has_servers;
use crate::proxy::Proxy;

/// Returns how often a command was called.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let text = server.call(&["INFO", "commandstats"]).unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let number = text.text().lines().find_map(|line| {
        let rest = line.strip_prefix(&start)?;
        rest.split(',').next()?.parse().ok()
    });
    number.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clears_in_a_row_are_swept_up_together() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let fill = "for n = 1, 20000 do redis.call('SET', 'other:' .. n, 'x') end";
    now(|| server.call(&["EVAL", fill, "0"])).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    for version in 0..100 {
        rig.set("key", version).await.unwrap();
        rig.clear().await.unwrap();
    }
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(300)).await;
        let scans = now(|| calls(&server, "scan"));
        if scans == before {
            break;
        }
        before = scans;
    }
    // A sweep is some 40 steps.
    assert!((1..=1_000).contains(&before), "{before} steps");
    assert_eq!(now(|| server.call(&["DBSIZE"])).unwrap().text(), "20000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_call_to_a_server_that_forgot_the_scripts_takes_one_more_round_trip() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let store = RedisStore::connect(format!("redis://{}/", proxy.address()));
    let rig = Rig::new(store.await.unwrap());
    now(|| server.call(&["SCRIPT", "FLUSH"])).unwrap();
    proxy.delay(Duration::from_millis(5));
    let keys: Vec<String> = (0..500).map(|n| format!("key:{n}")).collect();
    let adds = keys
        .iter()
        .map(|key| put(key, 1).when(Condition::IfAbsent))
        .collect::<Vec<_>>();
    let began = Instant::now();
    let added = rig.store.write_many(&rig.namespace, &adds).await.unwrap();
    assert!(added.iter().all(|added| *added));
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_of_somebody_else_is_replaced() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    for junk in ["", "1", "123456789", "\0\0\0\0\0\0\0\0"] {
        now(|| server.call(&["SET", "{0}g:net:test:v1", junk])).unwrap();
        rig.set("key", 1).await.unwrap();
        assert_eq!(rig.get("key").await.unwrap(), Some(1), "{junk:?}");
        assert!(!rig.add("key", 2).await.unwrap(), "{junk:?}");
        assert_eq!(rig.increment("n").await.unwrap(), 1, "{junk:?}");
        assert_eq!(rig.increment("n").await.unwrap(), 2, "{junk:?}");
        rig.clear().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_connects_late_refuses_another_layout_all_the_same() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let first = RedisStore::cluster(urls(&cluster)).connect().await.unwrap();
    let first = Rig::new(first);
    first.set("key", 1).await.unwrap();
    let late = RedisStore::cluster(urls(&cluster)).buckets(16).build_lazy();
    let late = Rig::new(late.unwrap());
    for _ in 0..2 {
        let error = late.clear().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        let error = late.set("key", 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
    let same = RedisStore::cluster(urls(&cluster)).build_lazy().unwrap();
    let same = Rig::new(same);
    assert_eq!(same.get("key").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_dropped_on_another_connection_is_cleared_all_the_same() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let builder = RedisStore::builder(server.url()).connections(4);
    let builder = builder.response_timeout(Duration::from_secs(20));
    let rig = Rig::new(builder.connect().await.unwrap());
    // Large ones that are refused, on every connection.
    let value = sealed(&vec![7; 1 << 16]);
    let keys: Vec<String> = (0..120).map(|n| format!("large:{n}")).collect();
    for round in 0..20 {
        let name = format!("added:{round}");
        rig.set("other", 1).await.unwrap();
        let large = keys.iter().map(|key| {
            let write = Write::put(key.as_bytes(), value.clone(), Expiry::Never);
            rig.write(write.when(Condition::IfPresent))
        });
        let later = async {
            let added = timeout(Duration::from_millis(2), rig.add(&name, 1));
            let is_dropped = added.await.is_err();
            rig.clear().await.unwrap();
            is_dropped
        };
        let (_, is_dropped) = tokio::join!(join_all(large), later);
        assert_eq!(
            rig.get(&name).await.unwrap(),
            None,
            "round {round}, dropped: {is_dropped}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_that_the_server_closed_while_idle_costs_no_call() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let builder = RedisStore::builder(server.url()).connections(2);
    let rig = Rig::new(builder.connect().await.unwrap());
    for version in 0..20 {
        for key in ["a", "b", "c"] {
            rig.set(key, version).await.unwrap();
        }
        now(|| server.call(&["CLIENT", "KILL", "TYPE", "normal"])).unwrap();
        sleep(Duration::from_millis(20)).await;
        for key in ["a", "b", "c"] {
            assert_eq!(rig.get(key).await.unwrap(), Some(version));
        }
    }
}

#[tokio::test]
async fn call_that_was_given_up_long_ago_is_no_reason_to_leave_a_connection() {
    if !has_servers() {
        return;
    }
    let server = RedisServer::start().unwrap();
    let builder = RedisStore::builder(server.url()).response_timeout(Duration::from_millis(100));
    let rig = Rig::new(builder.connect().await.unwrap());
    rig.set("key", 1).await.unwrap();
    let epoch = rig.store.connection_epoch();
    for _ in 0..3 {
        assert!(rig.get("key").now_or_never().is_none());
        sleep(Duration::from_millis(300)).await;
        assert_eq!(rig.get("key").await.unwrap(), Some(1));
    }
    assert_eq!(rig.store.connection_epoch(), epoch);
}
