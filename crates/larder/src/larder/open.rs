//! Turns configured stores and caches into live ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::network;
use super::standby::Standby;
use crate::cache::{Builder, Cache, Local, Stampede};
use crate::config::{CacheConfig, Config, Driver, LocalConfig, StampedeConfig, StoreConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Memory, Null, Store};
use crate::ttl::Ttl;

/// Opens all stores; those on servers last, for their fallback is one of the others.
///
/// # Errors
/// The stores', with the name of the store: `Unsupported`: the driver is not built in.
pub(super) async fn stores(config: &Config) -> Result<BTreeMap<String, Arc<dyn Store>>> {
    let (on_servers, embedded): (Vec<_>, Vec<_>) = config
        .stores
        .iter()
        .partition(|(_, store)| !store.driver.is_embedded());
    let mut stores = BTreeMap::new();
    for (name, store_config) in embedded {
        let opened = store(store_config, false).await;
        let opened = opened.map_err(|error| error.in_store(name))?;
        stores.insert(name.clone(), opened);
    }
    let fallback = match on_servers.is_empty() {
        true => None,
        false => Standby::of(config, &stores)?,
    };
    for (name, store_config) in on_servers {
        let is_lazy = fallback.is_some() && config.cache.falls_back_at_start;
        let opened = store(store_config, is_lazy).await;
        let mut opened = opened.map_err(|error| error.in_store(name))?;
        if let Some(standby) = &fallback {
            opened = Box::pin(standby.behind(opened, name, store_config, is_lazy)).await?;
        }
        stores.insert(name.clone(), opened);
    }
    Ok(stores)
}

/// Opens a store. A lazy one on servers opens without reaching any of them.
///
/// # Errors
/// `Unsupported`: the driver is not built in; the store's own.
pub(super) async fn store(config: &StoreConfig, is_lazy: bool) -> Result<Arc<dyn Store>> {
    match config.driver {
        Driver::Memory => memory(config),
        Driver::Sqlite => sqlite(config),
        Driver::File => file(config),
        Driver::Null => Ok(Arc::new(Null::new())),
        Driver::Redis
        | Driver::RedisSentinel
        | Driver::RedisCluster
        | Driver::Memcached
        | Driver::Sharded => Box::pin(network::open(config, is_lazy)).await,
    }
}

/// Puts a cache on its store.
///
/// # Errors
/// As the cache builder's.
pub(super) fn cache(
    config: &Config,
    cache: &CacheConfig,
    (stores, locks): super::Places<'_>,
) -> Result<Cache> {
    let unknown = || {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("there is no store named {:?}", cache.store),
        )
    };
    let store = stores.get(&cache.store).ok_or_else(unknown)?;
    let settings = &cache.settings;
    let builder = Builder::shared(Arc::clone(store))
        .name(&cache.name)
        .prefix(&settings.prefix)
        .version(settings.version)
        .default_ttl(settings.ttl.map_or(Ttl::Forever, Ttl::For))
        .codec(settings.codec)
        .compression(settings.compression)
        .compress_above(usize::try_from(settings.compress_above).unwrap_or(usize::MAX))
        .jitter(settings.jitter)
        .strict(settings.strict)
        .stampede(stampede(&config.stampede))
        .tagging(config.tags.enabled)
        .tag_groups(config.tags.groups.clone())
        .locks(locks.of(&cache.store, store, &settings.prefix));
    let tier = config
        .stores
        .get(&cache.store)
        .and_then(|store| store.local)
        .filter(|tier| tier.enabled);
    let builder = match settings.stale_for {
        Some(grace) => builder.stale_for(grace),
        None => builder,
    };
    match tier {
        Some(tier) => builder.local(local(&tier)).build(),
        None => builder.build(),
    }
}

fn stampede(config: &StampedeConfig) -> Stampede {
    let stampede = Stampede::new()
        .enabled(config.enabled)
        .lease_ttl(config.lock_ttl)
        .max_wait(config.max_wait)
        .retry_interval(config.retry_interval);
    match config.refresh_after {
        Some(part) => stampede.refresh_after(part),
        None => stampede,
    }
}

/// Returns a warning for each setting that is accepted and that this version does not act on.
pub(super) fn without_effect(config: &Config) -> Vec<String> {
    let mut settings = Vec::new();
    let mut stores = config.stores.values();
    if config.cache.fallback.is_some() && stores.all(|store| store.driver.is_embedded()) {
        settings.push("cache.fallback".to_owned());
    }
    let warn = |setting| format!("{setting} has no effect in this version");
    settings.into_iter().map(warn).collect()
}

fn local(config: &LocalConfig) -> Local {
    Local::capacity_bytes(config.capacity)
        .ttl_fraction(config.ttl_fraction)
        .max_staleness(config.max_staleness)
        .write_through(config.write_through)
        .promote(config.promote)
}

fn memory(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    let builder = Memory::builder();
    let builder = match config.max_size {
        Some(bytes) => builder.capacity_bytes(bytes),
        None => builder,
    };
    Ok(Arc::new(builder.build()?))
}

#[cfg(feature = "sqlite")]
fn sqlite(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    let builder = crate::store::Sqlite::builder(path(config)?);
    let builder = match config.max_size {
        Some(bytes) => builder.max_bytes(bytes),
        None => builder,
    };
    Ok(Arc::new(builder.build()?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    Err(not_built_in(config.driver))
}

#[cfg(feature = "file")]
fn file(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    let builder = crate::store::File::builder(path(config)?)
        .depth(config.depth)
        .sweep_interval(config.sweep_interval);
    Ok(Arc::new(builder.build()?))
}

#[cfg(not(feature = "file"))]
fn file(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    Err(not_built_in(config.driver))
}

#[cfg(any(feature = "sqlite", feature = "file"))]
fn path(config: &StoreConfig) -> Result<&std::path::Path> {
    let missing = || Error::new(ErrorKind::InvalidConfig, "the store needs a path");
    config.path.as_deref().ok_or_else(missing)
}

pub(super) fn not_built_in(driver: Driver) -> Error {
    Error::unsupported(format!("the driver {driver} is not part of this build"))
}
