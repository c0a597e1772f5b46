//! Why a read missed, as people ask.

use std::sync::Arc;
use std::time::Duration;

use larder::cache::{Cause, EntryState, Explanation, Happened, ReadSource};
use larder::store::{Expiry, Invalidation, Register, Store, Write};
use larder::testing::unreadable;
use larder::{Cache, Local, ManualClock, MemoryStore, Namespace};

use super::get;
use crate::rig::Rig;

async fn explain(cache: &Cache, key: &str) -> Explanation {
    cache.explain(key).await.unwrap()
}

fn tags(explanation: &Explanation) -> Vec<&str> {
    let causes = explanation.causes.iter();
    causes.map(|cause| cause.tag.as_str()).collect()
}

async fn what_is_there_is_described(rig: Rig) {
    let cache = rig.cache();
    let hour = Duration::from_secs(3600);
    let set = cache.set("k", "value").tags(["t:a", "u"]).ttl(hour);
    set.await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(
        (told.state, told.source),
        (EntryState::Present, ReadSource::Store)
    );
    assert_eq!(told.causes, []);
    let entry = told.entry.unwrap();
    assert_eq!((entry.kind, entry.encoding), ("value", "messagepack"));
    assert_eq!(entry.tags, ["t:a", "u"]);
    assert_eq!(entry.ttl_ms, Some(3_600_000));
    assert!(entry.left_ms.unwrap() <= 3_600_000);
    let absent = explain(&cache, "nobody").await;
    assert_eq!(
        (absent.state, absent.source),
        (EntryState::Absent, ReadSource::Nowhere)
    );
    assert!(absent.entry.is_none());
}

