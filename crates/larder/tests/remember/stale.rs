//! Values that are served after their TTL.

use std::sync::Arc;
use std::time::Duration;

use larder::{Cache, ErrorKind, ManualClock, MemoryStore, RememberError};
use tokio::sync::Notify;

use super::{HOUR, LONG, LoadError, Runs, Slow, ask, counts, get, is_over, leave_stale, until};
use crate::rig::Rig;

async fn the_first_one_waits_and_the_others_do_not(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let slow = Slow::new();
    let first = slow.start(&cache, "new").await;
    let runs = Runs::default();
    for _ in 0..5 {
        let served = ask(&cache, runs.of("other")).await;
        assert_eq!((served.value.as_str(), served.is_stale), ("old", true));
    }
    assert!(!first.is_finished());
    slow.end();
    let first = first.await.unwrap();
    assert_eq!((first.value.as_str(), first.is_stale), ("new", false));
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
    assert_eq!((slow.runs.count(), runs.count()), (1, 0));
    let counted = counts(&cache).await;
    assert_eq!((counted.stale_served, counted.refreshes), (5, 1));
}

/// C6, C17: the value is there when its source is not, as long as was asked for and no longer, and whoever keeps asking does
/// not keep it alive, nor wear its source out.
async fn a_failed_load_serves_what_there_was(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let runs = Runs::default();
    for _ in 0..10 {
        let served = ask(&cache, runs.failing()).await;
        assert_eq!((served.value.as_str(), served.is_stale), ("old", true));
    }
    assert_eq!(runs.count(), 1, "not again so soon");
    let counted = counts(&cache).await;
    assert_eq!(counted.stale_served, 10);
    assert_eq!((counted.failed_loads, counted.failed_refreshes), (1, 1));
    // What is there now has nothing to do with that failure.
    cache.delete("k").await.unwrap();
    leave_stale(&cache).await;
    assert!(!ask(&cache, runs.of("new")).await.is_stale);
    // Another process makes its own attempts.
    leave_stale_over(&cache).await;
    assert!(ask(&cache, runs.failing()).await.is_stale);
    let other = rig.other().await;
    is_over(&other).await;
    assert_eq!(ask(&other, runs.of("new")).await.value, "new");
}

async fn leave_stale_over(cache: &Cache) {
    cache.delete("k").await.unwrap();
    leave_stale(cache).await;
}

async fn a_panic_serves_what_there_was(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let panics = || async { panic!("the loader has a bug") };
    let served = ask(&cache, panics).await;
    assert_eq!((served.value.as_str(), served.is_stale), ("old", true));
    assert_eq!(counts(&cache).await.failed_refreshes, 1);
}

/// C6: whoever cleared the cache does not want to see the value again.
async fn a_change_takes_the_stale_value_away(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for change in 0..3 {
        let load = || async { Ok::<_, LoadError>("old".to_owned()) };
        let asked = cache.remember("k", load).tags(["t"]).stale_for(HOUR);
        asked.ttl(super::SHORT).await.unwrap();
        until(async || get(&cache, "k").await.is_none()).await;
        match change {
            0 => drop(other.delete("k").await.unwrap()),
            1 => other.clear().await.unwrap(),
            _ => drop(other.invalidate_tags(["t"]).await.unwrap()),
        }
        let fail = || async { Err::<String, _>(LoadError::other("down")) };
        let asked = cache.remember("k", fail).ttl(HOUR).stale_for(HOUR);
        let failed = asked.await.unwrap_err();
        assert!(matches!(failed, RememberError::Load(_)), "{change}");
    }
}

/// A change while it is loaded anew is not overwritten, and no old value comes back.
async fn a_change_meanwhile_overtakes_the_load(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for change in ["set", "delete"] {
        leave_stale_over(&cache).await;
        let slow = Slow::new();
        let first = slow.start(&cache, "loaded").await;
        match change {
            "set" => other.set("k", "set").await.unwrap(),
            _ => drop(other.delete("k").await.unwrap()),
        }
        slow.end();
        assert_eq!(first.await.unwrap().value, "loaded");
        let left = (change == "set").then(|| "set".to_owned());
        assert_eq!(get(&cache, "k").await, left);
    }
}

/// Somebody without a value joins a load that replaces one; so does one who comes after that value was invalidated elsewhere,
/// and does not get what the invalidation has overtaken.
async fn who_has_no_value_does_not_join_what_was_overtaken(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    cache.set("k", "old").tags(["t"]).await.unwrap();
    cache.mark_stale_tags(["t"]).await.unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, ends) = (Arc::clone(&begun), Arc::clone(&go));
    let slow = move || async move {
        told.notify_one();
        ends.notified().await;
        Ok::<_, LoadError>("before".to_owned())
    };
    let served = cache.remember("k", slow).tags(["t"]).await.unwrap();
    assert_eq!(served, "old");
    begun.notified().await;
    other.invalidate_tags(["t"]).await.unwrap();
    let load = || async { Ok::<_, LoadError>("after".to_owned()) };
    let asked = cache.remember("k", load).tags(["t"]);
    let loaded = tokio::time::timeout(LONG, asked.into_future()).await;
    assert_eq!(loaded.unwrap().unwrap(), "after");
    go.notify_one();
    until(async || counts(&cache).await.loads == 2).await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("after"));
}

