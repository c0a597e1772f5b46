//! What overtakes loads, joiners and invalidations by ways that are easily overlooked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use larder::cache::Stampede;
use larder::store::Fallback;
use larder::testing::{Fault, FlakyStore};
use larder::{Cache, ErrorKind, Local, MemoryStore};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{cache, get};

type LoadError = std::io::Error;
const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Two caches on one store: two processes.
fn pair() -> (Cache, Cache) {
    let store = MemoryStore::new();
    let cache = |store| Cache::builder(store).build().unwrap();
    (cache(store.clone()), cache(store))
}

fn flaky() -> (Cache, FlakyStore) {
    let store = FlakyStore::new(MemoryStore::new(), 1);
    (Cache::builder(store.clone()).build().unwrap(), store)
}

fn value(
    value: &'static str,
) -> impl FnOnce() -> std::future::Ready<Result<String, LoadError>> + Send + 'static {
    move || std::future::ready(Ok(value.to_owned()))
}

/// Loads for so long in a task.
fn load_slowly(cache: &Cache, key: &'static str, time: Duration) {
    let cache = cache.clone();
    tokio::spawn(async move {
        let load = move || async move {
            sleep(time).await;
            Ok::<_, LoadError>(key.to_owned())
        };
        drop(cache.remember(key, load).await);
    });
}