async fn the_tags_to_blame_are_named_with_the_time(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    cache.set("k", "v").tags(["t:a:b", "u"]).await.unwrap();
    other.invalidate_tags(["t:a:*", "never"]).await.unwrap();
    let told = explain(&other, "k").await;
    assert_eq!(
        (told.state, told.source),
        (EntryState::Invalidated, ReadSource::Nowhere)
    );
    assert_eq!(tags(&told), ["t:a:*"]);
    assert_eq!(told.causes[0].happened, Happened::Invalidated);
    assert!(told.causes[0].ago_ms.unwrap() < 60_000);
    assert_eq!(told.entry.unwrap().tags, ["t:a:b", "u"]);
    // Others are told by way of the store, if it is shared.
    other.flush_stats().await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(tags(&told), ["t:a:*"]);
    let is_told = told.causes[0].at_ms.is_some();
    assert_eq!(is_told, cache.capabilities().shared);
    // The register is there again, and another one.
    cache.set("other", "v").tags(["t:a:b"]).await.unwrap();
    cache.invalidate_tags(["u"]).await.unwrap();
    assert_eq!(tags(&explain(&cache, "k").await), ["t:a:*", "u"]);
    cache.set("k", "new").tags(["t:a:b", "u"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!((told.state, told.causes), (EntryState::Present, Vec::new()));
}

async fn stale_entries_name_what_marked_them(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").tags(["t:a"]).await.unwrap();
    cache.mark_stale_tags(["t:a"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(
        (told.state, told.source),
        (EntryState::Stale, ReadSource::Store)
    );
    assert_eq!(told.causes[0].happened, Happened::MarkedStale);
    assert!(told.causes[0].at_ms.is_some());
    cache.invalidate_tags(["t:*"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(told.state, EntryState::Invalidated);
    let happened = |cause: &Cause| (cause.tag.clone(), cause.happened);
    let happened: Vec<_> = told.causes.iter().map(happened).collect();
    let expected = [
        ("t:*".to_owned(), Happened::Invalidated),
        ("t:a".to_owned(), Happened::MarkedStale),
    ];
    assert_eq!(happened, expected);
}

async fn loads_under_way_are_told(rig: Rig) {
    let cache = rig.cache();
    let snapshot = cache.snapshot("k", ["t:a"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(
        (told.state, told.source),
        (EntryState::Loading, ReadSource::Nowhere)
    );
    assert_eq!(told.entry.unwrap().kind, "load under way");
    cache.invalidate_tags(["t:a"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(told.state, EntryState::Overtaken);
    assert_eq!(tags(&told), ["t:a"]);
    assert!(cache.set("k", "v").snapshot(snapshot).await.is_err());
}

async fn what_was_cleared_is_no_riddle(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").tags(["t:a"]).await.unwrap();
    cache.clear().await.unwrap();
    let told = explain(&cache, "k").await;
    let is_gone = matches!(told.state, EntryState::Cleared | EntryState::Absent);
    assert!(is_gone, "{told:?}");
    assert_eq!(told.causes, []);
    assert_eq!(told.source, ReadSource::Nowhere);
}

async fn misses_by_tags_are_counted_apart(rig: Rig) {
    let cache = rig.cache();
    for key in ["a", "b", "c"] {
        cache.set(key, "v").tags(["t:a"]).await.unwrap();
    }
    cache.invalidate_tags(["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "a").await, None);
    let many = cache.get_many::<String>(["a", "b", "nobody"]);
    assert_eq!(many.await.unwrap(), [None, None, None]);
    assert!(cache.get_raw("c").await.unwrap().is_none());
    let misses = cache.stats().await.unwrap().process.misses;
    assert_eq!((misses.invalidated, misses.absent), (4, 1));
    // Whoever is asked why does not read.
    explain(&cache, "a").await;
    assert_eq!(cache.stats().await.unwrap().total.missed(), 5);
}

async fn notes_are_nobodys_entries(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").tags(["t:a"]).await.unwrap();
    cache.invalidate_tags(["t:a"]).await.unwrap();
    cache.flush_stats().await.unwrap();
    assert_eq!(cache.count("*").await.unwrap(), 0);
    let names = cache.sibling_names().await.unwrap();
    assert_eq!(names, ["default"]);
    cache.clear().await.unwrap();
    let elsewhere = rig.builder().name("elsewhere").build().unwrap();
    elsewhere.set("k", "v").tags(["t:a"]).await.unwrap();
    let names = Namespace::new(rig.prefix(), "elsewhere", 1);
    let registers = [Register::exact("t:a").unwrap()];
    let store = rig.store();
    let lost = store.invalidate(&names, &registers, Invalidation::Hard);
    lost.await.unwrap();
    let told = explain(&elsewhere, "k").await;
    assert_eq!(tags(&told), ["t:a"]);
    assert_eq!(told.causes[0].happened, Happened::InvalidatedOrLost);
    assert_eq!(
        told.causes[0].at_ms, None,
        "another cache's note is not ours"
    );
}

/// What a store shows that finds only what is valid.
async fn invalid_entries_are_absent(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").tags(["t:a"]).await.unwrap();
    cache.mark_stale_tags(["t:*"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(told.state, EntryState::Stale);
    assert_eq!(tags(&told), ["t:*"]);
    cache.invalidate_tags(["t:a"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!((told.state, told.causes), (EntryState::Absent, Vec::new()));
    assert_eq!(get(&cache, "k").await, None);
    let misses = cache.stats().await.unwrap().process.misses;
    assert_eq!((misses.invalidated, misses.absent), (0, 1));
}

on_these_stores!([memory sqlite file redis redis_cluster] [
    what_is_there_is_described
    the_tags_to_blame_are_named_with_the_time
    stale_entries_name_what_marked_them
    loads_under_way_are_told
    what_was_cleared_is_no_riddle
    misses_by_tags_are_counted_apart
    notes_are_nobodys_entries
]);
on_these_stores!([memcached] [what_is_there_is_described invalid_entries_are_absent]);

#[tokio::test]
async fn patterns_are_known_where_they_were_used() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let cache = Cache::builder(store).build().unwrap();
    cache.set("k", "v").tags(["user"]).await.unwrap();
    cache.invalidate_tags(["us?r"]).await.unwrap();
    let told = explain(&cache, "k").await;
    assert_eq!(tags(&told), ["user"]);
    assert_eq!(told.causes[0].happened, Happened::Invalidated);
}

#[tokio::test]
async fn unreadable_expired_and_foreign_entries_are_told_apart() {
    let time = ManualClock::new();
    let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
    let namespace = Namespace::new("", "default", 1);
    let damaged = Write::put(b"damaged", unreadable(), Expiry::Never);
    let alien = Write::put(b"alien", "what is this".into(), Expiry::Never);
    store
        .write_many(&namespace, &[damaged, alien])
        .await
        .unwrap();
    let cache = Cache::builder(store).build().unwrap();
    cache.schema(7).set("schema", "v").await.unwrap();
    let second = Duration::from_secs(1);
    cache.set("expired", "v").ttl(second).await.unwrap();
    time.advance(second);
    for (key, state) in [
        ("damaged", EntryState::Damaged),
        ("alien", EntryState::UnknownLayout),
        ("schema", EntryState::OtherSchema),
    ] {
        let told = explain(&cache, key).await;
        assert_eq!((told.state, told.source), (state, ReadSource::Nowhere));
        assert!(told.entry.is_some(), "{key}");
    }
    let read = explain(&cache.schema(7), "schema").await;
    assert_eq!(read.state, EntryState::Present);
    // The store may have removed it.
    let told = explain(&cache, "expired").await.state;
    assert!(matches!(told, EntryState::Expired | EntryState::Absent));
}

#[tokio::test]
async fn a_local_copy_is_named_as_the_source() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let local = Local::capacity_bytes(1 << 20);
    let near = Cache::builder(Arc::clone(&store)).local(local.clone());
    let (near, far) = (
        near.build().unwrap(),
        Cache::builder(store).build().unwrap(),
    );
    near.set("k", "v").tags(["t"]).await.unwrap();
    assert_eq!(explain(&near, "k").await.source, ReadSource::Local);
    assert_eq!(
        explain(&near.schema(2), "k").await.source,
        ReadSource::Nowhere
    );
    far.invalidate_tags(["t"]).await.unwrap();
    let told = explain(&near, "k").await;
    assert_eq!(
        (told.state, told.source),
        (EntryState::Invalidated, ReadSource::Local)
    );
    let alone = Cache::builder(larder::NullStore::new()).local(local);
    let alone = alone.build().unwrap();
    alone.set("k", "v").await.unwrap();
    let told = explain(&alone, "k").await;
    assert_eq!(
        (told.state, told.source),
        (EntryState::Present, ReadSource::Local)
    );
}
