//! The program on stores that are servers: those that `cargo xtask test` provides, and some that a test breaks.

mod access;
mod cache;
mod doctor;
mod figures;
mod lock;
mod node;

use std::env;
use std::fs;

use crate::support::{Home, Ran};

/// Nothing listens there.
const DEAD: &str = "127.0.0.1:1";
/// A login that must never be printed.
const SECRET: &str = "hunter2-never-printed";

/// Returns a variable that says where a server is; a test without its server fails.
fn provided(name: &str) -> String {
    let name = format!("LARDER_TEST_{name}");
    env::var(&name).unwrap_or_else(|_| panic!("{name} is not set; `cargo xtask test` sets it"))
}

/// Returns a home whose caches are on the store `main` with these settings, under a prefix of its own.
fn home(store: &str) -> Home {
    let home = Home::new();
    let prefix = format!("cli{:x}", fastrand::u64(..));
    configure(
        &home,
        &format!("[cache]\ndefault = \"main\"\nprefix = \"{prefix}\"\n\n[stores.main]\n{store}"),
    );
    home
}

fn configure(home: &Home, text: &str) {
    fs::write(home.path().join("larder.toml"), text).expect("a file can be written");
}

fn redis(url: &str) -> String {
    format!("driver = \"redis\"\nurl = \"{url}\"\n")
}

fn cluster(servers: &str) -> String {
    format!(
        "driver = \"redis-cluster\"\nservers = [{}]\n",
        quoted(servers)
    )
}

fn sentinels(servers: &str) -> String {
    format!(
        "driver = \"redis-sentinel\"\nservers = [{}]\n",
        quoted(servers)
    )
}

fn memcached(server: &str) -> String {
    format!("driver = \"memcached\"\nservers = [\"{server}\"]\n")
}

fn quoted(servers: &str) -> String {
    let quoted: Vec<_> = servers
        .split(',')
        .map(|server| format!("\"{server}\""))
        .collect();
    quoted.join(", ")
}

/// Returns a home on every kind of Redis.
fn every_redis() -> [Home; 3] {
    [
        home(&redis(&provided("REDIS_URL"))),
        home(&cluster(&provided("REDIS_CLUSTER"))),
        home(&sentinels(&provided("REDIS_SENTINELS"))),
    ]
}

/// Checks that nothing that was printed holds the password.
#[track_caller]
fn tells_no_secret(ran: &Ran) {
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(
        !stdout.contains(SECRET) && !ran.stderr.contains(SECRET),
        "{ran:?}"
    );
}
