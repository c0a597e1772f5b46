//! Opens the library the way the arguments and the environment say: the one place that decides where the caches are.

use larder::config::{Config, Driver, Loaded, Sources};
use larder::{Error, ErrorKind, Larder};

use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// The file that is read without `--config`, if the working directory has it.
pub(crate) const DEFAULT_FILE: &str = "larder.toml";

/// Reads the configuration and opens the stores.
pub(crate) async fn open_larder(global: &GlobalArgs) -> Outcome<Larder> {
    let opened = open_loaded(load(global)?).await;
    opened.map_err(|failure| match failure.exit() {
        Exit::Unreachable => failure.after("`larder doctor` looks at everything"),
        _ => failure,
    })
}

/// Opens the stores of a configuration; a failure says what to do about it.
pub(crate) async fn open_loaded(loaded: Loaded) -> Outcome<Larder> {
    let config = loaded.config.clone();
    let opened = Larder::from_loaded(loaded).await;
    opened.map_err(|error| explain(error, &config))
}

/// Adds what to do where a server cannot be reached.
fn explain(error: Error, config: &Config) -> Failure {
    let is_gone = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
    let advice = error.store_name().filter(|_| is_gone).and_then(|name| {
        let driver = config.stores.get(name)?.driver;
        let program = program(driver)?;
        Some(format!(
            "start {program} there, or correct the address in stores.{name}"
        ))
    });
    let failure = Failure::from(error);
    match advice {
        Some(advice) => failure.after(&advice),
        None => failure,
    }
}

/// Returns the name of the program that serves the stores of a driver.
fn program(driver: Driver) -> Option<&'static str> {
    match driver {
        Driver::Redis => Some("Redis"),
        Driver::RedisSentinel => Some("Redis and its sentinels"),
        Driver::RedisCluster => Some("the cluster's nodes"),
        Driver::Memcached => Some("Memcached"),
        _ => None,
    }
}

/// Reads the configuration: defaults, file, environment.
pub(crate) fn load(global: &GlobalArgs) -> Outcome<Loaded> {
    let sources = match &global.config {
        Some(file) => Sources::new().file(file),
        None => Sources::new().file_if_present(DEFAULT_FILE),
    };
    Ok(Config::load(&sources.process_environment())?)
}
