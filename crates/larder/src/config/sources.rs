//! Where a configuration is read from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The sources of a configuration: a file, the environment, overrides by the program.
///
/// Defaults < file < environment < flags. Nothing is read from the process itself unless
/// [`Sources::process_environment`] is called, so that tests and embedding programs are in control.
///
/// ```
/// use larder::config::{Config, Driver, Sources};
/// let loaded = Config::load(
///     &Sources::new()
///         .text("larder.toml", "[stores.main]\ndriver = \"memory\"")
///         .environment([("CACHE_PREFIX", "shop"), ("LARDER_DIR", "/tmp/larder")])
///         .flag("cache.version", "2"),
/// )?;
/// assert_eq!(loaded.config.stores["main"].driver, Driver::Memory);
/// assert_eq!(loaded.config.cache.settings.prefix, "shop");
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Sources {
    pub(super) file: FileSource,
    pub(super) environment: Environment,
    pub(super) flags: Vec<(String, String)>,
}

#[derive(Clone, Default)]
pub(super) enum FileSource {
    #[default]
    None,
    Required(PathBuf),
    Optional(PathBuf),
    Text {
        name: PathBuf,
        text: String,
    },
}

impl Sources {
    /// Starts with nothing: the defaults alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this file; a missing one is an error.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = FileSource::Required(path.into());
        self
    }

    /// Reads this file, if it is there.
    pub fn file_if_present(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = FileSource::Optional(path.into());
        self
    }

    /// Takes `text` as the content of a file of this name.
    pub fn text(mut self, name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = FileSource::Text {
            name: name.into(),
            text: text.into(),
        };
        self
    }

    /// Adds environment variables; of one name, the last counts.
    pub fn environment<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        self.environment.extend(variables);
        self
    }

    /// Adds the environment of this process, without variables that are not UTF-8.
    pub fn process_environment(self) -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        self.environment(std::env::vars_os().filter_map(utf8))
    }

    /// Overrides one setting, such as `("cache.default", "redis")`; lists are separated by commas.
    pub fn flag(mut self, setting: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.push((setting.into(), value.into()));
        self
    }
}

/// Environment variables by name.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn extend<K: Into<String>, V: Into<String>>(
        &mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) {
        let owned = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.0.extend(owned);
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let mut environment = Self::default();
        environment.extend(variables);
        environment
    }
}

/// Names only: the file's text, variables and flags may hold secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match &self.file {
            FileSource::None => None,
            FileSource::Required(path) | FileSource::Optional(path) => Some(path),
            FileSource::Text { name, .. } => Some(name),
        };
        let flags: Vec<&str> = self.flags.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("Sources")
            .field("file", &file)
            .field("environment", &self.environment.0.keys())
            .field("flags", &flags)
            .finish()
    }
}
