//! A server that has room for half of the data, and evicts what was not used lately, be it an entry or a register.

use xtask::servers::find_binary;
use xtask::servers::private::RedisServer;

use crate::place::{ADDRESS, Kind};
use crate::plan::{Plan, operations};
use crate::storm::{Outcome, rage_in, store_dir};

/// Enough that the data are far more than what the server needs for itself.
const KEYS: u64 = 2048;
const BODY_BYTES: usize = 8192;
/// What the server needs for connections and scripts, which are in its way, too.
const CONNECTIONS_BYTES: u64 = 1 << 20;

fn storm(server: &RedisServer) -> Outcome {
    let plan = Plan::of(crate::PROCESSES).with_keys(KEYS, BODY_BYTES);
    let (_keeps, dir) = store_dir();
    std::fs::write(dir.join(ADDRESS), server.url()).unwrap();
    rage_in(Kind::Redis, plan, &dir)
}

/// Returns a number that the server tells of itself.
fn told(server: &RedisServer, section: &str, name: &str) -> u64 {
    let info = server.call(&["INFO", section]).unwrap().text();
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let (_, number) = lines.find(|(known, _)| *known == name).unwrap();
    number.parse().unwrap()
}

#[test]
fn evicted_registers_make_misses() {
    if find_binary("redis-server").is_none() {
        let is_strict = std::env::var_os("LARDER_TEST_STRICT").is_some();
        assert!(!is_strict, "redis-server is not installed");
        return;
    }
    let server = RedisServer::with_args(&["--maxmemory-policy", "allkeys-lru"]).unwrap();
    let empty = told(&server, "memory", "used_memory") + CONNECTIONS_BYTES;
    let calm = storm(&server);
    calm.report("redis, room for everything");
    // At its most: a clear takes the data along, perhaps at the end.
    let full = told(&server, "memory", "used_memory_peak");
    let room = empty + (full - empty) / 2;
    server.call(&["FLUSHALL"]).unwrap();
    let room = room.to_string();
    server.call(&["CONFIG", "SET", "maxmemory", &room]).unwrap();
    let evicting = storm(&server);
    evicting.report("redis, room for half");
    evicting.assert_sound();
    assert!(told(&server, "stats", "evicted_keys") > 0, "there was room");
    if operations().1 {
        let (calm, evicting) = (calm.hit_ratio(), evicting.hit_ratio());
        assert!(
            evicting >= 0.8 * calm,
            "{evicting} of the reads hit, with room for everything {calm}"
        );
    }
}
