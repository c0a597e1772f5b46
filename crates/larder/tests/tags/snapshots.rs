//! Values that are computed by hand: snapshots and versions.

use larder::{ErrorKind, MemoryStore};

use super::get;
use crate::rig::Rig;

async fn a_snapshot_stores_what_nothing_has_overtaken(rig: Rig) {
    let cache = rig.cache();
    let snapshot = cache.snapshot("k", ["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    cache.set("k", "v").snapshot(snapshot).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    // Also over a value that is there.
    let snapshot = cache.snapshot("k", ["t:b"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    cache.set("k", "w").snapshot(snapshot).await.unwrap();
    cache.invalidate_tags(["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("w"));
    cache.invalidate_tags(["t:*"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

async fn a_snapshot_refuses_what_something_has_overtaken(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    for change in 0..6 {
        for is_there in [false, true] {
            if is_there {
                cache.set("k", "before").tags(["t:a"]).await.unwrap();
            }
            let snapshot = cache.snapshot("k", ["t:a"]).await.unwrap();
            match change {
                0 => other.delete("k").await.map(drop).unwrap(),
                1 => other.clear().await.unwrap(),
                2 => other.invalidate_tags(["t:a"]).await.map(drop).unwrap(),
                3 => other.invalidate_tags(["t:*"]).await.map(drop).unwrap(),
                4 => other.set("k", "other").await.unwrap(),
                _ => drop(other.add("k", "other").await.unwrap()),
            }
            let between = get(&cache, "k").await;
            let refused = cache.set("k", "old").snapshot(snapshot).await;
            let is_untouched = change == 5 && is_there;
            assert_eq!(refused.is_ok(), is_untouched, "change {change}, {is_there}");
            if let Err(error) = refused {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert_eq!(get(&cache, "k").await, between);
            }
            cache.clear().await.unwrap();
        }
    }
}

async fn a_snapshot_that_is_dropped_stops_nobody(rig: Rig) {
    let cache = rig.cache();
    drop(cache.snapshot("k", ["t:a"]).await.unwrap());
    let load = || async { Ok::<_, std::io::Error>("loaded".to_owned()) };
    for _ in 0..2000 {
        cache.remember("k", load).tags(["t:a"]).await.unwrap();
        if get(&cache, "k").await.is_some() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("nothing is stored");
}

async fn misuse_of_snapshots_is_refused(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let taken = || async { cache.snapshot("k", ["t:a"]).await.unwrap() };
    let refusals = [
        cache.set("l", "v").snapshot(taken().await).await,
        other.set("k", "v").snapshot(taken().await).await,
        cache
            .set("k", "v")
            .tags(["t"])
            .snapshot(taken().await)
            .await,
        cache.set("k", "v").version(1).snapshot(taken().await).await,
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let no_tag = cache.snapshot("k", ["a*"]).await.unwrap_err();
    assert_eq!(no_tag.kind(), ErrorKind::InvalidArgument);
    assert_eq!(get(&cache, "k").await, None);
}

async fn the_newest_version_stays(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "2").version(2).tags(["t:a"]).await.unwrap();
    for old in [1, 2] {
        let refused = cache.set("k", "old").version(old).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(!refused.is_retryable());
    }
    assert_eq!(get(&cache, "k").await.as_deref(), Some("2"));
    cache.set("k", "3").version(3).tags(["t:a"]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("3"));
    // It is kept in the entry, and ends with it.
    cache.add_tags("k", ["t:b"]).await.unwrap();
    assert!(cache.set("k", "old").version(3).await.is_err());
    cache.invalidate_tags(["t:b"]).await.unwrap();
    cache.set("k", "1").version(1).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("1"));
}

async fn of_versions_at_once_the_newest_stays(rig: Rig) {
    let cache = rig.cache();
    let write = |version: u64| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let value = version.to_string();
            drop(cache.set("k", &value).version(version).await);
        })
    };
    for writer in (1..=16).map(write).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(get(&cache, "k").await.as_deref(), Some("16"));
}

on_every_store! {
    a_snapshot_stores_what_nothing_has_overtaken
    a_snapshot_refuses_what_something_has_overtaken
    a_snapshot_that_is_dropped_stops_nobody
    misuse_of_snapshots_is_refused
    the_newest_version_stays
    of_versions_at_once_the_newest_stays
}

#[tokio::test]
async fn a_cache_without_a_store_has_no_snapshots() {
    let local = larder::Local::capacity_bytes(1 << 20);
    let cache = larder::Cache::builder(larder::store::Null::new());
    let cache = cache.local(local).build().unwrap();
    let error = cache.snapshot("k", ["t"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = cache.set("k", "v").version(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let cache = larder::Cache::builder(MemoryStore::new()).build().unwrap();
    let untagged = cache.snapshot("k", [""; 0]).await.unwrap();
    cache.set("k", "v").snapshot(untagged).await.unwrap();
}
