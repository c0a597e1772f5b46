//! The stores that the tests run on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use larder::cache::Builder;
use larder::store::{File, Memcached, Redis, RedisBuilder, Sqlite, Store};
use larder::{Cache, MemoryStore, Namespace};
use tempfile::TempDir;

/// The tests say nothing of time limits, and the machine may be busy.
const LONG: Duration = Duration::from_secs(20);

/// A store, and a prefix that nobody else uses in it.
pub(crate) struct Rig {
    store: Arc<dyn Store>,
    prefix: String,
    dir: Option<TempDir>,
    /// How another process opens the store, where one can.
    open: Option<Open>,
}

/// Opens a store, in a directory if it needs one.
type Open = fn(&Path) -> BoxFuture<'static, Arc<dyn Store>>;

fn path(dir: Option<&TempDir>) -> &Path {
    dir.map_or(Path::new(""), TempDir::path)
}

impl Rig {
    /// Returns a rig on a store that this opens, for another process too if `is_shared`.
    async fn new(dir: Option<TempDir>, open: Open, is_shared: bool) -> Self {
        Self {
            store: open(path(dir.as_ref())).await,
            prefix: format!("tags-{:016x}", fastrand::u64(..)),
            dir,
            open: is_shared.then_some(open),
        }
    }

    /// Returns whether other processes can open the store.
    pub(crate) fn is_shared(&self) -> bool {
        self.open.is_some()
    }

    /// Returns a cache on the same store as it is opened by another process, where one can: they share the data only.
    pub(crate) async fn other(&self) -> Cache {
        let store = match self.open {
            Some(open) => open(path(self.dir.as_ref())).await,
            None => Arc::clone(&self.store),
        };
        let builder = Builder::shared(store).prefix(&self.prefix);
        builder.build().unwrap()
    }

    /// Returns one more cache on the store, as another process has one: they share entries and nothing else.
    pub(crate) fn cache(&self) -> Cache {
        self.builder().build().unwrap()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the namespace of its caches.
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::new(&self.prefix, "default", 1)
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder::shared(Arc::clone(&self.store)).prefix(&self.prefix)
    }
}

pub(crate) async fn memory() -> Rig {
    Rig::new(None, |_| ready(MemoryStore::new()), false).await
}

pub(crate) async fn sqlite() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let open: Open = |dir| ready(Sqlite::open(dir.join("cache.db")).unwrap());
    Rig::new(Some(dir), open, true).await
}

pub(crate) async fn file() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let open: Open = |dir| ready(File::open(dir).unwrap());
    Rig::new(Some(dir), open, true).await
}

pub(crate) async fn redis() -> Rig {
    let open: Open = |_| connect(Redis::builder(server("LARDER_TEST_REDIS_URL")));
    Rig::new(None, open, true).await
}

pub(crate) async fn redis_cluster() -> Rig {
    let open: Open = |_| {
        let urls = server("LARDER_TEST_REDIS_CLUSTER");
        let urls = urls.split(',').map(|server| format!("redis://{server}"));
        connect(Redis::cluster(urls))
    };
    Rig::new(None, open, true).await
}

/// Lists nothing: neither keys nor tags.
pub(crate) async fn memcached() -> Rig {
    let open: Open = |_| {
        let builder = Memcached::builder(server("LARDER_TEST_MEMCACHED"));
        let builder = builder.connect_timeout(LONG).response_timeout(LONG);
        Box::pin(async { Arc::new(builder.connect().await.unwrap()) as _ })
    };
    Rig::new(None, open, true).await
}

fn ready(store: impl Store) -> BoxFuture<'static, Arc<dyn Store>> {
    Box::pin(async { Arc::new(store) as _ })
}

fn connect(builder: RedisBuilder) -> BoxFuture<'static, Arc<dyn Store>> {
    let builder = builder.connect_timeout(LONG).response_timeout(LONG);
    Box::pin(async { Arc::new(builder.connect().await.unwrap()) as _ })
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
