//! One loader for all processes: two caches on one store share entries and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use larder::cache::Stampede;
use larder::{Cache, ErrorKind, RememberError};
use tokio::sync::Notify;

use super::get;
use crate::rig::Rig;

type LoadError = std::io::Error;

/// A load that begins, waits to be let go, and is counted.
#[derive(Clone, Default)]
struct Slow {
    runs: Arc<AtomicU32>,
    begun: Arc<Notify>,
    go: Arc<Notify>,
}

impl Slow {
    async fn load(self, value: &str) -> Result<String, LoadError> {
        self.runs.fetch_add(1, SeqCst);
        self.begun.notify_one();
        self.go.notified().await;
        Ok(value.to_owned())
    }

    /// Starts a load in a task, and waits until it runs.
    async fn start(&self, cache: &Cache, value: &'static str) -> tokio::task::JoinHandle<String> {
        let (slow, cache) = (self.clone(), cache.clone());
        let task = tokio::spawn(async move {
            let load = move || slow.load(value);
            cache.remember("k", load).tags(["t"]).await.unwrap()
        });
        self.begun.notified().await;
        task
    }
}

/// Waits until a load of this cache waits for another process.
async fn waits(cache: &Cache) {
    while cache.stats().await.unwrap().process.waited_loads == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks for the key in a task; its loader is counted.
fn ask(cache: &Cache, runs: &Arc<AtomicU32>) -> tokio::task::JoinHandle<String> {
    let (cache, runs) = (cache.clone(), Arc::clone(runs));
    tokio::spawn(async move {
        let load = move || async move {
            runs.fetch_add(1, SeqCst);
            Ok::<_, LoadError>("own".to_owned())
        };
        cache.remember("k", load).tags(["t"]).await.unwrap()
    })
}

async fn others_wait_for_the_load_and_get_its_value(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let slow = Slow::default();
    let first = slow.start(&cache, "value").await;
    let runs = Arc::new(AtomicU32::new(0));
    let waiting: Vec<_> = (0..5).map(|_| ask(&other, &runs)).collect();
    waits(&other).await;
    slow.go.notify_one();
    for task in waiting {
        assert_eq!(task.await.unwrap(), "value");
    }
    assert_eq!(first.await.unwrap(), "value");
    assert_eq!(runs.load(SeqCst), 0);
    assert_eq!(other.stats().await.unwrap().process.loads, 0);
}

async fn who_waits_loads_when_the_load_has_failed(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, ends) = (Arc::clone(&begun), Arc::clone(&go));
    let failing = tokio::spawn(async move {
        let load = move || async move {
            told.notify_one();
            ends.notified().await;
            Err::<String, _>(LoadError::other("down"))
        };
        cache.remember("k", load).tags(["t"]).await
    });
    begun.notified().await;
    let runs = Arc::new(AtomicU32::new(0));
    let waiting = ask(&other, &runs);
    waits(&other).await;
    go.notify_one();
    assert!(failing.await.unwrap().is_err());
    assert_eq!(waiting.await.unwrap(), "own");
    assert_eq!(get(&other, "k").await.as_deref(), Some("own"));
}

async fn patience_ends(rig: Rig) {
    let cache = rig.cache();
    let slow = Slow::default();
    let first = slow.start(&cache, "value").await;
    let runs = Arc::new(AtomicU32::new(0));
    for protected in [true, false] {
        let other = rig.cache();
        let counted = Arc::clone(&runs);
        let load = move || async move {
            counted.fetch_add(1, SeqCst);
            Ok::<_, LoadError>("own".to_owned())
        };
        let asked = other.remember("k", load).tags(["t"]);
        let loaded = match protected {
            true => asked.max_wait(Duration::from_millis(50)).await,
            false => asked.unprotected().await,
        };
        assert_eq!(loaded.unwrap(), "own");
        assert_eq!(get(&other, "k").await, None, "it has no right to store");
    }
    assert_eq!(runs.load(SeqCst), 2);
    slow.go.notify_one();
    first.await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
}

