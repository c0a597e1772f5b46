//! How others serve what was invalidated, lose what was not, or stand still: each comes out right here. The numbers are
//! those of the collection of such failures; those that are not here are cited where their scenario is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use larder::store::{File, Memory, Sqlite};
use larder::testing::{Fault, FlakyStore};
use larder::{Cache, ErrorKind, Local, ManualClock, TimeLeft};
use tokio::time::sleep;

use super::get;
use super::loads::{Slow, load_new};
use super::rig::Rig;

type Never = std::convert::Infallible;

/// C2, C14, C16: the load of a caller who is gone goes on for all others, and is overtaken all the same.
async fn a_load_whose_caller_is_gone_is_shared_and_overtaken(rig: Rig) {
    let cache = rig.cache();
    let slow = Slow::default();
    let first = slow.start(&cache).await;
    let joins = |cache: Cache| tokio::spawn(async move { load_new(&cache).await });
    let others: Vec<_> = (0..20).map(|_| joins(cache.clone())).collect();
    while cache.stats().await.unwrap().process.joined_loads < 20 {
        sleep(Duration::from_millis(1)).await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    cache.invalidate_tags(["t"]).await.unwrap();
    slow.end.notify_one();
    for other in others {
        assert_eq!(other.await.unwrap(), "old");
    }
    assert_eq!(get(&cache, "k").await, None);
}

/// C5: that a tag is used again makes nothing invalid.
async fn using_a_tag_again_invalidates_nothing(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    cache.invalidate_tags(["t"]).await.unwrap();
    cache.set("first", "v").tags(["t", "t:a"]).await.unwrap();
    for n in 0..20 {
        other.set(format!("k{n}"), &n).tags(["t"]).await.unwrap();
        let load = move || async move { Ok::<_, Never>(n) };
        let tags = [format!("t:a:{n}")];
        other
            .remember(format!("l{n}"), load)
            .tags(tags)
            .await
            .unwrap();
    }
    other.invalidate_tags(["t:a:7", "other"]).await.unwrap();
    assert!(get(&cache, "first").await.is_some());
    assert_eq!(cache.count("*").await.unwrap(), 40);
}

/// C6, C28: another process's local tier lags by no more than it may.
async fn the_local_tiers_of_others_lag_no_longer_than_they_may(rig: Rig) {
    if !rig.is_shared() {
        return;
    }
    let bound = Duration::from_millis(300);
    let local = Local::capacity_bytes(1 << 20).max_staleness(bound);
    let (cache, other) = (
        rig.builder().local(local).build().unwrap(),
        rig.other().await,
    );
    cache.set("k", "old").tags(["t"]).await.unwrap();
    assert!(get(&cache, "k").await.is_some());
    other.invalidate_tags(["t"]).await.unwrap();
    sleep(bound + Duration::from_millis(50)).await;
    assert_eq!(get(&cache, "k").await, None);
}

/// C7, C9: a process that knows a tag already, and its number, hears of each invalidation by others.
async fn whoever_knows_a_tag_hears_of_each_invalidation(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for round in 0..20 {
        cache.set("k", &round).tags(["t"]).await.unwrap();
        assert_eq!(other.get::<u32>("k").await.unwrap(), Some(round));
        assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(round));
        let invalidates = if round % 2 == 0 { &other } else { &cache };
        invalidates.invalidate_tags(["t"]).await.unwrap();
        assert_eq!(other.get::<u32>("k").await.unwrap(), None);
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    }
}

/// C8, and seed 000: a tag costs the same however often entries are written with it.
async fn bookkeeping_does_not_grow_with_writes(rig: Rig) {
    let cache = rig.cache();
    for n in 0..300 {
        cache.set("k", &n).tags(["a:b", "c"]).await.unwrap();
    }
    assert_eq!(cache.tag_names().await.unwrap(), ["a:b", "c"]);
    assert_eq!(cache.tag_keys("c", 100).await.unwrap(), ["k".into()]);
    assert_eq!(cache.key_tags("k").await.unwrap().unwrap().len(), 2);
}

