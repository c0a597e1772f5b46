//! What the cache promises, on every store that needs no server, with and without a local tier.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use larder::cache::MaybeReady;
use larder::{
    Cache, Codec, Compression, ErrorKind, FileStore, Key, Local, ManualClock, MemoryStore,
    NullStore, RememberError, SqliteStore, Store, TimeLeft, Ttl,
};
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3600);
const MIB: u64 = 1 << 20;

/// A cache under test, with the directory it lives in and the clock that moves it.
struct Fixture {
    cache: Cache,
    time: ManualClock,
    /// Whether there is a store, so that entries have a size limit.
    has_store: bool,
    _dir: tempfile::TempDir,
}

fn fixture(store: &str, local: bool) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let time = ManualClock::new();
    let clock = time.clock();
    let path = dir.path().join("cache.db");
    let builder = match store {
        "memory" => Cache::builder(MemoryStore::builder().clock(clock).build().unwrap()),
        "file" => Cache::builder(
            FileStore::builder(dir.path().join("files"))
                .clock(clock)
                .build()
                .unwrap(),
        ),
        "sqlite" => Cache::builder(SqliteStore::builder(path).clock(clock).build().unwrap()),
        _ => Cache::builder(NullStore::new()),
    };
    let tier = Local::capacity_bytes(4 * MIB);
    let builder = if local { builder.local(tier) } else { builder };
    let cache = builder.build().unwrap();
    Fixture {
        cache,
        time,
        has_store: store != "null",
        _dir: dir,
    }
}

/// Runs each test on every kind of cache.
macro_rules! on_every_cache {
    ($($test:ident),* $(,)?) => {
        on_every_cache!(@kind memory "memory" false $($test)*);
        on_every_cache!(@kind memory_local "memory" true $($test)*);
        on_every_cache!(@kind sqlite "sqlite" false $($test)*);
        on_every_cache!(@kind sqlite_local "sqlite" true $($test)*);
        on_every_cache!(@kind file "file" false $($test)*);
        on_every_cache!(@kind file_local "file" true $($test)*);
        on_every_cache!(@kind local_only "null" true $($test)*);
    };
    (@kind $kind:ident $store:literal $local:literal $($test:ident)*) => {
        mod $kind {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::fixture($store, $local)).await;
            })*
        }
    };
}

on_every_cache!(
    a_value_reads_back_as_its_type,
    deleted_and_cleared_values_are_gone,
    many_forms_keep_order,
    add_is_exclusive,
    keys_count_and_patterns,
    ten_thousand_callers_load_once,
    dropping_the_first_caller_hangs_nobody,
    a_panic_is_an_error_for_all_and_the_next_call_loads_again,
    a_failed_load_is_not_stored,
    a_load_that_a_delete_overtook_is_not_stored,
    a_load_that_a_set_overtook_does_not_overwrite_it,
    a_load_that_a_clear_overtook_is_not_stored,
    a_reader_after_a_delete_does_not_join_an_older_load,
    the_loader_decides_about_storing,
    none_is_a_value_unless_refused,
    remember_many_loads_exactly_the_missing,
    bad_arguments_are_named,
);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

fn ann() -> User {
    User {
        id: 1,
        name: "Ann".into(),
    }
}

fn is_within_the_hour(left: TimeLeft) -> bool {
    matches!(left, TimeLeft::Remaining(left) if left <= HOUR)
}

async fn a_value_reads_back_as_its_type(f: Fixture) {
    f.cache.set("user:1", &ann()).ttl(HOUR).await.unwrap();
    assert_eq!(f.cache.get::<User>("user:1").await.unwrap(), Some(ann()));
    let shared = f.cache.get_shared::<User>("user:1").await.unwrap();
    assert_eq!(shared.as_deref(), Some(&ann()));
    assert_eq!(f.cache.get::<Vec<u8>>("user:1").await.unwrap(), None);
    f.cache.set("text", "hello").await.unwrap();
    let text = f.cache.get::<String>("text").await.unwrap();
    assert_eq!(text.as_deref(), Some("hello"));
    assert!(f.cache.has("text").await.unwrap());
    assert_eq!(f.cache.ttl("text").await.unwrap(), TimeLeft::Forever);
    assert_eq!(f.cache.ttl("nothing").await.unwrap(), TimeLeft::Missing);
    assert!(is_within_the_hour(f.cache.ttl("user:1").await.unwrap()));
    assert!(f.cache.expire("text", HOUR).await.unwrap());
    assert!(is_within_the_hour(f.cache.ttl("text").await.unwrap()));
    assert!(!f.cache.expire("nothing", HOUR).await.unwrap());
}

