//! Every store law on every store of the crate.

use std::sync::Arc;
use std::time::Duration;

use larder::store::{Fallback, Memory, MemoryBuilder, Null, Store};
use larder::testing::store::{
    StoreUnderTest, check, conditions, contention, entries, expiry, health,
};
use larder::testing::{Fault, FlakyStore};
use larder::{ManualClock, store_conformance};

fn memory(options: impl FnOnce(MemoryBuilder) -> MemoryBuilder) -> StoreUnderTest {
    let time = ManualClock::new();
    let builder = Memory::builder().clock(time.clock());
    let store = options(builder).build().expect("a store in memory");
    StoreUnderTest::new(store).time(time)
}

/// A store behind two pointers, as applications share one.
fn shared() -> StoreUnderTest {
    let time = ManualClock::new();
    let store = Memory::builder().clock(time.clock()).build();
    let shared: Arc<dyn Store> = Arc::new(store.expect("a store in memory"));
    StoreUnderTest::new(shared).time(time)
}

/// The wrapper must not change a store that it is not told to disturb.
fn calm() -> StoreUnderTest {
    let time = ManualClock::new();
    let store = Memory::builder().clock(time.clock()).build();
    StoreUnderTest::new(FlakyStore::new(store.expect("a store in memory"), 1)).time(time)
}

store_conformance!(memory_store, memory(|options| options));
store_conformance!(
    memory_store_in_real_time,
    StoreUnderTest::new(Memory::new())
);
store_conformance!(
    memory_store_of_one_shard,
    memory(|options| options.capacity_bytes(8 << 20))
);
store_conformance!(shared_store, shared());
store_conformance!(flaky_store_at_rest, calm());

/// Under lost replies, refusals and delays, an owner that asks again gets its grant, and nobody else holds meanwhile.
#[test]
fn locks_keep_their_word_under_faults() {
    check(|| async {
        let store = FlakyStore::new(Memory::new(), 3);
        store.chance(0.2, Fault::LoseReply);
        store.chance(0.1, Fault::Refuse);
        store.delay(Duration::from_millis(2));
        let faults = store.clone();
        let flaky = StoreUnderTest::new(store);
        contention::contenders_never_hold_together(&flaky).await?;
        contention::holders_never_exceed_the_permits(&flaky).await?;
        let counts = faults.counts();
        assert!(counts.lost > 100 && counts.refused > 100, "{counts:?}");
        Ok(())
    });
}

/// As long as the primary is up, a fallback is the primary.
fn fallback() -> StoreUnderTest {
    let time = ManualClock::new();
    let primary = Memory::builder().clock(time.clock()).build();
    let primary = Arc::new(primary.expect("a store in memory"));
    let store = Fallback::new(primary, Arc::new(Memory::new()));
    StoreUnderTest::new(store.expect("a standby that keeps and lists")).time(time)
}

store_conformance!(fallback_store_with_a_healthy_primary, fallback());

/// The store that keeps nothing obeys the laws of absence, and says honestly what it cannot do.
#[test]
fn null_store_is_always_empty_and_honest() {
    check(|| async {
        let null = StoreUnderTest::new(Null::new());
        entries::empty_bulk_calls_answer_nothing(&null).await?;
        expiry::expired_entry_cannot_be_deleted(&null).await?;
        conditions::touch_of_a_missing_entry_is_not_applied(&null).await?;
        health::capabilities_are_honest(&null).await?;
        health::ping_answers(&null).await
    });
}

#[cfg(feature = "sqlite")]
fn sqlite() -> StoreUnderTest {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let time = ManualClock::new();
    let builder = larder::store::Sqlite::builder(dir.path().join("cache.db")).clock(time.clock());
    let store = builder.build().expect("a store in a fresh file");
    StoreUnderTest::new(store).time(time).keep(dir)
}

#[cfg(feature = "sqlite")]
fn sqlite_in_real_time() -> StoreUnderTest {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = larder::store::Sqlite::open(dir.path().join("cache.db"));
    StoreUnderTest::new(store.expect("a store in a fresh file")).keep(dir)
}

