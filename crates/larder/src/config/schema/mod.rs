//! Every setting, as data: its place, kind, default, meaning.
//!
//! This table is the only list of settings. Reading, the environment names, `config show`,
//! `config init` and the reference in the documentation all follow it.

mod cache;
mod edge;
mod queues;
mod stores;

use std::time::Duration;

use super::kind::Kind;
use super::path::SettingPath;
use super::value::{Raw, Value};

/// What a setting is when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fallback {
    /// Nothing: the setting is optional.
    Unset,
    /// It must be set.
    Required,
    /// This, as it would be written in the environment.
    Value(&'static str),
    /// Derived from other settings, in these words.
    Derived(&'static str),
}

/// One setting, or all of one kind where the path holds `*`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) fallback: Fallback,
    /// One paragraph of Markdown for the reference.
    pub(super) doc: &'static str,
    /// A value to show where there is no default, as it would be written in the environment.
    pub(super) example: &'static str,
    /// The drivers that use it; all, when empty.
    pub(super) drivers: &'static [&'static str],
}

impl Field {
    const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            path,
            kind,
            fallback: Fallback::Unset,
            doc,
            example: "",
            drivers: &[],
        }
    }

    const fn or(mut self, default: &'static str) -> Self {
        self.fallback = Fallback::Value(default);
        self
    }

    const fn derived(mut self, from: &'static str) -> Self {
        self.fallback = Fallback::Derived(from);
        self
    }

    const fn required(mut self) -> Self {
        self.fallback = Fallback::Required;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    const fn only(mut self, drivers: &'static [&'static str]) -> Self {
        self.drivers = drivers;
        self
    }

    /// Returns whether a store or queue of this driver uses the setting.
    pub(super) fn is_used_by(&self, driver: &str) -> bool {
        self.drivers.is_empty() || self.drivers.contains(&driver)
    }

    /// Returns the default, where it is a plain value.
    pub(super) fn default_value(&self) -> Option<Value> {
        match self.fallback {
            Fallback::Value(text) => self.kind.accept(&Raw::Loose(text.into())).ok(),
            Fallback::Unset | Fallback::Required | Fallback::Derived(_) => None,
        }
    }

    /// Returns the key alone, without its tables.
    pub(super) fn key(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// Returns the pattern of its table.
    pub(super) fn table(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }
}

/// Tables whose keys are the elements of a list.
pub(super) const LISTS_OF_TABLES: [&str; 1] = ["stores.*.nodes"];

/// The most elements of such a list.
pub(super) const MAX_NODES: usize = 64;

/// Returns all settings, table by table.
pub(super) fn fields() -> impl Iterator<Item = &'static Field> {
    [
        cache::FIELDS,
        stores::FIELDS,
        stores::SHARDED_FIELDS,
        cache::CACHES_FIELDS,
        cache::BEHAVIOUR_FIELDS,
        queues::FIELDS,
        edge::FIELDS,
    ]
    .into_iter()
    .flatten()
}

/// Returns the setting at this place.
pub(super) fn find(path: &SettingPath) -> Option<&'static Field> {
    fields().find(|field| path.matches(field.path))
}

/// Returns whether this place is a table of settings.
pub(super) fn is_table(path: &SettingPath) -> bool {
    fields().any(|field| path.leads_to(field.path))
}

/// Returns whether this place is a list of tables.
pub(super) fn is_list_of_tables(path: &SettingPath) -> bool {
    LISTS_OF_TABLES.iter().any(|pattern| path.matches(pattern))
}

/// Returns the driver of the store, queue or provider that this place belongs to.
pub(super) fn driver_of<'a>(
    place: &SettingPath,
    text: impl Fn(&SettingPath) -> Option<&'a str>,
) -> Option<&'a str> {
    let owner = match place.segments() {
        [first, name, ..] if first == "stores" || first == "queues" => {
            SettingPath::parse(first).child(name)
        }
        [edge, providers, name, ..] if edge == "edge" && providers == "providers" => {
            SettingPath::parse("edge.providers").child(name)
        }
        _ => return None,
    };
    text(&owner.child("driver"))
}

/// Returns the keys that this table may hold, without those that users name.
pub(super) fn keys_of(table: &SettingPath) -> Vec<&'static str> {
    let mut keys: Vec<&str> = fields()
        .filter(|field| table.leads_to(field.path))
        .filter_map(|field| field.path.split('.').nth(table.len()))
        .filter(|key| *key != "*")
        .collect();
    keys.dedup();
    keys
}

const fn choice(words: &'static [&'static str]) -> Kind {
    Kind::Choice {
        words,
        aliases: &[],
    }
}

/// A wait or timeout: 1 ms to 10 minutes.
const TIMEOUT: Kind = Kind::Duration {
    min: Duration::from_millis(1),
    max: Duration::from_mins(10),
};

/// The time between two runs of something: 1 s to 7 days.
const INTERVAL: Kind = Kind::Duration {
    min: Duration::from_secs(1),
    max: Duration::from_hours(7 * 24),
};

/// As [`INTERVAL`], with zero as "never".
const INTERVAL_OR_OFF: Kind = Kind::Duration {
    min: Duration::ZERO,
    max: Duration::from_hours(7 * 24),
};

const RATIO: Kind = Kind::Float { min: 0.0, max: 1.0 };

const PORT: Kind = Kind::Integer { min: 1, max: 65535 };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_and_example_is_accepted_by_its_own_kind() {
        for field in fields() {
            if let Fallback::Value(text) = field.fallback {
                assert!(field.default_value().is_some(), "{}: {text}", field.path);
            } else {
                let accepted = field.kind.accept(&Raw::Loose(field.example.into()));
                assert!(!field.example.is_empty(), "{} lacks an example", field.path);
                assert!(accepted.is_ok(), "{}: {accepted:?}", field.path);
            }
        }
    }

    #[test]
    fn paths_are_unique_and_no_setting_is_also_a_table() {
        let mut seen = BTreeSet::new();
        for field in fields() {
            assert!(seen.insert(field.path), "{} is there twice", field.path);
            assert!(!is_table(&SettingPath::parse(field.path)), "{}", field.path);
            assert!(field.doc.ends_with('.'), "{}", field.path);
        }
    }
}
