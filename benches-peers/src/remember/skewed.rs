//! A skewed read load on Redis, with local tiers of different sizes and without: what reaches the server, and the time
//! of a read. The entries are in the store before; nothing is ever loaded.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::{Cache, Local};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use xtask::servers::private::RedisServer;

use super::open;
use crate::measure::{self, Peer, nanos_per_op, rounds, target};
use crate::network::one_thread;
use crate::network::redis::connect;
use crate::network::traffic::Traffic;
use crate::workload::{keys, noise_of, zipf};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 1024;
/// What the tier weighs a slot: key, encoded value and overhead, rounded up.
const SLOT_BYTES: u64 = 1200;
const EXPONENT: f64 = 0.99;
const BATCH: usize = 1000;
/// Reads that fill an empty tier.
const COLD: usize = 1_000_000;
/// Reads of a round, timed.
const OPS: usize = 50_000;
const ROUNDS: usize = 7;
/// So many reads a second in the paced load.
const PACE: usize = 10_000;
const PACED: usize = 100_000;
/// A hit in the tier does not yield, so the reader does, as one who answers requests would.
const TURN: usize = 100;

struct Reads<'a> {
    runtime: &'a Runtime,
    keys: &'a [String],
}

impl Reads<'_> {
    fn of(&self, cache: &Cache, order: &[usize]) {
        self.runtime.block_on(async {
            for turn in order.chunks(TURN) {
                for index in turn {
                    read(cache, &self.keys[*index]).await;
                }
                tokio::task::yield_now().await;
            }
        });
    }

    /// As `of`, not faster than the pace.
    fn paced(&self, cache: &Cache, order: &[usize]) {
        let start = Instant::now();
        self.runtime.block_on(async {
            for (n, turn) in order.chunks(TURN).enumerate() {
                let due = start + Duration::from_secs_f64((n * TURN) as f64 / PACE as f64);
                tokio::time::sleep_until(due.into()).await;
                for index in turn {
                    read(cache, &self.keys[*index]).await;
                }
            }
        });
    }

    fn bare(&self, bare: &MultiplexedConnection, order: &[usize]) {
        let mut bare = bare.clone();
        self.runtime.block_on(async {
            for index in order {
                let value: Vec<u8> = bare.get(&self.keys[*index]).await.expect("it is read");
                assert_eq!(value.len(), VALUE_BYTES);
            }
        });
    }
}

async fn read(cache: &Cache, key: &str) {
    let load = || async { Err::<Bytes, _>(std::io::Error::other("every key is there")) };
    let value = cache.remember(key, load).await.expect("it is there");
    assert_eq!(value.len(), VALUE_BYTES);
}

pub fn run() {
    let server = RedisServer::start().expect("a server");
    let runtime = &one_thread();
    let (bare, plain) = (connect(runtime, &server.url()), open(runtime, &server, None));
    let keys = &keys(KEYS);
    fill(runtime, &bare, &plain, keys);
    let reads = Reads { runtime, keys };
    let tier = |part: f64| {
        let local = Local::capacity_bytes((KEYS as f64 * part * SLOT_BYTES as f64) as u64);
        let cache = open(runtime, &server, Some(local));
        (part, cache)
    };
    println!("\nzipf {EXPONENT} over {KEYS} keys of {VALUE_BYTES} B, remember, on one core: what reaches Redis");
    let limit = unpaced(&server, "bare redis GET", OPS, |order| reads.bare(&bare, order));
    unpaced(&server, "no local tier", OPS, |order| reads.of(&plain, order));
    let tiers = [(tier(0.2), 0.85), (tier(1.2), 0.99)];
    for ((part, cache), bound) in &tiers {
        println!("  local tier for {:.0} % of the keys", part * 100.0);
        unpaced(&server, "  first million reads, tier empty before", COLD, |order| reads.of(cache, order));
        unpaced(&server, "  next million", COLD, |order| reads.of(cache, order));
        let asked = Traffic::of(&server, || reads.paced(cache, &zipf(KEYS, EXPONENT, PACED, 7)));
        report(&format!("  next {PACED}, {PACE} a second"), PACED, asked);
        let fewer = |of: fn(Traffic) -> u64| 1.0 - (of(asked) as f64 / PACED as f64) / (of(limit) as f64 / OPS as f64);
        target("part of the requests saved", fewer(|asked| asked.requests), *bound, false);
        target("part of the bytes saved", fewer(|asked| asked.bytes), 0.8, false);
        let stats = runtime.block_on(cache.stats()).expect("there are figures");
        assert_eq!(stats.process.loads, 0, "every key is there");
        println!("    copies in the tier: {}", stats.local.map_or(0, |local| local.entries));
    }
    times(&reads, &bare, &plain, &tiers[0].0.1, &tiers[1].0.1);
}

fn fill(runtime: &Runtime, bare: &MultiplexedConnection, plain: &Cache, keys: &[String]) {
    let value = noise_of(VALUE_BYTES);
    runtime.block_on(async {
        for keys in keys.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for key in keys {
                pipe.set(key, &value[..]).ignore();
            }
            pipe.query_async::<()>(&mut bare.clone()).await.expect("they are written");
            let entries: Vec<(String, Bytes)> = keys.iter().map(|key| (key.clone(), value.clone())).collect();
            plain.set_many(&entries).await.expect("they are written");
        }
    });
}

fn unpaced(server: &RedisServer, what: &str, reads: usize, run: impl FnOnce(&[usize])) -> Traffic {
    let order = zipf(KEYS, EXPONENT, reads, what.len() as u64);
    let asked = Traffic::of(server, || run(&order));
    report(what, reads, asked);
    asked
}

fn report(what: &str, reads: usize, asked: Traffic) {
    let each = |count: u64| count as f64 / reads as f64;
    let (requests, commands, bytes) = (each(asked.requests), each(asked.commands), each(asked.bytes));
    println!("  {what:44} a read: {requests:8.5} requests, {commands:8.5} commands, {bytes:8.2} B");
}

fn times(reads: &Reads<'_>, bare: &MultiplexedConnection, plain: &Cache, fifth: &Cache, all: &Cache) {
    let order = &zipf(KEYS, EXPONENT, OPS, 11);
    let micros = |run: &dyn Fn()| nanos_per_op(OPS, run) / 1e3;
    let hot = vec![0; OPS];
    let mut peers: Vec<Peer<'_>> = vec![
        ("bare redis GET", Box::new(|| micros(&|| reads.bare(bare, order)))),
        ("remember, no local tier", Box::new(|| micros(&|| reads.of(plain, order)))),
        ("remember, tier for 20 % of the keys", Box::new(|| micros(&|| reads.of(fifth, order)))),
        ("remember, tier for all keys", Box::new(|| micros(&|| reads.of(all, order)))),
        ("remember, tier, one hot key", Box::new(|| micros(&|| reads.of(all, &hot)))),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    measure::print("mean time of a read, zipf 0.99, 1 KB, on one core", "us", &rows);
    let times = |row: usize| rows[0].median() / rows[row].median();
    println!("  times faster than bare Redis: {:.1} (20 %), {:.0} (all keys), {:.0} (hot key)", times(2), times(3), times(4));
    target("hot read, times faster than Redis", times(4), 50.0, false);
}
