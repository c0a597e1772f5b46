//! The Memcached store through `Cache`, without a local tier, against `async-memcached`, the fastest client crate.

use async_memcached::{AsciiProtocol, Client};
use bytes::Bytes;
use larder::{Cache, MemcachedStore};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use xtask::servers::private::MemcachedServer;

use super::{on_one_core, one_thread, sequential, throughput};
use crate::measure::{self, Peer, rounds, target};
use crate::workload::{keys, noise_of};

const KEYS: usize = 1000;
const OPS: usize = 10_000;
const ROUNDS: usize = 7;

fn client(runtime: &Runtime, server: &MemcachedServer) -> Client {
    runtime.block_on(Client::new(format!("tcp://{}", server.address()))).expect("the server answers")
}

fn open(runtime: &Runtime, server: &MemcachedServer) -> Cache {
    let store = runtime.block_on(MemcachedStore::connect(server.address().to_string()));
    let builder = Cache::builder(store.expect("the server answers")).prefix("bench");
    builder.compression(larder::Compression::None).build().expect("the options are valid")
}

pub fn run() {
    on_one_core("memcached-pinned");
    let server = MemcachedServer::start().expect("a server");
    let runtime = one_thread();
    let cache = open(&runtime, &server);
    let keys: &'static [String] = keys(KEYS).leak();
    let value = noise_of(100);
    let mut filler = client(&runtime, &server);
    runtime.block_on(async {
        for key in keys {
            cache.set(key, &value).await.expect("it is written");
            filler.set(key, &value[..], None, None).await.expect("it is written");
        }
    });
    for tasks in [64, 512] {
        let pool: &'static [Mutex<Client>] =
            (0..tasks).map(|_| Mutex::new(client(&runtime, &server))).collect::<Vec<_>>().leak();
        parallel(&runtime, &cache, keys, &value, pool, tasks);
    }
}

/// `async-memcached` has one caller at a time on a connection, so each task gets its own.
fn parallel(
    runtime: &Runtime,
    cache: &Cache,
    keys: &'static [String],
    value: &Bytes,
    pool: &'static [Mutex<Client>],
    tasks: usize,
) {
    let ops = 100_000;
    let pick = move |n: usize| keys[n % KEYS].as_str();
    let mut gets: Vec<Peer<'_>> = vec![
        ("async-memcached get, a connection each", Box::new(|| {
            throughput(runtime, ops, tasks, move |n| async move {
                pool[n % tasks].lock().await.get(pick(n)).await.expect("it is read")
            })
        })),
        ("larder get::<Bytes>", Box::new(|| {
            let cache = cache.clone();
            throughput(runtime, ops, tasks, move |n| {
                let cache = cache.clone();
                async move { cache.get::<Bytes>(pick(n)).await.expect("it is read").expect("it is there") }
            })
        })),
    ];
    let rows = rounds(ROUNDS, &mut gets);
    measure::print(&format!("get, 100 B, {tasks} tasks, unpinned"), "thousands/s", &rows);
    if tasks == 64 {
        target("get, thousands/s", rows[1].median(), 450.0, false);
    }
    drop(gets);
    let mut sets: Vec<Peer<'_>> = vec![
        ("async-memcached set, a connection each", Box::new(|| {
            let value = value.clone();
            throughput(runtime, ops, tasks, move |n| {
                let value = value.clone();
                async move { pool[n % tasks].lock().await.set(pick(n), &value[..], None, None).await.expect("it is written") }
            })
        })),
        ("larder set", Box::new(|| {
            let (cache, value) = (cache.clone(), value.clone());
            throughput(runtime, ops, tasks, move |n| {
                let (cache, value) = (cache.clone(), value.clone());
                async move { cache.set(pick(n), &value).await.expect("it is written") }
            })
        })),
    ];
    let rows = rounds(ROUNDS, &mut sets);
    measure::print(&format!("set, 100 B, {tasks} tasks, unpinned"), "thousands/s", &rows);
}

/// The part that runs on one core.
pub fn pinned() {
    let server = MemcachedServer::start().expect("a server");
    let runtime = one_thread();
    let (bare, cache) = (Mutex::new(client(&runtime, &server)), open(&runtime, &server));
    for (label, bytes) in [("100 B", 100), ("10 KB", 10_240)] {
        let (keys, value) = (keys(KEYS), noise_of(bytes));
        let (bare, cache, value) = (&bare, &cache, &value);
        let pick = |n: usize| keys[n % KEYS].as_str();
        let mut sets: Vec<Peer<'_>> = vec![
            ("async-memcached set", Box::new(|| {
                sequential(&runtime, OPS, |n| async move {
                    bare.lock().await.set(pick(n), &value[..], None, None).await.expect("it is written")
                })
            })),
            ("larder set", Box::new(|| {
                sequential(&runtime, OPS, |n| async move { cache.set(pick(n), value).await.expect("it is written") })
            })),
        ];
        let rows = rounds(ROUNDS, &mut sets);
        measure::print(&format!("set, {label}, one by one, pinned"), "us", &rows);
        target("set, ratio", rows[1].median() / rows[0].median(), 1.2, true);
        drop(sets);
        let mut gets: Vec<Peer<'_>> = vec![
            ("async-memcached get", Box::new(|| {
                sequential(&runtime, OPS, |n| async move { bare.lock().await.get(pick(n)).await.expect("it is read") })
            })),
            ("larder get::<Bytes>", Box::new(|| {
                sequential(&runtime, OPS, |n| async move {
                    cache.get::<Bytes>(pick(n)).await.expect("it is read").expect("it is there")
                })
            })),
        ];
        let rows = rounds(ROUNDS, &mut gets);
        measure::print(&format!("get, {label}, one by one, pinned"), "us", &rows);
        target("get, ratio", rows[1].median() / rows[0].median(), 1.2, true);
    }
}
