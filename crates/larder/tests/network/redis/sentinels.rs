//! Behind sentinels: writes go to the primary of the moment, and never to one that was replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::RedisStore;
use xtask::servers::private::{MASTER_NAME, RedisSentinel, RedisServer};

use super::rig::{Rig, keys_on, now};
use crate::has_servers;

/// Sentinels need about 3 s on a quiet machine.
const BACK_WITHIN: Duration = Duration::from_secs(15);

async fn connect(group: &RedisSentinel) -> Rig {
    let urls = group.sentinels().iter().map(RedisServer::url);
    let store = RedisStore::sentinel(urls, MASTER_NAME).connect().await;
    let rig = Rig::new(store.unwrap());
    rig.set("key", 1).await.unwrap();
    rig
}

/// Writes all the time.
async fn write(rig: &Rig, stop: &AtomicBool) {
    for version in 2.. {
        if stop.load(SeqCst) {
            return;
        }
        // The rig notes failures.
        let _ = rig.set("load", version).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Breaks the primary under load and returns when writes go to the other one.
async fn lose(group: &RedisSentinel, rig: &Arc<Rig>, how: impl FnOnce()) {
    let first = now(|| group.master_address()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (rig, stop) = (Arc::clone(rig), Arc::clone(&stop));
        async move { write(&rig, &stop).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    now(how);
    now(|| group.wait_for_failover(first, BACK_WITHIN)).unwrap();
    let replaced = began.elapsed();
    let second = now(|| group.master()).unwrap();
    // One that was replaced while it was well takes writes for some seconds more, and throws them away.
    loop {
        rig.set_in_the_end("after", 7).await;
        if !now(|| keys_on(second, &["after".to_owned()])).is_empty() {
            break;
        }
        assert!(began.elapsed() < replaced + Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let taken = began.elapsed();
    println!("replaced after {replaced:?}, written after {taken:?}");
    assert!(taken < replaced + Duration::from_secs(5), "{taken:?}");
    stop.store(true, SeqCst);
    writing.await.unwrap();
    assert!(
        rig.slowest() < Duration::from_secs(2),
        "{:?}",
        rig.slowest()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_primary_is_replaced_and_not_written_to_when_it_returns() {
    if !has_servers() {
        return;
    }
    let group = now(RedisSentinel::start).unwrap();
    let rig = Arc::new(connect(&group).await);
    let old = &group.servers()[0];
    lose(&group, &rig, || old.kill()).await;
    now(|| old.start_again()).unwrap();
    for version in 0..100 {
        let key = format!("later:{version}");
        rig.set(&key, version).await.unwrap();
        assert_eq!(rig.get(&key).await.unwrap(), Some(version));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_primary_is_replaced_and_not_written_to_when_it_returns() {
    if !has_servers() {
        return;
    }
    let group = now(RedisSentinel::start).unwrap();
    let rig = Arc::new(connect(&group).await);
    let old = &group.servers()[0];
    lose(&group, &rig, || old.pause().unwrap()).await;
    now(|| old.resume()).unwrap();
    // It believes for a while that it is the primary still; whatever it holds, it got from no one here.
    let before = now(|| old.call(&["DBSIZE"])).unwrap();
    for version in 0..100 {
        let key = format!("later:{version}");
        rig.set(&key, version).await.unwrap();
        assert_eq!(rig.get(&key).await.unwrap(), Some(version));
    }
    let role = now(|| old.call(&["ROLE"])).unwrap().items()[0].text();
    let after = now(|| old.call(&["DBSIZE"])).unwrap();
    assert!(role == "slave" || before == after, "{before:?}, {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_that_was_asked_for_is_followed() {
    if !has_servers() {
        return;
    }
    let group = now(RedisSentinel::start).unwrap();
    let rig = Arc::new(connect(&group).await);
    lose(&group, &rig, || group.failover().unwrap()).await;
    assert_eq!(rig.get("key").await.unwrap(), Some(1));
}
