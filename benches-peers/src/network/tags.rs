//! Tags on Redis: what they cost a read and a write, and an invalidation against deleting the entries, a set of keys per
//! tag, and a published cache that keeps such sets.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use armature_cache::{CacheConfig, RedisCache, TaggedCache};
use bytes::Bytes;
use larder::{Cache, RedisStore};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::redis::connect;
use super::{on_one_core, one_thread, sequential};
use crate::measure::{self, Peer, Row, rounds, target};
use crate::workload::{keys, noise_of};

const KEYS: usize = 1000;
const OPS: usize = 5_000;
const ROUNDS: usize = 7;
const TAGS: [&str; 10] = ["users", "team:7", "page", "t4", "t5", "t6", "t7", "t8", "t9", "t10"];
/// Commands of one pipeline.
const BATCH: usize = 1000;

fn open(runtime: &Runtime, url: String) -> Cache {
    let store = runtime.block_on(RedisStore::connect(url)).expect("the server answers");
    bare_bytes(store, "bench")
}

fn bare_bytes(store: RedisStore, name: &str) -> Cache {
    let cache = Cache::builder(store).prefix("bench").name(name).compression(larder::Compression::None).build();
    cache.expect("the options are valid")
}

fn armature(runtime: &Runtime, url: &str) -> TaggedCache<RedisCache> {
    let config = CacheConfig::redis(url).expect("a URL");
    let cache = runtime.block_on(RedisCache::new(config)).expect("the server answers");
    TaggedCache::new(Arc::new(cache))
}

pub fn run() {
    on_one_core("tags-pinned");
}

/// The part that runs on one core.
pub fn pinned() {
    let runtime = one_thread();
    {
        let server = RedisServer::start().expect("a server");
        reads(&runtime, &server);
        writes(&runtime, &server);
    }
    for (entries, rounds) in [(100, 9), (10_000, 5), (100_000, 1), (1_000_000, 1)] {
        invalidations(&runtime, entries, rounds);
    }
    cluster(&runtime);
    memory(&runtime);
}

fn reads(runtime: &Runtime, server: &RedisServer) {
    let bare = connect(runtime, &server.url());
    let theirs = armature(runtime, &server.url());
    let (keys, value) = (keys(KEYS), noise_of(100));
    let text = "x".repeat(100);
    let caches: Vec<(usize, Cache)> = [0, 3, 10].map(|tags| (tags, named(runtime, server, tags))).into();
    runtime.block_on(async {
        for key in &keys {
            bare.clone().set::<_, _, ()>(key, &value[..]).await.expect("it is written");
            for (tags, cache) in &caches {
                cache.set(key, &value).tags(&TAGS[..*tags]).await.expect("it is written");
            }
            theirs.set_with_tags(&format!("a:{key}"), text.clone(), &TAGS[..3], None).await.expect("it is written");
        }
    });
    let pick = |n: usize| keys[n % KEYS].as_str();
    let get = |cache: &Cache| {
        sequential(runtime, OPS, |n| {
            let cache = cache.clone();
            async move { cache.get::<Bytes>(pick(n)).await.expect("it is read").expect("it is there") }
        })
    };
    let mut peers: Vec<Peer<'_>> = vec![
        ("bare redis GET", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let mut bare = bare.clone();
                async move { bare.get::<_, Vec<u8>>(pick(n)).await.expect("it is read") }
            })
        })),
        ("larder get, no tags", Box::new(|| get(&caches[0].1))),
        ("larder get, 3 tags", Box::new(|| get(&caches[1].1))),
        ("larder get, 10 tags", Box::new(|| get(&caches[2].1))),
        ("armature-cache get, 3 tags, never validated", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let (theirs, key) = (theirs.clone(), format!("a:{}", pick(n)));
                async move { theirs.get(&key).await.expect("it is read").expect("it is there") }
            })
        })),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    measure::print("get, 100 B, one by one, on one core", "us", &rows);
    target("get without tags, times the bare client", rows[1].median() / rows[0].median(), 1.15, true);
    target("get with 3 tags, times the bare client", rows[2].median() / rows[0].median(), 1.25, true);
}