#[tokio::test]
async fn a_snapshot_over_an_entry_without_its_tags_is_refused() {
    for local in [false, true] {
        let builder = Cache::builder(MemoryStore::new());
        let cache = match local {
            true => builder.local(Local::capacity_bytes(1 << 20)).build(),
            false => builder.build(),
        };
        let cache = cache.unwrap();
        cache.set("page", "before").await.unwrap();
        let snapshot = cache.snapshot("page", ["users"]).await.unwrap();
        cache.invalidate_tags(["users"]).await.unwrap();
        let refused = cache.set("page", "overtaken").snapshot(snapshot).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        assert_ne!(get(&cache, "page").await.as_deref(), Some("overtaken"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_over_an_entry_without_its_tags_is_overtaken() {
    let (cache, other) = pair();
    cache.set("k", "schema 0").await.unwrap();
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, ends, first) = (Arc::clone(&begun), Arc::clone(&end), cache.schema(1));
    let first = tokio::spawn(async move {
        let load = move || async move {
            told.notify_one();
            ends.notified().await;
            Ok::<_, LoadError>("old".to_owned())
        };
        first.remember("k", load).tags(["t"]).await.unwrap()
    });
    begun.notified().await;
    other.invalidate_tags(["t"]).await.unwrap();
    let second = cache.schema(1);
    let second = second.remember("k", value("new")).tags(["t"]).await;
    assert_eq!(second.unwrap(), "new");
    end.notify_one();
    assert_eq!(first.await.unwrap(), "old");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_many_and_goes_away_fails_nobody() {
    let store = MemoryStore::new();
    let rarely = Stampede::new().retry_interval(Duration::from_secs(10));
    let cache = Cache::builder(store.clone()).stampede(rarely);
    let cache = cache.build().unwrap();
    load_slowly(&Cache::builder(store).build().unwrap(), "y", PATIENCE);
    sleep(20 * MS).await;
    let waiting = cache.clone();
    tokio::spawn(async move { waiting.remember("y", value("y")).await });
    sleep(9000 * MS).await;
    let bulk = cache.clone();
    let bulk = tokio::spawn(async move {
        let load = |keys: Vec<&'static str>| async move {
            Ok::<_, LoadError>(keys.into_iter().map(|key| (key, key.to_owned())))
        };
        let asked = async { bulk.remember_many(&["x", "y"], load).await.is_ok() };
        timeout(300 * MS, asked).await.is_ok()
    });
    sleep(50 * MS).await;
    assert_eq!(cache.remember("x", value("x")).await.unwrap(), "x");
    assert!(!bulk.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn unprotected_callers_of_one_process_share_a_load() {
    let alone = Stampede::new().enabled(false);
    let cache = Cache::builder(MemoryStore::new()).stampede(alone);
    let cache = cache.build().unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        tasks.push(tokio::spawn(async move {
            let load = move || async move {
                loads.fetch_add(1, SeqCst);
                sleep(400 * MS).await;
                Ok::<_, LoadError>("v".to_owned())
            };
            cache.remember("k", load).await.unwrap()
        }));
        sleep(10 * MS).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(loads.load(SeqCst), 1);
}

/// What is loaded beside the load of another process has no place in the store, so nobody could tell that it is overtaken.
#[tokio::test(start_paused = true)]
async fn unprotected_callers_get_nothing_older_than_their_calls() {
    let store = MemoryStore::new();
    let alone = Stampede::new().enabled(false);
    let cache = Cache::builder(store.clone()).stampede(alone);
    let cache = cache.build().unwrap();
    let other = Cache::builder(store).build().unwrap();
    load_slowly(&other, "k", PATIENCE);
    sleep(20 * MS).await;
    let asking = cache.clone();
    let first = tokio::spawn(async move {
        let load = || async {
            sleep(400 * MS).await;
            Ok::<_, LoadError>("old".to_owned())
        };
        asking.remember("k", load).await.unwrap()
    });
    sleep(10 * MS).await;
    other.set("k", "changed").await.unwrap();
    assert!(other.delete("k").await.unwrap());
    assert_eq!(cache.remember("k", value("new")).await.unwrap(), "new");
    assert_eq!(first.await.unwrap(), "old");
}

/// Nobody who asks after a mark by another process takes what was loaded before for fresh.
#[tokio::test(start_paused = true)]
async fn who_asks_after_a_mark_does_not_join_what_it_makes_stale() {
    let (cache, other) = pair();
    let asking = cache.clone();
    let first = tokio::spawn(async move {
        let load = || async {
            sleep(200 * MS).await;
            Ok::<_, LoadError>("old".to_owned())
        };
        asking.remember("k", load).tags(["t"]).await.unwrap()
    });
    sleep(20 * MS).await;
    other.mark_stale_tags(["t"]).await.unwrap();
    let asked = cache.remember("k", value("new")).tags(["t"]);
    let served = asked.detailed().await.unwrap();
    assert_eq!((served.value.as_str(), served.is_stale), ("new", false));
    assert_eq!(first.await.unwrap(), "old");
}

/// As in `select!`, or in a buffered stream whose consumer is busy.
#[tokio::test(start_paused = true)]
async fn a_caller_who_is_not_polled_stops_nobody() {
    let (cache, other) = pair();
    load_slowly(&other, "k", 700 * MS);
    sleep(20 * MS).await;
    let waiting = cache.clone();
    tokio::spawn(async move { waiting.remember("k", value("own")).await });
    sleep(500 * MS).await;
    let mut idle = Box::pin(async { cache.remember("k", value("idle")).await });
    assert!(timeout(5 * MS, &mut idle).await.is_err());
    let next = async { cache.remember("k", value("next")).await };
    let next = timeout(PATIENCE, next).await.expect("it is not stopped");
    assert_eq!(next.unwrap(), "k");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_found_is_not_withheld() {
    let (cache, other) = pair();
    load_slowly(&other, "x", 200 * MS);
    load_slowly(&other, "y", 10 * PATIENCE);
    sleep(50 * MS).await;
    let bulk = cache.clone();
    tokio::spawn(async move {
        let load = |keys: Vec<&'static str>| async move {
            Ok::<_, LoadError>(keys.into_iter().map(|key| (key, key.to_owned())))
        };
        bulk.remember_many(&["x", "y"], load).await.map(drop)
    });
    sleep(1000 * MS).await;
    let found = async { cache.remember("x", value("x")).await };
    let found = timeout(Duration::from_secs(2), found).await;
    assert_eq!(found.expect("it is in the store").unwrap(), "x");
}

/// What a bulk load has waited for and found is no longer its concern, be it deleted at once.
#[tokio::test(start_paused = true)]
async fn a_value_that_was_found_is_not_begun_again() {
    let (cache, other) = pair();
    load_slowly(&other, "k", 200 * MS);
    sleep(20 * MS).await;
    let load = |keys: Vec<&'static str>| async move {
        Ok::<_, LoadError>(keys.into_iter().map(|key| (key, "own".to_owned())))
    };
    let found = cache.remember_many(&["k"], load).await.unwrap();
    assert_eq!(found, [Some("k".to_owned())]);
    assert!(other.delete("k").await.unwrap());
    sleep(1000 * MS).await;
    let next = async { other.remember("k", value("next")).await };
    let next = timeout(5000 * MS, next).await;
    assert_eq!(next.expect("nobody loads").unwrap(), "next");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_no_mark_behind() {
    let short = Duration::from_secs(9);
    // Of the beginning (after that of the read), and of the end.
    let (cache, store) = flaky();
    store.next(2, Fault::LoseReply);
    cache.remember("k", value("v")).await.unwrap();
    let next = async { cache.remember("k", value("w")).await };
    assert!(timeout(short, next).await.is_ok());
    let (cache, store) = flaky();
    let end = store.clone();
    let load = move || async move {
        end.next(1, Fault::Refuse);
        Ok::<_, LoadError>("v".to_owned())
    };
    cache.remember("k", load).await.unwrap();
    let next = async { cache.remember("k", value("w")).await };
    assert!(timeout(short, next).await.is_ok());
    let (cache, store) = flaky();
    store.next(1, Fault::LoseReply);
    assert!(cache.snapshot("k", [""; 0]).await.is_err());
    let next = async { cache.remember("k", value("w")).await };
    assert!(timeout(short, next).await.is_ok());
}

#[test]
fn what_settles_survives_its_runtime() {
    let (cache, store) = flaky();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    store.chance(1.0, Fault::Refuse);
    let failed = runtime().block_on(async { cache.invalidate_tags(["t"]).await });
    let failed = failed.unwrap_err();
    runtime().block_on(async {
        let second = cache.invalidate_tags(["u"]).await.unwrap_err();
        store.heal();
        for error in [failed, second] {
            let settled = timeout(PATIENCE, error.await_settled()).await;
            settled.expect("it settles").unwrap();
        }
    });
}

#[tokio::test]
async fn what_cannot_be_listed_is_invalidated_later() {
    let (cache, store) = flaky();
    cache.set("k", "v").tags(["t"]).await.unwrap();
    store.next(1, Fault::Refuse);
    let error = cache.invalidate_tags(["t"]).with_keys(5).await.unwrap_err();
    let settled = timeout(PATIENCE, error.await_settled()).await;
    settled.expect("it settles").unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

#[tokio::test]
async fn tags_that_are_added_leave_a_stale_mark() {
    let cache = cache();
    cache
        .set("k", "old")
        .tags(["user:1:profile"])
        .await
        .unwrap();
    cache.mark_stale_tags(["user:1:*"]).await.unwrap();
    assert!(cache.add_tags("k", ["user:1:photo"]).await.unwrap());
    let load = cache.remember("k", value("new")).tags(["user:1:profile"]);
    assert_eq!(load.await.unwrap(), "old");
    let fresh = async {
        while get(&cache, "k").await.as_deref() != Some("new") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, fresh).await.expect("it is refreshed");
}

#[tokio::test]
async fn too_many_learnt_tags_are_forgotten() {
    let cache = cache();
    let load = |tags: usize| {
        let load = move |cx: larder::cache::LoadContext| async move {
            for n in 0..tags {
                cx.tag(format!("a{n}:b:c"));
            }
            Ok::<_, LoadError>("v".to_owned())
        };
        cache.remember_with("k", load)
    };
    load(24).await.unwrap();
    assert!(!cache.has("k").await.unwrap(), "72 registers are too many");
    load(1).await.unwrap();
    load(1).await.unwrap();
    assert!(cache.has("k").await.unwrap());
}

#[tokio::test]
async fn as_many_registers_as_fit_an_entry_can_be_loaded() {
    let cache = cache();
    let tags: Vec<_> = (0..16).map(|n| format!("a{n}:b:c:d")).collect();
    let load = |_| async { Ok::<_, LoadError>("v".to_owned()) };
    cache.remember_with("k", load).tags(&tags).await.unwrap();
    assert!(cache.has("k").await.unwrap());
}

#[tokio::test]
async fn a_loader_that_names_no_tags_is_served_by_a_standby() {
    let store = FlakyStore::new(MemoryStore::new(), 1);
    let standby = Arc::new(MemoryStore::new());
    let fallback = Fallback::new(Arc::new(store.clone()), standby).unwrap();
    let cache = Cache::builder(fallback).build().unwrap();
    store.chance(1.0, Fault::Refuse);
    let loads = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let loads = Arc::clone(&loads);
        let load = move |_| async move {
            loads.fetch_add(1, SeqCst);
            Ok::<_, LoadError>("v".to_owned())
        };
        cache.remember_with("k", load).await.unwrap();
    }
    assert_eq!(loads.load(SeqCst), 1);
}
