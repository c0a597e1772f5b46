//! A hit and a miss on Redis without a local tier: their time, and what the server is asked.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use larder::Cache;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use xtask::servers::private::RedisServer;

use super::open;
use crate::measure::{self, Peer, rounds, target};
use crate::network::redis::connect;
use crate::network::traffic::Traffic;
use crate::network::{one_thread, sequential};
use crate::workload::{keys, noise_of};

const KEYS: usize = 1000;
const OPS: usize = 5_000;
const ROUNDS: usize = 7;
const COUNTED: usize = 1000;

pub fn run() {
    let server = RedisServer::start().expect("a server");
    let runtime = one_thread();
    let (bare, cache) = (connect(&runtime, &server.url()), open(&runtime, &server, None));
    hits(&runtime, &bare, &cache);
    misses(&runtime, &bare, &cache);
    round_trips(&runtime, &server, &cache);
}

/// Returns the value of a key that must be there.
async fn hit(cache: &Cache, key: &str) -> Bytes {
    let load = || async { Err::<Bytes, _>(std::io::Error::other("every key is there")) };
    cache.remember(key, load).await.expect("it is there")
}

/// Returns the loaded value of a key that must be absent.
async fn miss(cache: &Cache, key: &str, value: &Bytes) -> Bytes {
    let value = value.clone();
    let load = || async { Ok::<_, std::io::Error>(value) };
    cache.remember(key, load).await.expect("it is loaded")
}

fn hits(runtime: &Runtime, bare: &MultiplexedConnection, cache: &Cache) {
    let (keys, value) = (keys(KEYS), noise_of(100));
    runtime.block_on(async {
        for key in &keys {
            bare.clone().set::<_, _, ()>(key, &value[..]).await.expect("it is written");
            cache.set(key, &value).await.expect("it is written");
        }
    });
    let pick = |n: usize| keys[n % KEYS].as_str();
    let mut peers: Vec<Peer<'_>> = vec![
        ("bare redis GET", Box::new(|| {
            sequential(runtime, OPS, |n| {
                let mut bare = bare.clone();
                async move { bare.get::<_, Vec<u8>>(pick(n)).await.expect("it is read") }
            })
        })),
        ("larder get", Box::new(|| {
            sequential(runtime, OPS, |n| async move {
                cache.get::<Bytes>(pick(n)).await.expect("it is read").expect("it is there")
            })
        })),
        ("larder remember", Box::new(|| sequential(runtime, OPS, |n| hit(cache, pick(n))))),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    measure::print("hit on Redis, no local tier, 100 B, one by one, on one core", "us", &rows);
    target("remember, times the bare client", rows[2].median() / rows[0].median(), 1.15, true);
}

fn misses(runtime: &Runtime, bare: &MultiplexedConnection, cache: &Cache) {
    let value = &noise_of(100);
    let next = Cell::new(0);
    let fresh = || {
        next.set(next.get() + 1);
        format!("miss:{}", next.get())
    };
    let mut peers: Vec<Peer<'_>> = vec![
        ("bare redis GET, SET (no protection)", Box::new(|| {
            sequential(runtime, OPS, |_| {
                let (mut bare, key) = (bare.clone(), fresh());
                async move {
                    let found: Option<Vec<u8>> = bare.get(&key).await.expect("it is read");
                    assert!(found.is_none());
                    bare.set::<_, _, ()>(&key, &value[..]).await.expect("it is written");
                }
            })
        })),
        ("larder remember", Box::new(|| {
            sequential(runtime, OPS, |_| {
                let key = fresh();
                async move { miss(cache, &key, value).await }
            })
        })),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    measure::print("miss on Redis, loader that returns at once, 100 B, one by one, on one core", "us", &rows);
}

/// What one call asks of the server: its reads of sockets are the round trips of one caller who waits for each answer.
fn round_trips(runtime: &Runtime, server: &RedisServer, cache: &Cache) {
    let value = noise_of(100);
    println!("\nwhat the server is asked, {COUNTED} calls one after the other");
    for what in ["hit", "miss"] {
        let commands_before = commands(server);
        let asked = Traffic::of(server, || {
            runtime.block_on(async {
                for n in 0..COUNTED {
                    match what {
                        "hit" => drop(hit(cache, &crate::workload::key(n % KEYS)).await),
                        _ => drop(miss(cache, &format!("count:{n}"), &value).await),
                    }
                }
            });
        });
        let trips = asked.requests as f64 / COUNTED as f64;
        println!("  remember, {what:34} {trips:10.2} round trips, {:.2} commands", asked.commands as f64 / COUNTED as f64);
        for (name, calls) in commands(server) {
            let each = (calls - commands_before.get(&name).copied().unwrap_or(0)) as f64 / COUNTED as f64;
            if each > 0.1 {
                println!("      {name:40} {each:10.2}");
            }
        }
        target(what, trips, if what == "hit" { 1.01 } else { 2.01 }, true);
    }
}

fn commands(server: &RedisServer) -> BTreeMap<String, u64> {
    let info = server.call(&["INFO", "commandstats"]).expect("the server answers").text();
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(line).collect()
}