/// C8: a tag is of all keys, in whatever part of a cluster they are.
async fn a_tag_spans_all_parts_of_a_store(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for n in 0..100 {
        let key = format!("{{{n}}}k{n}");
        let load = move || async move { Ok::<_, Never>(n) };
        match n % 3 {
            0 => cache.set(&key, &n).tags(["t", "a:b"]).await.unwrap(),
            1 => assert!(cache.add(&key, &n).tags(["t"]).await.unwrap()),
            _ => drop(cache.remember(&key, load).tags(["t"]).await.unwrap()),
        }
    }
    assert_eq!(other.tag_keys("t", 1000).await.unwrap().len(), 100);
    other.invalidate_tags(["a:*"]).await.unwrap();
    assert_eq!(cache.count("*").await.unwrap(), 66);
    other.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(cache.count("*").await.unwrap(), 0);
}

/// C9, C17: loads that load others wait for none but these.
async fn loads_within_loads_do_not_wait_for_each_other(rig: Rig) {
    let cache = rig.cache();
    let spawn = |n: u32| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let inner = cache.clone();
            let load = move || async move {
                let load = move || async move { Ok::<_, Never>(n % 5) };
                let part = inner.remember(format!("part{}", n % 5), load);
                part.tags(["parts"]).await
            };
            let whole = cache.remember(format!("whole{n}"), load);
            whole.tags(["wholes"]).await.unwrap()
        })
    };
    let tasks: Vec<_> = (0..100).map(spawn).collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap() as usize, n % 5);
    }
    assert_eq!(cache.count("*").await.unwrap(), 105);
}

/// C11: how long one entry lives says nothing of the others of its tag.
async fn a_short_lived_sibling_changes_nothing_for_others(rig: Rig) {
    let cache = rig.cache();
    cache.set("long", "v").tags(["t"]).await.unwrap();
    let short = Duration::from_millis(50);
    cache
        .set("short", "v")
        .tags(["t"])
        .ttl(short)
        .await
        .unwrap();
    sleep(2 * short).await;
    assert_eq!(get(&cache, "short").await, None);
    assert!(get(&cache, "long").await.is_some());
    assert!(cache.invalidate_tags(["t"]).await.unwrap().tags[0].existed);
    assert_eq!(get(&cache, "long").await, None);
}

/// C11: whoever gives up on an invalidation can make it again, and misses nothing.
async fn an_abandoned_invalidation_can_be_made_again(rig: Rig) {
    let cache = rig.cache();
    for delay_us in [0, 20, 50, 100, 200, 500, 1000] {
        for n in 0..20 {
            cache
                .set(format!("k{n}"), &n)
                .tags(["t", "u"])
                .await
                .unwrap();
        }
        let limit = Duration::from_micros(delay_us);
        let names = ["t", "u", "v"];
        let _ = tokio::time::timeout(limit, cache.invalidate_tags(names).into_future()).await;
        cache.invalidate_tags(["t"]).await.unwrap();
        assert_eq!(cache.count("*").await.unwrap(), 0);
    }
}

/// C11, C15, C21: a read that is under way puts nothing into the local tier that was invalidated meanwhile.
async fn a_read_under_way_leaves_nothing_old_in_the_local_tier(rig: Rig) {
    let local = Local::capacity_bytes(1 << 20);
    let cache = rig.builder().local(local).build().unwrap();
    let writer = rig.other().await;
    for n in 0..100 {
        writer.set("k", &n).tags(["t"]).await.unwrap();
        let read = || cache.get::<u32>("k");
        let wait = Duration::from_micros(fastrand::u64(..300));
        let invalidate = async {
            sleep(wait).await;
            cache.invalidate_tags(["t"]).await
        };
        let (first, second, invalidated) = tokio::join!(read(), read(), invalidate);
        assert!(first.is_ok() && second.is_ok() && invalidated.is_ok());
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "round {n}");
    }
}

