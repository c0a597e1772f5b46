//! Setting, reading, adding and listing with tags.

use larder::Local;

use super::get;
use super::rig::Rig;

async fn any_of_the_tags_invalidates_and_others_do_not(rig: Rig) {
    let cache = rig.cache();
    let write = async || {
        cache.set("a", "1").tags(["users", "x"]).await.unwrap();
        cache.set("b", "2").tags(["users"]).await.unwrap();
        cache.set("c", "3").tags(["posts"]).await.unwrap();
        cache.set("d", "4").await.unwrap();
    };
    write().await;
    let outcome = cache.invalidate_tags(["x", "never"]).await.unwrap();
    let existed: Vec<_> = outcome.tags.iter().map(|tag| tag.existed).collect();
    assert_eq!(existed, [true, false]);
    assert_eq!(get(&cache, "a").await, None);
    assert!(get(&cache, "b").await.is_some());
    write().await;
    let outcome = cache.invalidate_tags(["users", "x"]).with_keys(10).await;
    let mut keys = outcome.unwrap().tags[0].keys.clone().unwrap();
    keys.sort();
    assert_eq!(keys, ["a".into(), "b".into()]);
    assert_eq!(get(&cache, "b").await, None);
    assert!(get(&cache, "c").await.is_some() && get(&cache, "d").await.is_some());
}

async fn a_subtree_invalidates_what_is_below_it(rig: Rig) {
    let cache = rig.cache();
    cache
        .set("photo", "1")
        .tags(["user:1:photo"])
        .await
        .unwrap();
    cache.set("user", "2").tags(["user:1"]).await.unwrap();
    cache
        .set("other", "3")
        .tags(["user:12:photo"])
        .await
        .unwrap();
    cache.invalidate_tags(["user:1:*"]).await.unwrap();
    assert_eq!(get(&cache, "photo").await, None);
    assert!(get(&cache, "user").await.is_some());
    assert!(get(&cache, "other").await.is_some());
    cache.invalidate_tags(["user:*"]).await.unwrap();
    assert_eq!(get(&cache, "user").await, None);
    assert_eq!(get(&cache, "other").await, None);
}

