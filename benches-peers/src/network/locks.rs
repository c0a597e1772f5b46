//! Locks on Redis: an uncontended acquire and release against two bare script calls, and what a hand-over between many
//! contenders costs the server.

use std::time::{Duration, Instant};

use larder::{Cache, RedisStore};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use xtask::servers::private::RedisServer;

use super::redis::connect;
use super::{on_one_core, one_thread, sequential};
use crate::measure::{self, Peer, rounds, target};

const OPS: usize = 5_000;
const ROUNDS: usize = 7;
const STORES: usize = 8;
const TASKS: usize = 8;
const SECTIONS: usize = 25;

/// The least that a lock with an owner needs, as scripts.
const ACQUIRE: &str = "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])";
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

fn open(runtime: &Runtime, server: &RedisServer) -> Cache {
    let store = runtime.block_on(RedisStore::connect(server.url())).expect("the server answers");
    Cache::builder(store).prefix("bench").build().expect("the options are valid")
}

pub fn run() {
    on_one_core("locks-pinned");
    handover(true);
    handover(false);
}

/// The part that runs on one core.
pub fn pinned() {
    let server = RedisServer::start().expect("a server");
    let runtime = one_thread();
    let (bare, cache) = (connect(&runtime, &server.url()), open(&runtime, &server));
    let (acquire, release) = (redis::Script::new(ACQUIRE), redis::Script::new(RELEASE));
    let script = async |script: &redis::Script, connection: &MultiplexedConnection| {
        let mut connection = connection.clone();
        let call = script.key("bench:lock").arg("owner").arg(30_000).invoke_async::<redis::Value>(&mut connection).await;
        call.expect("the script runs")
    };
    let acquire_and_release = |lock: larder::Lock| async move {
        let guard = lock.acquire().await.expect("the lock is free");
        guard.release().await.expect("the lock is held");
    };
    let mut peers: Vec<Peer<'_>> = vec![
        ("two bare scripts: SET NX PX; GET, DEL", Box::new(|| {
            sequential(&runtime, OPS, |_| async {
                script(&acquire, &bare).await;
                script(&release, &bare).await
            })
        })),
        ("larder acquire, release", Box::new(|| {
            sequential(&runtime, OPS, |_| acquire_and_release(cache.lock("report")))
        })),
        ("larder acquire, release, not fair", Box::new(|| {
            sequential(&runtime, OPS, |_| acquire_and_release(cache.lock("report").fair(false)))
        })),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    measure::print("lock and unlock, nobody waits, on one core", "us", &rows);
    target("acquire and release, times two bare scripts", rows[1].median() / rows[0].median(), 1.3, true);
}

/// Lets 64 tasks of 8 stores fight for one lock.
fn handover(fair: bool) {
    let server = RedisServer::start().expect("a server");
    let runtime = one_thread();
    let caches: Vec<Cache> = (0..STORES).map(|_| open(&runtime, &server)).collect();
    let before = commands(&server);
    let start = Instant::now();
    runtime.block_on(async {
        let contend = |n: usize| {
            let lock = caches[n % STORES].lock("report").fair(fair).wait(Duration::from_secs(120));
            tokio::spawn(async move {
                for _ in 0..SECTIONS {
                    let guard = lock.acquire().await.expect("the lock comes");
                    guard.release().await.expect("the lock is held");
                }
            })
        };
        for task in (0..STORES * TASKS).map(contend).collect::<Vec<_>>() {
            task.await.expect("the task ends");
        }
    });
    let taken = start.elapsed();
    let handovers = (STORES * TASKS * SECTIONS) as f64;
    let how = if fair { "fair" } else { "not fair" };
    println!("\n64 contenders of 8 stores, one lock, {how}, unpinned");
    println!("  {:44} {:10.1} us", "a hand-over", taken.as_secs_f64() * 1e6 / handovers);
    for ((name, new), (_, old)) in commands(&server).into_iter().zip(before) {
        println!("  {:44} {:10.2}", format!("{name} per hand-over"), (new - old) as f64 / handovers);
    }
}

/// Counts the commands that matter.
fn commands(server: &RedisServer) -> Vec<(&'static str, u64)> {
    let info = server.call(&["INFO", "commandstats"]).expect("the server answers");
    let info = info.text();
    let count = |name: &'static str| {
        let field = format!("cmdstat_{name}:calls=");
        let digits = info.split_once(&field).map_or("0", |(_, rest)| rest.split(',').next().unwrap_or("0"));
        (name, digits.parse().expect("a number"))
    };
    ["evalsha", "publish", "subscribe", "unsubscribe"].map(count).to_vec()
}
