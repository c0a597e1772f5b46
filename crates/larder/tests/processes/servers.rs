//! Processes that share the locks of a Redis server, which may be killed, too.

use std::path::PathBuf;

use xtask::servers::find_binary;
use xtask::servers::private::RedisServer;

use crate::sections::{self, Storm};
use crate::{ADDRESS, Kind};

/// A server that has on its disk whatever it acknowledged.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Returns a server, unless there is none and the run is not strict, and the directory with its address.
fn served(args: &[&str]) -> Option<(RedisServer, tempfile::TempDir, PathBuf)> {
    if find_binary("redis-server").is_none() {
        let is_strict = std::env::var_os("LARDER_TEST_STRICT").is_some();
        assert!(!is_strict, "redis-server is not installed");
        return None;
    }
    let server = RedisServer::with_args(args).unwrap();
    let (dir, store_dir) = crate::store_dir();
    std::fs::write(store_dir.join(ADDRESS), server.url()).unwrap();
    Some((server, dir, store_dir))
}

fn storm(args: &[&str], storm: Storm) {
    let Some((server, _dir, store_dir)) = served(args) else {
        return;
    };
    let restart = || {
        server.kill();
        server.start_again().unwrap();
    };
    sections::stopped_holders_harm_nobody(Kind::Redis, &store_dir, storm, restart);
}

#[test]
fn stopped_holders_harm_nobody_on_a_server_that_is_killed() {
    storm(DURABLE, Storm::new());
}

#[test]
fn stopped_holders_harm_nobody_on_a_server_that_forgets() {
    let forgets = true;
    storm(
        &[],
        Storm {
            forgets,
            ..Storm::new()
        },
    );
}

#[test]
fn dead_waiters_cost_one_heartbeat() {
    let Some((_server, _dir, store_dir)) = served(&[]) else {
        return;
    };
    sections::dead_waiters_cost_one_heartbeat(Kind::Redis, &store_dir);
}
