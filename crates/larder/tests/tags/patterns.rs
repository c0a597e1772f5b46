//! Patterns of tags that are no subtrees.

use std::sync::Arc;

use larder::{ErrorKind, Local};
use tokio::sync::Notify;

use super::get;
use crate::rig::Rig;

async fn a_pattern_reaches_the_tags_that_match(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    for n in 0..3 {
        let tags = [format!("user:{n}:profile"), format!("team:{n}")];
        cache
            .set(format!("k{n}").as_str(), "v")
            .tags(tags)
            .await
            .unwrap();
    }
    cache.set("plain", "v").await.unwrap();
    let listed = cache.tag_keys("user:*:profile", 9).await.unwrap();
    assert_eq!(listed.len(), 3);
    let outcome = other
        .invalidate_tags(["team:[01]", "nobody:?"])
        .with_keys(9)
        .await
        .unwrap();
    assert_eq!(
        (outcome.tags[0].existed, outcome.tags[1].existed),
        (true, false)
    );
    assert_eq!(outcome.tags[0].keys.as_ref().unwrap().len(), 2);
    let left = cache.get_many::<String>(["k0", "k1", "k2"]).await.unwrap();
    assert_eq!(left, [None, None, Some("v".to_owned())]);
    cache
        .invalidate_tags(["*:profile", "unknown"])
        .await
        .unwrap();
    assert_eq!(get(&cache, "k2").await, None);
    assert_eq!(get(&cache, "plain").await.as_deref(), Some("v"));
    cache.set("k", "v").tags(["any"]).await.unwrap();
    cache.invalidate_tags(["*"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

async fn a_pattern_reaches_more_tags_than_one_page(rig: Rig) {
    let cache = rig.cache();
    let keys: Vec<_> = (0..1200).map(|n| (format!("k{n}"), n)).collect();
    for part in keys.chunks(20) {
        let tags = part.iter().map(|(_, n)| format!("tag:{n}:x"));
        cache.set_many(part).tags(tags).await.unwrap();
    }
    cache.invalidate_tags(["tag:*:x"]).await.unwrap();
    assert_eq!(cache.count("*").await.unwrap(), 0);
}

async fn a_load_that_learns_of_a_matching_tag_is_overtaken(rig: Rig) {
    let cache = rig.cache();
    let (is_loading, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, ends) = (Arc::clone(&is_loading), Arc::clone(&may_end));
    let loading = cache.clone();
    let load = tokio::spawn(async move {
        let load = loading.remember_with("k", |load| async move {
            told.notify_one();
            ends.notified().await;
            load.tag("row:1:a");
            Ok::<_, std::io::Error>("old".to_owned())
        });
        load.await.unwrap()
    });
    is_loading.notified().await;
    // The tag has never been seen by the store, and is no name of any register.
    rig.cache().invalidate_tags(["row:*:a"]).await.unwrap();
    may_end.notify_one();
    assert_eq!(load.await.unwrap(), "old");
    assert_eq!(get(&cache, "k").await, None);
}

async fn a_pattern_can_mark_stale(rig: Rig) {
    let cache = rig.builder().local(Local::capacity_bytes(1 << 20));
    let cache = cache.build().unwrap();
    cache.set("k", "old").tags(["a:1:b"]).await.unwrap();
    cache.mark_stale_tags(["a:?:b"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    let load = || async { Ok::<_, std::io::Error>("new".to_owned()) };
    cache.remember("k", load).tags(["a:1:b"]).await.unwrap();
    while get(&cache, "k").await.as_deref() != Some("new") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn bad_patterns_are_refused(rig: Rig) {
    let cache = rig.cache();
    let many_stars = "*x".repeat(17);
    for bad in ["a[", "[]", "a\\*\\", &many_stars, &"*".repeat(2000)] {
        let refused = cache.invalidate_tags([bad]).await;
        let runs_of_stars_are_one = bad.starts_with("**");
        match refused {
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}"),
            Ok(_) => assert!(runs_of_stars_are_one, "{bad}"),
        }
    }
}

on_every_store! {
    a_pattern_reaches_the_tags_that_match
    a_pattern_reaches_more_tags_than_one_page
    a_load_that_learns_of_a_matching_tag_is_overtaken
    a_pattern_can_mark_stale
    bad_patterns_are_refused
}
