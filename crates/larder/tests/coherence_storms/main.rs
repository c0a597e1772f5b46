//! Local tiers and shared loads under faults, by real processes on real servers: lines that are cut, journals that are lost,
//! processes that are killed or stopped while they load, commands that come late, callers who go away.
//!
//! The suite has the short forms; `cargo xtask soak coherence` has the long ones, in which times are judged, too, since the
//! machine has nothing else to do then. Storms of everything at once are in `tag_storms`.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "../processes/child.rs"]
#[expect(dead_code, reason = "these storms need a part of it")]
mod child;
mod crowds;
mod cuts;
mod dropped;
mod holders;
mod joins;
#[path = "../broken_tags/key_sets.rs"]
mod key_sets;
mod late;
#[path = "../broken_tags/layout.rs"]
#[expect(dead_code, reason = "no store here is wrong")]
mod layout;
#[path = "../tag_storms/losses.rs"]
#[expect(dead_code, reason = "nothing is lost one by one")]
mod losses;
#[path = "../tag_storms/moment.rs"]
mod moment;
mod party;
#[path = "../tag_storms/place.rs"]
#[expect(dead_code, reason = "nothing is lost one by one")]
mod place;
#[path = "../network/proxy.rs"]
#[expect(dead_code, reason = "these storms need a part of it")]
mod proxy;
mod races;
mod report;
#[path = "../tag_storms/told.rs"]
mod told;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::cache::Builder;
use larder::store::Store;
use larder::{Cache, Local};
use xtask::servers::find_binary;
use xtask::servers::private::RedisServer;

use self::place::Kind;

const MS: Duration = Duration::from_millis(1);
/// So long that only news can end a copy.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The room of a local tier.
const TIER_BYTES: u64 = 4 << 20;

/// A directory for a store, which goes when this is dropped; its parent is for what is said about the storm.
struct Site {
    _dir: tempfile::TempDir,
    store: PathBuf,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        std::fs::create_dir(&store).unwrap();
        Self { _dir: dir, store }
    }

    /// Returns a site whose processes find this server, or a proxy before it.
    fn of_server(url: &str) -> Self {
        let site = Self::new();
        std::fs::write(site.store.join(place::ADDRESS), url).unwrap();
        site
    }
}

/// Opens a cache without a local tier, or with one whose copies may be outdated for so long.
fn cache(store: Arc<dyn Store>, dir: &Path, max_staleness: Option<Duration>) -> Cache {
    let builder = Builder::shared(store).prefix(place::prefix(dir));
    let tier = |bound| {
        let local = Local::capacity_bytes(TIER_BYTES).ttl_fraction(1.0);
        local.max_staleness(bound)
    };
    let builder = match max_staleness {
        Some(bound) => builder.local(tier(bound)),
        None => builder,
    };
    builder.strict(true).build().unwrap()
}

/// Starts a server of one's own, unless there is none and the run is not strict.
fn own_server() -> Option<RedisServer> {
    if find_binary("redis-server").is_none() {
        let is_strict = std::env::var_os("LARDER_TEST_STRICT").is_some();
        assert!(!is_strict, "redis-server is not installed");
        return None;
    }
    Some(RedisServer::start().unwrap())
}

/// What a child process runs; see [`child::Child::start`]. Does nothing in any other.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(child::ROLE) else {
        return;
    };
    assert_eq!(role, party::ROLE);
    let variable = |name: &str| std::env::var(name).unwrap();
    let kind = Kind::by_name(&variable(child::STORE));
    let dir = PathBuf::from(variable(child::DIR));
    let number = variable(child::NUMBER).parse().unwrap();
    let max_staleness_ms: u64 = variable(child::START).parse().unwrap();
    // The test framework has left an unfinished line.
    println!();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let bound = (max_staleness_ms > 0).then(|| Duration::from_millis(max_staleness_ms));
    runtime.block_on(party::play(kind, &dir, number, bound));
}
