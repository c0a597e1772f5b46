//! Bad values, and the end of everything.

use std::time::Duration;

use larder::cache::LoadContext;
use larder::testing::{Fault, FlakyStore};
use larder::{Cache, ErrorKind, MemoryStore, RememberError};
use serde::{Deserialize, Serialize, Serializer};

use super::{HOUR, LONG, LoadError, Runs, Slow, ask, counts, get, leave_stale, until};
use crate::rig::Rig;

/// A value whose encoding has a bug.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Broken(u32);

impl Serialize for Broken {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("the encoding has a bug")
    }
}

/// Its callers get it, nobody waits for the end of a lease, and the cache goes on.
async fn a_value_that_panics_when_encoded_is_returned(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let load = || async { Ok::<_, LoadError>(Broken(1)) };
    let asked = cache.remember("k", load).lease_ttl(LONG).ttl(HOUR);
    assert_eq!(asked.await.unwrap(), Broken(1));
    assert_eq!(counts(&cache).await.write_errors, 1);
    let runs = Runs::default();
    let asked = other.remember("k", runs.of("v")).ttl(HOUR);
    assert_eq!(asked.hard_timeout(LONG / 2).await.unwrap(), "v");
    assert_eq!(counts(&other).await.waited_loads, 0);
}

async fn a_value_over_the_limit_is_returned_and_not_stored(rig: Rig) {
    let cache = rig.cache();
    // Bytes that do not compress.
    let mut random = fastrand::Rng::with_seed(1);
    let mut big = vec![0u8; 17 << 20];
    random.fill(&mut big);
    let big: String = big.iter().map(|byte| char::from(byte & 0x7f)).collect();
    let (length, value) = (big.len(), big.clone());
    let load = move || async move { Ok::<_, LoadError>(value) };
    let loaded = cache.remember("k", load).ttl(HOUR).await.unwrap();
    assert_eq!(loaded.len(), length);
    assert_eq!(counts(&cache).await.write_errors, 1);
    assert_eq!(get(&cache, "k").await, None);
    let load = move |keys: Vec<&'static str>| async move {
        let value = |key| {
            (
                key,
                if key == "big" {
                    big.clone()
                } else {
                    "v".to_owned()
                },
            )
        };
        Ok::<_, LoadError>(keys.into_iter().map(value).collect::<Vec<_>>())
    };
    let many = cache.remember_many(&["big", "small"], load).await.unwrap();
    let many: Vec<usize> = many.into_iter().flatten().map(|it| it.len()).collect();
    assert_eq!(many, [length, 1]);
    assert_eq!(get(&cache, "big").await, None);
    assert_eq!(get(&cache, "small").await.as_deref(), Some("v"));
    assert_eq!(counts(&cache).await.write_errors, 2);
}

/// C14, C16: a runtime that ends while it loads ends for its callers, too, and those with a value in hand get it.
async fn a_load_whose_runtime_ends_is_an_error_or_the_stale_value(rig: Rig) {
    for is_stale in [true, false] {
        let cache = rig.cache();
        cache.delete("k").await.unwrap();
        if is_stale {
            leave_stale(&cache).await;
        }
        let slow = Slow::new();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime_of(runtime);
        let (load, loading) = (slow.clone(), cache.clone());
        // The load runs in the other runtime, the caller in this one.
        let started = runtime.spawn(async move {
            let asked = loading.remember("k", move || load.load("never"));
            drop(asked.ttl(HOUR).stale_for(HOUR).await);
        });
        slow.begun.notified().await;
        let runs = Runs::default();
        let asking = cache.clone();
        let asked = tokio::spawn(async move {
            let asked = asking.remember("k", runs.of("new")).ttl(HOUR);
            asked.stale_for(HOUR).detailed().await
        });
        if !is_stale {
            until(async || counts(&cache).await.joined_loads == 1).await;
        }
        runtime.shutdown_background();
        drop(started);
        match asked.await.unwrap() {
            Ok(served) => assert!(is_stale && served.is_stale),
            Err(RememberError::Cache(error)) => {
                assert!(!is_stale);
                assert_eq!(error.kind(), ErrorKind::Load);
                assert!(error.is_retryable());
            }
            Err(RememberError::Load(error)) => panic!("{error}"),
        }
    }
}

fn runtime_of(mut builder: tokio::runtime::Builder) -> tokio::runtime::Runtime {
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// What is under way is waited for, and nothing is begun in the background any more.
async fn closing_waits_for_loads_and_begins_none(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let slow = Slow::new();
    let first = slow.start(&cache, "new").await;
    let refused = cache.close(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout);
    assert!(refused.message().contains('1'), "{refused}");
    let closing = cache.clone();
    let closing = tokio::spawn(async move { closing.close(LONG).await });
    slow.end();
    closing.await.unwrap().unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
    assert_eq!(first.await.unwrap().value, "new");
    // Values in hand are returned, and what is missing is loaded.
    cache.delete("k").await.unwrap();
    leave_stale(&cache).await;
    let runs = Runs::default();
    assert!(ask(&cache, runs.of("new")).await.is_stale);
    assert_eq!(runs.count(), 0);
    cache.delete("k").await.unwrap();
    assert_eq!(ask(&cache, runs.of("new")).await.value, "new");
}

on_every_store! {
    a_value_that_panics_when_encoded_is_returned
    a_value_over_the_limit_is_returned_and_not_stored
    a_load_whose_runtime_ends_is_an_error_or_the_stale_value
    closing_waits_for_loads_and_begins_none
}

/// Refreshes that hang do not pile up: the values that are there are served on.
#[tokio::test]
async fn refreshes_in_the_background_are_bounded() {
    const REFRESHES: u64 = 1000;
    let cache = Cache::builder(MemoryStore::new()).build().unwrap();
    let ask = async |key: String, is_first: bool| {
        let load = move |_: LoadContext| async move {
            if !is_first {
                std::future::pending::<()>().await;
            }
            Ok::<_, LoadError>("v".to_owned())
        };
        let asked = cache.remember_with(key, load).ttl(HOUR);
        asked.refresh_after(1e-7).await.unwrap()
    };
    let keys = || (0..REFRESHES + 20).map(|n| format!("k{n}"));
    for key in keys() {
        ask(key, true).await;
    }
    until(async || {
        for key in keys() {
            assert_eq!(ask(key, false).await, "v");
        }
        counts(&cache).await.skipped_refreshes > 0
    })
    .await;
    until(async || counts(&cache).await.refreshes == REFRESHES).await;
    let refused = cache.close(Duration::from_millis(10)).await.unwrap_err();
    assert!(refused.message().contains("1000"), "{refused}");
}

/// A mark that could not be taken back at once is gone when the cache is closed.
#[tokio::test]
async fn closing_waits_until_marks_are_taken_back() {
    let store = FlakyStore::new(MemoryStore::new(), 1);
    let cache = Cache::builder(store.clone()).build().unwrap();
    let load = move || async move {
        store.next(1, Fault::Refuse);
        Ok::<_, LoadError>("v".to_owned())
    };
    assert_eq!(cache.remember("k", load).await.unwrap(), "v");
    cache.close(LONG).await.unwrap();
    let runs = Runs::default();
    let asked = cache.remember("k", runs.of("next")).ttl(HOUR);
    assert_eq!(asked.unprotected().await.unwrap(), "next");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("next"));
}
