//! The stores that storms rage on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder::store::{File, Memcached, Memory, Redis, RedisBuilder, Sqlite, Store};

use crate::key_sets::KeySets;
use crate::losses::Losses;
use crate::told::{Telling, Told};

/// Where the address of a server is that only this storm uses, in the directory of the store.
pub(crate) const ADDRESS: &str = "address";
const REDIS: &str = "LARDER_TEST_REDIS_URL";
const CLUSTER: &str = "LARDER_TEST_REDIS_CLUSTER";
const MEMCACHED: &str = "LARDER_TEST_MEMCACHED";
/// Storms say nothing of time limits.
const LONG: Duration = Duration::from_secs(20);

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    File,
    Redis,
    RedisCluster,
    Memcached,
    /// The widespread design that is wrong.
    KeySets,
    /// In memory, with a journal.
    Told,
    ForgetsNotes,
    NotesEarly,
}

const NAMES: [(&str, Kind); 10] = [
    ("memory", Kind::Memory),
    ("sqlite", Kind::Sqlite),
    ("file", Kind::File),
    ("redis", Kind::Redis),
    ("redis-cluster", Kind::RedisCluster),
    ("memcached", Kind::Memcached),
    ("key sets", Kind::KeySets),
    ("told", Kind::Told),
    ("lost notes", Kind::ForgetsNotes),
    ("early notes", Kind::NotesEarly),
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, kind)| *kind == self).unwrap().0
    }

    pub(crate) fn by_name(name: &str) -> Self {
        NAMES.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Returns whether several processes can share it.
    pub(crate) fn is_shared(self) -> bool {
        !matches!(self, Self::Memory | Self::KeySets) && self.telling().is_none()
    }

    fn telling(self) -> Option<Telling> {
        match self {
            Self::Told => Some(Telling::Rightly),
            Self::ForgetsNotes => Some(Telling::Forgetting),
            Self::NotesEarly => Some(Telling::Early),
            _ => None,
        }
    }

    /// Opens the store of this directory.
    pub(crate) async fn open(self, dir: &Path) -> Arc<dyn Store> {
        if let Some(telling) = self.telling() {
            return Arc::new(Told::new(telling));
        }
        match self {
            Self::Memory => Arc::new(Memory::new()),
            Self::KeySets => Arc::new(KeySets::new()),
            Self::Sqlite => Arc::new(Sqlite::open(database(dir)).unwrap()),
            Self::File => Arc::new(File::open(dir).unwrap()),
            Self::Redis => connect(Redis::builder(redis_url(dir))).await,
            Self::RedisCluster => {
                let servers = server(CLUSTER);
                let urls = servers.split(',').map(|server| format!("redis://{server}"));
                connect(Redis::cluster(urls)).await
            }
            Self::Memcached => {
                let builder = Memcached::builder(server(MEMCACHED));
                let builder = builder.connect_timeout(LONG).response_timeout(LONG);
                Arc::new(builder.connect().await.unwrap())
            }
            Self::Told | Self::ForgetsNotes | Self::NotesEarly => unreachable!("it tells"),
        }
    }

    /// Returns what loses registers of the storm in this directory.
    pub(crate) fn losses(self, dir: &Path) -> Losses {
        match self {
            Self::Memory
            | Self::KeySets
            | Self::Memcached
            | Self::Told
            | Self::ForgetsNotes
            | Self::NotesEarly => panic!("nothing gets at them from outside"),
            Self::Sqlite => Losses::in_table(&database(dir)),
            Self::File => Losses::among_files(dir),
            Self::Redis => {
                let url = redis_url(dir);
                Losses::on_servers(url.trim_start_matches("redis://"), prefix(dir))
            }
            Self::RedisCluster => Losses::on_servers(&server(CLUSTER), prefix(dir)),
        }
    }
}

/// Returns a prefix that no other storm has.
pub(crate) fn prefix(dir: &Path) -> String {
    let parent = dir.parent().unwrap().file_name().unwrap();
    let name = parent.to_string_lossy();
    format!("storm-{}", name.trim_start_matches('.'))
}

fn database(dir: &Path) -> std::path::PathBuf {
    dir.join("cache.db")
}

fn redis_url(dir: &Path) -> String {
    std::fs::read_to_string(dir.join(ADDRESS)).unwrap_or_else(|_| server(REDIS))
}

/// The machine is so busy with storms that servers may be found at a later attempt only.
async fn connect(builder: RedisBuilder) -> Arc<dyn Store> {
    let builder = builder.connect_timeout(LONG).response_timeout(LONG);
    for _ in 0..20 {
        match builder.clone().connect().await {
            Ok(store) => return Arc::new(store),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    panic!("the servers cannot be found");
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}
