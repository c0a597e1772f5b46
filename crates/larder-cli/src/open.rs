//! Opens the library the way the arguments and the environment say: the one place that decides where the caches are.

use larder::Larder;
use larder::config::{Config, Loaded, Sources};

use crate::cli::GlobalArgs;
use crate::failure::Outcome;

/// The file that is read without `--config`, if the working directory has it.
pub(crate) const DEFAULT_FILE: &str = "larder.toml";

/// Reads the configuration and opens the stores.
pub(crate) async fn open_larder(global: &GlobalArgs) -> Outcome<Larder> {
    Ok(Larder::from_loaded(load(global)?).await?)
}

/// Reads the configuration: defaults, file, environment.
pub(crate) fn load(global: &GlobalArgs) -> Outcome<Loaded> {
    let sources = match &global.config {
        Some(file) => Sources::new().file(file),
        None => Sources::new().file_if_present(DEFAULT_FILE),
    };
    Ok(Config::load(&sources.process_environment())?)
}
