//! The configured fallback behind the stores on servers.
//!
//! It is the very store that caches may use, too: what stands in is kept in namespaces that no cache can have. The journal
//! of an outage goes to a SQLite file of its own beside a `sqlite` store, for that one drops what is oldest to keep its bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Config, StoreConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Fallback, Store};

/// What `cache.fallback` names.
pub(super) struct Standby {
    store: Arc<dyn Store>,
    journal: Option<Arc<dyn Store>>,
}

impl Standby {
    /// Returns the configured fallback, one of the stores that are open already.
    ///
    /// # Errors
    /// `InvalidConfig`: it is none of the stores; `Unavailable`: the file of its journal cannot be opened.
    pub(super) fn of(
        config: &Config,
        stores: &BTreeMap<String, Arc<dyn Store>>,
    ) -> Result<Option<Self>> {
        let Some(name) = &config.cache.fallback else {
            return Ok(None);
        };
        let unknown = || {
            let message = format!("cache.fallback is {name:?}, which is no embedded store");
            Error::new(ErrorKind::InvalidConfig, message)
        };
        let store = stores.get(name).ok_or_else(unknown)?;
        let configured = config.stores.get(name).ok_or_else(unknown)?;
        Ok(Some(Self {
            store: Arc::clone(store),
            journal: journal(configured).map_err(|error| error.store(name.clone()))?,
        }))
    }

    /// Puts the fallback behind a store on servers. One that was opened lazily is asked at once, so that the state is known.
    ///
    /// # Errors
    /// As [`Fallback::new`]; the fallback's, when the servers cannot be reached and it fails, too.
    pub(super) async fn behind(
        &self,
        primary: Arc<dyn Store>,
        name: &str,
        config: &StoreConfig,
        is_lazy: bool,
    ) -> Result<Arc<dyn Store>> {
        let scope = format!("{name} {}", config.servers_label());
        let mut builder = Fallback::builder(primary, Arc::clone(&self.store)).scope(scope);
        if let Some(journal) = &self.journal {
            builder = builder.journal(Arc::clone(journal));
        }
        let store = builder.build()?;
        if is_lazy {
            store.ping().await?;
        }
        Ok(Arc::new(store))
    }
}

#[cfg(feature = "sqlite")]
fn journal(config: &StoreConfig) -> Result<Option<Arc<dyn Store>>> {
    let Some(path) = config
        .path
        .as_ref()
        .filter(|_| config.driver == crate::config::Driver::Sqlite)
    else {
        return Ok(None);
    };
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-fallback.db");
    let journal = crate::store::Sqlite::open(path.with_file_name(name))?;
    Ok(Some(Arc::new(journal)))
}

#[cfg(not(feature = "sqlite"))]
fn journal(_: &StoreConfig) -> Result<Option<Arc<dyn Store>>> {
    Ok(None)
}

#[cfg(all(test, feature = "file", feature = "sqlite", feature = "testing"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::config::Sources;
    use crate::key::Namespace;
    use crate::store::{Expiry, Memory, Write};

    fn config(dir: &tempfile::TempDir, fallback: &str) -> Config {
        let sources = Sources::new()
            .flag("dir", dir.path().to_str().unwrap())
            .flag("cache.default", "redis")
            .flag("stores.redis.driver", "redis")
            .flag(
                "stores.redis.url",
                "redis://user:secret@10.0.0.1:6380/2?x=y",
            )
            .flag("cache.fallback", fallback);
        Config::load(&sources).unwrap().config
    }

    #[test]
    fn servers_are_told_apart_without_their_credentials() {
        let dir = tempfile::tempdir().unwrap();
        let label = config(&dir, "file").stores["redis"].servers_label();
        assert_eq!(label, "redis 10.0.0.1:6380/2");
    }

    #[tokio::test]
    async fn caches_on_the_standby_do_not_meet_what_stands_in() {
        for fallback in ["sqlite", "file"] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = config(&dir, fallback);
            let on_servers = config.stores.remove("redis").unwrap();
            let stores = crate::larder::open::stores(&config).await.unwrap();
            let standby = Standby::of(&config, &stores).unwrap().unwrap();
            let primary: Arc<dyn Store> = Arc::new(Memory::new());
            let store = standby
                .behind(primary, "redis", &on_servers, true)
                .await
                .unwrap();
            let space = Namespace::new("app", "default", 1);
            let put = Write::put(b"k", crate::testing::sealed(b"v"), Expiry::Never);
            assert_eq!(store.write_many(&space, &[put]).await.unwrap(), [true]);
            let read = stores[fallback].get_many(&space, &[b"k"]).await.unwrap();
            assert_eq!(read, [None], "{fallback}");
            let has_journal = dir.path().join("cache-fallback.db").exists();
            assert_eq!(has_journal, fallback == "sqlite");
        }
    }

    #[tokio::test]
    async fn a_lazy_store_whose_servers_are_down_opens_on_the_standby() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir, "sqlite");
        let on_servers = config.stores.remove("redis").unwrap();
        let stores = crate::larder::open::stores(&config).await.unwrap();
        let standby = Standby::of(&config, &stores).unwrap().unwrap();
        let down = crate::testing::FlakyStore::new(Memory::new(), 1);
        down.chance(1.0, crate::testing::Fault::Refuse);
        let opened = standby
            .behind(Arc::new(down), "redis", &on_servers, true)
            .await;
        let stats = opened.unwrap().stats().await.unwrap();
        let state = &stats
            .details
            .iter()
            .find(|(name, _)| name == "fallback")
            .unwrap()
            .1;
        assert!(state.starts_with("standby"), "{state}");
    }
}
