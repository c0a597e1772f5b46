//! A value that has outlived its TTL and is kept to be served stale is absent for everybody else.

use std::time::Duration;

use larder::cache::EntryState;
use larder::{Local, TimeLeft, Ttl};

use super::{HOUR, LoadError, Runs, SHORT, ask, get, is_over, leave_stale, until};
use crate::rig::Rig;

async fn a_value_past_its_ttl_is_absent(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    leave_stale(&cache).await;
    let cache = match rig.is_shared() {
        true => other,
        false => cache,
    };
    is_over(&cache).await;
    assert_eq!(get(&cache, "k").await, None);
    assert_eq!(cache.get_shared::<String>("k").await.unwrap(), None);
    assert_eq!(cache.get_many::<String>(["k"]).await.unwrap(), [None]);
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.ttl("k").await.unwrap(), TimeLeft::Missing);
    assert!(!cache.expire("k", HOUR).await.unwrap());
    assert!(cache.get_raw("k").await.unwrap().is_none());
    assert!(cache.get_sealed("k").await.unwrap().is_none());
    let state = cache.explain("k").await.unwrap().state;
    assert_eq!(state, EntryState::Expired);
    let runs = Runs::default();
    assert!(ask(&cache, runs.failing()).await.is_stale, "it is there");
}

async fn it_can_be_added_and_written_over(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    assert!(cache.add("k", "added").await.unwrap());
    assert!(!cache.add("k", "again").await.unwrap());
    assert_eq!(get(&cache, "k").await.as_deref(), Some("added"));
    assert_eq!(cache.ttl("k").await.unwrap(), TimeLeft::Forever);
    leave_stale_again(&cache).await;
    cache.set("k", "set").await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("set"));
    leave_stale_again(&cache).await;
    assert!(cache.delete("k").await.unwrap());
    let runs = Runs::default();
    assert!(!ask(&cache, runs.of("new")).await.is_stale);
}

async fn leave_stale_again(cache: &larder::Cache) {
    cache.delete("k").await.unwrap();
    leave_stale(cache).await;
}

/// A call that does not allow for it loads, and may replace the entry.
async fn who_wants_no_stale_value_loads(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    let runs = Runs::default();
    leave_stale(&cache).await;
    is_over(&other).await;
    let loaded = other.remember("k", runs.of("new")).ttl(HOUR).await.unwrap();
    assert_eq!(loaded, "new");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
    leave_stale_again(&cache).await;
    is_over(&other).await;
    let load = |keys: Vec<&'static str>| async move {
        Ok::<_, LoadError>(keys.into_iter().map(|key| (key, format!("new {key}"))))
    };
    let many = other.remember_many(&["j", "k"], load).await.unwrap();
    let many: Vec<_> = many.into_iter().flatten().collect();
    assert_eq!(many, ["new j", "new k"]);
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new k"));
    assert_eq!(runs.count(), 1);
}

/// Whoever changes the expiry moves both.
async fn a_new_ttl_moves_the_grace_along(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    assert!(!ask(&cache, runs.of("old")).await.is_stale);
    let left = cache.ttl("k").await.unwrap();
    assert!(matches!(left, TimeLeft::Remaining(left) if left <= HOUR));
    assert!(cache.expire("k", 3 * HOUR).await.unwrap());
    let left = cache.ttl("k").await.unwrap();
    assert!(
        matches!(left, TimeLeft::Remaining(left) if left > 2 * HOUR && left <= 3 * HOUR),
        "{left:?}"
    );
    assert!(cache.expire("k", SHORT).await.unwrap());
    until(async || get(&cache, "k").await.is_none()).await;
    assert!(ask(&cache, runs.failing()).await.is_stale);
    assert_eq!(runs.count(), 2);
    assert_eq!(ask(&cache, runs.of("unused")).await.value, "old");
    assert!(cache.add("k", "v").await.unwrap());
    assert!(cache.expire("k", Ttl::Forever).await.unwrap());
    assert_eq!(cache.ttl("k").await.unwrap(), TimeLeft::Forever);
}

async fn a_local_copy_ends_with_the_ttl(rig: Rig) {
    let tier = || Local::capacity_bytes(1 << 20).ttl_fraction(1.0);
    let cache = rig.builder().local(tier().max_staleness(HOUR)).build();
    let cache = cache.unwrap();
    leave_stale(&cache).await;
    let runs = Runs::default();
    for _ in 0..3 {
        let served = ask(&cache, runs.failing()).await;
        assert!(served.is_stale);
        assert_eq!(get(&cache, "k").await, None, "no local copy is left");
    }
    assert_eq!(runs.count(), 1);
}

async fn what_is_kept_longer_moves_between_stores(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    ask(&cache, runs.of("old")).await;
    let sealed = cache.get_sealed("k").await.unwrap().unwrap();
    cache.clear().await.unwrap();
    let put = cache.set_sealed("k", sealed.entry).ttl(2 * HOUR);
    assert!(put.await.unwrap());
    let left = cache.ttl("k").await.unwrap();
    let a_minute = Duration::from_secs(60);
    assert!(matches!(left, TimeLeft::Remaining(left) if left > 2 * HOUR - a_minute));
    let inspected = cache.inspect("k").await.unwrap().unwrap();
    assert_eq!(inspected.stale_for_ms, Some(3_600_000));
    assert_eq!(inspected.ttl_ms, Some(3_600_000));
}

on_every_store! {
    a_value_past_its_ttl_is_absent
    it_can_be_added_and_written_over
    who_wants_no_stale_value_loads
    a_new_ttl_moves_the_grace_along
    a_local_copy_ends_with_the_ttl
    what_is_kept_longer_moves_between_stores
}
