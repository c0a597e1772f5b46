//! Queues, the files of what is embedded, and the drivers of edge providers.

use super::{MAIN, Resolver};
use crate::config::origin::Origin;
use crate::config::path::SettingPath;
use crate::config::problems::quoted;
use crate::config::schema;
use crate::config::settings::Entry;
use crate::config::suggest::did_you_mean;
use crate::config::value::Raw;

impl Resolver<'_> {
    pub(super) fn queues(&mut self) {
        let names = self.names("queues");
        if names.is_empty() && self.is_set("dir") {
            self.set("queues.main.driver", "sqlite", Origin::Default);
        }
        let Some((name, origin)) = self.entry("queue.default") else {
            let default = match names.as_slice() {
                [only] => only,
                _ => MAIN,
            };
            if !names.is_empty() && !self.exists("queues", default) {
                let message = format!(
                    "there are several queues and none is called main: set queue.default to one of {}",
                    names.join(", ")
                );
                let table = SettingPath::parse("queues");
                let origin = self.draft.settings.table_origin(&table);
                self.draft.problem(&origin, message);
            }
            return self.set("queue.default", default, Origin::Default);
        };
        if !self.exists("queues", &name) {
            let known = self.names("queues");
            let message = format!(
                "queue.default is {}, which is no queue{}",
                quoted(&name),
                did_you_mean(&name, known.iter().map(String::as_str))
            );
            self.draft.problem(&origin, message);
        }
    }

    /// Gives embedded stores and queues without a path one in `dir`.
    pub(super) fn paths(&mut self) {
        for table in ["stores", "queues"] {
            for name in self.names(table) {
                let driver = self.entry(&format!("{table}.{name}.driver"));
                let path = format!("{table}.{name}.path");
                let Some(file) = driver.and_then(|(driver, _)| file_name(table, &name, &driver))
                else {
                    continue;
                };
                if self.is_set(&path) {
                    continue;
                }
                match self.entry("dir") {
                    Some((dir, _)) => {
                        let inside = format!("{}/{file}", dir.trim_end_matches('/'));
                        self.set(&path, &inside, Origin::Default);
                    }
                    None if self.is_set("dir") => {}
                    None => self.draft.problem(
                        &Origin::Default,
                        format!("no directory for {table}.{name}: set LARDER_DIR, or dir or {path} in the file (neither XDG_DATA_HOME nor HOME is set)"),
                    ),
                }
            }
        }
    }

    /// A provider that is named like a driver is one of it.
    pub(super) fn providers(&mut self) {
        for name in self.names("edge.providers") {
            let path = SettingPath::parse("edge.providers")
                .child(&name)
                .child("driver");
            let Some(field) = schema::find(&path).filter(|_| !self.draft.settings.is_set(&path))
            else {
                continue;
            };
            match field.kind.accept(&Raw::Loose(name.clone())) {
                Ok(value) => {
                    let origin = Origin::Default;
                    let entry = Entry {
                        value,
                        origin,
                        field,
                    };
                    self.draft.settings.insert(path, entry);
                }
                Err(_) => {
                    let table = path.parent();
                    let origin = self.draft.settings.table_origin(&table);
                    let message = format!("{table} needs driver, {}", field.kind.describe());
                    self.draft.problem(&origin, message);
                }
            }
        }
    }
}

/// Returns the file or directory of an embedded store or queue, `None` for other drivers.
///
/// `main` and `sqlite` share a file, so that naming the default driver changes nothing.
fn file_name(table: &str, name: &str, driver: &str) -> Option<String> {
    Some(match (table, driver, name) {
        ("queues", "sqlite", MAIN) => "queue.db".into(),
        ("queues", "sqlite", _) => format!("queue-{name}.db"),
        ("stores", "sqlite", MAIN | "sqlite") => "cache.db".into(),
        ("stores", "sqlite", _) => format!("cache-{name}.db"),
        ("stores", "file", MAIN | "file") => "cache".into(),
        ("stores", "file", _) => format!("cache-{name}"),
        _ => return None,
    })
}
