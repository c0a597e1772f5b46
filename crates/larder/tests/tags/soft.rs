//! Entries that are marked stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use larder::{Cache, Local};
use tokio::sync::Notify;

use super::get;
use crate::rig::Rig;

type LoadError = std::io::Error;

/// Asks for the key by a loader that counts its runs.
async fn remember(cache: &Cache, runs: &Arc<AtomicU32>) -> String {
    let runs = Arc::clone(runs);
    let load = move || async move {
        let run = runs.fetch_add(1, SeqCst) + 1;
        Ok::<_, LoadError>(format!("load {run}"))
    };
    cache.remember("k", load).tags(["t:a"]).await.unwrap()
}

/// Waits until `get` returns the value: it is loaded in the background.
async fn becomes(cache: &Cache, value: &str) {
    for _ in 0..2000 {
        if get(cache, "k").await.as_deref() == Some(value) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it is still {:?}", get(cache, "k").await);
}

async fn a_stale_value_is_served_while_it_is_loaded_anew(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let runs = Arc::new(AtomicU32::new(0));
    for (run, tag) in [(1, "t:a"), (2, "t:*")] {
        cache.set("k", "old").tags(["t:a"]).await.unwrap();
        let marked = other.mark_stale_tags([tag]).await.unwrap();
        assert!(marked.tags[0].existed);
        assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
        assert!(!cache.add("k", "added").await.unwrap(), "it is there");
        assert_eq!(remember(&cache, &runs).await, "old");
        becomes(&cache, &format!("load {run}")).await;
        assert_eq!(remember(&cache, &runs).await, format!("load {run}"));
        assert_eq!(runs.load(SeqCst), run);
        cache.invalidate_tags([tag]).await.unwrap();
        assert_eq!(get(&cache, "k").await, None);
    }
}

async fn invalidation_is_stronger(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "old").tags(["t:a"]).await.unwrap();
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    cache.invalidate_tags(["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    assert_eq!(remember(&cache, &Arc::default()).await, "load 1");
}

async fn those_who_ask_meanwhile_wait_for_nothing(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "old").tags(["t:a"]).await.unwrap();
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    let may_end = Arc::new(Notify::new());
    let (runs, ends) = (Arc::new(AtomicU32::new(0)), Arc::clone(&may_end));
    let counted = Arc::clone(&runs);
    let slow = move || async move {
        counted.fetch_add(1, SeqCst);
        ends.notified().await;
        Ok::<_, LoadError>("new".to_owned())
    };
    let first = cache.remember("k", slow).tags(["t:a"]).await.unwrap();
    assert_eq!(first, "old");
    for _ in 0..5 {
        assert_eq!(remember(&cache, &runs).await, "old");
    }
    may_end.notify_one();
    becomes(&cache, "new").await;
    assert_eq!(runs.load(SeqCst), 1);
}

async fn a_load_that_was_under_way_is_stale(rig: Rig) {
    let cache = rig.cache();
    let (is_loading, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, ends) = (Arc::clone(&is_loading), Arc::clone(&may_end));
    let load = move || async move {
        told.notify_one();
        ends.notified().await;
        Ok::<_, LoadError>("before".to_owned())
    };
    let loading = cache.clone();
    let loading =
        tokio::spawn(async move { loading.remember("k", load).tags(["t:a"]).await.unwrap() });
    is_loading.notified().await;
    rig.cache().mark_stale_tags(["t:a"]).await.unwrap();
    may_end.notify_one();
    assert_eq!(loading.await.unwrap(), "before");
    let runs = Arc::new(AtomicU32::new(0));
    remember(&cache, &runs).await;
    becomes(&cache, "load 1").await;
}

async fn a_failed_refresh_takes_nothing_away(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "old").tags(["t:a"]).await.unwrap();
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    let fail = || async { Err::<String, _>(LoadError::other("down")) };
    let served = cache.remember("k", fail).tags(["t:a"]).await.unwrap();
    assert_eq!(served, "old");
    while cache.stats().await.unwrap().process.failed_loads == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    // This process makes no further attempt for a while.
    assert_eq!(remember(&rig.cache(), &Arc::default()).await, "old");
    becomes(&cache, "load 1").await;
}

async fn the_local_tier_keeps_nothing_stale(rig: Rig) {
    let cache = rig.builder().local(Local::capacity_bytes(1 << 20));
    let cache = cache.build().unwrap();
    cache.set("k", "old").tags(["t:a"]).await.unwrap();
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    assert_eq!(remember(&cache, &Arc::default()).await, "old");
    becomes(&cache, "load 1").await;
}

async fn many_are_loaded_anew_before_they_are_returned(rig: Rig) {
    let cache = rig.cache();
    cache.set("a", "old").tags(["t:a"]).await.unwrap();
    cache.set("b", "kept").await.unwrap();
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    let load = |keys: Vec<&'static str>| async move {
        Ok::<_, LoadError>(keys.into_iter().map(|key| (key, format!("new {key}"))))
    };
    let loaded = cache.remember_many(&["a", "b"], load).tags(["t:a"]);
    let loaded: Vec<_> = loaded.await.unwrap().into_iter().flatten().collect();
    assert_eq!(loaded, ["new a", "kept"]);
    cache.invalidate_tags(["t:*"]).await.unwrap();
    let left = cache.get_many::<String>(["a", "b"]).await.unwrap();
    assert_eq!(left, [None, Some("kept".to_owned())]);
}

on_every_store! {
    a_stale_value_is_served_while_it_is_loaded_anew
    invalidation_is_stronger
    those_who_ask_meanwhile_wait_for_nothing
    a_load_that_was_under_way_is_stale
    a_failed_refresh_takes_nothing_away
    the_local_tier_keeps_nothing_stale
    many_are_loaded_anew_before_they_are_returned
}
