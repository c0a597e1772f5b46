//! The whole box: stores and caches by name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Sqlite, Store};

/// The name that always means the default cache.
const DEFAULT: &str = "default";

/// Stores and caches by name: what an application opens once and shares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Larder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    caches: Mutex<HashMap<String, Cache>>,
}

impl Larder {
    /// Opens the embedded default in a directory: `cache.db`, shared safely with other processes. Needs no configuration.
    ///
    /// # Errors
    /// `Unavailable`: the directory or the file cannot be created or read.
    pub async fn embedded(dir: impl AsRef<Path>) -> Result<Self> {
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(dir.as_ref().join("cache.db"))?);
        let default = Cache::builder(Arc::clone(&store)).name(DEFAULT).build()?;
        let caches = Mutex::new(HashMap::from([(DEFAULT.to_owned(), default)]));
        Ok(Self {
            inner: Arc::new(Inner { store, caches }),
        })
    }

    /// Returns the default cache.
    ///
    /// # Errors
    /// `InvalidConfig`: the configuration names none that exists.
    pub fn default_cache(&self) -> Result<Cache> {
        self.cache(DEFAULT)
    }

    /// Returns a cache by its name; `default` always names the default one.
    ///
    /// # Errors
    /// `InvalidConfig`: there is no cache of this name.
    pub fn cache(&self, name: &str) -> Result<Cache> {
        let caches = self
            .inner
            .caches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        caches.get(name).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("there is no cache named {name:?}"),
            )
        })
    }

    /// Returns the cache of this name, or a new partition of the default cache's store: an own namespace with the default settings.
    ///
    /// # Errors
    /// `InvalidConfig`: the name is empty or over 128 bytes.
    pub fn partition(&self, name: &str) -> Result<Cache> {
        let mut caches = self
            .inner
            .caches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = caches.get(name) {
            return Ok(cache.clone());
        }
        let cache = Cache::builder(Arc::clone(&self.inner.store))
            .name(name)
            .build()?;
        caches.insert(name.to_owned(), cache.clone());
        Ok(cache)
    }

    /// Returns the names of the caches that are configured or were opened, sorted.
    #[must_use]
    pub fn cache_names(&self) -> Vec<String> {
        let caches = self
            .inner
            .caches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = caches.keys().cloned().collect();
        names.sort();
        names
    }

    /// Hands what was counted to the stores. For the end of a program.
    ///
    /// # Errors
    /// The stores'.
    pub async fn shutdown(&self) -> Result<()> {
        for name in self.cache_names() {
            self.cache(&name)?.flush_stats().await?;
        }
        Ok(())
    }
}
