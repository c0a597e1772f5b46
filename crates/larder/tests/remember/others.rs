//! One caller replaces a value for all processes: two caches on one store share entries and nothing else.

use std::sync::Arc;
use std::time::Duration;

use larder::Cache;
use larder::testing::{Fault, FlakyStore};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{HOUR, LoadError, Runs, Slow, ask, counts, get, is_over, leave_stale, until};
use crate::rig::Rig;

/// A value that is due for all processes is loaded by one.
async fn others_get_the_stale_value_while_one_loads(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.other().await);
    let other = match rig.is_shared() {
        true => other,
        false => rig.cache(),
    };
    leave_stale(&cache).await;
    is_over(&other).await;
    let slow = Slow::new();
    let first = slow.start(&cache, "new").await;
    let runs = Runs::default();
    for _ in 0..5 {
        let served = ask(&other, runs.of("other")).await;
        assert_eq!((served.value.as_str(), served.is_stale), ("old", true));
    }
    slow.end();
    assert_eq!(first.await.unwrap().value, "new");
    assert_eq!(get(&other, "k").await.as_deref(), Some("new"));
    assert_eq!(runs.count(), 0);
}

/// Who has nothing in hand waits for the load of another process, also where that replaces an entry that is of no use.
async fn who_has_no_value_waits_for_the_load_of_another_process(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    for case in ["stale", "schema", "type"] {
        cache.delete("k").await.unwrap();
        let (mut ours, mut theirs) = (cache.clone(), other.clone());
        match case {
            "stale" => leave_stale(&cache).await,
            "schema" => {
                cache.set("k", "old").await.unwrap();
                (ours, theirs) = (cache.schema(2), other.schema(2));
            }
            _ => cache.set("k", &vec![1]).await.unwrap(),
        }
        let slow = Slow::new();
        let first = slow.start(&ours, "new").await;
        let runs = Runs::default();
        let waited = counts(&other).await.waited_loads;
        let waiting = wait(&theirs, &runs);
        until(async || counts(&other).await.waited_loads > waited).await;
        slow.end();
        assert_eq!(waiting.await.unwrap(), "new", "{case}");
        assert_eq!(first.await.unwrap().value, "new");
        assert_eq!(runs.count(), 0, "{case}");
    }
}

/// Asks for `k` in a task, with no stale value allowed.
fn wait(cache: &Cache, runs: &Runs) -> JoinHandle<String> {
    let (cache, load) = (cache.clone(), runs.of("own"));
    tokio::spawn(async move { cache.remember("k", load).ttl(HOUR).await.unwrap() })
}

async fn a_failed_load_lets_another_process_try(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    leave_stale(&cache).await;
    let runs = Runs::default();
    assert!(ask(&cache, runs.failing()).await.is_stale);
    let served = ask(&other, runs.of("new")).await;
    assert_eq!((served.value.as_str(), served.is_stale), ("new", false));
    assert_eq!(runs.count(), 2);
}

/// C14, C16, C39: a process that dies while it loads is replaced by one other.
async fn a_process_that_dies_while_it_loads_is_replaced(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    leave_stale(&cache).await;
    let lease = Duration::from_millis(600);
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(async move {
        let load = move || async move {
            told.notify_one();
            std::future::pending::<Result<String, LoadError>>().await
        };
        let asked = cache.remember("k", load).ttl(HOUR).stale_for(HOUR);
        drop(asked.lease_ttl(lease).await);
    });
    begun.notified().await;
    // Longer than the lease: it is renewed.
    tokio::time::sleep(2 * lease).await;
    let runs = Runs::default();
    assert!(ask(&other, runs.of("new")).await.is_stale);
    assert_eq!(runs.count(), 0);
    runtime.shutdown_background();
    until(async || !ask(&other, runs.of("new")).await.is_stale).await;
    assert_eq!(runs.count(), 1);
}

/// Many processes find a value due at the same time: one load.
async fn many_find_it_stale_at_once(rig: Rig) {
    let cache = rig.cache();
    leave_stale(&cache).await;
    let slow = Slow::new();
    let asking = (0..8).map(|_| {
        let (cache, slow) = (rig.cache(), slow.clone());
        tokio::spawn(async move { ask(&cache, move || slow.load("new")).await })
    });
    let asking: Vec<_> = asking.collect();
    slow.begun.notified().await;
    until(async || asking.iter().filter(|task| task.is_finished()).count() == 7).await;
    slow.end();
    let mut fresh = 0;
    for task in asking {
        fresh += u32::from(!task.await.unwrap().is_stale);
    }
    assert_eq!((fresh, slow.runs.count()), (1, 1));
}

on_every_store! {
    others_get_the_stale_value_while_one_loads
    who_has_no_value_waits_for_the_load_of_another_process
    a_failed_load_lets_another_process_try
    a_process_that_dies_while_it_loads_is_replaced
    many_find_it_stale_at_once
}

/// A store that fails when it is asked for the lease keeps nobody from loading.
#[tokio::test]
async fn a_store_that_fails_lets_loads_go_on() {
    // It is asked to read, for the lease, to begin, to store, and to end the lease.
    for (calls, fault) in (1..=5).flat_map(|n| [(n, Fault::Refuse), (n, Fault::LoseReply)]) {
        let store = FlakyStore::new(larder::MemoryStore::new(), 1);
        let cache = Cache::builder(store.clone()).build().unwrap();
        leave_stale(&cache).await;
        let runs = Runs::default();
        store.next(calls, fault);
        assert_eq!(ask(&cache, runs.of("new")).await.value, "new", "{calls}");
        store.heal();
        until(async || {
            ask(&cache, runs.of("newer")).await;
            get(&cache, "k").await.is_some()
        })
        .await;
    }
}
