//! What stays, and for how long.

use larder::Local;
use tokio::time::sleep;

use super::rig::Rig;
use super::{MS, get, local_hits, on_telling_stores, tiered, warm, with_staleness};

on_telling_stores! {
    copies_outlive_the_bound_on_staleness
    other_tags_leave_copies_alone
    own_writes_are_copied_and_stay
    values_that_are_marked_stale_are_never_copied
    figures_tell_how_far_behind_the_tier_is
}

async fn copies_outlive_the_bound_on_staleness(rig: Rig) {
    let cache = with_staleness(&rig, 2_000 * MS);
    cache.set("key", "value").await.unwrap();
    warm(&cache, "key").await;
    let before = cache.stats().await.unwrap().process;
    for _ in 0..8 {
        sleep(500 * MS).await;
        assert_eq!(get(&cache, "key").await.as_deref(), Some("value"));
    }
    let after = cache.stats().await.unwrap().process;
    // A busy machine may miss a reading of the journal; then the store answers once.
    assert!(
        after.local_hits >= before.local_hits + 4,
        "{before:?} {after:?}"
    );
}

async fn other_tags_leave_copies_alone(rig: Rig) {
    let (here, there) = (tiered(&rig), tiered(&rig));
    here.set("key", "value").tags(["mine"]).await.unwrap();
    here.set("untagged", "value").await.unwrap();
    there.set("sign", "old").tags(["other"]).await.unwrap();
    for key in ["key", "untagged", "sign"] {
        warm(&here, key).await;
    }
    here.invalidate_tags(["nobody's"]).await.unwrap();
    there.invalidate_tags(["other", "more:*"]).await.unwrap();
    there.delete("absent").await.unwrap();
    // When the sign is gone, the news has come.
    super::eventually(async || get(&here, "sign").await.is_none()).await;
    let before = local_hits(&here).await;
    for key in ["key", "untagged"] {
        assert_eq!(get(&here, key).await.as_deref(), Some("value"), "{key}");
    }
    assert_eq!(local_hits(&here).await, before + 2);
}

async fn own_writes_are_copied_and_stay(rig: Rig) {
    let (here, there) = (tiered(&rig), tiered(&rig));
    there.set("sign", "old").await.unwrap();
    warm(&here, "sign").await;
    here.set("key", "value").tags(["t"]).await.unwrap();
    here.add("added", "value").await.unwrap();
    there.delete("sign").await.unwrap();
    super::eventually(async || get(&here, "sign").await.is_none()).await;
    let before = local_hits(&here).await;
    for key in ["key", "added"] {
        assert_eq!(get(&here, key).await.as_deref(), Some("value"), "{key}");
    }
    assert_eq!(local_hits(&here).await, before + 2);
}

async fn values_that_are_marked_stale_are_never_copied(rig: Rig) {
    let (here, there) = (tiered(&rig), tiered(&rig));
    there.set("key", "value").tags(["t"]).await.unwrap();
    warm(&here, "key").await;
    here.mark_stale_tags(["t"]).await.unwrap();
    let before = local_hits(&here).await;
    for _ in 0..5 {
        assert_eq!(get(&here, "key").await.as_deref(), Some("value"));
        sleep(50 * MS).await;
    }
    assert_eq!(local_hits(&here).await, before);
}

async fn figures_tell_how_far_behind_the_tier_is(rig: Rig) {
    let cache = tiered(&rig);
    let figures = async || cache.stats().await.unwrap().local.unwrap();
    assert_eq!(figures().await.lag_ms, None);
    assert_eq!(get(&cache, "absent").await, None);
    assert!(figures().await.lag_ms.unwrap() < 30_000);
    assert_eq!(figures().await.gaps, 1, "nothing was known at first");
}

/// Where nobody tells, a copy has a short life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_memcached_end_at_the_bound() {
    let rig = super::rig::memcached().await;
    let here = with_staleness(&rig, 300 * MS);
    let there = rig.cache();
    there.set("key", "old").await.unwrap();
    warm(&here, "key").await;
    there.set("key", "new").await.unwrap();
    sleep(400 * MS).await;
    assert_eq!(get(&here, "key").await.as_deref(), Some("new"));
    assert_eq!(here.stats().await.unwrap().local.unwrap().lag_ms, None);
}

/// [C26] A copy of an entry that was read lives as one of an entry that was written: a part of the entry's whole life, and
/// never longer than it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c26_copies_never_outlive_their_entries() {
    let rig = super::rig::redis().await;
    let here = tiered(&rig);
    let there = rig.cache();
    there.set("key", "value").ttl(700 * MS).await.unwrap();
    sleep(300 * MS).await;
    get(&here, "key").await;
    sleep(500 * MS).await;
    assert_eq!(get(&here, "key").await, None);
}

/// [C27] Without write-through, one's own copy goes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c27_writes_past_the_tier_remove_the_copy() {
    let rig = super::rig::redis().await;
    let local = Local::capacity_bytes(1 << 20).write_through(false);
    let here = rig.builder().local(local).build().unwrap();
    here.set("key", "old").await.unwrap();
    warm(&here, "key").await;
    here.set("key", "new").await.unwrap();
    assert_eq!(get(&here, "key").await.as_deref(), Some("new"));
}
