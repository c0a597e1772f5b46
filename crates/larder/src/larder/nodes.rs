//! What the servers behind the stores say of themselves, also of stores that cannot be opened.

use futures_util::future::join_all;

use super::{Larder, network};
use crate::config::{Driver, Loaded, StoreConfig};
use crate::error::Result;
use crate::store::NodeStatus;

/// The servers of one store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreNodes {
    /// The store, as the configuration names it.
    pub store: String,
    /// What the store is.
    pub driver: Driver,
    /// Its servers, those that are down too, sorted by address; or why not even a list of them could be had.
    pub nodes: Result<Vec<NodeStatus>>,
}

impl Larder {
    /// Asks the servers of every store about themselves, all at once. Embedded stores have none and are left out.
    ///
    /// Cost: about ten round trips to each server, and 100 ms where there is Memcached.
    pub async fn nodes(&self) -> Vec<StoreNodes> {
        let asked = on_servers(self.loaded()).map(async |(name, config)| {
            let nodes = match self.inner.stores.get(name) {
                Some(store) => store.nodes().await,
                None => Ok(Vec::new()),
            };
            answered(name, config, nodes)
        });
        join_all(asked).await
    }

    /// Asks the servers of a configuration as [`Larder::nodes`] does, without opening its stores: for tools that are to
    /// tell what is wrong where [`Larder::from_loaded`] fails.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::config::{Config, Sources};
    /// let sources = Sources::new()
    ///     .flag("cache.default", "redis")
    ///     .flag("stores.redis.driver", "redis")
    ///     .flag("stores.redis.url", "redis://127.0.0.1:1");
    /// let stores = larder::Larder::nodes_of(&Config::load(&sources)?).await;
    /// let down = &stores[0].nodes.as_ref().unwrap()[0];
    /// assert_eq!(down.address, "127.0.0.1:1");
    /// assert!(down.problem.is_some());
    /// # Ok(()) }
    /// ```
    pub async fn nodes_of(loaded: &Loaded) -> Vec<StoreNodes> {
        let asked = on_servers(loaded).map(async |(name, config)| {
            let nodes = match Box::pin(network::open(config, true)).await {
                Ok(store) => store.nodes().await,
                Err(error) => Err(error),
            };
            answered(name, config, nodes)
        });
        join_all(asked).await
    }
}

fn on_servers(loaded: &Loaded) -> impl Iterator<Item = (&String, &StoreConfig)> {
    let stores = loaded.config.stores.iter();
    stores.filter(|(_, config)| !config.driver.is_embedded())
}

fn answered(name: &str, config: &StoreConfig, nodes: Result<Vec<NodeStatus>>) -> StoreNodes {
    StoreNodes {
        store: name.to_owned(),
        driver: config.driver,
        nodes: nodes.map_err(|error| error.in_store(name)),
    }
}
