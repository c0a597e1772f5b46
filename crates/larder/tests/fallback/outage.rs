//! What falls back, what does not, and what is left of it.

use std::time::Duration;

use larder::store::{Condition, Expiry, SortedSetOp, Store, Write};
use larder::testing::{Fault, sealed, write_id};
use larder::{Cache, Error, ErrorKind, Glob, Namespace};

use crate::support::{Scene, Standby, get, set, state};

#[tokio::test]
async fn nothing_that_changed_during_the_outage_is_served_in_its_old_version() {
    for kind in Standby::ALL {
        let scene = Scene::new(kind);
        let other = Namespace::new("test", "cleared", 1);
        for key in ["deleted", "overwritten", "touched", "left"] {
            scene.set(key, "old").await;
        }
        set(&scene.store, &other, "cleared", "old").await.unwrap();
        scene.server.stop();
        assert_eq!(scene.get("left").await, None, "the standby starts empty");
        scene.delete("deleted").await;
        scene.set("overwritten", "new").await;
        scene.set("added", "new").await;
        let touch = Write::touch(b"touched", Expiry::After(1));
        scene
            .store
            .write_many(&scene.space, &[touch])
            .await
            .unwrap();
        scene.store.clear(&other).await.unwrap();
        assert_eq!(scene.get("overwritten").await.as_deref(), Some("new"));
        assert!(state(&scene.store).await.starts_with("standby"));
        scene.server.start();
        scene.returned().await;
        for key in ["deleted", "overwritten", "touched", "added"] {
            assert_eq!(scene.get(key).await, None, "{key} with {kind:?}");
        }
        assert_eq!(get(&scene.store, &other, "cleared").await.unwrap(), None);
        assert_eq!(scene.get("left").await.as_deref(), Some("old"));
    }
}

