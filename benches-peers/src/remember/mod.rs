//! `remember` and `#[cache]`: what a hit, a miss, a skewed read load and a crowd before one cold key cost.

pub mod crowd;
mod hits;
mod requests;
mod skewed;

use larder::{Cache, Local, RedisStore};
use tokio::runtime::Runtime;
use xtask::servers::private::RedisServer;

use crate::network::on_one_core;
use crate::workload::HOUR;

pub fn run() {
    hits::run();
    on_one_core("remember-pinned");
    crowd::run();
}

/// The part that runs on one core.
pub fn pinned() {
    requests::run();
    skewed::run();
}

/// Returns a cache on a connection of its own, without compression, as the bare client has none.
fn open(runtime: &Runtime, server: &RedisServer, local: Option<Local>) -> Cache {
    let store = runtime.block_on(RedisStore::connect(server.url())).expect("the server answers");
    let builder = Cache::builder(store).prefix("bench").compression(larder::Compression::None).default_ttl(HOUR);
    let builder = match local {
        Some(local) => builder.local(local),
        None => builder,
    };
    builder.build().expect("the options are valid")
}