async fn deleted_and_cleared_values_are_gone(f: Fixture) {
    f.cache.set("a", &1).await.unwrap();
    f.cache.set("b", &2).await.unwrap();
    assert!(f.cache.delete("a").await.unwrap());
    assert!(!f.cache.delete("a").await.unwrap());
    assert_eq!(f.cache.get::<i32>("a").await.unwrap(), None);
    f.cache.clear().await.unwrap();
    assert_eq!(f.cache.get::<i32>("b").await.unwrap(), None);
    f.cache.set("c", &3).await.unwrap();
    assert_eq!(f.cache.get::<i32>("c").await.unwrap(), Some(3));
}

async fn many_forms_keep_order(f: Fixture) {
    f.cache
        .set_many(&[("a", 1), ("b", 2)])
        .ttl(HOUR)
        .await
        .unwrap();
    let values = f
        .cache
        .get_many::<i32>(["b", "missing", "a", "b"])
        .await
        .unwrap();
    assert_eq!(values, [Some(2), None, Some(1), Some(2)]);
    assert_eq!(f.cache.delete_many(["a", "missing", "b"]).await.unwrap(), 2);
    assert!(
        f.cache
            .get_many::<i32>(Vec::<String>::new())
            .await
            .unwrap()
            .is_empty()
    );
}

async fn add_is_exclusive(f: Fixture) {
    let add = |n: i32| {
        let cache = f.cache.clone();
        tokio::spawn(async move { cache.add("winner", &n).await.unwrap() })
    };
    let tasks: Vec<_> = (0..50).map(add).collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
    f.cache.delete("winner").await.unwrap();
    assert!(f.cache.add("winner", &1).ttl(HOUR).await.unwrap());
}

async fn keys_count_and_patterns(f: Fixture) {
    for n in 0..7 {
        f.cache.set(format!("user:{n}"), &n).await.unwrap();
    }
    f.cache.set("other", &0).await.unwrap();
    let mut keys = f.cache.keys("user:*").collect_all().await.unwrap();
    keys.sort();
    assert_eq!(keys.len(), 7);
    assert_eq!(keys[0], Key::from("user:0"));
    assert_eq!(f.cache.count("*").await.unwrap(), 8);
    assert_eq!(f.cache.delete_matching("user:[0-3]").await.unwrap(), 4);
    assert_eq!(f.cache.count("*").await.unwrap(), 4);
    let refused = f.cache.count("[").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(f.cache.keys("[").next().await.is_err());
}

type Loading = BoxFuture<'static, io::Result<i64>>;

/// A loader that takes a while and counts its runs.
fn slow_load(runs: &Arc<AtomicUsize>, value: i64) -> impl FnOnce() -> Loading + Send + 'static {
    let runs = Arc::clone(runs);
    move || {
        Box::pin(async move {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(value)
        })
    }
}

async fn until_running(runs: &AtomicUsize) {
    while runs.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn ten_thousand_callers_load_once(f: Fixture) {
    let runs = Arc::new(AtomicUsize::new(0));
    let call = |_| {
        let (cache, load) = (f.cache.clone(), slow_load(&runs, 7));
        tokio::spawn(async move { cache.remember("key", load).ttl(HOUR).await.unwrap() })
    };
    let calls: Vec<_> = (0..10_000).map(call).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 7);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(f.cache.get::<i64>("key").await.unwrap(), Some(7));
}