/// Returns a cache of its own on the same server, so that entries with different tags do not meet.
fn named(runtime: &Runtime, server: &RedisServer, tags: usize) -> Cache {
    let store = runtime.block_on(RedisStore::connect(server.url())).expect("the server answers");
    bare_bytes(store, &format!("tags{tags}"))
}

fn writes(runtime: &Runtime, server: &RedisServer) {
    let (bare, cache) = (connect(runtime, &server.url()), open(runtime, server.url()));
    let theirs = armature(runtime, &server.url());
    let (keys, value) = (keys(KEYS), noise_of(100));
    let text = "x".repeat(100);
    let pick = |n: usize| keys[n % KEYS].as_str();
    let set = |tags: usize| {
        sequential(runtime, OPS, |n| {
            let (cache, value) = (cache.clone(), value.clone());
            async move { cache.set(pick(n), &value).tags(&TAGS[..tags]).await.expect("it is written") }
        })
    };
    let mut peers: Vec<Peer<'_>> = vec![
        ("larder set, no tags", Box::new(|| set(0))),
        ("larder set, 3 tags", Box::new(|| set(3))),
        ("larder set, 10 tags", Box::new(|| set(10))),
        ("bare redis SET", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let (mut bare, value) = (bare.clone(), value.clone());
                async move { bare.set::<_, _, ()>(pick(n), &value[..]).await.expect("it is written") }
            })
        })),
        ("armature-cache set_with_tags, 3 tags", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let (theirs, text, key) = (theirs.clone(), text.clone(), format!("b:{}", pick(n)));
                async move { theirs.set_with_tags(&key, text, &TAGS[..3], None).await.expect("it is written") }
            })
        })),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    measure::print("set, 100 B, one by one, on one core", "us", &rows);
    target("set with 3 tags, times one without", rows[1].median() / rows[0].median(), 2.0, true);
}

/// Milliseconds of some work.
fn millis(runtime: &Runtime, work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    runtime.block_on(work);
    start.elapsed().as_secs_f64() * 1e3
}

async fn fill(bare: &mut MultiplexedConnection, prefix: &str, entries: usize, tag: Option<&str>) {
    for first in (0..entries).step_by(BATCH) {
        let mut pipe = redis::pipe();
        for n in first..(first + BATCH).min(entries) {
            pipe.set(format!("{prefix}:{n}"), "value").ignore();
            if let Some(tag) = tag {
                pipe.sadd(tag, format!("{prefix}:{n}")).ignore();
            }
        }
        pipe.query_async::<()>(bare).await.expect("they are written");
    }
}

async fn delete(bare: &mut MultiplexedConnection, keys: &[String], batch: usize) {
    for keys in keys.chunks(batch) {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.del(key).ignore();
        }
        pipe.query_async::<()>(bare).await.expect("they are deleted");
    }
}

/// Compares invalidating one tag of so many entries. What is filled before each round is not measured.
fn invalidations(runtime: &Runtime, entries: usize, rounds: usize) {
    let server = RedisServer::start().expect("a server");
    let (bare, cache) = (connect(runtime, &server.url()), open(runtime, server.url()));
    let theirs = (entries <= 10_000).then(|| armature(runtime, &server.url()));
    let names: Vec<String> = (0..entries).map(|n| format!("plain:{n}")).collect();
    let row = |name: &str| Row { name: name.to_owned(), samples: Vec::new() };
    let mut rows = ["larder invalidate_tags", "DEL one by one", "DEL in pipelines of 1000", "a set of keys, UNLINK in pipelines", "armature-cache invalidate_tag"].map(row);
    for _ in 0..rounds {
        let mut bare = bare.clone();
        runtime.block_on(fill_larder(&cache, entries));
        rows[0].samples.push(millis(runtime, async {
            let told = cache.invalidate_tags(["all"]).await.expect("it is invalidated");
            assert!(told.tags[0].existed);
        }));
        for (row, batch) in [(1, 1), (2, BATCH)] {
            runtime.block_on(fill(&mut bare, "plain", entries, None));
            rows[row].samples.push(millis(runtime, delete(&mut bare, &names, batch)));
        }
        runtime.block_on(fill(&mut bare, "plain", entries, Some("set:all")));
        rows[3].samples.push(millis(runtime, async {
            let members: Vec<String> = bare.smembers("set:all").await.expect("it is read");
            for keys in members.chunks(BATCH) {
                let mut pipe = redis::pipe();
                pipe.unlink(keys).ignore();
                pipe.query_async::<()>(&mut bare).await.expect("they are deleted");
            }
            bare.unlink::<_, ()>("set:all").await.expect("it is deleted");
        }));
        let Some(theirs) = &theirs else { continue };
        runtime.block_on(async {
            for n in 0..entries {
                theirs.set_with_tags(&format!("a:{n}"), "value".to_owned(), &["all"], None).await.expect("it is written");
            }
        });
        rows[4].samples.push(millis(runtime, async { theirs.invalidate_tag("all").await.expect("it is invalidated") }));
    }
    let measured: Vec<Row> = rows.into_iter().filter(|row| !row.samples.is_empty()).collect();
    measure::print(&format!("invalidate a tag of {entries} entries, on one core, {rounds} rounds"), "ms", &measured);
    if entries >= 10_000 {
        target("times faster than DEL one by one", measured[1].median() / measured[0].median(), 1000.0, false);
    }
}

