//! What others lose or serve wrongly around refreshes. The numbers are those of the collection of such failures; those that are
//! not here are cited where their scenario is.

use std::sync::Arc;
use std::time::Duration;

use larder::Cache;
use tokio::sync::{Barrier, Notify};

use super::{HOUR, LoadError, Runs, Slow, counts, get, is_over, leave_stale, until};
use crate::rig::Rig;

/// A part of an hour that is over at once.
const AT_ONCE: f64 = 1e-7;

/// Begins a refresh of `k`, tagged `t`, in the background, and waits until its load runs.
async fn refresh(cache: &Cache, slow: &Slow) {
    let load = || async { Ok::<_, LoadError>("old".to_owned()) };
    cache
        .remember("k", load)
        .ttl(HOUR)
        .tags(["t"])
        .await
        .unwrap();
    let before = counts(cache).await.refreshes;
    until(async || {
        let slow = slow.clone();
        let asked = cache.remember("k", move || slow.load("refreshed"));
        let asked = asked.ttl(HOUR).tags(["t"]).refresh_after(AT_ONCE);
        assert_eq!(asked.await.unwrap(), "old");
        counts(cache).await.refreshes > before
    })
    .await;
    slow.begun.notified().await;
}

/// C2, C3: what is invalidated or deleted while it is refreshed in the background does not come back.
async fn a_change_overtakes_a_refresh_in_the_background(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for change in 0..4 {
        let slow = Slow::new();
        refresh(&cache, &slow).await;
        match change {
            0 => drop(other.invalidate_tags(["t"]).await.unwrap()),
            1 => drop(other.delete("k").await.unwrap()),
            2 => drop(cache.delete("k").await.unwrap()),
            _ => other.clear().await.unwrap(),
        }
        let before = counts(&cache).await.overtaken_loads;
        slow.end();
        until(async || counts(&cache).await.overtaken_loads > before).await;
        assert_eq!(get(&cache, "k").await, None, "change {change}");
        assert_eq!(get(&other, "k").await, None, "change {change}");
    }
}

/// C2: nor does what a caller no longer waits for.
async fn a_change_overtakes_a_load_that_nobody_waits_for(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    let limit = Duration::from_millis(20);
    for is_stale in [true, false] {
        if is_stale {
            leave_stale(&cache).await;
        }
        let slow = Slow::new();
        let load = slow.clone();
        let asked = cache.remember("k", move || load.load("late"));
        let asked = asked.ttl(HOUR).stale_for(HOUR).tags(["t"]);
        let answer = asked.hard_timeout(limit).await;
        assert_eq!(answer.is_ok(), is_stale);
        slow.begun.notified().await;
        other.invalidate_tags(["t"]).await.unwrap();
        other.delete("k").await.unwrap();
        let before = counts(&cache).await.overtaken_loads;
        slow.end();
        until(async || counts(&cache).await.overtaken_loads > before).await;
        assert_eq!(get(&cache, "k").await, None);
    }
}

/// C8: options for what is stale change nothing for what is missing: one load for all callers of all processes.
async fn a_cold_miss_is_loaded_once_whatever_the_options(rig: Rig) {
    const CALLERS: usize = 40;
    let slow = Slow::new();
    let all = Arc::new(Barrier::new(CALLERS));
    let caches = [rig.cache(), rig.cache(), rig.other().await];
    let asking = (0..CALLERS).map(|n| {
        let (slow, all, cache) = (slow.clone(), Arc::clone(&all), caches[n % 3].clone());
        tokio::spawn(async move {
            all.wait().await;
            let asked = cache.remember("k", move || slow.load("v"));
            let asked = asked.ttl(HOUR).stale_for(HOUR).refresh_after(0.8);
            asked.soft_timeout(Duration::from_millis(1)).await.unwrap()
        })
    });
    let asking: Vec<_> = asking.collect();
    slow.begun.notified().await;
    slow.end();
    for task in asking {
        assert_eq!(task.await.unwrap(), "v");
    }
    assert_eq!(slow.runs.count(), 1);
}

/// C6: what was removed softly may be served when its source fails, what was removed for good may not.
async fn a_mark_leaves_something_to_fall_back_on(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    let ask = async |cache: &Cache| {
        let asked = cache.remember("k", runs.failing()).tags(["t"]);
        asked.ttl(HOUR).stale_for(HOUR).await
    };
    let load = || async { Ok::<_, LoadError>("old".to_owned()) };
    let stored = cache.remember("k", load).tags(["t"]).ttl(HOUR);
    stored.stale_for(HOUR).await.unwrap();
    cache.mark_stale_tags(["t"]).await.unwrap();
    assert_eq!(ask(&cache).await.unwrap(), "old");
    until(async || counts(&cache).await.failed_refreshes == 1).await;
    assert_eq!(ask(&cache).await.unwrap(), "old");
    cache.invalidate_tags(["t"]).await.unwrap();
    assert!(ask(&cache).await.is_err());
}

/// C39: a caller who gives up takes nobody's load along, and leaves nothing behind that others wait for.
async fn a_leader_who_gives_up_disturbs_nobody(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    leave_stale(&cache).await;
    is_over(&other).await;
    let slow = Slow::new();
    let first = slow.start(&cache, "new").await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let asking = other.clone();
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let waiting = tokio::spawn(async move {
        told.notify_one();
        let load = || async { Ok::<_, LoadError>("own".to_owned()) };
        asking.remember("k", load).ttl(HOUR).await.unwrap()
    });
    begun.notified().await;
    until(async || counts(&other).await.waited_loads == 1).await;
    slow.end();
    assert_eq!(waiting.await.unwrap(), "new");
}

on_every_store! {
    a_change_overtakes_a_refresh_in_the_background
    a_change_overtakes_a_load_that_nobody_waits_for
    a_cold_miss_is_loaded_once_whatever_the_options
    a_mark_leaves_something_to_fall_back_on
    a_leader_who_gives_up_disturbs_nobody
}

/// Who joins a load has a lease of its own in mind, which is not that of the load.
#[tokio::test]
async fn who_joins_leaves_the_lease_of_the_load_alone() {
    let cache = Cache::builder(larder::MemoryStore::new()).build().unwrap();
    let slow = Slow::new();
    let first = slow.start(&cache, "v").await;
    let joiner = cache.clone();
    let joins = tokio::spawn(async move {
        let load = || async { Ok::<_, LoadError>("own".to_owned()) };
        let asked = joiner.remember("k", load).ttl(HOUR);
        asked.lease_ttl(Duration::from_millis(100)).await.unwrap()
    });
    until(async || counts(&cache).await.joined_loads > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    slow.end();
    assert_eq!(first.await.unwrap().value, "v");
    assert_eq!(joins.await.unwrap(), "v");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
}