/// C12, C13: a load that is under way is no entry, for whatever asks.
async fn a_load_under_way_is_no_entry(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    let slow = Slow::default();
    let load = slow.start(&cache).await;
    for asks in [&cache, &other] {
        assert!(!asks.has("k").await.unwrap());
        assert_eq!(get(asks, "k").await, None);
        assert_eq!(asks.count("*").await.unwrap(), 0);
        assert_eq!(asks.ttl("k").await.unwrap(), TimeLeft::Missing);
        assert_eq!(asks.key_tags("k").await.unwrap(), None);
        assert_eq!(asks.tag_keys("t", 10).await.unwrap(), []);
        assert!(!asks.add_tags("k", ["u"]).await.unwrap());
    }
    assert!(other.add("k", "added").await.unwrap());
    slow.end.notify_one();
    assert_eq!(load.await.unwrap(), "old");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("added"));
}

/// C17: a load that fails brings back nothing that was invalidated.
async fn a_failed_load_brings_nothing_old_back(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "old").tags(["t"]).await.unwrap();
    cache.invalidate_tags(["t"]).await.unwrap();
    let load = || async { Err::<String, _>(std::io::Error::other("down")) };
    for _ in 0..2 {
        assert!(cache.remember("k", load).tags(["t"]).await.is_err());
        assert_eq!(get(&cache, "k").await, None);
    }
}

/// C18, C36: tags are the store's, not of the process that wrote them.
async fn tags_are_known_to_those_who_never_wrote_them(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").tags(["a", "b:c"]).await.unwrap();
    let other = rig.other().await;
    other.set("l", "v").tags(["a"]).await.unwrap();
    let third = rig.other().await;
    assert_eq!(third.tag_names().await.unwrap(), ["a", "b:c"]);
    assert_eq!(third.tag_keys("a", 10).await.unwrap().len(), 2);
    third.invalidate_tags(["b:*"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    assert!(get(&cache, "l").await.is_some());
    third.invalidate_tags(["a"]).await.unwrap();
    assert_eq!(get(&other, "l").await, None);
}

/// C23: tags, a local tier and loads that are shared go together.
async fn tags_tiers_and_loads_go_together(rig: Rig) {
    let local = Local::capacity_bytes(1 << 20);
    let cache = rig.builder().local(local).build().unwrap();
    let loads = Arc::new(AtomicU32::new(0));
    for round in 1..=3 {
        let remember = || {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = move || async move {
                    sleep(Duration::from_millis(5)).await;
                    Ok::<_, Never>(loads.fetch_add(1, SeqCst) + 1)
                };
                cache.remember("k", load).tags(["t"]).await.unwrap()
            })
        };
        let tasks: Vec<_> = (0..50).map(|_| remember()).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), round);
        }
        cache.invalidate_tags(["t"]).await.unwrap();
    }
}

