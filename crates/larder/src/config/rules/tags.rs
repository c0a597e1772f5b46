//! Groups of tags.

use super::{Rules, name_problem};
use crate::config::path::SettingPath;
use crate::config::value::Value;
use crate::tag::Selector;

impl Rules<'_> {
    pub(super) fn groups(&mut self) {
        let groups = SettingPath::parse("tags.groups");
        for (path, entry) in self.settings.below(&groups) {
            if let Some(message) = name_problem(&path.to_string(), path.last()) {
                self.problems.push(&entry.origin, message);
            }
            let Value::List(tags) = &entry.value else {
                continue;
            };
            if tags.is_empty() {
                let message = format!("{path} needs at least one tag");
                self.problems.push(&entry.origin, message);
            }
            for tag in tags {
                if let Err(error) = Selector::parse(tag) {
                    let message = format!("{path}: {}", error.message());
                    self.problems.push(&entry.origin, message);
                }
            }
        }
    }
}
