//! Each kind of change reaches the copies of other processes.

use larder::Cache;
use larder::testing::Fault;

use super::rig::Rig;
use super::{MS, eventually, get, on_telling_stores, tiered, warm};

on_telling_stores! {
    a_set_is_heard_of
    a_bulk_write_is_heard_of
    a_delete_is_heard_of
    an_increment_is_heard_of
    a_shorter_life_is_heard_of
    an_added_tag_is_heard_of
    a_load_is_heard_of
    an_invalidation_is_heard_of
    an_invalidation_by_pattern_is_heard_of
    a_stale_mark_is_heard_of
    a_clear_is_heard_of
    a_deletion_by_pattern_is_heard_of
}

/// Returns a process that has a copy of the key with the tags `t` and `user:1`, and another one.
async fn pair(rig: &Rig) -> (Cache, Cache) {
    let (here, there) = (tiered(rig), tiered(rig));
    let set = there.set("key", "old").tags(["t", "user:1"]);
    set.ttl(3_600_000 * MS).await.unwrap();
    warm(&here, "key").await;
    warm(&there, "key").await;
    (here, there)
}

async fn becomes(cache: &Cache, wanted: Option<&str>) {
    eventually(async || get(cache, "key").await.as_deref() == wanted).await;
}

async fn a_set_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    there.set("key", "new").await.unwrap();
    assert_eq!(get(&there, "key").await.as_deref(), Some("new"));
    becomes(&here, Some("new")).await;
}

async fn a_bulk_write_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    there
        .set_many(&[("other", "x"), ("key", "new")])
        .await
        .unwrap();
    becomes(&here, Some("new")).await;
}

async fn a_delete_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    assert!(there.delete("key").await.unwrap());
    becomes(&here, None).await;
}

async fn an_increment_is_heard_of(rig: Rig) {
    let (here, there) = (tiered(&rig), tiered(&rig));
    here.set("count", &1_i64).await.unwrap();
    warm_count(&here).await;
    assert_eq!(there.increment("count", 1).await.unwrap(), 2);
    eventually(async || here.get::<i64>("count").await.unwrap() == Some(2)).await;
}

async fn warm_count(cache: &Cache) {
    eventually(async || {
        let before = super::local_hits(cache).await;
        assert_eq!(cache.get::<i64>("count").await.unwrap(), Some(1));
        super::local_hits(cache).await > before
    })
    .await;
}

async fn a_shorter_life_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    assert!(there.expire("key", 50 * MS).await.unwrap());
    becomes(&here, None).await;
}

/// The entry keeps its write id, and yet copies of it must go: they do not know the tag.
async fn an_added_tag_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    assert!(there.add_tags("key", ["late"]).await.unwrap());
    there.invalidate_tags(["late"]).await.unwrap();
    becomes(&here, None).await;
}

async fn a_load_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    // Nobody has heard of it when the load begins, or everybody has: both must do.
    there.invalidate_tags(["t"]).await.unwrap();
    let load = || async { Ok::<_, std::io::Error>("new".to_owned()) };
    let loaded = there.remember("key", load).tags(["t"]).await.unwrap();
    assert_eq!(loaded, "new");
    becomes(&here, Some("new")).await;
}

async fn an_invalidation_is_heard_of(rig: Rig) {
    for tag in ["t", "user:*"] {
        let (here, there) = pair(&rig).await;
        there.invalidate_tags([tag]).await.unwrap();
        assert_eq!(get(&there, "key").await, None);
        becomes(&here, None).await;
    }
}

async fn an_invalidation_by_pattern_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    there.invalidate_tags(["[st]"]).await.unwrap();
    assert_eq!(get(&there, "key").await, None);
    becomes(&here, None).await;
}

/// Whoever has a copy would not learn that the value wants to be refreshed.
async fn a_stale_mark_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    there.mark_stale_tags(["t"]).await.unwrap();
    eventually(async || {
        let load = || async { Ok::<_, std::io::Error>("new".to_owned()) };
        here.remember("key", load).tags(["t"]).await.unwrap() == "new"
    })
    .await;
}

async fn a_clear_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    there.clear().await.unwrap();
    becomes(&here, None).await;
}

async fn a_deletion_by_pattern_is_heard_of(rig: Rig) {
    let (here, there) = pair(&rig).await;
    assert_eq!(there.delete_matching("k*").await.unwrap(), 1);
    becomes(&here, None).await;
}

/// Whoever does not know whether a change was made has no copy afterwards, and neither has anybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_unknown_outcome_leaves_no_copy() {
    let rig = super::rig::redis().await;
    let store = larder::testing::FlakyStore::new(rig.store(), 1);
    let local = larder::Local::capacity_bytes(1 << 20).max_staleness(super::FOR_EVER);
    let builder = larder::Cache::builder(store.clone()).prefix(rig.prefix());
    let here = builder.local(local).build().unwrap();
    here.set("key", "old").tags(["t"]).await.unwrap();
    warm(&here, "key").await;
    store.next(1, Fault::LoseReply);
    here.invalidate_tags(["t"]).await.unwrap_err();
    assert_eq!(get(&here, "key").await, None);
}
