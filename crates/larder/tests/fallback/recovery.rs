//! Processes that are killed, idle, or new, and share the standby.

use std::sync::Arc;
use std::time::Duration;

use larder::store::{Condition, Expiry, Fallback, Store, Write};
use larder::testing::{Fault, FlakyStore, sealed};

use crate::support::{Scene, Standby, get, returned, set, state};

const PERSISTENT: [Standby; 2] = [Standby::Sqlite, Standby::File];

#[tokio::test]
async fn what_a_killed_process_changed_is_replayed_by_the_next_one() {
    for kind in PERSISTENT {
        let Scene {
            server,
            standby,
            store,
            space,
            dir,
        } = Scene::new(kind);
        set(&store, &space, "k", "old").await.unwrap();
        server.stop();
        set(&store, &space, "k", "new").await.unwrap();
        drop((store, standby));
        server.start();
        let next = Fallback::new(Arc::new(server.clone()), kind.open(&dir)).unwrap();
        assert_eq!(get(&next, &space, "k").await.unwrap(), None, "{kind:?}");
        assert_eq!(state(&next).await, "primary");
    }
}

#[tokio::test]
async fn a_process_that_starts_during_the_outage_shares_the_standby() {
    for kind in PERSISTENT {
        let scene = Scene::new(kind);
        scene.server.stop();
        scene.set("k", "new").await;
        let second = scene.another();
        let read = get(&second, &scene.space, "k").await.unwrap();
        // Its first return fails for want of a primary, which makes what was there unreachable; what is new is shared.
        assert!(read.is_none() || read.as_deref() == Some("new"));
        set(&second, &scene.space, "k", "newer").await.unwrap();
        assert_eq!(scene.get("k").await.as_deref(), Some("newer"));
        scene.delete("k").await;
        assert_eq!(get(&second, &scene.space, "k").await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_idle_process_notices_an_outage_that_others_saw() {
    for kind in PERSISTENT {
        let scene = Scene::new(kind);
        scene.set("k", "old").await;
        let idle = scene.another();
        assert_eq!(
            get(&idle, &scene.space, "k").await.unwrap().as_deref(),
            Some("old")
        );
        scene.server.stop();
        scene.delete("k").await;
        scene.server.start();
        // Before the first one had time to return.
        assert_eq!(get(&idle, &scene.space, "k").await.unwrap(), None);
        set(&idle, &scene.space, "k", "newest").await.unwrap();
        // And that one notices that it is over.
        assert_eq!(scene.get("k").await.as_deref(), Some("newest"), "{kind:?}");
        assert_eq!(state(&scene.store).await, "primary");
    }
}

#[tokio::test]
async fn a_condition_that_was_decided_before_the_replay_is_not_reported_as_met() {
    let scene = Scene::new(Standby::Sqlite);
    let idle = scene.another();
    set(&idle, &scene.space, "other", "x").await.unwrap();
    scene.set("other", "x").await;
    scene.server.stop();
    scene.delete("lock").await;
    scene.server.start();
    let add = Write::put(b"lock", sealed(b"me"), Expiry::Never).when(Condition::IfAbsent);
    let unclear = idle
        .write_many(&scene.space, std::slice::from_ref(&add))
        .await;
    assert!(unclear.is_err(), "the replay removed it");
    assert_eq!(idle.write_many(&scene.space, &[add]).await.unwrap(), [true]);
    assert_eq!(
        get(&idle, &scene.space, "lock").await.unwrap().as_deref(),
        Some("me")
    );
}

#[tokio::test]
async fn a_reconnect_without_an_outage_leaves_conditions_alone() {
    let scene = Scene::new(Standby::Sqlite);
    let other = scene.another();
    for n in 1..4 {
        scene.server.start();
        let sum = |store: Fallback| {
            let space = scene.space.clone();
            async move {
                store
                    .increment(&space, b"n", 1, Expiry::Never)
                    .await
                    .unwrap()
            }
        };
        assert_eq!(sum(other.clone()).await, 2 * n - 1);
        assert_eq!(sum(scene.store.clone()).await, 2 * n);
    }
}

#[tokio::test]
async fn the_standby_never_knows_better_than_what_this_process_wrote_to_the_primary() {
    let scene = Scene::new(Standby::Sqlite);
    // Only the first process cannot reach the server.
    let reachable = crate::support::Server::new();
    let second = Fallback::new(Arc::new(reachable.clone()), Arc::clone(&scene.standby)).unwrap();
    set(&second, &scene.space, "other", "x").await.unwrap();
    scene.server.stop();
    scene.set("k", "older").await;
    set(&second, &scene.space, "k", "newer").await.unwrap();
    reachable.stop();
    assert_eq!(get(&second, &scene.space, "k").await.unwrap(), None);
}

#[tokio::test]
async fn two_primaries_share_a_standby_without_meeting() {
    let scene = Scene::new(Standby::Sqlite);
    let second = crate::support::Server::new();
    let other = Fallback::builder(Arc::new(second.clone()), Arc::clone(&scene.standby));
    let other = other.scope("second").build().unwrap();
    for store in [&scene.store, &other] {
        set(store, &scene.space, "k", "old").await.unwrap();
    }
    scene.server.stop();
    second.stop();
    scene.set("k", "first's").await;
    assert_eq!(get(&other, &scene.space, "k").await.unwrap(), None);
    scene.server.start();
    scene.returned().await;
    set(&other, &scene.space, "k", "second's").await.unwrap();
    assert_eq!(
        get(&other, &scene.space, "k").await.unwrap().as_deref(),
        Some("second's")
    );
    second.start();
    returned(&other).await;
    assert_eq!(get(&other, &scene.space, "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_journal_of_its_own_survives_what_the_standby_drops() {
    use larder::store::Memory;
    let scene = Scene::new(Standby::Sqlite);
    let small: Arc<dyn Store> =
        Arc::new(Memory::builder().capacity_bytes(64 << 10).build().unwrap());
    let open = |standby: &Arc<dyn Store>| {
        let builder = Fallback::builder(Arc::new(scene.server.clone()), Arc::clone(standby));
        builder.journal(Arc::clone(&scene.standby)).build().unwrap()
    };
    let store = open(&small);
    for n in 0..500 {
        set(&store, &scene.space, &format!("key:{n}"), "old")
            .await
            .unwrap();
    }
    scene.server.stop();
    for n in 0..500 {
        set(&store, &scene.space, &format!("key:{n}"), "new")
            .await
            .unwrap();
    }
    drop(store);
    scene.server.start();
    let next = open(&(Arc::new(Memory::new()) as Arc<dyn Store>));
    for n in 0..500 {
        assert_eq!(
            get(&next, &scene.space, &format!("key:{n}")).await.unwrap(),
            None
        );
    }
}

#[tokio::test]
async fn records_that_a_small_standby_drops_are_replayed_from_memory() {
    use larder::store::Memory;
    let scene = Scene::new(Standby::Memory);
    let small = Memory::builder().capacity_bytes(32 << 10).build().unwrap();
    let store = Fallback::new(Arc::new(scene.server.clone()), Arc::new(small)).unwrap();
    for n in 0..1000 {
        set(&store, &scene.space, &format!("key:{n}"), "old")
            .await
            .unwrap();
    }
    scene.server.stop();
    for n in 0..1000 {
        // A lost generation record means a failed return first.
        set(&store, &scene.space, &format!("key:{n}"), "new")
            .await
            .unwrap();
    }
    scene.server.start();
    returned(&store).await;
    for n in 0..1000 {
        assert_eq!(
            get(&store, &scene.space, &format!("key:{n}"))
                .await
                .unwrap(),
            None
        );
    }
}

#[tokio::test]
async fn calls_wait_for_a_long_return_and_then_fail() {
    let scene = Scene::new(Standby::Memory);
    scene.set("k", "old").await;
    scene.server.stop();
    for n in 0..4 {
        let space = larder::Namespace::new("test", &n.to_string(), 1);
        scene.store.clear(&space).await.unwrap();
    }
    scene.set("k", "new").await;
    scene.server.start();
    // Each call of the replay takes half a second on average.
    scene.server.store.delay(Duration::from_secs(1));
    let mut waited = 0;
    for _ in 0..400 {
        let start = tokio::time::Instant::now();
        match get(&scene.store, &scene.space, "k").await {
            Ok(read) => assert_ne!(read.as_deref(), Some("old")),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        if start.elapsed() > Duration::from_millis(900) {
            waited += 1;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(waited, 1, "a call met the return");
}

#[tokio::test]
async fn who_fails_after_another_began_to_trust_the_primary_asks_once_more() {
    let scene = Scene::new(Standby::Sqlite);
    scene.set("k", "old").await;
    let other = scene.another();
    set(&other, &scene.space, "k", "new").await.unwrap();
    // The other one relies on it that whoever is on the standby saw the primary down since.
    scene.server.store.next(1, larder::testing::Fault::Refuse);
    assert_eq!(scene.get("k").await.as_deref(), Some("new"));
    assert_eq!(state(&scene.store).await, "primary");
}

#[tokio::test]
async fn who_is_still_on_the_standby_notices_that_another_trusts_the_primary() {
    let scene = Scene::new(Standby::Sqlite);
    let other = scene.another();
    set(&other, &scene.space, "k", "old").await.unwrap();
    scene.server.stop();
    assert_eq!(scene.get("k").await, None);
    scene.server.start();
    // Nothing changed so far, so there is nothing to replay.
    let read = get(&other, &scene.space, "k").await.unwrap();
    assert_eq!(read.as_deref(), Some("old"));
    scene.delete("k").await;
    assert_eq!(get(&other, &scene.space, "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_journal_that_fails_when_it_is_due_leaves_the_primary_untrusted() {
    let scene = Scene::new(Standby::Sqlite);
    scene.set("k", "old").await;
    let journal = FlakyStore::new(Arc::clone(&scene.standby), 1);
    let server = Arc::new(scene.server.clone());
    let store = Fallback::new(server, Arc::new(journal.clone())).unwrap();
    let read = get(&store, &scene.space, "k").await.unwrap();
    assert_eq!(read.as_deref(), Some("old"));
    // One process deletes and dies, another one begins to return and gets no further.
    scene.server.stop();
    scene.delete("k").await;
    let other = scene.another();
    assert_eq!(get(&other, &scene.space, "k").await.unwrap(), None);
    let (server, space) = (scene.server, scene.space);
    drop((other, scene.store));
    // The same connections as before: only a call that fails tells of the outage.
    server.store.heal();
    server.store.next(1, Fault::Refuse);
    server.break_on_ping(&journal);
    assert!(get(&store, &space, "k").await.is_err());
    journal.heal();
    assert_eq!(get(&store, &space, "k").await.unwrap(), None);
}
