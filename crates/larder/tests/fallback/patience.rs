//! Callers that give up before the store does: what they began goes on, and the others do not start from nothing.

use std::time::Duration;

use larder::Namespace;
use larder::store::{Fallback, Store, Write};

use crate::support::{Scene, Standby, get, state};

const PATIENCE: Duration = Duration::from_millis(30);

/// Reads as callers with little patience do, until one of them gets an answer.
async fn first_answer(store: &Fallback, space: &Namespace) -> Option<Option<String>> {
    for _ in 0..200 {
        let read = tokio::time::timeout(PATIENCE, get(store, space, "k"));
        if let Ok(Ok(value)) = read.await {
            return Some(value);
        }
    }
    None
}

#[tokio::test]
async fn callers_that_give_up_on_a_hanging_primary_make_the_standby_take_over() {
    let scene = Scene::new(Standby::Memory);
    scene.set("k", "old").await;
    scene.server.hang();
    let read = first_answer(&scene.store, &scene.space).await;
    assert_eq!(read, Some(None), "the standby answers");
    assert!(state(&scene.store).await.starts_with("standby"));
}

#[tokio::test]
async fn callers_that_give_up_on_a_healthy_primary_change_nothing() {
    let scene = Scene::new(Standby::Memory);
    scene.set("k", "old").await;
    scene.server.store.delay(Duration::from_millis(60));
    for _ in 0..50 {
        let read = get(&scene.store, &scene.space, "k");
        let _ = tokio::time::timeout(PATIENCE, read).await;
    }
    scene.server.store.heal();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.get("k").await.as_deref(), Some("old"));
    assert_eq!(state(&scene.store).await, "primary");
}

#[tokio::test]
async fn a_replay_that_takes_longer_than_callers_wait_comes_to_its_end() {
    let scene = Scene::new(Standby::Sqlite);
    scene.set("k", "old").await;
    scene.server.stop();
    let keys: Vec<String> = (0..3000).map(|n| format!("key:{n}")).collect();
    let mut deletes: Vec<_> = keys
        .iter()
        .map(|key| Write::delete(key.as_bytes()))
        .collect();
    deletes.push(Write::delete(b"k"));
    scene
        .store
        .write_many(&scene.space, &deletes)
        .await
        .unwrap();
    let next = scene.another();
    let (server, space) = (scene.server, scene.space);
    drop(scene.store);
    server.start();
    server.store.delay(Duration::from_millis(20));
    assert_eq!(first_answer(&next, &space).await, Some(None));
}
