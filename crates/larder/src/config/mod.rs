//! The configuration: defaults < file < environment < flags, checked as a whole.
//!
//! [`Config::load`] turns [`Sources`] into a [`Config`] whose names are all resolved, and keeps for
//! every setting the [`Origin`] of its value. Everything that is wrong is reported at once, with
//! file, line and what to write instead. It reads the named file and nothing else, and knows no
//! store: opening what it describes is for others, so drivers that are not built in parse here too.
//!
//! ```text
//! file -> interpolate --+
//! environment ----------+-> settings -> resolve -> rules -> defaults -> Config
//! flags ----------------+   (by schema)
//! ```

mod accept;
mod connection;
mod defaults;
mod edge;
mod environment;
mod file;
mod init;
mod interpolate;
mod kind;
mod model;
mod origin;
mod path;
mod problems;
mod queue;
#[cfg(test)]
mod reference;
mod render;
mod resolve;
mod rules;
mod schema;
mod secret;
mod seeds;
mod settings;
mod size;
mod sources;
mod store;
mod suggest;
#[cfg(test)]
mod tests;
mod typed;
mod url;
mod value;

use std::fmt;
use std::path::PathBuf;

pub use self::connection::{Connection, Tls};
pub use self::edge::{EdgeConfig, ProviderConfig};
pub use self::init::default_file;
pub use self::model::{
    AlertsConfig, CacheConfig, CacheSection, CacheSettings, Config, QueueSection, StampedeConfig,
    TagsConfig,
};
pub use self::origin::Origin;
pub use self::queue::{Durability, QueueConfig, QueueDriver};
pub use self::secret::Secret;
pub use self::size::{format_size, parse_size};
pub use self::sources::Sources;
pub use self::store::{
    Driver, HealthConfig, LocalConfig, NodeConfig, RingHash, Sharding, StoreConfig, Strategy,
};

use self::settings::{Draft, Settings};
use crate::error::Result;

/// The name that always means the default cache.
const DEFAULT_CACHE: &str = "default";

/// A configuration with its history.
#[derive(Clone)]
pub struct Loaded {
    /// What is in effect.
    pub config: Config,
    /// What was written and has no effect, each with its place. To be shown once, at the start.
    pub warnings: Vec<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    settings: Settings,
}

/// One setting that is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting<'a> {
    /// Where it lives, such as `stores.main.url`.
    pub key: String,
    /// Its value as TOML; passwords, tokens and credentials in URLs are `***`.
    pub value: String,
    /// Where the value came from.
    pub origin: &'a Origin,
}

impl Config {
    /// Reads, merges and checks all sources.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig): the file cannot be read or is
    /// not TOML; a key is unknown; a value has the wrong type or is out of bounds; settings contradict
    /// each other; a name leads nowhere; `${NAME}` is not set. One error names up to 20 problems.
    pub fn load(sources: &Sources) -> Result<Loaded> {
        let mut draft = Draft::default();
        let mut file = None;
        if let Some((name, text)) = file::read(&sources.file)? {
            file::apply(&name, &text, &sources.environment, &mut draft)?;
            file = Some(name);
        }
        environment::apply(&sources.environment, &mut draft);
        environment::apply_flags(&sources.flags, &mut draft);
        resolve::resolve(&sources.environment, &mut draft);
        rules::check(&mut draft);
        if !draft.problems.is_empty() {
            return Err(draft.problems.into_error());
        }
        let mut settings = draft.settings;
        defaults::fill(&mut settings);
        Ok(Loaded {
            config: Self::from_settings(&settings),
            warnings: draft.warnings,
            file,
            settings,
        })
    }
}

impl Loaded {
    /// Returns every setting in effect, defaults too, in the order of their keys.
    pub fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        self.settings.iter().map(|(path, entry)| Setting {
            key: path.to_string(),
            value: entry.value.render(&entry.field.kind),
            origin: &entry.origin,
        })
    }

    /// Writes everything in effect as TOML. Without secrets, so a file with any cannot be used as it is.
    #[must_use]
    pub fn to_toml(&self) -> String {
        render::to_toml(&self.settings)
    }
}

/// Without the settings, which hold secrets.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("warnings", &self.warnings)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
