//! Stores behind a network, when the network or the server fails.
//!
//! Each test breaks servers of its own (`xtask::servers::private`) or stands a [`proxy`] between a store and a server.
//! Where the servers are not installed the tests pass over them, unless they run strictly: then they fail.

mod provided;
mod proxy;
#[path = "proxy/tests.rs"]
mod proxy_tests;
mod redis;
mod servers;

use std::env;

use xtask::servers::find_binary;

/// Tells whether the programs of the servers are installed; requires it of a strict run.
fn has_servers() -> bool {
    let programs = ["redis-server", "memcached", "openssl"];
    let is_installed = programs
        .iter()
        .all(|program| find_binary(program).is_some());
    assert!(
        is_installed || !is_strict(),
        "one of {programs:?} is not installed"
    );
    is_installed
}

fn is_strict() -> bool {
    env::var_os("LARDER_TEST_STRICT").is_some()
}