#[cfg(feature = "sqlite")]
store_conformance!(sqlite_store, sqlite());
#[cfg(feature = "sqlite")]
store_conformance!(sqlite_store_in_real_time, sqlite_in_real_time());

#[cfg(feature = "file")]
fn file() -> StoreUnderTest {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let time = ManualClock::new();
    let builder = larder::store::File::builder(dir.path()).clock(time.clock());
    let store = builder.build().expect("a store in a fresh directory");
    StoreUnderTest::new(store).time(time).keep(dir)
}

#[cfg(feature = "file")]
store_conformance!(file_store, file());

/// Returns where a server of the tests is; the laws are not skipped without one.
#[cfg(any(feature = "redis", feature = "memcached"))]
fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}

/// The laws say nothing of time limits, and the machine may be busy.
#[cfg(feature = "redis")]
fn patient(builder: larder::store::RedisBuilder) -> larder::store::RedisBuilder {
    let long = std::time::Duration::from_secs(20);
    builder.connect_timeout(long).response_timeout(long)
}

#[cfg(feature = "redis")]
async fn redis() -> StoreUnderTest {
    let store = patient(larder::RedisStore::builder(server("LARDER_TEST_REDIS_URL")))
        .connect()
        .await;
    StoreUnderTest::new(store.expect("a server that answers"))
}

#[cfg(feature = "redis")]
fn urls(variable: &str) -> Vec<String> {
    let servers = server(variable);
    servers
        .split(',')
        .map(|server| format!("redis://{server}"))
        .collect()
}

#[cfg(feature = "redis")]
async fn cluster() -> StoreUnderTest {
    let builder = larder::RedisStore::cluster(urls("LARDER_TEST_REDIS_CLUSTER"));
    StoreUnderTest::new(
        patient(builder)
            .connect()
            .await
            .expect("a cluster that answers"),
    )
}

#[cfg(feature = "redis")]
async fn sentinel() -> StoreUnderTest {
    let urls = urls("LARDER_TEST_REDIS_SENTINELS");
    let builder = larder::RedisStore::sentinel(urls, "mymaster");
    StoreUnderTest::new(
        patient(builder)
            .connect()
            .await
            .expect("a primary that answers"),
    )
}

#[cfg(feature = "redis")]
store_conformance!(redis_store, redis().await);
#[cfg(feature = "redis")]
store_conformance!(redis_cluster_store, cluster().await);
#[cfg(feature = "redis")]
store_conformance!(redis_sentinel_store, sentinel().await);

#[cfg(feature = "memcached")]
fn patient_memcached(address: String) -> larder::store::MemcachedBuilder {
    let long = std::time::Duration::from_secs(20);
    let builder = larder::store::Memcached::builder(address);
    builder.connect_timeout(long).response_timeout(long)
}

#[cfg(feature = "memcached")]
async fn memcached(variable: &str, connections: usize) -> StoreUnderTest {
    let builder = patient_memcached(server(variable));
    let store = builder.connections(connections).connect().await;
    StoreUnderTest::new(store.expect("a connection to the server"))
}

#[cfg(feature = "memcached")]
async fn memcached_in_manual_time() -> StoreUnderTest {
    let time = ManualClock::new();
    let builder = patient_memcached(server("LARDER_TEST_MEMCACHED"));
    let store = builder.clock(time.clock()).connect().await;
    StoreUnderTest::new(store.expect("a connection to the server")).time(time)
}

#[cfg(feature = "memcached")]
store_conformance!(memcached_store, memcached("LARDER_TEST_MEMCACHED", 1).await);
#[cfg(feature = "memcached")]
store_conformance!(
    memcached_store_of_three_connections,
    memcached("LARDER_TEST_MEMCACHED", 3).await
);
#[cfg(feature = "memcached")]
store_conformance!(
    memcached_store_in_manual_time,
    memcached_in_manual_time().await
);
#[cfg(feature = "memcached")]
store_conformance!(
    memcached_store_of_small_items,
    memcached("LARDER_TEST_MEMCACHED_SMALL", 1)
        .await
        .max_entry_bytes(1 << 20)
);