async fn a_change_meanwhile_lets_who_waits_begin(rig: Rig) {
    for change in 0..3 {
        let (cache, other, third) = (rig.cache(), rig.cache(), rig.cache());
        let slow = Slow::default();
        let first = slow.start(&cache, "old").await;
        let runs = Arc::new(AtomicU32::new(0));
        let waiting = ask(&other, &runs);
        waits(&other).await;
        let expected = match change {
            0 => third.delete("k").await.map(|_| "own"),
            1 => third.invalidate_tags(["t"]).await.map(|_| "own"),
            _ => third.set("k", "set").await.map(|()| "set"),
        };
        assert_eq!(waiting.await.unwrap(), expected.unwrap(), "change {change}");
        slow.go.notify_one();
        assert_eq!(first.await.unwrap(), "old");
        assert_ne!(get(&third, "k").await.as_deref(), Some("old"));
        third.clear().await.unwrap();
    }
}

/// Whose process is gone, or was stopped for too long, loses its place.
async fn a_load_without_a_sign_of_life_is_taken_over(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let lease = Duration::from_millis(600);
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let abandoned = cache.clone();
    runtime.spawn(async move {
        let load = move || async move {
            told.notify_one();
            std::future::pending::<Result<String, LoadError>>().await
        };
        let asked = abandoned.remember("k", load).tags(["t"]).lease_ttl(lease);
        drop(asked.await);
    });
    begun.notified().await;
    // Longer than the lease: it is renewed.
    tokio::time::sleep(2 * lease).await;
    let runs = Arc::new(AtomicU32::new(0));
    let waiting = ask(&other, &runs);
    waits(&other).await;
    assert_eq!(runs.load(SeqCst), 0);
    runtime.shutdown_background();
    assert_eq!(waiting.await.unwrap(), "own");
    assert_eq!(get(&other, "k").await.as_deref(), Some("own"));
}

async fn many_wait_for_what_others_load(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let slow = Slow::default();
    let first = slow.start(&cache, "value").await;
    let many = |cache: Cache, keys: &'static [&'static str]| {
        tokio::spawn(async move {
            let load = |missing: Vec<&'static str>| async move {
                let own = missing.into_iter().map(|key| (key, format!("own {key}")));
                Ok::<_, LoadError>(own)
            };
            let loaded = cache.remember_many(keys, load).await.unwrap();
            loaded.into_iter().flatten().collect::<Vec<_>>()
        })
    };
    // Who has a load of its own waits for nobody.
    let mixed = many(rig.cache(), &["k", "l"]).await.unwrap();
    assert_eq!(mixed, ["own k", "own l"]);
    let waiting = many(other.clone(), &["l", "k", "k"]);
    waits(&other).await;
    slow.go.notify_one();
    assert_eq!(waiting.await.unwrap(), ["own l", "value", "value"]);
    first.await.unwrap();
}

async fn options_out_of_bounds_are_refused(rig: Rig) {
    let cache = rig.cache();
    let load = || async { Ok::<_, LoadError>("v".to_owned()) };
    let too_long = Duration::from_secs(90_000);
    let asked = [
        cache.remember("k", load).lease_ttl(Duration::ZERO),
        cache.remember("k", load).max_wait(too_long),
        cache.remember("k", load).retry_interval(Duration::ZERO),
    ];
    for asked in asked {
        let Err(RememberError::Cache(error)) = asked.await else {
            panic!("it was accepted")
        };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let bad = rig.builder().stampede(Stampede::new().lease_ttl(too_long));
    assert_eq!(bad.build().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

on_every_store! {
    others_wait_for_the_load_and_get_its_value
    who_waits_loads_when_the_load_has_failed
    patience_ends
    a_change_meanwhile_lets_who_waits_begin
    a_load_without_a_sign_of_life_is_taken_over
    many_wait_for_what_others_load
    options_out_of_bounds_are_refused
}
