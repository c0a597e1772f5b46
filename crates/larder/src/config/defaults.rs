//! The defaults, made explicit, so that what is shown is everything that is in effect.

use super::origin::Origin;
use super::path::SettingPath;
use super::schema::{self, Field};
use super::settings::{Entry, Settings};

/// Tables whose being there means something: their defaults appear only in those that are there.
const OPTIONAL: [&str; 1] = ["stores.*.local"];

/// Sets every default that applies, and hands the defaults of `[cache]` down to each cache.
pub(super) fn fill(settings: &mut Settings) {
    for field in schema::fields() {
        let Some(value) = field.default_value() else {
            continue;
        };
        for path in places(field, settings) {
            let entry = Entry {
                value: value.clone(),
                origin: Origin::Default,
                field,
            };
            settings.insert(path, entry);
        }
    }
    inherit(settings);
}

/// Returns where the field could be set and is not.
fn places(field: &Field, settings: &Settings) -> Vec<SettingPath> {
    let mut places = vec![SettingPath::default()];
    for segment in field.path.split('.') {
        places = match segment {
            "*" => places
                .iter()
                .flat_map(|place| {
                    let names = settings.tables_in(place);
                    names.into_iter().map(|name| place.child(name))
                })
                .collect(),
            _ => places.iter().map(|place| place.child(segment)).collect(),
        };
    }
    places.retain(|place| {
        let table = place.parent();
        let is_optional = OPTIONAL.iter().any(|pattern| table.matches(pattern));
        let driver = schema::driver_of(place, |owner| settings.text(owner));
        settings.get(place).is_none()
            && driver.is_none_or(|driver| field.is_used_by(driver))
            && (!is_optional || settings.has_table(&table))
    });
    places
}

fn inherit(settings: &mut Settings) {
    for cache in settings.tables_in(&SettingPath::parse("caches")) {
        let table = SettingPath::parse("caches").child(cache);
        for key in schema::keys_of(&table) {
            let place = table.child(key);
            let parent = settings.get(&SettingPath::parse("cache").child(key));
            let (Some(parent), Some(field), None) =
                (parent, schema::find(&place), settings.get(&place))
            else {
                continue;
            };
            let entry = Entry {
                field,
                ..parent.clone()
            };
            settings.insert(place, entry);
        }
    }
}
