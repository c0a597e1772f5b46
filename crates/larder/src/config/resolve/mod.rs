//! From what is set to what is meant: implied stores, names, directories, addresses.
//!
//! ```text
//! dir -> cache.default (and the store it implies) -> caches -> fallback -> REDIS_*, .. of stores -> addresses -> paths -> queues
//! ```

mod address;
mod places;

use super::environment;
use super::origin::Origin;
use super::path::SettingPath;
use super::problems::quoted;
use super::schema;
use super::settings::Draft;
use super::sources::Environment;
use super::store::Driver;
use super::suggest::did_you_mean;
use super::value::{Raw, Value};

/// Drivers whose name stands for a store of that name that nobody configured.
const IMPLIED: [&str; 6] = ["memory", "sqlite", "file", "redis", "memcached", "null"];
/// The store, and the queue, of a configuration that names none.
const MAIN: &str = "main";

/// Completes the settings. What cannot be completed becomes a problem.
pub(super) fn resolve(environment: &Environment, draft: &mut Draft) {
    let mut resolver = Resolver {
        draft,
        implied: Vec::new(),
    };
    resolver.directory(environment);
    let default_store = resolver.default_store();
    resolver.caches(default_store.as_deref());
    resolver.fallback();
    for store in resolver.names("stores") {
        environment::apply_to_store(&store, environment, resolver.draft);
    }
    for table in ["stores", "queues"] {
        for name in resolver.names(table) {
            resolver.address(&SettingPath::parse(table).child(name));
        }
    }
    resolver.queues();
    resolver.paths();
    resolver.providers();
    resolver.drop_idle_fallback(default_store.as_deref());
}

struct Resolver<'a> {
    draft: &'a mut Draft,
    implied: Vec<String>,
}