async fn the_whole_cache_can_have_a_default(rig: Rig) {
    let build = |grace| {
        rig.builder()
            .stale_for(grace)
            .default_ttl(super::SHORT)
            .build()
    };
    let cache = build(HOUR).unwrap();
    let runs = Runs::default();
    cache.remember("k", runs.of("old")).await.unwrap();
    until(async || get(&cache, "k").await.is_none()).await;
    let served = cache.remember("k", runs.failing()).detailed().await;
    assert!(served.unwrap().is_stale);
    // What lives forever needs none.
    let asked = cache.remember("l", runs.of("v")).ttl(larder::Ttl::Forever);
    assert_eq!(asked.await.unwrap(), "v");
    let refused = build(Duration::ZERO).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(refused.message().contains("stale_for"), "{refused}");
}

async fn options_out_of_bounds_are_refused(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    let load = || runs.of("v");
    let second = Duration::from_secs(1);
    let cases = [
        (cache.remember("k", load()).stale_for(HOUR), "default_ttl"),
        (
            cache
                .remember("k", load())
                .ttl(HOUR)
                .stale_for(Duration::ZERO),
            "stale_for",
        ),
        (
            cache
                .remember("k", load())
                .ttl(HOUR)
                .stale_for(Duration::MAX),
            "stale_for",
        ),
        (
            cache.remember("k", load()).soft_timeout(Duration::ZERO),
            "soft_timeout",
        ),
        (
            cache.remember("k", load()).hard_timeout(Duration::ZERO),
            "hard_timeout",
        ),
        (
            cache
                .remember("k", load())
                .soft_timeout(2 * second)
                .hard_timeout(second),
            "soft_timeout",
        ),
        (
            cache.remember("k", load()).refresh_after(1.0),
            "refresh_after",
        ),
        (cache.remember("k", load()).xfetch(-1.0), "xfetch"),
    ];
    for (asked, field) in cases {
        let Err(RememberError::Cache(error)) = asked.await else {
            panic!("{field} was accepted")
        };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(field), "{error}");
    }
    assert_eq!(runs.count(), 0);
}

on_every_store! {
    the_first_one_waits_and_the_others_do_not
    a_failed_load_serves_what_there_was
    a_panic_serves_what_there_was
    a_change_takes_the_stale_value_away
    a_change_meanwhile_overtakes_the_load
    who_has_no_value_does_not_join_what_was_overtaken
    the_whole_cache_can_have_a_default
    options_out_of_bounds_are_refused
}

/// C17: the grace has an end, whoever asked in the meantime.
#[tokio::test]
async fn the_grace_has_an_end_and_failures_are_forgiven() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    let cache = Cache::builder(store).build().unwrap();
    let runs = Runs::default();
    let minute = Duration::from_secs(60);
    ask(&cache, runs.of("old")).await;
    for asked in 1..=60 {
        // From the end of the TTL on, once a minute.
        time.advance(if asked == 1 { HOUR } else { minute });
        assert!(ask(&cache, runs.failing()).await.is_stale, "{asked}");
        assert_eq!(runs.count(), 1 + asked, "tried again after half a minute");
    }
    time.advance(minute);
    let asked = cache.remember("k", runs.failing()).ttl(HOUR);
    assert!(asked.stale_for(HOUR).await.is_err(), "after its grace");
}

/// A clock that is set back makes values live longer, and nothing else.
#[tokio::test]
async fn a_clock_that_is_set_back_makes_nothing_stale() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    let cache = Cache::builder(store).build().unwrap();
    let runs = Runs::default();
    time.advance(HOUR);
    ask(&cache, runs.of("old")).await;
    time.set_back(HOUR);
    let asked = cache
        .remember("k", runs.of("new"))
        .ttl(HOUR)
        .stale_for(HOUR);
    let asked = asked.refresh_after(0.5).xfetch(1.0).detailed();
    assert_eq!(asked.await.unwrap().value, "old");
    time.advance(2 * HOUR);
    assert!(ask(&cache, runs.failing()).await.is_stale);
    // Which was in the future when the clock is set back.
    time.set_back(Duration::from_secs(1));
    time.advance(Duration::from_secs(1));
    assert!(ask(&cache, runs.failing()).await.is_stale);
    assert_eq!(runs.count(), 2);
}

/// The shorter one counts: of the call, and of the entry.
#[tokio::test]
async fn a_call_has_a_grace_of_its_own() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    let cache = Cache::builder(store).build().unwrap();
    let runs = Runs::default();
    ask(&cache, runs.of("old")).await;
    time.advance(HOUR + HOUR / 2);
    let served = async |grace| {
        let asked = cache.remember("k", runs.failing()).ttl(HOUR);
        asked.stale_for(grace).await.ok()
    };
    assert_eq!(served(Duration::from_secs(10)).await, None);
    assert_eq!(served(HOUR / 2).await, None);
    let more = HOUR / 2 + Duration::from_secs(1);
    assert_eq!(served(more).await.as_deref(), Some("old"));
    time.advance(HOUR / 2);
    assert_eq!(served(2 * HOUR).await, None, "after that of the entry");
}
