//! Turns configured stores and caches into live ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cache::{Builder, Cache, Local};
use crate::config::{CacheConfig, Config, Driver, LocalConfig, StoreConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Memory, Null, Store};
use crate::ttl::Ttl;

/// Opens a store.
///
/// # Errors
/// `Unsupported`: the driver is not built in; the store's own.
pub(super) async fn store(config: &StoreConfig) -> Result<Arc<dyn Store>> {
    match config.driver {
        Driver::Memory => memory(config),
        Driver::Sqlite => sqlite(config),
        Driver::File => file(config),
        Driver::Null => Ok(Arc::new(Null::new())),
        _ => super::network::open(config, false).await,
    }
}

/// Puts a cache on its store.
///
/// # Errors
/// As the cache builder's.
pub(super) fn cache(
    config: &Config,
    cache: &CacheConfig,
    stores: &BTreeMap<String, Arc<dyn Store>>,
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
        .strict(settings.strict);
    let tier = config
        .stores
        .get(&cache.store)
        .and_then(|store| store.local)
        .filter(|tier| tier.enabled);
    match tier {
        Some(tier) => builder.local(local(&tier)).build(),
        None => builder.build(),
    }
}

/// Returns a warning for each setting that is accepted and that this version does not act on.
pub(super) fn without_effect(config: &Config) -> Vec<String> {
    let mut settings = Vec::new();
    if config.cache.fallback.is_some() {
        settings.push("cache.fallback".to_owned());
    }
    if config.cache.settings.stale_for.is_some() {
        settings.push("cache.stale_for".to_owned());
    }
    let inherited = config.cache.settings.stale_for;
    for (name, cache) in &config.caches {
        if cache.settings.stale_for != inherited {
            settings.push(format!("caches.{name}.stale_for"));
        }
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