async fn dropping_the_first_caller_hangs_nobody(f: Fixture) {
    let runs = Arc::new(AtomicUsize::new(0));
    let (cache, load) = (f.cache.clone(), slow_load(&runs, 1));
    let first = tokio::spawn(async move { cache.remember("key", load).await });
    until_running(&runs).await;
    let (cache, load) = (f.cache.clone(), slow_load(&runs, 2));
    let second = tokio::spawn(async move { cache.remember("key", load).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(5)).await;
    first.abort();
    assert_eq!(second.await.unwrap(), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

async fn on_fire() -> io::Result<i64> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    panic!("the database is on fire");
}

async fn a_panic_is_an_error_for_all_and_the_next_call_loads_again(f: Fixture) {
    let call = |_| {
        let cache = f.cache.clone();
        tokio::spawn(async move { cache.remember("key", on_fire).await })
    };
    let calls: Vec<_> = (0..3).map(call).collect();
    for call in calls {
        let Err(RememberError::Cache(error)) = call.await.unwrap() else {
            panic!("an error of the cache")
        };
        assert_eq!(error.kind(), ErrorKind::Load);
        assert!(error.to_string().contains("on fire"));
    }
    let value = f
        .cache
        .remember("key", || async { Ok::<i64, io::Error>(5) })
        .await;
    assert_eq!(value.unwrap(), 5);
}

async fn a_failed_load_is_not_stored(f: Fixture) {
    let down = || async { Err::<i64, _>(io::Error::other("down")) };
    let Err(RememberError::Load(error)) = f.cache.remember("key", down).await else {
        panic!("the loader's error")
    };
    assert_eq!(Arc::try_unwrap(error).unwrap().to_string(), "down");
    assert_eq!(f.cache.get::<i64>("key").await.unwrap(), None);
    let value = f
        .cache
        .remember("key", || async { Ok::<i64, io::Error>(5) })
        .await;
    assert_eq!(value.unwrap(), 5);
}

/// Starts a load, makes a change while it runs, and returns what the loading caller got.
async fn overtake(cache: &Cache, change: impl Future<Output = ()>) -> i64 {
    let runs = Arc::new(AtomicUsize::new(0));
    let (loading, load) = (cache.clone(), slow_load(&runs, 1));
    let call = tokio::spawn(async move { loading.remember("key", load).await.unwrap() });
    until_running(&runs).await;
    change.await;
    call.await.unwrap()
}

async fn a_load_that_a_delete_overtook_is_not_stored(f: Fixture) {
    let delete = async {
        f.cache.delete("key").await.unwrap();
    };
    assert_eq!(overtake(&f.cache, delete).await, 1);
    assert_eq!(f.cache.get::<i64>("key").await.unwrap(), None);
    let stats = f.cache.stats().await.unwrap();
    assert_eq!(stats.process.overtaken_loads, 1);
}

async fn a_load_that_a_set_overtook_does_not_overwrite_it(f: Fixture) {
    overtake(&f.cache, async { f.cache.set("key", &2i64).await.unwrap() }).await;
    assert_eq!(f.cache.get::<i64>("key").await.unwrap(), Some(2));
}

async fn a_load_that_a_clear_overtook_is_not_stored(f: Fixture) {
    overtake(&f.cache, async { f.cache.clear().await.unwrap() }).await;
    assert_eq!(f.cache.get::<i64>("key").await.unwrap(), None);
}

async fn a_reader_after_a_delete_does_not_join_an_older_load(f: Fixture) {
    let delete_and_read = async {
        f.cache.delete("key").await.unwrap();
        let fresh = f
            .cache
            .remember("key", || async { Ok::<i64, io::Error>(2) })
            .await;
        assert_eq!(fresh.unwrap(), 2);
    };
    overtake(&f.cache, delete_and_read).await;
    assert_eq!(f.cache.get::<i64>("key").await.unwrap(), Some(2));
}

async fn the_loader_decides_about_storing(f: Fixture) {
    let skipped = f.cache.remember_with("skip", |cx| async move {
        cx.skip();
        Ok::<i64, io::Error>(1)
    });
    assert_eq!(skipped.await.unwrap(), 1);
    assert!(!f.cache.has("skip").await.unwrap());
    let short = f.cache.remember_with("short", |cx| async move {
        cx.ttl(HOUR);
        Ok::<i64, io::Error>(1)
    });
    short.await.unwrap();
    assert!(is_within_the_hour(f.cache.ttl("short").await.unwrap()));
}

async fn none_is_a_value_unless_refused(f: Fixture) {
    let runs = Arc::new(AtomicUsize::new(0));
    let load = || {
        let runs = Arc::clone(&runs);
        move || async move {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok::<Option<i64>, io::Error>(None)
        }
    };
    for _ in 0..3 {
        assert_eq!(f.cache.remember("none", load()).await.unwrap(), None);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    for _ in 0..3 {
        f.cache
            .remember("refused", load())
            .cache_none(false)
            .await
            .unwrap();
    }
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

async fn remember_many_loads_exactly_the_missing(f: Fixture) {
    f.cache.set("b", &20).await.unwrap();
    let asked: Vec<String> = ["a", "b", "c", "a", "gone"].map(str::to_owned).to_vec();
    let load = |missing: Vec<String>| async move {
        assert_eq!(missing, ["a", "c", "gone"]);
        let found = missing.into_iter().filter(|key| key != "gone");
        Ok::<_, io::Error>(found.map(|key| (key, 1)).collect::<HashMap<_, i32>>())
    };
    let values = f.cache.remember_many(&asked, load).ttl(HOUR).await.unwrap();
    assert_eq!(values, [Some(1), Some(20), Some(1), Some(1), None]);
    assert_eq!(f.cache.get::<i32>("a").await.unwrap(), Some(1));
    assert!(!f.cache.has("gone").await.unwrap());
}

async fn bad_arguments_are_named(f: Fixture) {
    let long = "k".repeat(1025);
    for key in ["", long.as_str()] {
        let kinds = [
            f.cache.get::<i32>(key).await.unwrap_err().kind(),
            f.cache.set(key, &1).await.unwrap_err().kind(),
            f.cache.delete(key).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::InvalidKey; 3]);
    }
    let zero = f.cache.set("k", &1).ttl(Duration::ZERO).await.unwrap_err();
    assert_eq!(zero.kind(), ErrorKind::InvalidArgument);
    let jitter = f.cache.set("k", &1).jitter(1.5).await.unwrap_err();
    assert_eq!(jitter.kind(), ErrorKind::InvalidArgument);
    let binary: &[u8] = &[0, 255, 254];
    f.cache.set(binary, &1).await.unwrap();
    assert_eq!(f.cache.get::<i32>(binary).await.unwrap(), Some(1));
    if f.has_store {
        let error = f.cache.set("big", &noise(17 << 20)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn entries_expire_by_the_stores_clock_in_both_tiers() {
    for (store, local) in [
        ("memory", false),
        ("memory", true),
        ("sqlite", false),
        ("sqlite", true),
    ] {
        let f = fixture(store, local);
        f.cache
            .set("short", &1)
            .ttl(Duration::from_millis(500))
            .await
            .unwrap();
        assert_eq!(f.cache.get::<i32>("short").await.unwrap(), Some(1));
        f.time.advance(Duration::from_millis(501));
        assert_eq!(f.cache.get::<i32>("short").await.unwrap(), None);
        assert_eq!(f.cache.count("*").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_promoted_copy_lives_a_fraction_and_never_longer_than_its_entry() {
    let f = fixture("memory", true);
    f.cache
        .set("key", &1)
        .ttl(Duration::from_secs(100))
        .await
        .unwrap();
    f.time.advance(Duration::from_secs(26));
    // The copy made by the write is past its 25 s, the entry is not: this read promotes.
    assert_eq!(f.cache.get::<i32>("key").await.unwrap(), Some(1));
    let counts = f.cache.stats().await.unwrap().process;
    assert_eq!((counts.local_hits, counts.store_hits), (0, 1));
    assert_eq!(f.cache.get::<i32>("key").await.unwrap(), Some(1));
    assert_eq!(f.cache.stats().await.unwrap().process.local_hits, 1);
    f.time.advance(Duration::from_secs(75));
    assert_eq!(f.cache.get::<i32>("key").await.unwrap(), None);
}

#[tokio::test]
async fn write_through_off_still_removes_the_old_copy() {
    let local = Local::capacity_bytes(MIB).write_through(false);
    let cache = Cache::builder(MemoryStore::new())
        .local(local)
        .build()
        .unwrap();
    cache.set("key", &1).await.unwrap();
    assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
    cache.set("key", &2).await.unwrap();
    assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
}

#[tokio::test]
async fn counters_are_exact_and_share_the_key_space() {
    for store in ["memory", "sqlite", "file"] {
        let f = fixture(store, true);
        let cache = &f.cache;
        cache.set("views", &40u8).ttl(HOUR).await.unwrap();
        assert_eq!(cache.increment("views", 2).await.unwrap(), 42);
        assert_eq!(cache.get::<u64>("views").await.unwrap(), Some(42));
        assert!(is_within_the_hour(cache.ttl("views").await.unwrap()));
        assert_eq!(cache.decrement("fresh", 3).ttl(HOUR).await.unwrap(), -3);
        cache.set("text", "no").await.unwrap();
        cache.set("max", &i64::MAX).await.unwrap();
        cache.sorted_set("board").add([(1.0, "ann")]).await.unwrap();
        let refused = [
            (cache.increment("text", 1).await, ErrorKind::WrongType),
            (cache.increment("max", 1).await, ErrorKind::Overflow),
            (cache.decrement("max", i64::MIN).await, ErrorKind::Overflow),
            (cache.increment("board", 1).await, ErrorKind::WrongType),
        ];
        for (result, kind) in refused {
            assert_eq!(result.unwrap_err().kind(), kind);
        }
        assert_eq!(
            cache.get::<i64>("board").await.unwrap_err().kind(),
            ErrorKind::WrongType
        );
        let not_a_set = cache.sorted_set("views").len().await.unwrap_err();
        assert_eq!(not_a_set.kind(), ErrorKind::WrongType);
        assert_eq!(cache.count("*").await.unwrap(), 5);
        cache.clear().await.unwrap();
        assert_eq!(cache.count("*").await.unwrap(), 0);
        assert!(cache.sorted_set("board").is_empty().await.unwrap());
    }
}

#[tokio::test]
async fn raw_and_typed_values_read_each_other() {
    let f = fixture("memory", false);
    f.cache.set_raw("text", "User Data").await.unwrap();
    let text = f.cache.get::<String>("text").await.unwrap();
    assert_eq!(text.as_deref(), Some("User Data"));
    f.cache.set_raw("count", "5").await.unwrap();
    assert_eq!(f.cache.increment("count", 1).await.unwrap(), 6);
    let json = r#"{"id":1,"name":"Ann"}"#;
    f.cache
        .set_raw("user", json)
        .content_type("application/json")
        .await
        .unwrap();
    assert_eq!(f.cache.get::<User>("user").await.unwrap(), Some(ann()));
    f.cache.set("typed", &ann()).await.unwrap();
    let raw = f.cache.get_raw("typed").await.unwrap().unwrap();
    assert!(raw.is_typed);
    assert_eq!(raw.to_json().unwrap(), json);
    assert!(!f.cache.set_raw("text", "again").if_absent().await.unwrap());
}

#[tokio::test]
async fn another_schema_version_is_a_miss_with_its_own_reason() {
    let f = fixture("memory", false);
    f.cache.schema(2).set("key", &1).await.unwrap();
    assert_eq!(f.cache.get::<i32>("key").await.unwrap(), None);
    assert_eq!(f.cache.schema(2).get::<i32>("key").await.unwrap(), Some(1));
    assert_eq!(f.cache.stats().await.unwrap().process.misses.schema, 1);
}

#[tokio::test]
async fn caches_of_one_store_do_not_mix() {
    let store = Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    let named = |prefix: &str, name: &str| {
        Cache::builder(Arc::clone(&store))
            .prefix(prefix)
            .name(name)
            .build()
            .unwrap()
    };
    let (a, b) = (named("app:a", "b"), named("app", "a:b"));
    a.set("key", &1).await.unwrap();
    assert_eq!(b.get::<i32>("key").await.unwrap(), None);
    b.clear().await.unwrap();
    assert_eq!(a.get::<i32>("key").await.unwrap(), Some(1));
}

#[tokio::test]
async fn every_codec_and_compression_reads_back_through_any_other_cache() {
    let store = Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    let reader = Cache::builder(Arc::clone(&store)).build().unwrap();
    let value: Vec<User> = (0..400).map(|id| User { id, ..ann() }).collect();
    for codec in [Codec::MessagePack, Codec::Json, Codec::Postcard] {
        for compression in [
            Compression::None,
            Compression::Lz4,
            Compression::Zstd,
            Compression::Gzip,
        ] {
            let builder = Cache::builder(Arc::clone(&store))
                .codec(codec)
                .compression(compression);
            builder.build().unwrap().set("users", &value).await.unwrap();
            assert_eq!(
                reader.get::<Vec<User>>("users").await.unwrap().as_ref(),
                Some(&value)
            );
            let seen = reader.inspect("users").await.unwrap().unwrap();
            assert_eq!(
                seen.stored_bytes < seen.plain_bytes,
                compression != Compression::None
            );
        }
    }
}

#[tokio::test]
async fn a_local_hit_is_ready_at_once() {
    let f = fixture("sqlite", true);
    f.cache.set("key", &1).await.unwrap();
    // The first read waits for the first news of changes by others.
    assert_eq!(f.cache.get::<i32>("key").await.unwrap(), Some(1));
    let again = f
        .cache
        .remember("key", || async { Ok::<i32, io::Error>(2) });
    let future: MaybeReady<'_, _> = again.into_future();
    assert_eq!(format!("{future:?}"), "MaybeReady::Ready");
    assert_eq!(future.await.unwrap(), 1);
}

#[tokio::test]
async fn options_out_of_bounds_are_refused() {
    let build = |local: Local| Cache::builder(MemoryStore::new()).local(local).build();
    assert!(build(Local::capacity_bytes(1)).is_err());
    assert!(build(Local::capacity_bytes(MIB).ttl_fraction(0.0)).is_err());
    assert!(build(Local::capacity_bytes(MIB).ttl_fraction(f64::NAN)).is_err());
    assert!(build(Local::capacity_bytes(MIB).max_staleness(Duration::ZERO)).is_err());
    let builder = || Cache::builder(MemoryStore::new());
    assert!(builder().name("").build().is_err());
    assert!(builder().default_ttl(Duration::ZERO).build().is_err());
    assert!(builder().default_ttl(Ttl::Forever).build().is_ok());
}

#[tokio::test]
async fn local_evictions_count_what_made_room_and_nothing_else() {
    let local = Local::capacity_bytes(64 << 10);
    let cache = Cache::builder(NullStore::new())
        .local(local)
        .build()
        .unwrap();
    for n in 0..10 {
        cache.set("same", &n).await.unwrap();
    }
    let figures = || async { cache.stats().await.unwrap().local.unwrap() };
    assert_eq!((figures().await.evicted, figures().await.entries), (0, 1));
    for n in 0..2000 {
        cache.set(format!("key:{n}"), &n).await.unwrap();
    }
    let full = figures().await;
    assert!(full.bytes <= full.capacity_bytes);
    assert_eq!(full.evicted + full.entries, 2001);
}

#[cfg(feature = "config")]
#[tokio::test]
async fn a_setting_without_effect_is_warned_about() {
    use larder::config::{Config, Sources};
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources::new()
        .flag("dir", dir.path().to_str().unwrap())
        .flag("cache.fallback", "file");
    let larder = larder::Larder::from_loaded(Config::load(&sources).unwrap())
        .await
        .unwrap();
    assert!(
        larder
            .loaded()
            .warnings
            .iter()
            .any(|warning| warning.contains("cache.fallback"))
    );
}

#[tokio::test]
async fn raw_bytes_are_refused_where_there_is_no_store_to_keep_them() {
    let local = Local::capacity_bytes(MIB);
    let cache = Cache::builder(NullStore::new())
        .local(local)
        .build()
        .unwrap();
    let refused = cache.set_raw("key", "bytes").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
