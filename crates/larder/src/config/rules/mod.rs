//! What settings demand of each other.

mod edge;
mod stores;
mod tags;

use super::connection::split_port;
use super::origin::Origin;
use super::path::SettingPath;
use super::problems::{Problems, quoted};
use super::schema;
use super::settings::{Draft, Settings};
use super::url;
use super::value::Value;

/// The longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 128;
/// The longest name of a store, cache, queue, node or group.
const MAX_NAME_CHARS: usize = 64;
/// Tables in which users choose the names.
const NAMED: [&str; 4] = ["stores", "caches", "queues", "edge.providers"];

/// Adds a problem for each rule that the settings break.
pub(super) fn check(draft: &mut Draft) {
    let rules = Rules {
        settings: &draft.settings,
        problems: &mut draft.problems,
    };
    rules.run();
}

struct Rules<'a> {
    settings: &'a Settings,
    problems: &'a mut Problems,
}

impl Rules<'_> {
    fn run(mut self) {
        self.names();
        self.groups();
        self.prefixes();
        for parent in ["stores", "queues"] {
            for name in self.settings.tables_in(&SettingPath::parse(parent)) {
                let table = SettingPath::parse(parent).child(name);
                self.driver(&table);
                self.encryption(&table);
                self.addresses(&table);
                self.buckets(&table);
                self.nodes(&table.child("nodes"));
            }
        }
        self.unused();
        self.providers();
    }

    pub(super) fn problem(&mut self, origin: &Origin, message: impl Into<String>) {
        self.problems.push(origin, message);
    }

    fn text(&self, table: &SettingPath, key: &str) -> Option<(&str, Origin)> {
        let path = table.child(key);
        let origin = self.settings.get(&path)?.origin.clone();
        Some((self.settings.text(&path)?, origin))
    }

    fn names(&mut self) {
        for parent in NAMED {
            let parent = SettingPath::parse(parent);
            for name in self.settings.tables_in(&parent) {
                let table = parent.child(&name);
                let origin = self.settings.table_origin(&table);
                self.name(&table.to_string(), &name, &origin);
                let is_cache = parent.last() == "caches";
                if name == crate::config::DEFAULT_CACHE && (is_cache || parent.last() == "stores") {
                    let message = format!(
                        "{table} cannot have this name: default always means the cache that cache.default names"
                    );
                    self.problem(&origin, message);
                }
                let store = SettingPath::parse("stores").child(&name);
                if is_cache && self.settings.has_table(&store) {
                    let message = format!("{table} has the name of a store: rename one of them");
                    self.problem(&origin, message);
                }
            }
        }
    }

    fn name(&mut self, place: &str, name: &str, origin: &Origin) {
        if let Some(message) = name_problem(place, name) {
            self.problem(origin, message);
        }
    }

    fn prefixes(&mut self) {
        for (path, entry) in self.settings.iter() {
            let Value::Text(text) = &entry.value else {
                continue;
            };
            let is_prefix = path.matches("cache.prefix") || path.matches("caches.*.prefix");
            let fits = text.len() <= MAX_PREFIX_BYTES && !text.chars().any(char::is_control);
            if is_prefix && !fits {
                let message = format!(
                    "{path} must be at most {MAX_PREFIX_BYTES} bytes without control characters, not {}",
                    quoted(text)
                );
                self.problems.push(&entry.origin, message);
            }
        }
    }

    /// A setting that the driver does not use would be believed to work.
    fn unused(&mut self) {
        for (path, entry) in self.settings.iter() {
            let Some(driver) = schema::driver_of(path, |place| self.settings.text(place)) else {
                continue;
            };
            if !entry.field.is_used_by(driver) {
                let message = format!(
                    "{path} means nothing to driver {driver}, only to {}",
                    entry.field.drivers.join(", ")
                );
                self.problems.push(&entry.origin, message);
            }
        }
    }

    fn scheme(&mut self, table: &SettingPath, schemes: &[&str]) {
        let Some((text, origin)) = self.text(table, "url") else {
            return;
        };
        let Some(parts) = url::split(text).filter(|parts| schemes.contains(&parts.scheme)) else {
            let message = format!(
                "{table}.url must begin with {}://, not {}",
                schemes.join(":// or "),
                quoted(text)
            );
            return self.problem(&origin, message);
        };
        let authority = parts.rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_socket = parts.scheme.ends_with("unix");
        let may_be_several = parts.scheme.starts_with("postgres");
        if !is_socket && !may_be_several && split_port(authority).is_none() {
            let message = format!("{table}.url has no valid host and port: {}", quoted(text));
            self.problem(&origin, message);
        }
    }
}

fn name_problem(place: &str, name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_fine = !name.is_empty() && name.len() <= MAX_NAME_CHARS && name.chars().all(plain);
    (!is_fine).then(|| {
        format!(
            "{}: a name is 1 to {MAX_NAME_CHARS} of the characters a-z A-Z 0-9 - _",
            quoted(place)
        )
    })
}
