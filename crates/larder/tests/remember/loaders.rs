//! What loaders see and decide.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use larder::cache::LoadContext;
use larder::{Cache, TimeLeft};

use super::{HOUR, LoadError, Runs, SHORT, counts, get, is_over, leave_stale, until};
use crate::rig::Rig;

/// Returns the previous value as a source does that says that nothing has changed.
async fn unchanged(cx: LoadContext) -> io::Result<String> {
    let previous = cx.previous::<String>();
    let previous = previous.ok_or_else(|| LoadError::other("nothing to compare with"))?;
    cx.not_modified();
    Ok(Arc::unwrap_or_clone(previous))
}

async fn a_loader_sees_the_value_that_it_replaces(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let load = |cx: LoadContext| async move {
        assert!(cx.previous::<u32>().is_none(), "it is of another type");
        let previous = cx.previous::<String>().unwrap();
        Ok::<_, LoadError>(format!("after {previous}"))
    };
    let asked = cache.remember_with("k", load).ttl(HOUR).stale_for(HOUR);
    assert_eq!(asked.await.unwrap(), "after old");
    // There is none in hand where none is asked for.
    let failed = cache.remember_with("l", unchanged).ttl(HOUR);
    assert!(failed.stale_for(HOUR).await.is_err());
    cache.delete("k").await.unwrap();
    leave_stale(&cache).await;
    assert!(cache.remember_with("k", unchanged).ttl(HOUR).await.is_err());
}

async fn what_is_not_modified_lives_on_as_it_is(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let asked = cache.remember_with("k", unchanged).ttl(HOUR);
    let served = asked.stale_for(HOUR).detailed().await.unwrap();
    assert_eq!((served.value.as_str(), served.is_stale), ("old", false));
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    let left = cache.ttl("k").await.unwrap();
    assert!(matches!(left, TimeLeft::Remaining(left) if left > HOUR / 2));
    let inspected = cache.inspect("k").await.unwrap().unwrap();
    assert_eq!(inspected.ttl_ms, Some(20), "it is the same entry");
    assert_eq!(counts(&cache).await.sets, 2);
}

/// Whatever the loader says: a tag, a grace or a mark that is new needs a new entry.
async fn what_is_not_modified_is_stored_where_that_makes_a_difference(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let asked = cache.remember_with("k", unchanged).ttl(HOUR).tags(["t"]);
    assert_eq!(asked.stale_for(HOUR).await.unwrap(), "old");
    cache.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    leave_stale(&cache).await;
    let asked = cache.remember_with("k", unchanged).ttl(HOUR);
    assert_eq!(asked.stale_for(2 * HOUR).await.unwrap(), "old");
    let inspected = cache.inspect("k").await.unwrap().unwrap();
    assert_eq!(inspected.stale_for_ms, Some(7_200_000));

    cache.set("k", "marked").tags(["t"]).await.unwrap();
    cache.mark_stale_tags(["t"]).await.unwrap();
    let ask = async || {
        let asked = cache.remember_with("k", unchanged).tags(["t"]);
        asked.detailed().await.unwrap()
    };
    assert!(ask().await.is_stale);
    until(async || !ask().await.is_stale).await;
}

/// An invalidation while the source is asked counts for what it confirms, too.
async fn what_was_overtaken_is_not_renewed(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    for change in 0..3 {
        let load = || async { Ok::<_, LoadError>("old".to_owned()) };
        let asked = cache.remember("k", load).tags(["t"]).stale_for(HOUR);
        asked.ttl(SHORT).await.unwrap();
        is_over(&cache).await;
        let by = other.clone();
        let load = move |cx: LoadContext| async move {
            match change {
                0 => drop(by.invalidate_tags(["t"]).await.unwrap()),
                1 => drop(by.delete("k").await.unwrap()),
                _ => by.set("k", "set").await.unwrap(),
            }
            unchanged(cx).await
        };
        let asked = cache.remember_with("k", load).tags(["t"]).ttl(HOUR);
        assert_eq!(asked.stale_for(HOUR).await.unwrap(), "old");
        let left = (change == 2).then(|| "set".to_owned());
        assert_eq!(get(&cache, "k").await, left, "{change}");
        cache.delete("k").await.unwrap();
    }
}

/// C39: that there is nothing is known as well.
async fn nothing_is_remembered_too(rig: Rig) {
    let cache = rig.cache();
    let runs = Runs::default();
    for _ in 0..3 {
        let runs = runs.clone();
        let load = move |cx: LoadContext| async move {
            runs.of("")().await?;
            cx.ttl(Duration::from_secs(600));
            Ok::<Option<String>, LoadError>(None)
        };
        let asked = cache.remember_with("k", load).ttl(HOUR);
        assert_eq!(asked.await.unwrap(), None);
    }
    assert_eq!(runs.count(), 1);
    let left = cache.ttl("k").await.unwrap();
    assert!(matches!(left, TimeLeft::Remaining(left) if left <= HOUR / 6));
}

on_every_store! {
    a_loader_sees_the_value_that_it_replaces
    what_is_not_modified_lives_on_as_it_is
    what_is_not_modified_is_stored_where_that_makes_a_difference
    what_was_overtaken_is_not_renewed
    nothing_is_remembered_too
}

/// A loader may drop its context, or keep it.
#[tokio::test]
async fn a_context_outlives_its_load() {
    let cache = Cache::builder(larder::MemoryStore::new()).build().unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    let load = move |cx: LoadContext| async move {
        drop(send.send(cx.clone()));
        Ok::<_, LoadError>("v".to_owned())
    };
    assert_eq!(cache.remember_with("k", load).await.unwrap(), "v");
    let cx = receive.await.unwrap();
    cx.skip();
    assert!(cx.previous::<String>().is_none());
    assert!(cache.has("k").await.unwrap());
}

/// A TTL under that of the entry needs a new one: else the point of its refresh would be over from the beginning.
#[tokio::test]
async fn what_is_not_modified_and_shorter_lived_is_stored() {
    let cache = Cache::builder(larder::MemoryStore::new()).build().unwrap();
    let minute = Duration::from_secs(60);
    let old = || async { Ok::<_, LoadError>("old".to_owned()) };
    cache.remember("k", old).ttl(HOUR).await.unwrap();
    until(async || {
        let load = move |cx: LoadContext| async move {
            cx.ttl(minute);
            unchanged(cx).await
        };
        let asked = cache.remember_with("k", load).ttl(HOUR);
        assert_eq!(asked.refresh_after(1e-7).await.unwrap(), "old");
        let inspected = cache.inspect("k").await.unwrap().unwrap();
        inspected.ttl_ms == Some(60_000)
    })
    .await;
}