/// C8, and seed 000: reading needs no tags, in whatever order they were written.
async fn a_view_shares_the_keys_of_its_cache(rig: Rig) {
    let cache = rig.cache();
    let view = cache.tagged(["b", "a"]);
    assert!(view.add("k", "v").await.unwrap());
    assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    assert_eq!(view.get::<String>("k").await.unwrap().as_deref(), Some("v"));
    cache.tagged(["a", "b"]).flush().await.unwrap();
    assert!(!view.has("k").await.unwrap());
    view.set("k", "again").await.unwrap();
    assert!(view.delete("k").await.unwrap());
    let load = || async { Ok::<_, std::io::Error>("loaded".to_owned()) };
    assert_eq!(view.remember("k", load).await.unwrap(), "loaded");
    cache.invalidate_tags(["a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

/// C10: an invalid entry is absent for whatever asks, not for `get` alone.
async fn an_invalid_entry_is_absent_for_all_operations(rig: Rig) {
    let cache = rig.cache();
    let invalid = async |key: &str| {
        cache.set(key, &5).tags(["t"]).await.unwrap();
        cache.invalidate_tags(["t"]).await.unwrap();
    };
    invalid("k").await;
    assert!(!cache.has("k").await.unwrap());
    assert!(
        !cache
            .expire("k", std::time::Duration::from_secs(9))
            .await
            .unwrap()
    );
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(cache.count("*").await.unwrap(), 0);
    assert_eq!(cache.get_many::<i64>(["k"]).await.unwrap(), [None]);
    assert_eq!(cache.increment("k", 1).await.unwrap(), 1);
    invalid("l").await;
    assert!(cache.add("l", &6).await.unwrap());
    assert_eq!(cache.get::<i64>("l").await.unwrap(), Some(6));
}

/// C10: what a key is tagged with is what it was written with last.
async fn a_later_write_replaces_the_tags(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "1").tags(["old"]).await.unwrap();
    cache.set("k", "2").tags(["new"]).await.unwrap();
    cache.invalidate_tags(["old"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("2"));
    assert_eq!(cache.key_tags("k").await.unwrap().unwrap(), ["new"]);
    cache.set("k", "3").await.unwrap();
    cache.invalidate_tags(["new"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("3"));
    assert_eq!(cache.key_tags("k").await.unwrap().unwrap(), [""; 0]);
    assert_eq!(cache.key_tags("none").await.unwrap(), None);
}

async fn tags_can_be_added_to_a_live_entry(rig: Rig) {
    let cache = rig.cache();
    assert!(!cache.add_tags("k", ["vip"]).await.unwrap());
    cache.set("k", "v").tags(["users"]).await.unwrap();
    assert!(cache.add_tags("k", ["vip", "users"]).await.unwrap());
    let mut tags = cache.key_tags("k").await.unwrap().unwrap();
    tags.sort();
    assert_eq!(tags, ["users", "vip"]);
    assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    cache.invalidate_tags(["vip"]).await.unwrap();
    assert!(!cache.add_tags("k", ["late"]).await.unwrap());
    assert_eq!(get(&cache, "k").await, None);
}

async fn tags_that_are_added_at_once_are_all_there(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").await.unwrap();
    let add = |n: usize| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.add_tags("k", [format!("t{n}")]).await.unwrap() })
    };
    for task in (0..16).map(add).collect::<Vec<_>>() {
        assert!(task.await.unwrap());
    }
    assert_eq!(cache.key_tags("k").await.unwrap().unwrap().len(), 16);
}

async fn keys_and_names_can_be_listed(rig: Rig) {
    let cache = rig.cache();
    for n in 0..20 {
        let tags = [format!("n:{}", n % 3), "all".to_owned()];
        cache.set(format!("k{n}"), &n).tags(tags).await.unwrap();
    }
    assert_eq!(cache.tag_keys("n:1", 100).await.unwrap().len(), 7);
    assert_eq!(cache.tag_keys("all", 5).await.unwrap().len(), 5);
    assert_eq!(
        cache.tag_names().await.unwrap(),
        ["all", "n:0", "n:1", "n:2"]
    );
    cache.invalidate_tags(["n:1"]).await.unwrap();
    assert_eq!(cache.tag_keys("n:1", 100).await.unwrap(), []);
    assert_eq!(cache.tag_keys("all", 100).await.unwrap().len(), 13);
}

/// C6, C27: the local tier forgets what was invalidated.
async fn the_local_tier_is_told(rig: Rig) {
    let local = Local::capacity_bytes(1 << 20);
    let cache = rig.builder().local(local).build();
    let cache = cache.unwrap();
    cache.set("k", "v").tags(["t"]).await.unwrap();
    assert!(get(&cache, "k").await.is_some());
    cache.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    let load = || async { Ok::<_, std::io::Error>("loaded".to_owned()) };
    cache.remember("k", load).tags(["t"]).await.unwrap();
    assert!(get(&cache, "k").await.is_some());
    cache.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

async fn many_entries_are_tagged_at_once(rig: Rig) {
    let cache = rig.cache();
    let pairs: Vec<_> = (0..100).map(|n| (format!("k{n}"), n)).collect();
    cache.set_many(&pairs).tags(["bulk"]).await.unwrap();
    assert_eq!(cache.count("k*").await.unwrap(), 100);
    cache.invalidate_tags(["bulk"]).await.unwrap();
    assert_eq!(cache.count("k*").await.unwrap(), 0);
}

async fn fences_and_tags_go_together(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "5").fence(5).tags(["t"]).await.unwrap();
    assert!(cache.set("k", "4").fence(4).tags(["t"]).await.is_err());
    cache.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

on_every_store! {
    any_of_the_tags_invalidates_and_others_do_not
    a_subtree_invalidates_what_is_below_it
    a_view_shares_the_keys_of_its_cache
    an_invalid_entry_is_absent_for_all_operations
    a_later_write_replaces_the_tags
    tags_can_be_added_to_a_live_entry
    keys_and_names_can_be_listed
    tags_that_are_added_at_once_are_all_there
    the_local_tier_is_told
    many_entries_are_tagged_at_once
    fences_and_tags_go_together
}
