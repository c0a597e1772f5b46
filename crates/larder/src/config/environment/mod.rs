//! The environment and the flags: names to settings.
//!
//! `LARDER__SECTION__FIELD` reaches every setting; `__` stands for the dot, letter case does not
//! matter. The flat names (`CACHE_DRIVER`, `REDIS_HOST`, ..) are those of [`FLAT_NAMES`]; where both
//! set the same thing, `LARDER__` wins.

mod distributed;

use super::file::suggestion;
use super::kind::Kind;
use super::origin::Origin;
use super::path::SettingPath;
use super::problems::quoted;
use super::schema::{self, MAX_NODES};
use super::settings::Draft;
use super::sources::Environment;
use super::value::{Raw, Value};

const PREFIX: &str = "LARDER__";
const AT_START: &str = "cache.fallback_at_start";

/// Well-known variables and the setting of each. Those of a store count when there is such a store.
pub(super) const FLAT_NAMES: [(&str, &str); 15] = [
    ("LARDER_DIR", "dir"),
    ("CACHE_DRIVER", "cache.default"),
    ("CACHE_PREFIX", "cache.prefix"),
    ("CACHE_FALLBACK_FILE", "cache.fallback"),
    ("CACHE_FALLBACK_FILE", AT_START),
    ("CACHE_STAMPEDE_PROTECTION", "stampede.enabled"),
    ("CACHE_TAGGING_ENABLED", "tags.enabled"),
    ("CACHE_FILE_PATH", "stores.file.path"),
    ("REDIS_HOST", "stores.redis.host"),
    ("REDIS_PORT", "stores.redis.port"),
    ("REDIS_PASSWORD", "stores.redis.password"),
    ("REDIS_DB", "stores.redis.database"),
    ("REDIS_TIMEOUT", "stores.redis.connect_timeout"),
    ("MEMCACHED_HOST", "stores.memcached.host"),
    ("MEMCACHED_PORT", "stores.memcached.port"),
];

/// Sets what the variables that belong to no store say, then all `LARDER__` variables.
pub(super) fn apply(environment: &Environment, draft: &mut Draft) {
    for (name, dotted) in FLAT_NAMES {
        if !dotted.starts_with("stores.") {
            apply_flat(name, dotted, environment, draft);
        }
    }
    distributed::apply(environment, draft);
    for (name, value) in environment.iter() {
        if let Some(rest) = strip_prefix(name) {
            apply_named(name, rest, value, draft);
        }
    }
}

/// Sets what the flat variables say of the store of this name, unless something stronger did.
pub(super) fn apply_to_store(store: &str, environment: &Environment, draft: &mut Draft) {
    let driver = driver_of(store, draft);
    for (name, dotted) in FLAT_NAMES {
        let path = SettingPath::parse(dotted);
        let belongs =
            matches!(path.segments(), [stores, owner, _] if stores == "stores" && owner == store);
        let used = schema::find(&path).is_some_and(|field| field.is_used_by(&driver));
        if belongs && used {
            apply_flat(name, dotted, environment, draft);
        }
    }
}

fn driver_of(store: &str, draft: &Draft) -> String {
    let path = format!("stores.{store}.driver");
    draft.settings.text_at(&path).unwrap_or_default().to_owned()
}

fn apply_flat(name: &str, dotted: &str, environment: &Environment, draft: &mut Draft) {
    let Some(value) = environment.get(name) else {
        return;
    };
    let path = SettingPath::parse(dotted);
    let origin = Origin::Env { name: name.into() };
    let stronger = draft
        .settings
        .get(&path)
        .is_some_and(|entry| entry.origin.rank() >= origin.rank());
    if stronger {
        return;
    }
    let nothing = value.is_empty() || value == "null";
    let raw = match name {
        "REDIS_PASSWORD" if nothing => return draft.settings.remove(&path),
        "CACHE_PREFIX" | "CACHE_DRIVER" if value == "null" => Raw::Loose(value.into()),
        "CACHE_PREFIX" if value.is_empty() => Raw::Loose(String::new()),
        _ if nothing => return,
        // The systems that know this variable try the server first and go on with files, also at the start. What the
        // file says about the start is about just that, and stands.
        "CACHE_FALLBACK_FILE" if dotted == AT_START => {
            match Kind::Bool.accept(&Raw::Loose(value.into())) {
                Ok(Value::Bool(true)) if !draft.settings.is_set(&path) => {
                    Raw::Loose("fall-back".into())
                }
                _ => return,
            }
        }
        "CACHE_FALLBACK_FILE" => match Kind::Bool.accept(&Raw::Loose(value.into())) {
            Ok(Value::Bool(true)) => Raw::Loose("file".into()),
            Ok(_) => Raw::Loose("none".into()),
            Err(message) => return draft.problem(&origin, message),
        },
        _ => Raw::Loose(value.into()),
    };
    if let Some(field) = schema::find(&path) {
        draft.set(path, field, &raw, origin);
    }
}

fn strip_prefix(name: &str) -> Option<&str> {
    let (head, rest) = name.split_at_checked(PREFIX.len())?;
    head.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

fn apply_named(name: &str, rest: &str, value: &str, draft: &mut Draft) {
    let origin = Origin::Env { name: name.into() };
    let segments = rest
        .to_ascii_lowercase()
        .split("__")
        .map(Into::into)
        .collect();
    let path = with_known_names(&SettingPath::from_segments(segments), draft);
    apply_text(path, value, origin, draft);
}

/// Sets what the program overrides.
pub(super) fn apply_flags(flags: &[(String, String)], draft: &mut Draft) {
    for (setting, value) in flags {
        apply_text(SettingPath::parse(setting), value, Origin::Flag, draft);
    }
}

fn apply_text(path: SettingPath, value: &str, origin: Origin, draft: &mut Draft) {
    let element_of_no_list = path.segments().windows(2).any(|pair| {
        pair[0] == "nodes"
            && pair[1]
                .parse::<usize>()
                .map_or(true, |index| index >= MAX_NODES)
    });
    match schema::find(&path) {
        Some(field) if !element_of_no_list => {
            draft.set(path, field, &Raw::Loose(value.into()), origin);
        }
        _ => {
            let message = format!(
                "unknown setting {}{}",
                quoted(&path.to_string()),
                suggestion(&path)
            );
            draft.problem(&origin, message);
        }
    }
}

/// Replaces the names in a path from the environment by those of tables that are there: letter
/// case does not matter, and `_` may stand for `-`, which no variable's name can hold.
fn with_known_names(path: &SettingPath, draft: &Draft) -> SettingPath {
    let mut known = SettingPath::default();
    for segment in path.segments() {
        let same = |name: &String| name.to_ascii_lowercase().replace('-', "_") == *segment;
        let names = draft.settings.tables_in(&known);
        let exact = names.iter().any(|name| name == segment);
        let found = names.iter().find(|name| !exact && same(name));
        known = known.child(found.unwrap_or(segment).as_str());
    }
    known
}