/// C31: neither tags nor times of an earlier write are left.
async fn a_later_write_without_a_ttl_keeps_its_own_tags(rig: Rig) {
    let cache = rig.cache();
    let short = Duration::from_millis(100);
    cache.set("k", "1").tags(["old"]).ttl(short).await.unwrap();
    cache.set("k", "2").tags(["new"]).await.unwrap();
    sleep(2 * short).await;
    assert_eq!(cache.tag_keys("old", 10).await.unwrap(), []);
    cache.invalidate_tags(["old"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("2"));
    cache.invalidate_tags(["new"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

/// C37: a tag that is added while it is invalidated is reached by the next invalidation.
async fn a_tag_added_during_an_invalidation_is_reached_by_the_next(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for round in 0..30 {
        cache.set("k", &round).tags(["a"]).await.unwrap();
        let add = cache.add_tags("k", ["t"]);
        let (added, _) = tokio::join!(add, async { other.invalidate_tags(["t"]).await.unwrap() });
        assert!(added.unwrap(), "nobody else writes the key");
        other.invalidate_tags(["t"]).await.unwrap();
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "round {round}");
    }
}

/// C41: clearing one cache leaves the tags and entries of others in the store.
async fn clear_leaves_the_tags_of_other_caches(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.builder().name("other").build().unwrap());
    cache.set("k", "v").tags(["t"]).await.unwrap();
    other.set("k", "v").tags(["t"]).await.unwrap();
    cache.clear().await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    assert_eq!(cache.tag_names().await.unwrap(), [""; 0]);
    assert!(get(&other, "k").await.is_some());
    assert_eq!(other.tag_names().await.unwrap(), ["t"]);
}

/// Seed 000: what looks like nothing is a value.
async fn false_and_nothing_are_values(rig: Rig) {
    let cache = rig.cache();
    let loads = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let counter = Arc::clone(&loads);
        let load = move || async move {
            counter.fetch_add(1, SeqCst);
            Ok::<_, Never>((false, None::<u8>))
        };
        let value = cache.remember("k", load).tags(["t"]).await.unwrap();
        assert_eq!(value, (false, None));
    }
    assert_eq!(loads.load(SeqCst), 1);
    cache.set("f", &false).tags(["t"]).await.unwrap();
    assert_eq!(cache.get::<bool>("f").await.unwrap(), Some(false));
}

/// C4: a host whose clock is wrong invalidates as any other does, and is invalidated.
async fn wrong_clocks_do_not_matter(open: impl AsyncFn(&ManualClock) -> Cache) {
    let quarter = Duration::from_secs(15 * 60);
    let (early, late) = (ManualClock::new(), ManualClock::new());
    late.advance(quarter);
    let (early, late) = (open(&early).await, open(&late).await);
    for (writes, invalidates) in [(&early, &late), (&late, &early)] {
        writes.set("k", "old").tags(["t"]).await.unwrap();
        assert!(get(invalidates, "k").await.is_some());
        invalidates.invalidate_tags(["t"]).await.unwrap();
        assert_eq!(get(writes, "k").await, None);
        writes.set("k", "new").tags(["t"]).await.unwrap();
        assert_eq!(get(invalidates, "k").await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn wrong_clocks_do_not_matter_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    wrong_clocks_do_not_matter(async |clock| {
        let store = Sqlite::builder(dir.path().join("cache.db")).clock(clock.clock());
        Cache::builder(store.build().unwrap()).build().unwrap()
    })
    .await;
}

#[tokio::test]
async fn wrong_clocks_do_not_matter_on_files() {
    let dir = tempfile::tempdir().unwrap();
    wrong_clocks_do_not_matter(async |clock| {
        let store = File::builder(dir.path()).clock(clock.clock());
        Cache::builder(store.build().unwrap()).build().unwrap()
    })
    .await;
}

/// C16: an invalidation that the store has not made, or has perhaps made, is an error.
#[tokio::test]
async fn an_invalidation_that_fails_is_an_error() {
    let store = FlakyStore::new(Memory::new(), 7);
    let cache = Cache::builder(store.clone()).build().unwrap();
    for (fault, kind) in [
        (Fault::Refuse, ErrorKind::Unavailable),
        (Fault::LoseReply, ErrorKind::Timeout),
    ] {
        cache.set("k", "v").tags(["t"]).await.unwrap();
        store.next(1, fault);
        let error = cache.invalidate_tags(["t"]).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        cache.invalidate_tags(["t"]).await.unwrap();
        assert_eq!(get(&cache, "k").await, None);
    }
}

on_every_store! {
    a_load_whose_caller_is_gone_is_shared_and_overtaken
    the_local_tiers_of_others_lag_no_longer_than_they_may
    whoever_knows_a_tag_hears_of_each_invalidation
    a_short_lived_sibling_changes_nothing_for_others
    a_read_under_way_leaves_nothing_old_in_the_local_tier
    a_failed_load_brings_nothing_old_back
    tags_tiers_and_loads_go_together
    a_tag_added_during_an_invalidation_is_reached_by_the_next
    false_and_nothing_are_values
}

mod listed {
    use super::*;

    on_listing_stores! {
        using_a_tag_again_invalidates_nothing
        bookkeeping_does_not_grow_with_writes
        a_tag_spans_all_parts_of_a_store
        loads_within_loads_do_not_wait_for_each_other
        an_abandoned_invalidation_can_be_made_again
        a_load_under_way_is_no_entry
        tags_are_known_to_those_who_never_wrote_them
        a_later_write_without_a_ttl_keeps_its_own_tags
        clear_leaves_the_tags_of_other_caches
    }
}
