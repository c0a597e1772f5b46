//! Opens the stores one by one, so that one that is down hides nothing about the others.

use std::time::{Duration, Instant};

use larder::config::{Config, Loaded};
use larder::{Larder, StoreNodes};
use tokio::time::timeout;

use super::{Check, Status, probe, servers};
use crate::failure::Outcome;
use crate::open;

/// How long a store may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Checks every store with its servers, then writes and reads in the chosen cache, if its store is open.
pub(super) async fn check_all(loaded: &Loaded, asked: &[StoreNodes], chosen: &str) -> Vec<Check> {
    let home = store_of(&loaded.config, chosen).map(str::to_owned);
    let mut checks = Vec::new();
    let mut probed = None;
    for name in loaded.config.stores.keys() {
        let (check, larder) = open(loaded, name).await;
        checks.push(check);
        if let Some(store) = asked.iter().find(|store| store.store == *name) {
            checks.extend(servers::check(store, larder.is_some()));
        }
        if let Some(larder) = larder.filter(|_| home.as_ref() == Some(name)) {
            probed = Some(probe::check(&larder, chosen).await);
        }
    }
    checks.extend(probed);
    checks
}

/// Opens one store and waits for a sign of life.
async fn open(loaded: &Loaded, name: &str) -> (Check, Option<Larder>) {
    let check = |status, detail: String| Check::new(format!("store {name}"), status, detail);
    let began = Instant::now();
    match timeout(PATIENCE, opened(alone(loaded, name))).await {
        Ok(Ok(larder)) => {
            let driver = loaded
                .config
                .stores
                .get(name)
                .map(|store| store.driver.name());
            let took = began.elapsed().as_secs_f64() * 1000.0;
            let detail = format!(
                "{} answers, opened in {took:.1} ms",
                driver.unwrap_or_default()
            );
            (check(Status::Ok, detail), Some(larder))
        }
        Ok(Err(failure)) => (check(Status::Fail, failure.message().to_owned()), None),
        Err(_) => (
            check(Status::Fail, format!("no answer in {PATIENCE:?}")),
            None,
        ),
    }
}

async fn opened(loaded: Loaded) -> Outcome<Larder> {
    let larder = open::open_loaded(loaded).await?;
    larder.default_cache().ping().await?;
    Ok(larder)
}

/// Returns the configuration with this store only. Nothing stands in for it, so that its own state shows.
fn alone(loaded: &Loaded, name: &str) -> Loaded {
    let mut alone = loaded.clone();
    // They have been printed.
    alone.warnings.clear();
    let config = &mut alone.config;
    let is_default = store_of(config, "default") == Some(name);
    config.stores.retain(|store, _| store == name);
    config.caches.retain(|_, cache| cache.store == name);
    config.cache.fallback = None;
    if !is_default {
        name.clone_into(&mut config.cache.default);
    }
    alone
}

/// Returns the store of a cache; one that is not configured is a partition of the default cache's store.
fn store_of<'a>(config: &'a Config, cache: &str) -> Option<&'a str> {
    let cache = config.cache(cache).or_else(|| config.cache("default"))?;
    config
        .stores
        .get_key_value(&cache.store)
        .map(|(name, _)| name.as_str())
}
