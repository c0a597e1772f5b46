//! How the state is seen, and that nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use larder::store::{Fallback, Memory, NodeRole, Null, Store};
use larder::testing::{Fault, FlakyStore};
use larder::{Cache, ErrorKind, TimeLeft};

use crate::support::{Scene, Standby, detail, get, state};

#[tokio::test]
async fn figures_and_nodes_tell_of_the_outage() {
    let scene = Scene::new(Standby::Memory);
    scene.set("k", "old").await;
    let nodes = scene.store.nodes().await.unwrap();
    let standby = nodes.last().unwrap();
    assert_eq!(standby.role, NodeRole::Fallback);
    assert!(standby.problem.is_none() && standby.warnings.is_empty());
    scene.server.stop();
    scene.set("k", "new").await;
    scene.get("k").await;
    scene.store.ping().await.unwrap();
    let store = &scene.store;
    assert!(state(store).await.contains("did not answer"));
    assert_eq!(detail(store, "fallback outages").await, "1");
    assert_eq!(detail(store, "fallback journal").await, "1");
    assert_eq!(detail(store, "fallback calls").await, "3");
    let nodes = store.nodes().await.unwrap();
    assert!(nodes[0].problem.is_some(), "the primary is in the list");
    assert_eq!(nodes.last().unwrap().warnings.len(), 1);
    scene.server.start();
    scene.returned().await;
    assert_eq!(detail(store, "fallback journal").await, "0");
    assert!(
        store
            .nodes()
            .await
            .unwrap()
            .last()
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[tokio::test]
async fn a_cache_goes_on_and_says_so() {
    let scene = Scene::new(Standby::Memory);
    let cache = Cache::builder(scene.store.clone()).build().unwrap();
    cache.set("k", &1).await.unwrap();
    scene.server.stop();
    cache.set("k", &2).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
    assert!(cache.add("k", &3).await.is_err());
    assert!(cache.increment("k", 1).await.is_err());
    assert!(cache.delete("k").await.unwrap());
    let stats = cache.stats().await.unwrap();
    assert!(stats.process.hits() >= 1);
    let told = |(name, value): &(String, String)| name == "fallback" && value.contains("standby");
    assert!(stats.store.details.iter().any(told));
    scene.server.start();
    scene.returned().await;
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_standby_that_fails_is_told_of() {
    let scene = Scene::new(Standby::Memory);
    let standby = FlakyStore::new(Memory::new(), 1);
    let server = Arc::new(scene.server.clone());
    let store = Fallback::new(server, Arc::new(standby.clone())).unwrap();
    standby.chance(1.0, Fault::Refuse);
    let failed = get(&store, &scene.space, "k").await.unwrap_err();
    assert!(failed.message().contains("journal"), "{failed}");
    assert!(state(&store).await.starts_with("none, the fallback's"));
    let problem = store.nodes().await.unwrap().pop().unwrap().problem;
    assert!(problem.is_some(), "{problem:?}");
    standby.heal();
    assert_eq!(get(&store, &scene.space, "k").await.unwrap(), None);
    assert_eq!(state(&store).await, "primary");
    let problem = store.nodes().await.unwrap().pop().unwrap().problem;
    assert_eq!(problem, None);
}

#[tokio::test]
async fn the_probe_ends_with_the_store() {
    let scene = Scene::new(Standby::Memory);
    scene.server.stop();
    scene.set("k", "new").await;
    let Scene { server, store, .. } = scene;
    drop(store);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let calls = server.store.counts().calls;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(server.store.counts().calls, calls);
}

#[tokio::test(start_paused = true)]
async fn a_dead_primary_is_asked_at_growing_intervals_and_by_nobody_else() {
    let scene = Scene::new(Standby::Memory);
    scene.server.stop();
    scene.set("k", "new").await;
    let calls = scene.server.store.counts().calls;
    for _ in 0..100 {
        scene.get("k").await;
    }
    assert_eq!(scene.server.store.counts().calls, calls);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let probes = scene.server.store.counts().calls - calls;
    assert!((25..60).contains(&probes), "{probes} probes in a minute");
}

#[test]
fn a_store_moves_from_one_runtime_to_the_next() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let scene = Scene::new(Standby::Memory);
    scene.server.stop();
    runtime().block_on(scene.set("k", "new"));
    scene.server.start();
    runtime().block_on(async {
        scene.get("k").await;
        scene.returned().await;
        assert_eq!(scene.get("k").await, None);
    });
}

#[tokio::test]
async fn entries_of_the_standby_expire_by_the_primary_s_clock() {
    let time = larder::ManualClock::new();
    let primary = Memory::builder().clock(time.clock()).build().unwrap();
    let primary = FlakyStore::new(primary, 1);
    let store = Fallback::new(Arc::new(primary.clone()), Arc::new(Memory::new())).unwrap();
    primary.chance(1.0, Fault::Refuse);
    let cache = Cache::builder(store).build().unwrap();
    let ttl = Duration::from_secs(60);
    cache.set("k", &1).ttl(ttl).await.unwrap();
    let left = cache.ttl("k").await.unwrap();
    assert!(
        matches!(left, TimeLeft::Remaining(left) if left <= ttl && left > ttl / 2),
        "{left:?}"
    );
}

#[test]
fn a_standby_that_keeps_nothing_is_refused() {
    let refused = Fallback::new(Arc::new(Memory::new()), Arc::new(Null::new())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}
