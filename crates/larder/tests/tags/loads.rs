//! What is invalidated while it is being loaded is not served afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use larder::{Cache, ManualClock, MemoryStore};
use tokio::sync::Notify;

use super::get;
use super::rig::Rig;

/// A load that waits until it is told to end, and says when it has begun.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slow {
    begun: Arc<Notify>,
    pub(crate) end: Arc<Notify>,
}

impl Slow {
    /// Starts a load of `k` with the tag `t`.
    pub(crate) async fn start(&self, cache: &Cache) -> tokio::task::JoinHandle<String> {
        let (slow, cache) = (self.clone(), cache.clone());
        let task = tokio::spawn(async move {
            let load = move || async move {
                slow.begun.notify_one();
                slow.end.notified().await;
                Ok::<_, std::io::Error>("old".to_owned())
            };
            cache.remember("k", load).tags(["t"]).await.unwrap()
        });
        self.begun.notified().await;
        task
    }
}

pub(crate) async fn load_new(cache: &Cache) -> String {
    let load = || async { Ok::<_, std::io::Error>("new".to_owned()) };
    cache.remember("k", load).tags(["t"]).await.unwrap()
}

/// C2, C9, C15, C19: an invalidation while a value is loading counts for it.
async fn an_invalidation_during_a_load_is_not_lost(rig: Rig) {
    let cache = rig.cache();
    let slow = Slow::default();
    let load = slow.start(&cache).await;
    cache.invalidate_tags(["t"]).await.unwrap();
    // Whoever asks now must not join the old load.
    assert_eq!(load_new(&cache).await, "new");
    slow.end.notify_one();
    assert_eq!(load.await.unwrap(), "old");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

async fn an_overtaken_load_leaves_nothing(rig: Rig) {
    let cache = rig.cache();
    let slow = Slow::default();
    let load = slow.start(&cache).await;
    cache.invalidate_tags(["t"]).await.unwrap();
    slow.end.notify_one();
    assert_eq!(load.await.unwrap(), "old");
    assert_eq!(get(&cache, "k").await, None);
}

/// C3, C20: so do a delete, a set and a clear of another process, of which this one hears nothing.
async fn changes_of_others_during_a_load_are_not_lost(rig: Rig) {
    type Change = fn(Cache) -> futures_util::future::BoxFuture<'static, ()>;
    let changes: [(Change, Option<&str>); 3] = [
        (
            |cache| Box::pin(async move { assert!(!cache.delete("k").await.unwrap()) }),
            None,
        ),
        (
            |cache| Box::pin(async move { cache.set("k", "set").await.unwrap() }),
            Some("set"),
        ),
        (
            |cache| Box::pin(async move { cache.clear().await.unwrap() }),
            None,
        ),
    ];
    for (change, left) in changes {
        let (cache, other) = (rig.cache(), rig.cache());
        cache.delete("k").await.unwrap();
        let slow = Slow::default();
        let load = slow.start(&cache).await;
        change(other).await;
        slow.end.notify_one();
        assert_eq!(load.await.unwrap(), "old");
        assert_eq!(get(&cache, "k").await.as_deref(), left);
    }
}

/// C4, C5: nothing compares clocks; a register that is gone, or made anew, makes what it stamped invalid.
async fn an_invalidation_by_another_process_is_not_lost(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let slow = Slow::default();
    let load = slow.start(&cache).await;
    other.invalidate_tags(["t"]).await.unwrap();
    // The tag is in use again before the load ends.
    other.set("x", "v").tags(["t"]).await.unwrap();
    slow.end.notify_one();
    assert_eq!(load.await.unwrap(), "old");
    assert_eq!(get(&cache, "k").await, None);
    assert!(get(&cache, "x").await.is_some());
}

async fn a_load_that_fails_or_skips_lets_the_next_one_store(rig: Rig) {
    let cache = rig.cache();
    let failed = cache
        .remember("k", || async {
            Err::<String, _>(std::io::Error::other("down"))
        })
        .tags(["t"]);
    assert!(failed.await.is_err());
    let skipped = cache
        .remember_with("k", |cx| async move {
            cx.skip();
            Ok::<_, std::io::Error>("skipped".to_owned())
        })
        .tags(["t"]);
    assert_eq!(skipped.await.unwrap(), "skipped");
    assert_eq!(get(&cache, "k").await, None);
    assert_eq!(load_new(&cache).await, "new");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

async fn a_tag_that_only_the_loader_knows_works(rig: Rig) {
    let cache = rig.cache();
    let loads = Arc::new(AtomicU32::new(0));
    let remember = async |disturb: bool| {
        let (counter, other) = (Arc::clone(&loads), cache.clone());
        let load = cache.remember_with("k", move |cx| async move {
            let load = counter.fetch_add(1, SeqCst);
            if disturb {
                other.invalidate_tags(["unrelated"]).await.unwrap();
            }
            cx.tag("learnt");
            Ok::<_, std::io::Error>(load)
        });
        load.await.unwrap()
    };
    // Something was invalidated, and nobody knows what the first load depends on: it is not stored.
    assert_eq!(remember(true).await, 0);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    // Now the tag is known before.
    assert_eq!(remember(true).await, 1);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(1));
    cache.invalidate_tags(["learnt"]).await.unwrap();
    assert_eq!(remember(false).await, 2);
    assert_eq!(remember(false).await, 2);
    cache.invalidate_tags(["learnt"]).await.unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

async fn a_learnt_tag_without_disturbance_is_stored_at_once(rig: Rig) {
    let cache = rig.cache();
    let load = cache.remember_with("k", |cx| async move {
        cx.tag("a:b");
        Ok::<_, std::io::Error>("v".to_owned())
    });
    assert_eq!(load.await.unwrap(), "v");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    cache.invalidate_tags(["a:*"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    let bad = cache.remember_with("k", |cx| async move {
        cx.tag("a*");
        Ok::<_, std::io::Error>("v".to_owned())
    });
    assert!(bad.await.is_err());
    assert_eq!(get(&cache, "k").await, None);
}

async fn a_value_of_another_schema_version_is_replaced(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "first").tags(["t"]).await.unwrap();
    let second = cache.schema(2);
    assert_eq!(load_new(&second).await, "new");
    let entry = second.get::<String>("k").await.unwrap();
    assert_eq!(entry.as_deref(), Some("new"));
    cache.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(second.get::<String>("k").await.unwrap(), None);
    // A load that comes to nothing takes nobody else's value away.
    cache.set("k", "first").tags(["t"]).await.unwrap();
    let failing = || async { Err::<String, _>(std::io::Error::other("down")) };
    assert!(second.remember("k", failing).tags(["t"]).await.is_err());
    assert_eq!(get(&cache, "k").await.as_deref(), Some("first"));
}

#[tokio::test(start_paused = true)]
async fn a_load_may_take_longer_than_its_lease() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build();
    let cache = Cache::builder(store.unwrap()).build().unwrap();
    let load = move || async move {
        for _ in 0..20 {
            let step = std::time::Duration::from_secs(5);
            tokio::time::sleep(step).await;
            time.advance(step);
        }
        Ok::<_, std::io::Error>("slow".to_owned())
    };
    let loaded = cache.remember("k", load).tags(["t"]).await.unwrap();
    assert_eq!(loaded, "slow");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("slow"));
}

/// F11b: who asks after another process's change joins no load that began before it.
async fn no_load_is_joined_that_another_process_overtook(rig: Rig) {
    for change in 0..5 {
        let (cache, other) = (rig.cache(), rig.cache());
        let (is_loading, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, ends) = (Arc::clone(&is_loading), Arc::clone(&may_end));
        let load_old = move || async move {
            told.notify_one();
            ends.notified().await;
            Ok::<_, std::io::Error>("old".to_owned())
        };
        let first = cache.clone();
        let first = tokio::spawn(async move {
            let loaded = first.remember("k", load_old).tags(["t:a"]);
            loaded.await.unwrap()
        });
        is_loading.notified().await;
        // Who asks before the change shares the load.
        let second = cache.clone();
        let second = tokio::spawn(async move { load_new(&second).await });
        while cache.stats().await.unwrap().process.joined_loads == 0 {
            tokio::task::yield_now().await;
        }
        let expected = match change {
            0 => other.delete("k").await.map(|_| "new"),
            1 => other.clear().await.map(|()| "new"),
            2 => other.invalidate_tags(["t:a"]).await.map(|_| "new"),
            3 => other.invalidate_tags(["t:*"]).await.map(|_| "new"),
            _ => other.set("k", "set").await.map(|()| "set"),
        };
        assert_eq!(load_new(&cache).await, expected.unwrap(), "change {change}");
        may_end.notify_one();
        assert_eq!(first.await.unwrap(), "old");
        assert_eq!(second.await.unwrap(), "old");
        assert_ne!(get(&cache, "k").await.as_deref(), Some("old"));
        cache.clear().await.unwrap();
    }
}

/// C11, C24, C25: values written while their tag is invalidated are valid afterwards or gone, and the last
/// invalidation reaches all of them.
async fn nothing_survives_a_last_invalidation(rig: Rig) {
    let cache = rig.cache();
    let mut tasks = Vec::new();
    for writer in 0..8 {
        let cache = cache.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..200 {
                let key = format!("{writer}:{n}");
                cache.set(&key, &n).tags(["t"]).await.unwrap();
                if n % 20 == writer {
                    cache.invalidate_tags(["t"]).await.unwrap();
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    cache.invalidate_tags(["t"]).await.unwrap();
    for writer in 0..8 {
        let keys: Vec<_> = (0..200).map(|n| format!("{writer}:{n}")).collect();
        let read = cache.get_many::<i32>(&keys).await.unwrap();
        assert!(read.iter().all(Option::is_none), "writer {writer}");
    }
}

on_every_store! {
    an_invalidation_during_a_load_is_not_lost
    an_overtaken_load_leaves_nothing
    changes_of_others_during_a_load_are_not_lost
    an_invalidation_by_another_process_is_not_lost
    a_load_that_fails_or_skips_lets_the_next_one_store
    a_tag_that_only_the_loader_knows_works
    a_learnt_tag_without_disturbance_is_stored_at_once
    nothing_survives_a_last_invalidation
    a_value_of_another_schema_version_is_replaced
    no_load_is_joined_that_another_process_overtook
}
