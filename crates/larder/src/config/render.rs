//! The effective configuration as text, without secrets.

use super::path::SettingPath;
use super::schema;
use super::settings::Settings;

/// Writes all settings as TOML.
pub(super) fn to_toml(settings: &Settings) -> String {
    let mut text = String::new();
    let mut tables: Vec<SettingPath> = settings.iter().map(|(path, _)| path.parent()).collect();
    tables.sort();
    tables.dedup();
    for table in tables {
        if table.len() > 0 {
            text.push_str(&header(&table));
        }
        for (path, entry) in settings.below(&table) {
            if path.len() == table.len() + 1 {
                let value = entry.value.render(&entry.field.kind);
                text.push_str(&format!("{} = {value}\n", path.last()));
            }
        }
    }
    text
}

fn header(table: &SettingPath) -> String {
    let list = table.parent();
    if schema::is_list_of_tables(&list) {
        format!("\n[[{list}]]\n")
    } else {
        format!("\n[{table}]\n")
    }
}
