//! Values that are loaded anew before they expire.

use std::time::Duration;

use larder::cache::Stampede;
use larder::{Cache, ErrorKind, Local, ManualClock, MemoryStore};

use super::{HOUR, LoadError, Runs, Slow, counts, get, until};
use crate::rig::Rig;

/// A part of an hour that is over at once.
const AT_ONCE: f64 = 1e-7;

/// Asks for `k`, refreshed ahead at once.
async fn ask<L, Fut>(cache: &Cache, load: L) -> String
where
    L: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<String, LoadError>> + Send + 'static,
{
    let asked = cache.remember("k", load).ttl(HOUR).refresh_after(AT_ONCE);
    let served = asked.detailed().await.unwrap();
    assert!(!served.is_stale);
    served.value
}

/// Asks until the refresh has begun: the first moments of a TTL are before its point.
async fn ask_until_begun(cache: &Cache, slow: &Slow) {
    until(async || {
        let slow = slow.clone();
        assert_eq!(ask(cache, move || slow.load("new")).await, "old");
        counts(cache).await.refreshes == 1
    })
    .await;
}

/// C38: the caller gets the value at once, and one load runs behind it.
async fn a_due_value_is_returned_at_once_and_loaded_once(rig: Rig) {
    let cache = rig.cache();
    let slow = Slow::new();
    ask(&cache, Runs::default().of("old")).await;
    ask_until_begun(&cache, &slow).await;
    slow.begun.notified().await;
    for _ in 0..5 {
        assert_eq!(ask(&cache, slow.runs.of("other")).await, "old");
    }
    assert_eq!(slow.runs.count(), 1);
    slow.end();
    until(async || get(&cache, "k").await.as_deref() == Some("new")).await;
    assert_eq!(counts(&cache).await.stale_served, 0);
}

/// C38: what lives forever has no such point.
async fn what_lives_forever_is_never_refreshed(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    for value in ["first", "second", "third"] {
        let asked = cache.remember("k", runs.of(value));
        let asked = asked.refresh_after(AT_ONCE).xfetch(1000.0);
        assert_eq!(asked.await.unwrap(), "first");
    }
    assert_eq!((runs.count(), counts(&cache).await.refreshes), (1, 0));
}

async fn a_failed_refresh_is_not_repeated_at_once(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    ask(&cache, runs.of("old")).await;
    until(async || {
        assert_eq!(ask(&cache, runs.failing()).await, "old");
        counts(&cache).await.failed_refreshes == 1
    })
    .await;
    for _ in 0..5 {
        assert_eq!(ask(&cache, runs.failing()).await, "old");
    }
    assert_eq!(runs.count(), 2);
    assert_eq!(counts(&cache).await.refreshes, 1);
}

async fn a_local_copy_does_not_hide_the_point(rig: Rig) {
    let tier = Local::capacity_bytes(1 << 20).ttl_fraction(1.0);
    let cache = rig.builder().local(tier.max_staleness(HOUR)).build();
    let cache = cache.unwrap();
    let runs = Runs::default();
    ask(&cache, runs.of("old")).await;
    until(async || ask(&cache, runs.of("new")).await == "new").await;
    // Without such a point, it is served from here on.
    let (late, before) = (Runs::default(), counts(&cache).await.store_hits);
    for _ in 0..5 {
        let asked = cache.remember("l", late.of("v")).ttl(HOUR);
        assert_eq!(asked.refresh_after(0.9).await.unwrap(), "v");
    }
    assert_eq!(late.count(), 1);
    assert_eq!(counts(&cache).await.store_hits, before);
}

async fn the_cache_can_have_a_default(rig: Rig) {
    let ahead = Stampede::new().refresh_after(AT_ONCE);
    let cache = rig.builder().stampede(ahead).default_ttl(HOUR).build();
    let cache = cache.unwrap();
    let runs = Runs::default();
    cache.remember("k", runs.of("old")).await.unwrap();
    until(async || {
        cache.remember("k", runs.of("new")).await.unwrap();
        get(&cache, "k").await.as_deref() == Some("new")
    })
    .await;
    for refused in [
        Stampede::new().refresh_after(0.0),
        Stampede::new().xfetch(f64::NAN),
    ] {
        let refused = rig.builder().stampede(refused).build().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}

on_every_store! {
    a_due_value_is_returned_at_once_and_loaded_once
    what_lives_forever_is_never_refreshed
    a_failed_refresh_is_not_repeated_at_once
    a_local_copy_does_not_hide_the_point
    the_cache_can_have_a_default
}

#[tokio::test]
async fn the_point_is_where_it_was_asked_for() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    let cache = Cache::builder(store).build().unwrap();
    let runs = Runs::default();
    let ask = async |value| {
        let asked = cache.remember("k", runs.of(value)).ttl(HOUR);
        asked.refresh_after(0.8).await.unwrap()
    };
    ask("old").await;
    let steps = [0.75, 0.0, 0.0].map(|part| HOUR.mul_f64(part));
    for step in steps {
        time.advance(step);
        assert_eq!(ask("early").await, "old");
    }
    assert_eq!(runs.count(), 1, "before the point");
    time.advance(HOUR.mul_f64(0.051));
    assert_eq!(ask("new").await, "old");
    until(async || get(&cache, "k").await.as_deref() == Some("new")).await;
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn slow_loads_are_refreshed_by_chance_at_the_end_of_the_ttl() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    let cache = Cache::builder(store).build().unwrap();
    let runs = Runs::default();
    let ask = async || {
        let load = runs.of("v");
        let load = move || async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            load().await
        };
        // Its factor is so great that chance decides nothing.
        let asked = cache.remember("k", load).ttl(Duration::from_secs(1));
        asked.xfetch(1000.0).await.unwrap()
    };
    ask().await;
    time.advance(Duration::from_millis(700));
    for _ in 0..20 {
        ask().await;
    }
    assert_eq!(runs.count(), 1, "not before the last fifth");
    time.advance(Duration::from_millis(200));
    until(async || {
        ask().await;
        counts(&cache).await.refreshes == 1
    })
    .await;
    until(async || runs.count() == 2).await;
    let inspected = cache.inspect("k").await.unwrap().unwrap();
    assert!(inspected.load_ms >= 20, "{}", inspected.load_ms);
}
