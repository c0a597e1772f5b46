//! Long runs against real servers: a million operations by many clients, judged as they happen. Run by
//! `cargo xtask soak`; the suite has short forms of them under `network`, `memcached` and `fallback`.
//!
//! Every key has one writer, so its versions only grow. A reader notes the oldest version that may still be read
//! before it reads: an older one is a lie.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use larder::store::Store;
use larder::{Cache, MemcachedStore, RedisStore};

const OPERATIONS: u64 = 1_000_000;
const KEYS: usize = 256;
const WRITERS: usize = 4;
const READERS: usize = 4;
/// One clear for this many operations.
const CLEAR_EVERY: u64 = 5_000;

/// What is known of one key.
#[derive(Debug, Default)]
struct Known {
    /// The latest version whose write has ended.
    written: AtomicU64,
    /// Older versions must not be read any more.
    floor: AtomicU64,
}

struct Run {
    cache: Cache,
    keys: Vec<Known>,
    done: AtomicU64,
    hits: AtomicU64,
    reads: AtomicU64,
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: use cargo xtask soak"))
}

async fn soak(store: impl Store) {
    let prefix = format!("soak-{:x}", std::process::id());
    let cache = Cache::builder(store)
        .prefix(&prefix)
        .strict(true)
        .build()
        .unwrap();
    let run = Arc::new(Run {
        cache,
        keys: (0..KEYS).map(|_| Known::default()).collect(),
        done: AtomicU64::new(0),
        hits: AtomicU64::new(0),
        reads: AtomicU64::new(0),
    });
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        tasks.push(tokio::spawn(write(Arc::clone(&run), writer)));
    }
    for reader in 0..READERS {
        tasks.push(tokio::spawn(read(Arc::clone(&run), reader)));
    }
    tasks.push(tokio::spawn(clear(Arc::clone(&run))));
    for task in tasks {
        task.await.unwrap();
    }
    let (hits, reads) = (run.hits.load(SeqCst), run.reads.load(SeqCst));
    println!(
        "{} operations, {hits} hits of {reads} reads",
        run.done.load(SeqCst)
    );
    assert!(
        hits * 2 > reads,
        "a cache that mostly misses proves nothing"
    );
}

impl Run {
    fn goes_on(&self) -> bool {
        self.done.fetch_add(1, SeqCst) < OPERATIONS
    }
}

/// Writes, deletes and adds to the keys of one writer.
async fn write(run: Arc<Run>, writer: usize) {
    let mut version = 0;
    while run.goes_on() {
        version += 1;
        let index = fastrand::usize(..KEYS / WRITERS) * WRITERS + writer;
        let (known, key) = (&run.keys[index], format!("key:{index}"));
        match fastrand::u32(..20) {
            0 => {
                run.cache.delete(&key).await.unwrap();
                known.floor.fetch_max(version, SeqCst);
            }
            1 => {
                // Whether it is added or not, what is there now is no older than what was.
                if run.cache.add(&key, &version).await.unwrap() {
                    known.written.store(version, SeqCst);
                    known.floor.fetch_max(version, SeqCst);
                }
            }
            _ => {
                run.cache.set(&key, &version).await.unwrap();
                known.written.store(version, SeqCst);
                known.floor.fetch_max(version, SeqCst);
            }
        }
    }
}

async fn read(run: Arc<Run>, reader: usize) {
    while run.goes_on() {
        let index = fastrand::usize(..KEYS);
        let floor = run.keys[index].floor.load(SeqCst);
        let found = run.cache.get::<u64>(&format!("key:{index}")).await.unwrap();
        run.reads.fetch_add(1, SeqCst);
        if let Some(version) = found {
            run.hits.fetch_add(1, SeqCst);
            assert!(
                version >= floor,
                "reader {reader} read version {version} of key {index}, where {floor} was the oldest"
            );
        }
    }
}

/// Clears now and then: what had been written before a clear began is gone when it has returned.
async fn clear(run: Arc<Run>) {
    let mut next = CLEAR_EVERY;
    while run.done.load(SeqCst) < OPERATIONS {
        if run.done.load(SeqCst) < next {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            continue;
        }
        next += CLEAR_EVERY;
        let written: Vec<_> = run
            .keys
            .iter()
            .map(|key| key.written.load(SeqCst))
            .collect();
        run.cache.clear().await.unwrap();
        for (key, version) in run.keys.iter().zip(written) {
            key.floor.fetch_max(version + 1, SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; cargo xtask soak"]
async fn nothing_old_is_read_from_redis() {
    soak(
        RedisStore::connect(server("LARDER_TEST_REDIS_URL"))
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; cargo xtask soak"]
async fn nothing_old_is_read_from_a_cluster() {
    let servers = server("LARDER_TEST_REDIS_CLUSTER");
    let urls = servers.split(',').map(|server| format!("redis://{server}"));
    soak(RedisStore::cluster(urls).connect().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; cargo xtask soak"]
async fn nothing_old_is_read_from_memcached() {
    soak(
        MemcachedStore::connect(server("LARDER_TEST_MEMCACHED"))
            .await
            .unwrap(),
    )
    .await;
}
