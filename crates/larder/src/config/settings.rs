//! The settings gathered so far, each with its origin.

use std::collections::{BTreeMap, BTreeSet};

use super::origin::Origin;
use super::path::SettingPath;
use super::problems::{Problems, at};
use super::schema::Field;
use super::value::{Raw, Value};

/// A checked value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
    pub(super) field: &'static Field,
}

/// All settings by place, and the tables that are there, empty ones too.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    entries: BTreeMap<SettingPath, Entry>,
    tables: BTreeMap<SettingPath, Origin>,
    /// Places that were set to something unusable: reported once, not again as missing.
    broken: BTreeSet<SettingPath>,
}

impl Settings {
    pub(super) fn insert(&mut self, path: SettingPath, entry: Entry) {
        self.add_table(&path.parent(), &entry.origin);
        self.entries.insert(path, entry);
    }

    /// Notes that a table and those around it are there.
    pub(super) fn add_table(&mut self, path: &SettingPath, origin: &Origin) {
        if path.len() == 0 || self.tables.contains_key(path) {
            return;
        }
        self.tables.insert(path.clone(), origin.clone());
        self.add_table(&path.parent(), origin);
    }

    pub(super) fn mark_broken(&mut self, path: SettingPath) {
        self.broken.insert(path);
    }

    pub(super) fn remove(&mut self, path: &SettingPath) {
        self.entries.remove(path);
    }

    /// Removes a table with all that is in it.
    pub(super) fn remove_table(&mut self, table: &SettingPath) {
        self.entries.retain(|path, _| !path.starts_with(table));
        self.tables.retain(|path, _| !path.starts_with(table));
    }

    pub(super) fn get(&self, path: &SettingPath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns whether the place is set, usably or not.
    pub(super) fn is_set(&self, path: &SettingPath) -> bool {
        self.entries.contains_key(path) || self.broken.contains(path)
    }

    pub(super) fn has_table(&self, path: &SettingPath) -> bool {
        self.tables.contains_key(path)
    }

    /// Returns where a table is first named; `Default` when it is not there.
    pub(super) fn table_origin(&self, path: &SettingPath) -> Origin {
        self.tables.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// Returns the names of the tables in this one, in order.
    pub(super) fn tables_in(&self, parent: &SettingPath) -> Vec<String> {
        self.tables
            .keys()
            .filter(|path| path.len() == parent.len() + 1 && path.starts_with(parent))
            .map(|path| path.last().to_owned())
            .collect()
    }

    /// Returns the settings below a table, in order.
    pub(super) fn below<'a>(
        &'a self,
        table: &'a SettingPath,
    ) -> impl Iterator<Item = (&'a SettingPath, &'a Entry)> {
        self.entries
            .iter()
            .filter(move |(path, _)| path.starts_with(table))
    }

    /// Returns all settings, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SettingPath, &Entry)> {
        self.entries.iter()
    }

    /// Returns the text of a setting, `None` when unset or of another kind.
    pub(super) fn text(&self, path: &SettingPath) -> Option<&str> {
        match self.get(path).map(|entry| &entry.value) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of the setting at this dotted place.
    pub(super) fn text_at(&self, dotted: &str) -> Option<&str> {
        self.text(&SettingPath::parse(dotted))
    }
}

/// A configuration in the making: what is set, what is wrong, what is worth a word.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) settings: Settings,
    pub(super) problems: Problems,
    pub(super) warnings: Vec<String>,
}

impl Draft {
    /// Checks a value and sets it; what is wrong with it becomes a problem.
    pub(super) fn set(
        &mut self,
        path: SettingPath,
        field: &'static Field,
        raw: &Raw,
        origin: Origin,
    ) {
        match field.kind.accept(raw) {
            Ok(value) => self.settings.insert(
                path,
                Entry {
                    value,
                    origin,
                    field,
                },
            ),
            Err(message) => {
                self.problem(&origin, format!("{path} {message}"));
                self.settings.add_table(&path.parent(), &origin);
                self.settings.mark_broken(path);
            }
        }
    }

    pub(super) fn problem(&mut self, origin: &Origin, message: impl Into<String>) {
        self.problems.push(origin, message);
    }

    pub(super) fn warn(&mut self, origin: &Origin, message: &str) {
        self.warnings.push(at(origin, message));
    }
}
