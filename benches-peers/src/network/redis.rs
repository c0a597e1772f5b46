//! The Redis store through `Cache`, without a local tier, against the bare client on a connection of the same kind.

use bytes::Bytes;
use larder::{Cache, RedisStore};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::{on_one_core, one_thread, sequential, throughput};
use crate::measure::{self, Peer, rounds, target};
use crate::workload::{keys, noise_of};

const KEYS: usize = 1000;
const OPS: usize = 10_000;
const ROUNDS: usize = 7;

pub fn connect(runtime: &Runtime, url: &str) -> MultiplexedConnection {
    let info: redis::ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(url).expect("a URL");
    let info = info.set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true));
    let client = redis::Client::open(info).expect("the address is valid");
    runtime.block_on(client.get_multiplexed_async_connection()).expect("the server answers")
}

fn open(runtime: &Runtime, url: String) -> Cache {
    let store = runtime.block_on(RedisStore::connect(url)).expect("the server answers");
    bare_bytes(store)
}

/// The bare client does not compress either.
fn bare_bytes(store: RedisStore) -> Cache {
    let cache = Cache::builder(store).prefix("bench").compression(larder::Compression::None).build();
    cache.expect("the options are valid")
}

fn fill(runtime: &Runtime, bare: &MultiplexedConnection, cache: &Cache, keys: &[String], value: &Bytes) {
    runtime.block_on(async {
        for key in keys {
            bare.clone().set::<_, _, ()>(key, &value[..]).await.expect("it is written");
            cache.set(key, value).await.expect("it is written");
        }
    });
}

pub fn run() {
    on_one_core("redis-pinned");
    let server = RedisServer::start().expect("a server");
    let runtime = one_thread();
    let (bare, cache) = (connect(&runtime, &server.url()), open(&runtime, server.url()));
    for (label, bytes) in [("100 B", 100), ("10 KB", 10_240)] {
        let (keys, value) = (keys(KEYS), noise_of(bytes));
        fill(&runtime, &bare, &cache, &keys, &value);
        for tasks in [64, 512] {
            parallel(&runtime, &bare, &cache, &keys, &value, label, tasks);
        }
    }
    wire(&runtime, &server, &bare, &cache);
}

