//! A store in the hands of a test: values that say whose they are, and how long the slowest call took.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::store::{Condition, Expiry, Write};
use larder::testing::{body, sealed};
use larder::{Error, Namespace, RedisStore, Result, Store};
use xtask::servers::private::{RedisCluster, RedisServer};

/// What a busy machine may add to any bound.
pub(super) const SLACK: Duration = Duration::from_millis(500);

/// A store, one namespace, and what happened so far.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) store: RedisStore,
    pub(super) namespace: Namespace,
    slowest_us: AtomicU64,
    calls: AtomicU64,
    failures: AtomicU64,
    latest_failure: Mutex<Option<(Instant, Error)>>,
}

impl Rig {
    pub(super) fn new(store: RedisStore) -> Self {
        Self {
            store,
            namespace: Namespace::new("net", "test", 1),
            slowest_us: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            latest_failure: Mutex::default(),
        }
    }

    /// Returns a rig with figures of its own on the same store.
    pub(super) fn another(&self) -> Self {
        Self::new(self.store.clone())
    }

    /// Measures a call and remembers how it ended.
    pub(super) async fn watch<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let outcome = call.await;
        let taken = began.elapsed().as_micros();
        self.slowest_us.fetch_max(taken as u64, SeqCst);
        self.calls.fetch_add(1, SeqCst);
        if let Err(error) = &outcome {
            self.failures.fetch_add(1, SeqCst);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret"), "a password shows: {text}");
            *self.latest_failure.lock().unwrap() = Some((Instant::now(), error.clone()));
        }
        outcome
    }

    /// Returns the version stored under a key, which must be the key's own.
    pub(super) async fn get(&self, key: &str) -> Result<Option<u64>> {
        let keys = [key.as_bytes()];
        let read = self.store.get_many(&self.namespace, &keys);
        let entry = self.watch(read).await?.pop().flatten();
        Ok(entry.map(|entry| version(key, &body(&entry.value).expect("an intact entry"))))
    }

    pub(super) async fn set(&self, key: &str, version: u64) -> Result<()> {
        let applied = self.write(put(key, version)).await?;
        assert!(applied, "a put without a condition is applied");
        Ok(())
    }

    pub(super) async fn add(&self, key: &str, version: u64) -> Result<bool> {
        self.write(put(key, version).when(Condition::IfAbsent))
            .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<bool> {
        self.write(Write::delete(key.as_bytes())).await
    }

    pub(super) async fn write(&self, write: Write<'_>) -> Result<bool> {
        let writes = [write];
        let written = self.store.write_many(&self.namespace, &writes);
        Ok(self.watch(written).await? == [true])
    }

    pub(super) async fn increment(&self, key: &str) -> Result<i64> {
        let added = self
            .store
            .increment(&self.namespace, key.as_bytes(), 1, Expiry::Never);
        self.watch(added).await
    }

    pub(super) async fn clear(&self) -> Result<()> {
        self.watch(self.store.clear(&self.namespace)).await
    }

    /// Sets until it works, and returns how long that took.
    pub(super) async fn set_in_the_end(&self, key: &str, version: u64) -> Duration {
        let began = Instant::now();
        while let Err(error) = self.set(key, version).await {
            assert!(began.elapsed() < Duration::from_secs(20), "{key}: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    /// Returns how long the slowest call took.
    pub(super) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(SeqCst))
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(SeqCst)
    }

    /// Returns when a call failed last, and why.
    pub(super) fn latest_failure(&self) -> Option<(Instant, Error)> {
        self.latest_failure.lock().unwrap().clone()
    }
}

/// Returns a put of a version.
pub(super) fn put(key: &str, version: u64) -> Write<'_> {
    let value = sealed(format!("{key}={version}").as_bytes());
    Write::put(key.as_bytes(), value, Expiry::Never)
}

/// Returns the version of a value, which must belong to the key.
pub(super) fn version(key: &str, value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    let (owner, version) = text.split_once('=').expect("a value of these tests");
    assert_eq!(owner, key, "another key's value");
    version.parse().expect("a version")
}

/// Runs what blocks the thread, such as control of servers.
pub(super) fn now<T>(block: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(block)
}

pub(super) fn urls(cluster: &RedisCluster) -> Vec<String> {
    cluster.nodes().iter().map(RedisServer::url).collect()
}

/// Returns which of the keys have their entry on this server.
pub(super) fn keys_on(server: &RedisServer, keys: &[String]) -> Vec<String> {
    let names = server.call(&["KEYS", "*"]).unwrap();
    let ends = |key: &String| names.items().iter().any(|name| name.text().ends_with(key));
    keys.iter().filter(|key| ends(key)).cloned().collect()
}
