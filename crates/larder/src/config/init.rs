//! The commented file that `larder config init` writes.

use super::kind::Kind;
use super::schema::{self, Field};
use super::value::Raw;

/// The widest line of prose.
const WIDTH: usize = 100;

/// Groups of tags that applications commonly need.
const TAG_GROUPS: [(&str, &[&str]); 8] = [
    ("config", &["app_config", "database_config", "cache_config"]),
    (
        "permissions",
        &[
            "user_permissions",
            "role_permissions",
            "permission_definitions",
        ],
    ),
    (
        "roles",
        &["user_roles", "role_definitions", "role_hierarchy"],
    ),
    ("users", &["user_data", "user_sessions", "user_profiles"]),
    ("auth", &["jwt_tokens", "session_data", "auth_cache"]),
    ("api", &["api_routes", "api_definitions", "api_metadata"]),
    ("files", &["file_metadata", "upload_cache", "image_cache"]),
    (
        "notifications",
        &[
            "notification_templates",
            "notification_preferences",
            "notification_queue",
        ],
    ),
];

const HEAD: &str = "\
# The configuration of Larder. Everything is optional: without a file, one embedded store is used.
#
# A line that begins with \"#\" and no space is a setting with its default, or an example where there
# is none; to use it, remove the \"#\", and that of the [table] above it.
# Defaults < this file < environment < flags.
# A bare number is seconds in a duration and bytes in a size: 90, \"250ms\", \"1h30m\"; 4096, \"64MiB\".
# ${NAME} and ${NAME:-default} in a string are replaced from the environment; $$ is a plain $.
";

/// Returns a `larder.toml` with every setting, its meaning and its default, all but the groups of
/// tags commented out. Loading it changes nothing.
///
/// ```
/// use larder::config::{Config, Sources, default_file};
/// Config::load(&Sources::new().text("larder.toml", default_file()).flag("dir", "/tmp/larder"))?;
/// # Ok::<(), larder::Error>(())
/// ```
#[must_use]
pub fn default_file() -> String {
    let mut text = HEAD.to_owned();
    let mut table = String::new();
    for field in schema::fields() {
        let next = example_table(field);
        if next != table {
            text.push_str(&header(&next));
            table = next;
        }
        if table == "tags.groups" {
            text.push_str(&prose(field));
            text.push_str(&tag_groups());
            continue;
        }
        text.push('\n');
        text.push_str(&prose(field));
        text.push_str(&format!("#{} = {}\n", field.key(), sample(field)));
    }
    text
}

/// Returns the field's table with example names in place of the stars.
fn example_table(field: &Field) -> String {
    let store = match field.drivers {
        ["sharded"] => "stores.wide",
        _ => "stores.main",
    };
    field
        .table()
        .replace("stores.*", store)
        .replace("caches.*", "caches.sessions")
        .replace("queues.*", "queues.main")
        .replace("providers.*", "providers.cloudflare")
}

fn header(table: &str) -> String {
    match table {
        nodes if nodes.ends_with(".nodes.*") => {
            format!("\n#[[{}]]\n", nodes.trim_end_matches(".*"))
        }
        table
            if ["stores.", "caches.", "queues.", "edge.providers."]
                .iter()
                .any(|named| table.starts_with(named)) =>
        {
            format!("\n#[{table}]\n")
        }
        table => format!("\n[{table}]\n"),
    }
}

fn prose(field: &Field) -> String {
    let mut words = field.doc.to_owned();
    if !field.drivers.is_empty() {
        words.push_str(&format!(" Only for {}.", field.drivers.join(", ")));
    }
    let mut text = String::new();
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// Returns the default, or the example where there is none, as TOML.
pub(super) fn sample(field: &Field) -> String {
    let value = field.default_value().or_else(|| {
        let example = Raw::Loose(field.example.into());
        field.kind.accept(&example).ok()
    });
    value.map_or_else(String::new, |value| value.render(&Kind::Text))
}

fn tag_groups() -> String {
    let mut text = String::new();
    for (group, tags) in TAG_GROUPS {
        let tags: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
        text.push_str(&format!("{group} = [{}]\n", tags.join(", ")));
    }
    text
}