fn parallel(
    runtime: &Runtime,
    bare: &MultiplexedConnection,
    cache: &Cache,
    keys: &[String],
    value: &Bytes,
    label: &str,
    tasks: usize,
) {
    let ops = if value.len() > 1000 { 30_000 } else { 100_000 };
    let keys: &'static [String] = keys.to_vec().leak();
    let pick = move |n: usize| keys[n % KEYS].as_str();
    let mut gets: Vec<Peer<'_>> = vec![
        ("bare redis GET", Box::new(|| {
            let bare = bare.clone();
            throughput(runtime, ops, tasks, move |n| {
                let mut bare = bare.clone();
                async move { bare.get::<_, Vec<u8>>(pick(n)).await.expect("it is read") }
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
    measure::print(&format!("get, {label}, {tasks} tasks, unpinned"), "thousands/s", &rows);
    target("get, part of the bare client's", rows[1].median() / rows[0].median(), 0.9, false);
    drop(gets);
    let mut sets: Vec<Peer<'_>> = vec![
        ("bare redis SET", Box::new(|| {
            let (bare, value) = (bare.clone(), value.clone());
            throughput(runtime, ops, tasks, move |n| {
                let (mut bare, value) = (bare.clone(), value.clone());
                async move { bare.set::<_, _, ()>(pick(n), &value[..]).await.expect("it is written") }
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
    measure::print(&format!("set, {label}, {tasks} tasks, unpinned"), "thousands/s", &rows);
    target("set, part of the bare client's", rows[1].median() / rows[0].median(), 0.9, false);
}

/// Bytes between client and server, as the server counts them.
fn wire(runtime: &Runtime, server: &RedisServer, bare: &MultiplexedConnection, cache: &Cache) {
    const GETS: usize = 10_000;
    let (keys, value) = (keys(KEYS), noise_of(100));
    fill(runtime, bare, cache, &keys, &value);
    let count = |what: &str, work: &dyn Fn()| {
        let before = traffic(server);
        work();
        let after = traffic(server);
        let each = |new: u64, old: u64| (new - old) as f64 / GETS as f64;
        println!("  {what:44} {:8.1} to the server, {:8.1} back", each(after.0, before.0), each(after.1, before.1));
    };
    println!("\nbytes on the wire of one get, 100 B");
    count("bare redis GET", &|| {
        runtime.block_on(async {
            for n in 0..GETS {
                let _: Vec<u8> = bare.clone().get(&keys[n % KEYS]).await.expect("it is read");
            }
        });
    });
    count("larder get::<Bytes>", &|| {
        runtime.block_on(async {
            for n in 0..GETS {
                cache.get::<Bytes>(&keys[n % KEYS]).await.expect("it is read");
            }
        });
    });
}

fn traffic(server: &RedisServer) -> (u64, u64) {
    let info = server.call(&["INFO", "stats"]).expect("the server answers");
    let info = info.text();
    let field = |name: &str| {
        let at = info.find(name).expect("the field is there") + name.len() + 1;
        let digits: String = info[at..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    };
    (field("total_net_input_bytes"), field("total_net_output_bytes"))
}

/// The part that runs on one core.
pub fn pinned() {
    let server = RedisServer::start().expect("a server");
    let runtime = one_thread();
    let (bare, cache) = (connect(&runtime, &server.url()), open(&runtime, server.url()));
    for (label, bytes) in [("100 B", 100), ("10 KB", 10_240)] {
        let (keys, value) = (keys(KEYS), noise_of(bytes));
        fill(&runtime, &bare, &cache, &keys, &value);
        one_by_one(&runtime, &bare, &cache, &keys, &value, label);
        if bytes == 100 {
            many(&runtime, &bare, &cache, &keys);
        }
    }
    drop((bare, cache, server));
    cluster(&runtime);
}

fn one_by_one(
    runtime: &Runtime,
    bare: &MultiplexedConnection,
    cache: &Cache,
    keys: &[String],
    value: &Bytes,
    label: &str,
) {
    let pick = |n: usize| keys[n % KEYS].as_str();
    let mut gets: Vec<Peer<'_>> = vec![
        ("bare redis GET", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let mut bare = bare.clone();
                async move { bare.get::<_, Vec<u8>>(pick(n)).await.expect("it is read") }
            })
        })),
        ("larder get::<Bytes>", Box::new(|| {
            sequential(runtime, OPS, |n| async move {
                cache.get::<Bytes>(pick(n)).await.expect("it is read").expect("it is there")
            })
        })),
    ];
    let rows = rounds(ROUNDS, &mut gets);
    measure::print(&format!("get, {label}, one by one, pinned"), "us", &rows);
    target("get, ratio", rows[1].median() / rows[0].median(), 1.15, true);
    drop(gets);
    let mut sets: Vec<Peer<'_>> = vec![
        ("bare redis SET", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let mut bare = bare.clone();
                async move { bare.set::<_, _, ()>(pick(n), &value[..]).await.expect("it is written") }
            })
        })),
        ("larder set", Box::new(|| {
            sequential(runtime, OPS, |n| async move { cache.set(pick(n), value).await.expect("it is written") })
        })),
    ];
    let rows = rounds(ROUNDS, &mut sets);
    measure::print(&format!("set, {label}, one by one, pinned"), "us", &rows);
    target("set, ratio", rows[1].median() / rows[0].median(), 1.15, true);
}

fn many(runtime: &Runtime, bare: &MultiplexedConnection, cache: &Cache, keys: &[String]) {
    let chunk = |n: usize| &keys[n * 100 % KEYS..][..100];
    let mut peers: Vec<Peer<'_>> = vec![
        ("bare redis MGET", Box::new(|| {
            sequential(runtime, OPS / 20, |n| {
                let mut bare = bare.clone();
                async move { bare.mget::<_, Vec<Vec<u8>>>(chunk(n)).await.expect("they are read") }
            })
        })),
        ("larder get_many::<Bytes>", Box::new(|| {
            sequential(runtime, OPS / 20, |n| async move {
                cache.get_many::<Bytes>(chunk(n)).await.expect("they are read")
            })
        })),
    ];
    measure::print("get_many of 100 keys, 100 B, pinned", "us", &rounds(ROUNDS, &mut peers));
}

/// A cluster of six servers on the same core, against one server.
fn cluster(runtime: &Runtime) {
    let (single, cluster) = (RedisServer::start().expect("a server"), RedisCluster::start().expect("a cluster"));
    let urls: Vec<_> = cluster.addresses().iter().map(|address| format!("redis://{address}")).collect();
    let store = runtime.block_on(RedisStore::cluster(urls).connect()).expect("the cluster answers");
    let spread = bare_bytes(store);
    let alone = open(runtime, single.url());
    let (keys, value) = (keys(KEYS), noise_of(100));
    let (keys, value) = (&keys, &value);
    let get = |cache: &Cache| {
        let cache = cache.clone();
        sequential(runtime, OPS, |n| {
            let cache = cache.clone();
            async move { cache.get::<Bytes>(&keys[n % KEYS]).await.expect("it is read").expect("it is there") }
        })
    };
    let set = |cache: &Cache| {
        let cache = cache.clone();
        sequential(runtime, OPS, |n| {
            let cache = cache.clone();
            async move { cache.set(&keys[n % KEYS], value).await.expect("it is written") }
        })
    };
    let get_many = |cache: &Cache| {
        let cache = cache.clone();
        sequential(runtime, OPS / 20, |n| {
            let cache = cache.clone();
            async move { cache.get_many::<Bytes>(&keys[n * 100 % KEYS..][..100]).await.expect("they are read") }
        })
    };
    for (what, run) in [("set", &set as &dyn Fn(&Cache) -> f64), ("get", &get), ("get_many of 100", &get_many)] {
        let mut peers: Vec<Peer<'_>> = vec![
            ("larder, one server", Box::new(|| run(&alone))),
            ("larder, cluster of 3 + 3", Box::new(|| run(&spread))),
        ];
        measure::print(&format!("{what}, 100 B, pinned"), "us", &rounds(ROUNDS, &mut peers));
    }
}
