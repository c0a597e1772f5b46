//! The stores that the tests run on.

use std::sync::Arc;
use std::time::Duration;

use larder::cache::Builder;
use larder::store::{File, Memcached, Redis, RedisBuilder, Sqlite, Store};
use larder::{Cache, MemoryStore};
use tempfile::TempDir;

/// A store, and a prefix that nobody else uses in it.
pub(crate) struct Rig {
    store: Arc<dyn Store>,
    prefix: String,
    _dir: Option<TempDir>,
}

impl Rig {
    fn new(store: impl Store, dir: Option<TempDir>) -> Self {
        Self {
            store: Arc::new(store),
            prefix: format!("tags-{:016x}", fastrand::u64(..)),
            _dir: dir,
        }
    }

    /// Returns one more cache on the store, as another process has one: they share entries and nothing else.
    pub(crate) fn cache(&self) -> Cache {
        self.builder().build().unwrap()
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder::shared(Arc::clone(&self.store)).prefix(&self.prefix)
    }
}

pub(crate) async fn memory() -> Rig {
    Rig::new(MemoryStore::new(), None)
}

pub(crate) async fn sqlite() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("cache.db")).unwrap();
    Rig::new(store, Some(dir))
}

pub(crate) async fn file() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    Rig::new(File::open(dir.path()).unwrap(), Some(dir))
}

pub(crate) async fn redis() -> Rig {
    let builder = Redis::builder(server("LARDER_TEST_REDIS_URL"));
    Rig::new(patient(builder).connect().await.unwrap(), None)
}

pub(crate) async fn redis_cluster() -> Rig {
    let urls = server("LARDER_TEST_REDIS_CLUSTER");
    let builder = Redis::cluster(urls.split(',').map(|server| format!("redis://{server}")));
    Rig::new(patient(builder).connect().await.unwrap(), None)
}

/// Lists nothing: neither keys nor tags.
pub(crate) async fn memcached() -> Rig {
    let long = Duration::from_secs(20);
    let builder = Memcached::builder(server("LARDER_TEST_MEMCACHED"));
    let builder = builder.connect_timeout(long).response_timeout(long);
    Rig::new(builder.connect().await.unwrap(), None)
}

/// The tests say nothing of time limits, and the machine may be busy.
fn patient(builder: RedisBuilder) -> RedisBuilder {
    let long = Duration::from_secs(20);
    builder.connect_timeout(long).response_timeout(long)
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}

/// Makes a test for each store of each of these functions, which take a rig.
macro_rules! on_every_store {
    ($($test:ident)*) => {
        on_these_stores!([memory sqlite file redis redis_cluster memcached] [$($test)*]);
    };
}

/// As `on_every_store`, of those that list keys and tags.
macro_rules! on_listing_stores {
    ($($test:ident)*) => {
        on_these_stores!([memory sqlite file redis redis_cluster] [$($test)*]);
    };
}

macro_rules! on_these_stores {
    ([$($store:ident)*] $tests:tt) => {
        $(on_this_store!($store $tests);)*
    };
}

macro_rules! on_this_store {
    ($store:ident [$($test:ident)*]) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::rig::$store().await).await;
                }
            )*
        }
    };
}