#[tokio::test]
async fn what_the_standby_held_is_not_there_in_the_next_outage() {
    for kind in Standby::ALL {
        let scene = Scene::new(kind);
        scene.server.stop();
        scene.set("k", "first outage").await;
        scene.server.start();
        scene.returned().await;
        scene.set("k", "between").await;
        scene.server.stop();
        assert_eq!(scene.get("k").await, None);
        let mut left = u64::MAX;
        for _ in 0..150 {
            // What was cleared is reclaimed in the background; the number of the generation stays.
            left = scene.standby.stats().await.unwrap().entries.unwrap_or(0);
            if left <= 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(left <= 1, "{left} records are left by {kind:?}");
    }
}

#[tokio::test]
async fn the_call_that_meets_the_outage_is_answered_by_the_standby() {
    let scene = Scene::new(Standby::Memory);
    scene.set("k", "old").await;
    scene.server.stop();
    scene.set("k", "new").await;
    assert_eq!(scene.get("k").await.as_deref(), Some("new"));
    scene.server.start();
    scene.returned().await;
    assert_eq!(scene.get("k").await, None);
}

#[tokio::test]
async fn a_write_that_was_made_though_its_reply_was_lost_does_not_come_back() {
    let scene = Scene::new(Standby::Sqlite);
    scene.set("other", "x").await;
    scene.server.store.next(1, Fault::LoseReply);
    scene.set("k", "lost reply").await;
    scene.server.stop();
    scene.delete("k").await;
    scene.server.start();
    scene.returned().await;
    assert_eq!(scene.get("k").await, None);
}

#[tokio::test]
async fn a_write_that_timed_out_and_lands_during_the_outage_does_not_come_back() {
    let scene = Scene::new(Standby::Sqlite);
    scene.set("k", "old").await;
    scene.server.delay_puts();
    scene.set("k", "late").await;
    scene.server.stop();
    scene.set("k", "newer").await;
    scene.server.let_puts_arrive().await;
    scene.server.start();
    assert_eq!(scene.on_server("k").await.as_deref(), Some("late"));
    scene.returned().await;
    let read = scene.get("k").await;
    assert!(read.is_none(), "{read:?}");
}

#[tokio::test]
async fn what_exists_once_never_falls_back() {
    let scene = Scene::new(Standby::Memory);
    scene.set("k", "old").await;
    scene.server.stop();
    let (store, space) = (&scene.store, &scene.space);
    let id = write_id(&sealed(b"x"));
    for round in 0..2 {
        for condition in [
            Condition::IfAbsent,
            Condition::IfPresent,
            Condition::IfUnchanged(id),
        ] {
            let add = Write::put(b"k", sealed(b"x"), Expiry::Never).when(condition);
            let refused = store.write_many(space, &[add]).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable, "round {round}");
            assert!(refused.to_string().contains("never fall back"), "{refused}");
        }
        let increment = store.increment(space, b"n", 1, Expiry::Never).await;
        let add = SortedSetOp::Add {
            members: vec![(1.0, "a".into())],
            expiry: Expiry::Never,
        };
        let refusals = [
            increment.map(drop),
            store.sorted_set(space, b"s", &add).await.map(drop),
            store
                .sorted_set(space, b"s", &SortedSetOp::Len)
                .await
                .map(drop),
            store.scan(space, &Glob::all(), None, 10).await.map(drop),
            store.count(space, &Glob::all()).await.map(drop),
        ];
        for refused in refusals {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }
    assert!(state(store).await.starts_with("standby"));
    scene.server.start();
    scene.returned().await;
    assert_eq!(scene.get("k").await.as_deref(), Some("old"));
    assert_eq!(
        store
            .increment(space, b"n", 1, Expiry::Never)
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn other_errors_do_not_switch() {
    let scene = Scene::new(Standby::Memory);
    scene.set("text", "no number").await;
    let (store, space) = (&scene.store, &scene.space);
    let wrong = store.increment(space, b"text", 1, Expiry::Never).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(state(store).await, "primary");
}

#[tokio::test]
async fn a_replay_that_fails_midway_is_made_again_before_the_primary_is_read() {
    let scene = Scene::new(Standby::Sqlite);
    let keys: Vec<String> = (0..1000).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        scene.set(key, "old").await;
    }
    scene.server.stop();
    for key in &keys {
        scene.delete(key).await;
    }
    for _ in 0..5 {
        // The probe and a batch or two pass, then the server is gone again.
        scene.server.start();
        scene.server.store.chance(0.5, Fault::Refuse);
        for key in keys.iter().step_by(37) {
            let read = get(&scene.store, &scene.space, key).await.unwrap_or(None);
            assert_eq!(read, None, "{key}");
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    scene.server.start();
    scene.returned().await;
    for key in &keys {
        assert_eq!(scene.get(key).await, None, "{key}");
    }
}

#[tokio::test]
async fn keys_of_any_bytes_and_the_greatest_length_are_replayed() {
    for kind in Standby::ALL {
        let scene = Scene::new(kind);
        let long = vec![0xff; larder::MAX_KEY_BYTES];
        let keys: [&[u8]; 4] = [b"\0", b"a:b%c", b"\r\n{}", &long];
        let put = |key| Write::put(key, sealed(b"old"), Expiry::Never);
        let writes: Vec<_> = keys.into_iter().map(put).collect();
        scene.store.write_many(&scene.space, &writes).await.unwrap();
        scene.server.stop();
        let deletes: Vec<_> = keys.into_iter().map(Write::delete).collect();
        scene
            .store
            .write_many(&scene.space, &deletes)
            .await
            .unwrap();
        scene.server.start();
        scene.returned().await;
        let read = scene.store.get_many(&scene.space, &keys).await.unwrap();
        assert_eq!(read, [None, None, None, None], "{kind:?}");
    }
}

#[tokio::test]
async fn a_broken_standby_leaves_the_primary_s_own_error() {
    use larder::store::{Fallback, Memory};
    use larder::testing::FlakyStore;
    use std::sync::Arc;
    let scene = Scene::new(Standby::Memory);
    let standby = FlakyStore::new(Memory::new(), 1);
    let store = Fallback::new(Arc::new(scene.server.clone()), Arc::new(standby.clone())).unwrap();
    set(&store, &scene.space, "k", "old").await.unwrap();
    scene.server.stop();
    standby.chance(1.0, Fault::Refuse);
    let failed = get(&store, &scene.space, "k").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    standby.heal();
    set(&store, &scene.space, "k", "new").await.unwrap();
    assert_eq!(
        get(&store, &scene.space, "k").await.unwrap().as_deref(),
        Some("new")
    );
}

#[tokio::test]
async fn what_is_loaded_during_an_outage_is_kept_until_its_end() {
    for kind in Standby::ALL {
        let scene = Scene::new(kind);
        let cache = Cache::builder(scene.store.clone()).build().unwrap();
        let load = |value: &'static str| async move { Ok::<_, Error>(value.to_owned()) };
        scene.server.stop();
        assert_eq!(cache.remember("k", move || load("a")).await.unwrap(), "a");
        assert_eq!(cache.remember("k", move || load("b")).await.unwrap(), "a");
        let many = cache.remember_many(&["k", "l"], |keys| async move {
            Ok::<_, Error>(keys.into_iter().map(|key| (key, "c".to_owned())))
        });
        let many: Vec<_> = many.await.unwrap().into_iter().flatten().collect();
        assert_eq!(many, ["a", "c"]);
        let kept = cache.get::<String>("l").await.unwrap();
        assert_eq!(kept.as_deref(), Some("c"));
        // A load that something overtakes is not stored, here as elsewhere.
        let overtaken = cache.clone();
        let load_slowly = move || async move {
            overtaken.delete("m").await?;
            Ok::<_, Error>("old".to_owned())
        };
        assert_eq!(cache.remember("m", load_slowly).await.unwrap(), "old");
        assert_eq!(cache.get::<String>("m").await.unwrap(), None);
        scene.server.start();
        scene.returned().await;
        assert_eq!(cache.remember("k", move || load("d")).await.unwrap(), "d");
    }
}