impl Resolver<'_> {
    fn names(&self, table: &str) -> Vec<String> {
        self.draft.settings.tables_in(&SettingPath::parse(table))
    }

    fn set(&mut self, path: &str, value: &str, origin: Origin) {
        let path = SettingPath::parse(path);
        if let Some(field) = schema::find(&path) {
            let raw = Raw::Loose(value.into());
            self.draft.set(path, field, &raw, origin);
        }
    }

    fn entry(&self, path: &str) -> Option<(String, Origin)> {
        let entry = self.draft.settings.get(&SettingPath::parse(path))?;
        match &entry.value {
            Value::Text(text) => Some((text.clone(), entry.origin.clone())),
            _ => None,
        }
    }

    fn is_set(&self, path: &str) -> bool {
        self.draft.settings.is_set(&SettingPath::parse(path))
    }

    fn exists(&self, table: &str, name: &str) -> bool {
        let path = SettingPath::parse(table).child(name);
        self.draft.settings.has_table(&path)
    }

    /// `dir`, else the user's data directory. An XDG directory must be absolute to count.
    fn directory(&mut self, environment: &Environment) {
        if self.is_set("dir") {
            return;
        }
        let found = |name: &str| environment.get(name).filter(|value| value.starts_with('/'));
        let derived = match (found("XDG_DATA_HOME"), found("HOME")) {
            (Some(data), _) => Some((format!("{data}/larder"), "XDG_DATA_HOME")),
            (None, Some(home)) => Some((format!("{home}/.local/share/larder"), "HOME")),
            (None, None) => None,
        };
        if let Some((dir, name)) = derived {
            self.set("dir", &dir, Origin::Env { name: name.into() });
        }
    }

    /// Completes `cache.default`; returns the store that holds the default cache.
    fn default_store(&mut self) -> Option<String> {
        let Some((name, origin)) = self.entry("cache.default") else {
            if self.is_set("cache.default") {
                return None;
            }
            let store = self.only_store()?;
            self.set("cache.default", &store, Origin::Default);
            return Some(store);
        };
        if !self.exists("caches", &name) {
            return self.store("cache.default", &name, &origin).then_some(name);
        }
        match self.entry(&format!("caches.{name}.store")) {
            Some((store, origin)) => {
                let setting = format!("caches.{name}.store");
                self.store(&setting, &store, &origin).then_some(store)
            }
            None => self.only_store(),
        }
    }

    /// Returns `main` or the only store; without any, the embedded one.
    fn only_store(&mut self) -> Option<String> {
        let names = self.names("stores");
        match names.as_slice() {
            [] => {
                self.set("stores.main.driver", "sqlite", Origin::Default);
                Some(MAIN.into())
            }
            [only] => Some(only.clone()),
            several if several.iter().any(|name| name == MAIN) => Some(MAIN.into()),
            several => {
                let message = format!(
                    "there are several stores and none is called main: set cache.default to one of {}",
                    several.join(", ")
                );
                let table = SettingPath::parse("stores");
                let origin = self.draft.settings.table_origin(&table);
                self.draft.problem(&origin, message);
                None
            }
        }
    }

    /// Returns whether there is a store of this name, which a driver's name implies.
    fn store(&mut self, setting: &str, name: &str, origin: &Origin) -> bool {
        if self.exists("stores", name) {
            return true;
        }
        if IMPLIED.contains(&name) {
            let driver = format!("stores.{name}.driver");
            self.set(&driver, name, origin.clone());
            self.implied.push(name.into());
            return true;
        }
        if name == MAIN && self.nothing_is_configured() {
            self.set("stores.main.driver", "sqlite", Origin::Default);
            return true;
        }
        let mut known = self.names("stores");
        let caches = match setting {
            "cache.default" => self.names("caches"),
            _ => Vec::new(),
        };
        let what = if setting == "cache.default" {
            "store or cache"
        } else {
            "store"
        };
        known.extend(caches);
        let known = known.iter().map(String::as_str).chain(IMPLIED);
        let message = format!(
            "{setting} is {}, which is no {what}{}",
            quoted(name),
            did_you_mean(name, known)
        );
        self.draft.problem(origin, message);
        false
    }

    /// Returns whether all stores are implied ones, so that `main` is the embedded store.
    fn nothing_is_configured(&self) -> bool {
        self.names("stores")
            .iter()
            .all(|name| self.implied.contains(name))
    }

    fn caches(&mut self, default_store: Option<&str>) {
        for name in self.names("caches") {
            let setting = format!("caches.{name}.store");
            match (self.entry(&setting), default_store) {
                (Some((store, origin)), _) => {
                    self.store(&setting, &store, &origin);
                }
                (None, Some(store)) if !self.is_set(&setting) => {
                    self.set(&setting, store, Origin::Default);
                }
                (None, _) => {}
            }
        }
    }

    fn fallback(&mut self) {
        let Some((name, origin)) = self.entry("cache.fallback") else {
            return;
        };
        if name == "none" || !self.store("cache.fallback", &name, &origin) {
            return;
        }
        let driver = self.entry(&format!("stores.{name}.driver"));
        if driver
            .is_some_and(|(driver, _)| !["memory", "sqlite", "file"].contains(&driver.as_str()))
        {
            let message = format!(
                "cache.fallback is {}, which may be down as well: use none, sqlite, file or a store of those",
                quoted(&name)
            );
            self.draft.problem(&origin, message);
        }
    }

    /// Returns whether a store is on servers.
    fn has_servers(&self) -> bool {
        let stores = self.draft.settings.tables_in(&SettingPath::parse("stores"));
        stores.into_iter().any(|name| {
            let driver = self.entry(&format!("stores.{name}.driver"));
            let driver = driver.and_then(|(driver, _)| Driver::by_name(&driver));
            driver.is_some_and(|driver| !driver.is_embedded())
        })
    }

    /// A store cannot stand in for itself; that is no error, for both may come from habit. It may for stores on servers.
    fn drop_idle_fallback(&mut self, default_store: Option<&str>) {
        if self.has_servers() {
            return;
        }
        let (Some((name, origin)), Some(store)) = (self.entry("cache.fallback"), default_store)
        else {
            return;
        };
        let place = |store: &str| {
            let driver = self.entry(&format!("stores.{store}.driver"));
            let path = self.entry(&format!("stores.{store}.path"));
            driver
                .map(|(driver, _)| driver)
                .zip(path.map(|(path, _)| path))
        };
        let same_place = place(&name).is_some() && place(&name) == place(store);
        if name == store || same_place {
            self.set("cache.fallback", "none", origin.clone());
            let message =
                format!("cache.fallback has no effect: {name} is the default store itself");
            self.draft.warn(&origin, &message);
        }
    }
}
