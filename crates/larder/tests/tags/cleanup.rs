//! Cleaning up behind tags.

use std::sync::Arc;
use std::time::Duration;

use larder::cache::CleanupReport;
use larder::store::{Register, Store};
use larder::{Error, ErrorKind};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::get;
use super::rig::Rig;

const HOUR: Duration = Duration::from_secs(3600);

/// What nothing carries goes, what is carried stays, and nothing else is touched.
async fn what_nothing_carries_goes(rig: Rig) {
    let cache = rig.cache();
    cache
        .set("lives", "v")
        .tags(["used", "user:1:x"])
        .await
        .unwrap();
    cache.set("dies", "v").tags(["news", "used"]).await.unwrap();
    cache
        .set("gone", "v")
        .tags(["idle", "user:2:x"])
        .await
        .unwrap();
    cache
        .set("short", "v")
        .tags(["short"])
        .ttl(HOUR)
        .await
        .unwrap();
    cache.set("plain", "v").await.unwrap();
    cache.delete("gone").await.unwrap();
    cache.delete("short").await.unwrap();
    cache.invalidate_tags(["news"]).await.unwrap();
    let names = ["idle", "user:2:*", "user:2:x"];
    let would = cache.cleanup_tags().dry_run().await.unwrap();
    assert!(would.keys <= 1, "{would:?}");
    assert_eq!(
        (would.tags, would.names),
        (3, names.map(str::to_owned).into())
    );
    let report = cache.cleanup_tags().await.unwrap();
    // A store may have come first.
    assert!(report.keys <= 1, "{report:?}");
    assert_eq!(
        (report.tags, report.names),
        (3, names.map(str::to_owned).into())
    );
    for key in ["lives", "plain"] {
        assert!(get(&cache, key).await.is_some(), "{key}");
    }
    let after = cache.cleanup_tags().dry_run().await.unwrap();
    assert_eq!(after, CleanupReport::default());
    // Tags that got their end are as good as new.
    cache.set("again", "v").tags(["idle"]).await.unwrap();
    assert!(get(&cache, "again").await.is_some());
    cache.invalidate_tags(["idle"]).await.unwrap();
    assert_eq!(get(&cache, "again").await, None);
}

/// An empty cache, one without tags and one that was cleared have nothing to clean up.
async fn there_may_be_nothing_to_do(rig: Rig) {
    let cache = rig.cache();
    cache.set("plain", "v").await.unwrap();
    assert_eq!(
        cache.cleanup_tags().await.unwrap(),
        CleanupReport::default()
    );
    cache.set("k", "v").tags(["t"]).await.unwrap();
    cache.clear().await.unwrap();
    let would = cache.cleanup_tags().dry_run().await.unwrap();
    assert_eq!(would.tags, 0);
}

/// Of many that start it together one does the work, and the others hear why they did not.
async fn one_of_many_does_it(rig: Rig) {
    let first = rig.cache();
    first.set("k", "v").tags(["idle"]).await.unwrap();
    first.delete("k").await.unwrap();
    let start = Arc::new(Barrier::new(8));
    let mut starters = JoinSet::new();
    for _ in 0..8 {
        let (cache, start) = (rig.cache(), Arc::clone(&start));
        starters.spawn(async move {
            start.wait().await;
            cache.cleanup_tags().await
        });
    }
    let outcomes: Vec<Result<CleanupReport, Error>> = starters.join_all().await;
    let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    assert_eq!(done[0].as_ref().unwrap().tags, 1);
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.message().contains("cleanup"), "{error}");
    }
    loop {
        let late = first.cleanup_tags().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Conflict);
        if late.message().contains("may begin in") {
            break;
        }
        // Another of them still gives the lock back that it took to look.
        assert!(late.message().contains("is under way"), "{late}");
        tokio::task::yield_now().await;
    }
}

