//! Listing with tags, where a store can list.

use super::get;
use super::rig::Rig;

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

async fn an_invalidation_lists_what_it_takes(rig: Rig) {
    let cache = rig.cache();
    cache.set("a", "1").tags(["users", "x"]).await.unwrap();
    cache.set("b", "2").tags(["users"]).await.unwrap();
    cache.set("c", "3").tags(["posts"]).await.unwrap();
    let outcome = cache.invalidate_tags(["users", "x"]).with_keys(10).await;
    let mut keys = outcome.unwrap().tags[0].keys.clone().unwrap();
    keys.sort();
    assert_eq!(keys, ["a".into(), "b".into()]);
    assert_eq!(get(&cache, "b").await, None);
    assert_eq!(cache.count("*").await.unwrap(), 1);
}

on_listing_stores! {
    keys_and_names_can_be_listed
    an_invalidation_lists_what_it_takes
}
