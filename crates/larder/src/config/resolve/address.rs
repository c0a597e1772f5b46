//! One way to each server.

use super::Resolver;
use crate::config::origin::Origin;
use crate::config::path::SettingPath;
use crate::config::schema;

/// Where an implied store of a server looks for it.
const LOCALHOST: &str = "127.0.0.1";

impl Resolver<'_> {
    /// Keeps one way to the server and one place of the password: those of the strongest origin.
    pub(super) fn address(&mut self, table: &SettingPath) {
        let driver = self.draft.settings.text(&table.child("driver"));
        let driver = driver.unwrap_or_default().to_owned();
        let ways: Vec<&[&str]> = [&["url"][..], &["host", "port"], &["servers"]]
            .into_iter()
            .filter(|keys| is_used(&table.child(keys[0]), &driver))
            .collect();
        self.keep_strongest(table, &[&["password"], &["password_file"]]);
        let Some(chosen) = self.keep_strongest(table, &ways) else {
            return self.missing_address(table, &ways);
        };
        let host = table.child("host");
        if chosen[0] == "host" && !self.draft.settings.is_set(&host) {
            self.set(&host.to_string(), LOCALHOST, Origin::Default);
        }
    }

    /// Removes all alternatives but the one of the strongest origin, which it returns; `None` when
    /// none is set. Two of the same strength are a problem.
    fn keep_strongest<'k>(
        &mut self,
        table: &SettingPath,
        alternatives: &[&'k [&'k str]],
    ) -> Option<&'k [&'k str]> {
        let strongest = |keys: &[&str]| {
            keys.iter()
                .filter_map(|key| self.draft.settings.get(&table.child(*key)))
                .map(|entry| entry.origin.clone())
                .max_by_key(Origin::rank)
        };
        let mut found: Vec<(&[&str], Origin)> = alternatives
            .iter()
            .filter_map(|keys| Some((*keys, strongest(keys)?)))
            .collect();
        found.sort_by_key(|(_, origin)| std::cmp::Reverse(origin.rank()));
        let (chosen, origin) = found.first()?.clone();
        for (keys, other) in &found[1..] {
            if other.rank() == origin.rank() {
                let (first, second) = (chosen[0], keys[0]);
                let message = format!("{table} has both {first} and {second}: keep one");
                self.draft.problem(other, message);
                continue;
            }
            for key in *keys {
                self.draft.settings.remove(&table.child(*key));
            }
        }
        Some(chosen)
    }

    fn missing_address(&mut self, table: &SettingPath, ways: &[&[&str]]) {
        let attempted = ways
            .iter()
            .copied()
            .flatten()
            .any(|key| self.draft.settings.is_set(&table.child(*key)));
        if ways.is_empty() || attempted {
            return;
        }
        if self.implied.iter().any(|name| name == table.last()) {
            let host = table.child("host").to_string();
            return self.set(&host, LOCALHOST, Origin::Default);
        }
        let names: Vec<&str> = ways.iter().map(|keys| keys[0]).collect();
        let origin = self.draft.settings.table_origin(table);
        let message = format!("{table} needs {}, where its server is", names.join(" or "));
        self.draft.problem(&origin, message);
    }
}

fn is_used(path: &SettingPath, driver: &str) -> bool {
    schema::find(path).is_some_and(|field| field.is_used_by(driver))
}