/// Who comes while another works hears who that is.
async fn the_holder_is_named(rig: Rig) {
    let cache = rig.cache();
    cache.set("k", "v").tags(["t"]).await.unwrap();
    cache.cleanup_tags().await.unwrap();
    let name = format!("cleanup_tags:{}", rig.namespace());
    let guard = cache.lock(&*name).acquire().await.unwrap();
    let refused = rig.cache().cleanup_tags().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(
        refused.message().contains(guard.owner().as_str()),
        "{refused}"
    );
    guard.release().await.unwrap();
}

/// A lock that is lost ends the work, and says so.
async fn a_lost_lock_ends_it(rig: Rig) {
    let cache = rig.cache();
    for n in 0..3000 {
        cache.set(format!("k{n}"), "v").tags(["t"]).await.unwrap();
    }
    let name = format!("cleanup_tags:{}", rig.namespace());
    let locks = cache.locks().clone();
    let thief = tokio::spawn(async move {
        while !locks.force_release(&*name).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        locks.shutdown().await.unwrap();
    });
    // It may be done before the loss is known.
    if let Err(lost) = cache.cleanup_tags().await {
        assert_eq!(lost.kind(), ErrorKind::LockLost, "{lost}");
        assert!(lost.message().contains("tags got an end"), "{lost}");
    }
    thief.abort();
    assert!(get(&cache, "k0").await.is_some());
}

async fn ages_have_bounds(rig: Rig) {
    let cache = rig.cache();
    for age in [Duration::ZERO, HOUR - Duration::from_millis(1), HOUR * 9000] {
        let refused = cache.cleanup_tags().max_tag_age(age).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    cache.cleanup_tags().max_tag_age(HOUR).await.unwrap();
}

/// What is written, loaded and deleted while cleanups run stays as its writers left it.
async fn cleanups_harm_nothing(rig: Rig) {
    let cleaner = rig.cache();
    let store = rig.store();
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let cache = rig.cache();
        writers.spawn(async move {
            for round in 0..60 {
                let key = format!("{writer}:{}", round % 5);
                let tags = [format!("t{}", round % 7), format!("w{writer}:x")];
                match round % 4 {
                    0 => drop(cache.delete(&key).await.unwrap()),
                    1 => {
                        let load =
                            move || async move { Ok::<_, std::io::Error>(round.to_string()) };
                        cache.delete(&key).await.unwrap();
                        let loaded = cache.remember(&key, load).tags(&tags).await.unwrap();
                        assert_eq!(loaded, round.to_string());
                        assert_eq!(get(&cache, &key).await, Some(loaded));
                    }
                    _ => {
                        cache
                            .set(&key, &round.to_string())
                            .tags(&tags)
                            .await
                            .unwrap();
                        assert_eq!(get(&cache, &key).await, Some(round.to_string()));
                    }
                }
            }
        });
    }
    // The first steps of a cleanup, again and again: whole ones may not follow each other so soon.
    for number in 0.. {
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
        if writers.is_empty() {
            break;
        }
        let would = cleaner.cleanup_tags().dry_run().await.unwrap();
        let register = |name: &String| Register::exact(name.strip_suffix(":*").unwrap_or(name));
        let idle: Vec<_> = would.names.iter().flat_map(register).collect();
        let suspect = larder::store::Retirement::Suspect(number);
        store
            .retire(&rig.namespace(), &idle, suspect)
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    let report = cleaner.cleanup_tags().await.unwrap();
    assert!(report.tags <= 30, "{report:?}");
    let mut stored = cleaner.keys("*").collect_all().await.unwrap();
    stored.sort();
    for key in stored {
        assert!(cleaner.has(&key).await.unwrap(), "{key}");
    }
}

on_listing_stores! {
    what_nothing_carries_goes
    there_may_be_nothing_to_do
    one_of_many_does_it
    the_holder_is_named
    a_lost_lock_ends_it
    ages_have_bounds
    cleanups_harm_nothing
}

#[tokio::test]
async fn it_needs_tags() {
    let cache = larder::Cache::builder(larder::MemoryStore::new()).tagging(false);
    let refused = cache.build().unwrap().cleanup_tags().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    let cache = larder::Cache::builder(larder::NullStore::new())
        .build()
        .unwrap();
    let refused = cache.cleanup_tags().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
