//! What one request asks for twice.

use larder::{Cache, Local, MemoryStore};

use super::{HOUR, LoadError, Runs, ask, counts, get, leave_stale};
use crate::rig::Rig;

async fn each_key_is_asked_for_once(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    cache.set("k", "v").await.unwrap();
    let runs = Runs::default();
    let within = async {
        for _ in 0..3 {
            assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
            assert_eq!(get(&cache, "absent").await, None);
            let shared = cache.get_shared::<String>("k").await.unwrap();
            assert_eq!(shared.as_deref().map(String::as_str), Some("v"));
            let loaded = cache.remember("l", runs.of("loaded")).ttl(HOUR).await;
            assert_eq!(loaded.unwrap(), "loaded");
            // Others are not seen.
            other.set("k", "changed").await.unwrap();
            other.delete("l").await.unwrap();
        }
    };
    cache.memo(within).await;
    let counted = counts(&cache).await;
    assert_eq!((counted.store_hits, counted.misses.absent), (1, 2));
    assert_eq!(runs.count(), 1);
    assert_eq!(get(&cache, "k").await.as_deref(), Some("changed"));
}

async fn whatever_is_changed_within_is_seen(rig: Rig) {
    let tier = Local::capacity_bytes(1 << 20);
    let tiered = rig.builder().local(tier).build().unwrap();
    for cache in [rig.cache(), tiered] {
        cache.clear().await.unwrap();
        let within = async {
            assert_eq!(get(&cache, "k").await, None);
            cache.set("k", "set").tags(["t"]).await.unwrap();
            assert_eq!(get(&cache, "k").await.as_deref(), Some("set"));
            cache.invalidate_tags(["t"]).await.unwrap();
            assert_eq!(get(&cache, "k").await, None);
            assert!(cache.add("k", "added").await.unwrap());
            assert_eq!(get(&cache, "k").await.as_deref(), Some("added"));
            cache.delete("k").await.unwrap();
            assert_eq!(get(&cache, "k").await, None);
            cache.set_many(&[("k", "many")]).await.unwrap();
            assert_eq!(get(&cache, "k").await.as_deref(), Some("many"));
            cache.clear().await.unwrap();
            assert_eq!(get(&cache, "k").await, None);
            cache.set_raw("k", "raw").await.unwrap();
            assert_eq!(get(&cache, "k").await.as_deref(), Some("raw"));
            let count = async || cache.get::<i64>("n").await.unwrap();
            assert_eq!(count().await, None);
            cache.increment("n", 2).await.unwrap();
            assert_eq!(count().await, Some(2));
        };
        cache.memo(within).await;
    }
}

/// Types, schema versions and caches do not mix, nor do scopes.
async fn other_types_schemas_caches_and_tasks_are_apart(rig: Rig) {
    let cache = rig.cache();
    let second = rig.builder().name("second").build().unwrap();
    cache.set("k", "1").await.unwrap();
    second.set("k", "second").await.unwrap();
    let within = async {
        assert_eq!(get(&cache, "k").await.as_deref(), Some("1"));
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
        assert_eq!(get(&cache.schema(2), "k").await, None);
        let inner = async {
            assert_eq!(get(&second, "k").await.as_deref(), Some("second"));
            assert_eq!(get(&cache, "k").await.as_deref(), Some("1"));
            let task = cache.clone();
            rig.cache().set("k", "2").await.unwrap();
            let outside = tokio::spawn(async move { get(&task, "k").await });
            assert_eq!(outside.await.unwrap().as_deref(), Some("2"));
            assert_eq!(get(&cache, "k").await.as_deref(), Some("1"));
        };
        second.memo(cache.memo(inner)).await;
    };
    cache.memo(within).await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("2"));
}

on_every_store! {
    each_key_is_asked_for_once
    whatever_is_changed_within_is_seen
    other_types_schemas_caches_and_tasks_are_apart
}

/// A read that a change overtakes, within the same task, is not remembered.
#[tokio::test]
async fn a_read_beside_a_change_is_not_remembered() {
    let cache = Cache::builder(MemoryStore::new()).build().unwrap();
    let within = async {
        for n in 0..50u32 {
            let read = cache.get::<u32>("k");
            let (_, written) = tokio::join!(read, cache.set("k", &n).into_future());
            written.unwrap();
            assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(n));
        }
    };
    cache.memo(within).await;
}

#[tokio::test]
async fn a_memo_is_bounded_and_ends() {
    let cache = Cache::builder(MemoryStore::new()).build().unwrap();
    let within = async {
        for n in 0..10_050 {
            assert_eq!(get(&cache, &format!("k{n}")).await, None);
        }
        let before = counts(&cache).await.misses.absent;
        assert_eq!(get(&cache, "k1").await, None);
        assert_eq!(counts(&cache).await.misses.absent, before);
        assert_eq!(get(&cache, "k10040").await, None);
        assert_eq!(counts(&cache).await.misses.absent, before + 1);
    };
    cache.memo(within).await;
    let before = counts(&cache).await.misses.absent;
    assert_eq!(get(&cache, "k1").await, None);
    assert_eq!(counts(&cache).await.misses.absent, before + 1);
    // It ends with its future, also when that is dropped.
    let endless = cache.memo(std::future::pending::<Result<(), LoadError>>());
    let limit = std::time::Duration::from_millis(1);
    assert!(tokio::time::timeout(limit, endless).await.is_err());
    assert_eq!(get(&cache, "k1").await, None);
    assert_eq!(counts(&cache).await.misses.absent, before + 2);
}

/// A stale value is asked for again: it may be fresh by then, and must not pass for it before.
#[tokio::test]
async fn a_stale_value_is_not_remembered() {
    let cache = Cache::builder(MemoryStore::new()).build().unwrap();
    leave_stale(&cache).await;
    let runs = Runs::default();
    let within = async {
        for _ in 0..2 {
            let served = ask(&cache, runs.failing()).await;
            assert_eq!((served.value.as_str(), served.is_stale), ("old", true));
        }
        assert_eq!(get(&cache, "k").await, None);
    };
    cache.memo(within).await;
}

/// A local copy is looked up once, like what the store has.
#[tokio::test]
async fn a_local_copy_is_remembered() {
    let cache = Cache::builder(MemoryStore::new()).local(Local::capacity_bytes(1 << 20));
    let cache = cache.build().unwrap();
    cache.set("k", "v").await.unwrap();
    let runs = Runs::default();
    let within = async {
        assert_eq!(ask(&cache, runs.of("loaded")).await.value, "v");
        let task = cache.clone();
        let changed = async move { task.set("k", "changed").await };
        tokio::spawn(changed).await.unwrap().unwrap();
        assert_eq!(ask(&cache, runs.of("loaded")).await.value, "v");
        assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    };
    cache.memo(within).await;
    assert_eq!(
        (get(&cache, "k").await.as_deref(), runs.count()),
        (Some("changed"), 0)
    );
}
