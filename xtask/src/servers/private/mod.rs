//! Servers that one test has for itself, to break as it likes.
//!
//! Each starts on fresh ports with a fresh directory and is ready when its `start` returns. Tests pause it (SIGSTOP),
//! kill it (SIGKILL), start it again on its port with its data, or without. All waits are bounded and block the thread:
//! asynchronous tests call this on a blocking thread. Dropping a server kills it and removes its files, also when the
//! test panics. When the test itself is killed the kernel kills the servers (on Linux with `setpriv`); their directories
//! stay, below the `TMPDIR` of the test, which `cargo xtask test` removes.

mod cluster;
mod daemon;
mod memcached;
mod redis;
mod sentinel;
mod view;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;

pub use cluster::RedisCluster;
pub use daemon::Daemon;
pub use memcached::MemcachedServer;
pub use redis::RedisServer;
pub use sentinel::{MASTER_NAME, RedisSentinel};

use crate::interrupt;

pub(super) use memcached::MEMCACHED;
pub(super) use redis::REDIS;

/// How every directory of private servers begins.
const DIR_PREFIX: &str = "larder-private-";

/// How often a waiting loop looks again.
const GLANCE: Duration = Duration::from_millis(20);

fn new_home() -> Result<TempDir> {
    TempDir::with_prefix(DIR_PREFIX).context("cannot create a temporary directory")
}

/// Waits until `is_so`, which may fail for a while; `what` says in the error what did not come.
fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    let mut last = None;
    while Instant::now() < deadline {
        interrupt::check()?;
        match is_so() {
            Ok(true) => return Ok(()),
            Ok(false) => last = None,
            Err(error) => last = Some(error),
        }
        thread::sleep(GLANCE);
    }
    let error = last.unwrap_or_else(|| anyhow!("it never was so"));
    Err(error.context(format!("{what} did not come within {within:?}")))
}