async fn fill_larder(cache: &Cache, entries: usize) {
    let keys: Vec<(String, u32)> = (0..entries).map(|n| (format!("k{n}"), 1)).collect();
    for keys in keys.chunks(BATCH) {
        cache.set_many(keys).tags(["all"]).await.expect("they are written");
    }
}

/// A cluster has 64 parts, each with a register of its own.
fn cluster(runtime: &Runtime) {
    let cluster = RedisCluster::start().expect("a cluster");
    let urls = cluster.addresses().into_iter().map(|address| format!("redis://{address}"));
    let store = runtime.block_on(RedisStore::cluster(urls).connect()).expect("the cluster answers");
    let cache = bare_bytes(store, "bench");
    let mut rows = Vec::new();
    for entries in [100, 10_000, 100_000] {
        let mut row = Row { name: format!("a tag of {entries} entries"), samples: Vec::new() };
        for _ in 0..(if entries > 10_000 { 1 } else { 7 }) {
            runtime.block_on(fill_larder(&cache, entries));
            row.samples.push(millis(runtime, async { drop(cache.invalidate_tags(["all"]).await.expect("it is invalidated")) }));
        }
        rows.push(row);
    }
    measure::print("larder invalidate_tags on a cluster of 3 + 3 servers, all on one core", "ms", &rows);
}

/// What tags cost the server's memory.
fn memory(runtime: &Runtime) {
    const ENTRIES: usize = 50_000;
    println!("\nmemory of the server, {ENTRIES} entries of 100 B [B an entry]");
    let mut before = None;
    for (what, shared, own) in [
        ("no tags", 0, 0),
        ("3 tags that all have", 3, 0),
        ("10 tags that all have", 10, 0),
        ("1 tag of its own", 0, 1),
        ("3 tags of its own", 0, 3),
    ] {
        let server = RedisServer::start().expect("a server");
        let cache = open(runtime, server.url());
        let empty = used(&server);
        let value = noise_of(100);
        runtime.block_on(async {
            for n in 0..ENTRIES {
                let own = (0..own).map(|tag| format!("tag:{n}:{tag}"));
                let tags = TAGS[..shared].iter().map(|tag| (*tag).to_owned()).chain(own);
                cache.set(&format!("k{n}"), &value).tags(tags).await.expect("it is written");
            }
        });
        let bytes = (used(&server) - empty) as f64 / ENTRIES as f64;
        let more = bytes - *before.get_or_insert(bytes);
        println!("  {what:44} {bytes:10.0}   {more:+.0}");
    }
}

fn used(server: &RedisServer) -> u64 {
    let info = server.call(&["INFO", "memory"]).expect("the server answers");
    let digits = info.text().split_once("used_memory:").map(|(_, rest)| rest.split(['\r', '\n']).next().unwrap_or("0").to_owned());
    digits.and_then(|digits| digits.parse().ok()).expect("a number")
}
