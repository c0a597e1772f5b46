//! Reading checked settings as the types that users hold.

use std::path::PathBuf;
use std::time::Duration;

use super::path::SettingPath;
use super::schema;
use super::secret::Secret;
use super::settings::Settings;
use super::value::Value;

/// One table of the settings. What is not set has the schema's default.
#[derive(Debug, Clone)]
pub(super) struct Table<'a> {
    settings: &'a Settings,
    path: SettingPath,
}

impl<'a> Table<'a> {
    pub(super) fn new(settings: &'a Settings, dotted: &str) -> Self {
        Self {
            settings,
            path: SettingPath::parse(dotted),
        }
    }

    pub(super) fn table(&self, name: &str) -> Self {
        Self {
            settings: self.settings,
            path: self.path.child(name),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.settings.has_table(&self.path)
    }

    /// Returns the names of the tables in this one.
    pub(super) fn names(&self) -> Vec<String> {
        self.settings.tables_in(&self.path)
    }

    /// Returns the keys that users chose in this table, with their lists.
    pub(super) fn lists(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.settings
            .below(&self.path)
            .filter_map(|(path, entry)| match &entry.value {
                Value::List(items) => Some((path.last().to_owned(), items.clone())),
                _ => None,
            })
    }

    fn value(&self, key: &str) -> Option<Value> {
        let path = self.path.child(key);
        match self.settings.get(&path) {
            Some(entry) => Some(entry.value.clone()),
            None => schema::find(&path)?.default_value(),
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn secret(&self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.value(key) == Some(Value::Bool(true))
    }

    /// Returns an integer; zero when unset without a default. The schema's bounds fit the type.
    pub(super) fn integer<T: TryFrom<u64> + Default>(&self, key: &str) -> T {
        self.optional_integer(key).unwrap_or_default()
    }

    pub(super) fn optional_integer<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        match self.value(key)? {
            Value::Integer(number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    pub(super) fn float(&self, key: &str) -> f64 {
        match self.value(key) {
            Some(Value::Float(number)) => number,
            _ => 0.0,
        }
    }

    pub(super) fn size(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Size(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
        self.nonzero(key).unwrap_or_default()
    }

    /// Returns a duration; `None` for zero and for `forever`.
    pub(super) fn nonzero(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(duration) => Some(duration).filter(|duration| !duration.is_zero()),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        }
    }
}
