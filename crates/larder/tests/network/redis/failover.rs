//! A master of a cluster that is lost: its replica takes over, and the store follows without being started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::{RedisStore, Store as _};
use tokio::task::JoinSet;
use xtask::servers::private::RedisCluster;
use xtask::servers::resp::Connection;

use super::rig::{Rig, SLACK, keys_on, now, put, urls};
use crate::has_servers;

/// Below half of the cluster's node timeout, and generous for a busy machine.
const RESPONSE: Duration = Duration::from_millis(800);
/// Node timeout and 3 s; and what a busy machine may add.
const BACK_WITHIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);
const WHOLE_WITHIN: Duration = Duration::from_secs(20);

/// Readers and writers of a set of keys, whose versions only grow.
struct Load {
    rig: Arc<Rig>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(store: &RedisStore, keys: &[String], version: &Arc<AtomicU64>) -> Self {
        let rig = Arc::new(Rig::new(store.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writes in [true, false] {
            let (rig, stop) = (Arc::clone(&rig), Arc::clone(&stop));
            let (keys, version) = (keys.to_vec(), Arc::clone(version));
            tasks.spawn(async move {
                for key in keys.iter().cycle() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    // Failures are counted by the rig.
                    let _ = if writes {
                        rig.set(key, version.fetch_add(1, SeqCst)).await
                    } else {
                        rig.get(key).await.map(|_| ())
                    };
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
        Self { rig, stop, tasks }
    }

    async fn stop(mut self) -> Arc<Rig> {
        self.stop.store(true, SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.rig
    }
}

/// Breaks the first master under load, and returns when the store works again on its slots.
async fn lose_master(
    cluster: &RedisCluster,
    store: &RedisStore,
    lose: impl FnOnce(),
) -> Vec<String> {
    let rig = Rig::new(store.clone());
    let keys: Vec<_> = (0..300).map(|n| format!("key:{n:03}")).collect();
    for key in &keys {
        rig.set(key, 1).await.unwrap();
    }
    let (lost, others): (Vec<_>, Vec<_>) = {
        let lost = now(|| keys_on(&cluster.nodes()[0], &keys));
        keys.iter().cloned().partition(|key| lost.contains(key))
    };
    assert!(lost.len() > 50 && others.len() > 100, "{}", lost.len());
    let version = Arc::new(AtomicU64::new(2));
    let mut load = Load::start(store, &lost, &version);
    let bystander = Load::start(store, &others, &version);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(load.rig.failures(), 0, "{:?}", load.rig.latest_failure());
    let replica = cluster.nodes()[3].address();
    now(lose);
    let began = Instant::now();
    let takeover = tokio::task::spawn_blocking(move || takes_over(replica));
    tokio::time::sleep(Duration::from_secs(1)).await;
    loop {
        let failures = load.rig.failures();
        tokio::time::sleep(Duration::from_millis(700)).await;
        if load.rig.failures() == failures && failures > 0 {
            break;
        }
        assert!(
            began.elapsed() < BACK_WITHIN + PATIENCE,
            "{:?}",
            load.rig.latest_failure()
        );
    }
    let slowest = load.rig.slowest();
    load.stop.store(true, SeqCst);
    let bystander = bystander.stop().await;
    while let Some(ended) = load.tasks.join_next().await {
        ended.unwrap();
    }
    let (back, _) = load.rig.latest_failure().expect("something failed");
    println!(
        "replica took over after {:?}; back after {:?}, {} of {} calls failed, slowest {slowest:?}; others: {} calls, slowest {:?}",
        takeover.await.unwrap() - began,
        back - began,
        load.rig.failures(),
        load.rig.calls(),
        bystander.calls(),
        bystander.slowest(),
    );
    assert_eq!(bystander.failures(), 0, "{:?}", bystander.latest_failure());
    assert!(back - began < BACK_WITHIN + PATIENCE);
    keys
}

/// Waits until a replica is a master, and returns when that was.
fn takes_over(replica: SocketAddr) -> Instant {
    let mut connection = Connection::open(replica).unwrap();
    while connection.call(&["ROLE"]).unwrap().items()[0].text() != "master" {
        std::thread::sleep(Duration::from_millis(10));
    }
    Instant::now()
}

/// Starts a cluster that goes on with what it has while a part is lost.
fn start_cluster() -> RedisCluster {
    let cluster = RedisCluster::start().unwrap();
    for node in cluster.nodes() {
        let set = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        node.call(&set).unwrap();
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_master_is_left_and_serves_nothing_stale_when_it_returns() {
    if !has_servers() {
        return;
    }
    let cluster = now(start_cluster);
    let builder = RedisStore::cluster(urls(&cluster)).response_timeout(RESPONSE);
    let store = builder.connect().await.unwrap();
    let old = &cluster.nodes()[0];
    let keys = lose_master(&cluster, &store, || old.pause().unwrap()).await;
    let rig = Rig::new(store);
    for key in &keys {
        rig.set_in_the_end(key, 1_000_000).await;
    }
    now(|| old.resume().unwrap());
    let resumed = Instant::now();
    let rig = rig.another();
    while resumed.elapsed() < Duration::from_secs(3) {
        for key in &keys {
            let read = rig.get(key).await.unwrap();
            assert_eq!(
                read,
                Some(1_000_000),
                "{key}, {:?} after",
                resumed.elapsed()
            );
        }
    }
    now(|| cluster.wait_until_whole(WHOLE_WITHIN)).unwrap();
    for key in &keys {
        rig.set(key, 1_000_001).await.unwrap();
        assert_eq!(rig.get(key).await.unwrap(), Some(1_000_001));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_seed_is_survived_and_the_others_are_asked_from_then_on() {
    if !has_servers() {
        return;
    }
    let cluster = now(start_cluster);
    let seed = &cluster.nodes()[0];
    let builder = RedisStore::cluster([seed.url()]).response_timeout(RESPONSE);
    let store = builder.connect().await.unwrap();
    let keys = lose_master(&cluster, &store, || seed.kill()).await;
    let rig = Rig::new(store);
    for key in &keys {
        rig.set_in_the_end(key, 1_000_000).await;
    }
    // What moves from now on is learnt from those that are left.
    now(|| cluster.move_slots(1, 2, 5461..=6460)).unwrap();
    let rig = rig.another();
    for key in &keys {
        assert_eq!(rig.get(key).await.unwrap(), Some(1_000_000));
        rig.set(key, 1_000_001).await.unwrap();
    }
    // The seed is still listed, with its problem.
    let failed = rig.store.nodes().await.unwrap();
    assert!(
        failed.iter().any(|node| node.problem.is_some()),
        "{failed:?}"
    );
    assert_eq!(rig.failures(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_that_is_down_costs_each_call_its_limits_and_no_more() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let store = RedisStore::cluster(urls(&cluster)).connect().await.unwrap();
    let rig = Arc::new(Rig::new(store));
    let keys: Vec<_> = (0..500).map(|n| format!("key:{n:03}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| put(key, 1)).collect();
    let all = rig.store.write_many(&rig.namespace, &writes);
    rig.watch(all).await.unwrap();
    // Without a master and its replica the others refuse all calls, too.
    now(|| [0, 3].map(|index| cluster.nodes()[index].kill()));
    let lost = Instant::now();
    let state = || {
        now(|| cluster.nodes()[1].call(&["CLUSTER", "INFO"]))
            .unwrap()
            .text()
    };
    while state().contains("cluster_state:ok") {
        assert!(lost.elapsed() < Duration::from_secs(15), "it is not down");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Once to learn of it, and once for the wait: connecting and two replies.
    let limit = Duration::from_millis(250 + 2 * 500) + SLACK;
    let rig = Arc::new(rig.another());
    for _ in 0..3 {
        let all = rig.store.write_many(&rig.namespace, &writes);
        rig.watch(all).await.unwrap_err();
    }
    println!("500 writes to a cluster that is down: {:?}", rig.slowest());
    assert!(rig.slowest() < limit, "{:?}", rig.slowest());

    // All paused, and a store that has met none of them: whoever waits, waits once.
    for node in cluster.nodes().iter().filter(|node| node.is_running()) {
        node.pause().unwrap();
    }
    let store = RedisStore::cluster(urls(&cluster)).build_lazy().unwrap();
    let rig = Arc::new(Rig::new(store));
    let mut tasks = JoinSet::new();
    for key in keys.clone() {
        let rig = Arc::clone(&rig);
        tasks.spawn(async move { rig.get(&key).await.unwrap_err() });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    println!(
        "500 first calls to a cluster that is paused: {:?}",
        rig.slowest()
    );
    assert!(rig.slowest() < limit, "{:?}", rig.slowest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_that_is_silent_for_a_moment_is_waited_for_as_long_as_connecting_may_take() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let pause = Duration::from_millis(800);
    for node in cluster.nodes() {
        node.pause().unwrap();
    }
    let impatient = RedisStore::cluster(urls(&cluster));
    let error = impatient.connect().await.unwrap_err();
    assert_eq!(error.kind(), larder::ErrorKind::Timeout);
    let patient = RedisStore::cluster(urls(&cluster)).connect_timeout(Duration::from_secs(10));
    let (connected, ()) = tokio::join!(patient.connect(), async {
        tokio::time::sleep(pause).await;
        for node in cluster.nodes() {
            node.resume().unwrap();
        }
    });
    connected.unwrap();
}
