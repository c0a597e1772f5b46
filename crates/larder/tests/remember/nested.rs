//! Loaders that ask for other keys.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use larder::cache::Stampede;
use larder::{Cache, ErrorKind, MemoryStore, RememberError};
use tokio::sync::Barrier;
use tokio::time::timeout;

use super::{HOUR, LONG, LoadError, SHORT, get, is_over, until};
use crate::rig::Rig;

/// Loads `key` by a loader that asks for the next one of the way.
fn along(cache: Cache, way: &'static [&'static str]) -> BoxFuture<'static, Result<String, Error>> {
    Box::pin(async move {
        let (key, rest) = way.split_first().unwrap();
        let inner = cache.clone();
        let load = move || async move {
            match rest.is_empty() {
                true => Ok("end".to_owned()),
                false => along(inner, rest).await,
            }
        };
        let loaded = cache.remember(*key, load).ttl(HOUR).await;
        loaded.map_err(RememberError::into_user)
    })
}

#[derive(Debug)]
struct Error(larder::Error);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<larder::Error> for Error {
    fn from(error: larder::Error) -> Self {
        Self(error)
    }
}

fn assert_circle(error: &larder::Error, way: &str) {
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(!error.is_retryable());
    assert!(error.message().contains(way), "{error}");
}

/// C9, C17: a loader that needs its own value is told so at once, and leaves no trace.
async fn a_load_that_waits_for_itself_is_refused(rig: Rig) {
    let cache = rig.cache();
    let cases: [(&'static [&'static str], &str); 3] = [
        (&["a", "a"], "\"a\" -> \"a\""),
        (&["a", "b", "a"], "\"b\" -> \"a\" -> \"b\""),
        (
            &["z", "a", "b", "c", "a"],
            "\"c\" -> \"a\" -> \"b\" -> \"c\"",
        ),
    ];
    for (way, told) in cases {
        let failed = timeout(LONG, along(cache.clone(), way)).await.unwrap();
        assert_circle(&failed.unwrap_err().0, told);
        let loaded = along(cache.clone(), &["a"]).await.unwrap();
        assert_eq!(loaded, "end", "nothing is left of it");
        cache.clear().await.unwrap();
    }
}

async fn a_load_within_loads_is_no_circle(rig: Rig) {
    let cache = rig.cache();
    let loaded = along(cache.clone(), &["a", "b", "c", "d"]).await.unwrap();
    assert_eq!(loaded, "end");
    for key in ["a", "b", "c", "d"] {
        assert_eq!(get(&cache, key).await.as_deref(), Some("end"));
    }
    // The way is not a circle where the value is there.
    let loaded = along(cache.clone(), &["x", "a", "x"]).await;
    assert_eq!(loaded.unwrap(), "end");
}

/// C9: two loads that began apart, and each of which needs the other.
async fn two_loads_that_wait_for_each_other_are_refused(rig: Rig) {
    let cache = rig.cache();
    let both = Arc::new(Barrier::new(2));
    let start = |own: &'static str, other: &'static str| {
        let (cache, both) = (cache.clone(), Arc::clone(&both));
        tokio::spawn(async move {
            let inner = cache.clone();
            let load = move || async move {
                both.wait().await;
                let load = || async { Ok::<_, Error>("alone".to_owned()) };
                let loaded = inner.remember(other, load).ttl(HOUR).await;
                loaded.map_err(RememberError::into_user)
            };
            cache.remember(own, load).ttl(HOUR).await
        })
    };
    let (first, second) = (start("a", "b"), start("b", "a"));
    let ended = async { (first.await.unwrap(), second.await.unwrap()) };
    let (first, second) = timeout(LONG, ended).await.unwrap();
    let failed = [first, second].into_iter().filter_map(Result::err);
    let failed: Vec<_> = failed.map(RememberError::into_user).collect();
    assert!(!failed.is_empty());
    let told = |error: &Error| error.0.message().contains("waits for itself");
    assert!(failed.iter().all(told), "{failed:?}");
}

async fn a_bulk_load_that_asks_for_one_of_its_keys_is_refused(rig: Rig) {
    let cache = rig.cache();
    let inner = cache.clone();
    let load = move |keys: Vec<&'static str>| async move {
        let load = || async { Ok::<_, Error>("v".to_owned()) };
        let one = inner.remember("b", load).ttl(HOUR).await;
        let one = one.map_err(RememberError::into_user)?;
        Ok::<_, Error>(keys.into_iter().map(move |key| (key, one.clone())))
    };
    let asked = cache.remember_many(&["a", "b"], load);
    let failed = timeout(LONG, asked.into_future()).await.unwrap();
    let Err(RememberError::Load(error)) = failed else {
        panic!("it got values")
    };
    assert_circle(&error.0, "\"b\" -> \"b\"");
}

/// What is there is served though its loader goes round in circles.
async fn a_stale_value_is_served_in_place_of_a_circle(rig: Rig) {
    let cache = rig.cache();
    let load = || async { Ok::<_, LoadError>("old".to_owned()) };
    let asked = cache.remember("k", load).ttl(SHORT).stale_for(HOUR);
    asked.await.unwrap();
    is_over(&cache).await;
    let inner = cache.clone();
    let load = move || async move {
        let load = || async { Ok::<_, Error>("unused".to_owned()) };
        let own = inner.remember("k", load).ttl(HOUR).stale_for(HOUR);
        own.await.map_err(RememberError::into_user)
    };
    let asked = cache.remember("k", load).ttl(HOUR).stale_for(HOUR);
    let served = timeout(LONG, asked.into_future()).await.unwrap();
    assert_eq!(served.unwrap(), "old");
}

on_every_store! {
    a_load_that_waits_for_itself_is_refused
    a_load_within_loads_is_no_circle
    two_loads_that_wait_for_each_other_are_refused
    a_bulk_load_that_asks_for_one_of_its_keys_is_refused
    a_stale_value_is_served_in_place_of_a_circle
}

/// Also where another process loads, so that nothing will be stored.
#[tokio::test]
async fn a_load_without_a_right_that_waits_for_itself_is_refused() {
    let store = MemoryStore::new();
    let hasty = Stampede::new().max_wait(SHORT);
    let cache = Cache::builder(store.clone()).stampede(hasty);
    let cache = cache.build().unwrap();
    let other = Cache::builder(store).build().unwrap();
    let slow = super::Slow::new();
    let first = slow.start(&other, "v").await;
    let failed = timeout(LONG, along(cache, &["k", "k"])).await.unwrap();
    assert_circle(&failed.unwrap_err().0, "\"k\" -> \"k\"");
    slow.end();
    assert_eq!(first.await.unwrap().value, "v");
}

/// Whoever gives up on a nested load waits for it no more.
#[tokio::test]
async fn an_abandoned_wait_is_forgotten() {
    let cache = super::Cache::builder(larder::MemoryStore::new());
    let cache = cache.build().unwrap();
    let slow = super::Slow::new();
    let _first = slow.start(&cache, "v").await;
    let inner = cache.clone();
    let load = move || async move {
        let load = || async { Ok::<_, LoadError>("own".to_owned()) };
        let asked = inner.remember("k", load).ttl(HOUR);
        let waited = timeout(Duration::from_millis(20), asked.into_future()).await;
        assert!(waited.is_err());
        Ok::<_, LoadError>("without".to_owned())
    };
    let loaded = cache.remember("l", load).ttl(HOUR).await.unwrap();
    assert_eq!(loaded, "without");
    slow.end();
    until(async || get(&cache, "k").await.is_some()).await;
}
