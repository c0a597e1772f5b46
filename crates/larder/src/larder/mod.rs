//! The whole box: stores and caches by name, as the configuration says.

mod cleanup;
mod locks;
mod network;
mod nodes;
mod open;
mod standby;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::Cache;
use crate::config::{Config, Loaded, Sources};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;
use crate::lock::{Limiter, Lock, Locks};
use crate::store::Store;

pub use self::nodes::StoreNodes;

use self::cleanup::Cleanups;
use self::locks::LocksOfStores;

/// The name that always means the default cache.
const DEFAULT: &str = "default";

/// Stores and caches by name: what an application opens once and shares. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let larder = larder::Larder::embedded(dir.path()).await?;
/// let cache = larder.default_cache();
/// cache.set("user:1", "Ann").await?;
/// let sessions = larder.partition("sessions")?;
/// assert_eq!(sessions.get::<String>("user:1").await?, None);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Larder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loaded: Loaded,
    stores: BTreeMap<String, Arc<dyn Store>>,
    locks: LocksOfStores,
    cleanups: Cleanups,
    default: Cache,
    caches: Mutex<BTreeMap<String, Cache>>,
}

impl Larder {
    /// Opens what a configuration file says; the environment overrides it.
    ///
    /// # Errors
    /// `InvalidConfig`: the file cannot be read, or something in it is wrong, with its line and the fix; `Unavailable`: a
    /// store cannot be opened; `Unsupported`: a driver that is not built in.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let sources = Sources::new().file(path.as_ref()).process_environment();
        Self::from_loaded(Config::load(&sources)?).await
    }

    /// Opens what the environment says; without any of its variables, the embedded default.
    ///
    /// # Errors
    /// As [`Larder::open`].
    pub async fn from_env() -> Result<Self> {
        Self::from_loaded(Config::load(&Sources::new().process_environment())?).await
    }

    /// Opens the embedded default in a directory: `cache.db`, shared safely with other processes. Reads no
    /// configuration and no environment.
    ///
    /// # Errors
    /// `Unavailable`: the directory or the file cannot be created or read.
    pub async fn embedded(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref().to_str().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                "the directory's name is not UTF-8",
            )
        })?;
        Self::from_loaded(Config::load(&Sources::new().flag("dir", dir))?).await
    }

    /// Opens what a loaded configuration says. Blocks for some milliseconds per embedded store.
    ///
    /// # Errors
    /// As [`Larder::open`].
    pub async fn from_loaded(mut loaded: Loaded) -> Result<Self> {
        loaded.warnings.extend(open::without_effect(&loaded.config));
        let stores = open::stores(&loaded.config).await?;
        let locks = LocksOfStores::default();
        let default = configured(&loaded.config, (&stores, &locks), DEFAULT)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let cleanups = Cleanups::new(&loaded.config.tags);
        cleanups.start(&default);
        let caches = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                loaded,
                stores,
                locks,
                cleanups,
                default,
                caches,
            }),
        })
    }

    /// Returns the effective configuration with the origins of its settings, and its warnings.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.inner.loaded
    }

    /// Returns the default cache.
    #[must_use]
    pub fn default_cache(&self) -> Cache {
        self.inner.default.clone()
    }

    /// Returns a cache by its name: `default`, one of `[caches]`, or a store.
    ///
    /// # Errors
    /// `InvalidConfig`: there is none of this name.
    pub fn cache(&self, name: &str) -> Result<Cache> {
        if name == DEFAULT {
            return Ok(self.default_cache());
        }
        let mut caches = self.caches();
        if let Some(cache) = caches.get(name) {
            return Ok(cache.clone());
        }
        let cache = configured(&self.inner.loaded.config, self.inner.places(), name)?;
        self.inner.cleanups.start(&cache);
        caches.insert(name.to_owned(), cache.clone());
        Ok(cache)
    }

    /// Returns the cache of this name, or a partition of the default cache's store: a namespace of its own with the
    /// default cache's settings. No configuration is needed.
    ///
    /// # Errors
    /// `InvalidConfig`: the name is empty or over 128 bytes.
    pub fn partition(&self, name: &str) -> Result<Cache> {
        let config = &self.inner.loaded.config;
        if config.cache(name).is_some() {
            return self.cache(name);
        }
        let mut caches = self.caches();
        if let Some(cache) = caches.get(name) {
            return Ok(cache.clone());
        }
        let mut settings = config
            .cache(DEFAULT)
            .ok_or_else(|| unknown(config, DEFAULT))?;
        settings.name = name.to_owned();
        let cache = open::cache(config, &settings, self.inner.places())?;
        self.inner.cleanups.start(&cache);
        caches.insert(name.to_owned(), cache.clone());
        Ok(cache)
    }

    /// Returns `default`, the names of `[caches]` and those of partitions that were opened, sorted.
    #[must_use]
    pub fn cache_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.caches().keys().cloned().collect();
        names.push(DEFAULT.to_owned());
        names.extend(self.inner.loaded.config.caches.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Returns a lock by its name, on the default cache's store; see [`Lock`].
    pub fn lock<'a>(&self, name: impl Into<KeyRef<'a>>) -> Lock {
        self.locks().lock(name)
    }

    /// Returns a semaphore, on the default cache's store; see [`Locks::semaphore`].
    pub fn semaphore<'a>(&self, name: impl Into<KeyRef<'a>>, permits: u32) -> Lock {
        self.locks().semaphore(name, permits)
    }

    /// Returns a rate limiter, on the default cache's store; see [`Limiter`].
    pub fn limiter<'a>(&self, name: impl Into<KeyRef<'a>>) -> Limiter {
        self.locks().limiter(name)
    }

    /// Returns all locks on the default cache's store; those of another are [`Cache::locks`] of a cache on it.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        self.inner.default.locks()
    }

    /// Stops what runs in the background, gives up all locks of this process, within 2 seconds, and hands what was counted
    /// to the stores. For the end of a program, after what the locks protect has stopped.
    ///
    /// # Errors
    /// The first of the stores' errors; the others are told all the same.
    pub async fn shutdown(&self) -> Result<()> {
        let mut caches: Vec<Cache> = self.caches().values().cloned().collect();
        caches.push(self.default_cache());
        self.inner.cleanups.shutdown().await;
        let mut result = self.inner.locks.shutdown().await;
        for cache in caches {
            result = result.and(cache.flush_stats().await);
        }
        result
    }

    fn caches(&self) -> MutexGuard<'_, BTreeMap<String, Cache>> {
        self.inner
            .caches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What caches are put on, by the names of stores.
type Places<'a> = (&'a BTreeMap<String, Arc<dyn Store>>, &'a LocksOfStores);

impl Inner {
    fn places(&self) -> Places<'_> {
        (&self.stores, &self.locks)
    }
}

fn configured(config: &Config, places: Places<'_>, name: &str) -> Result<Cache> {
    let settings = config.cache(name).ok_or_else(|| unknown(config, name))?;
    open::cache(config, &settings, places)
}

fn unknown(config: &Config, name: &str) -> Error {
    let known: Vec<_> = config.cache_names().collect();
    let message = format!(
        "there is no cache named {name:?}; there are {}",
        known.join(", ")
    );
    Error::new(ErrorKind::InvalidConfig, message)
}
