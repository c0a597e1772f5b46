//! No input, however wild, panics or shows a secret; and a correct one survives being shown.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::environment::FLAT_NAMES;
use super::super::schema;
use super::{Config, Sources, load_all};

fn name() -> impl Strategy<Value = String> {
    let flat: Vec<String> = FLAT_NAMES.iter().map(|(name, _)| (*name).into()).collect();
    let named: Vec<String> = schema::fields()
        .map(|field| {
            let path = field.path.replace('*', "main").replace('.', "__");
            format!("LARDER__{}", path.to_uppercase())
        })
        .collect();
    prop_oneof![
        proptest::sample::select(flat),
        proptest::sample::select(named),
        proptest::sample::select(vec![
            "DISTRIBUTED_CACHE_ENABLED".to_owned(),
            "CACHE_NODE1_HOST".into(),
            "CACHE_NODE1_PORT".into(),
            "XDG_DATA_HOME".into(),
        ]),
        "LARDER__[A-Z_]{0,20}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,20}",
        "[0-9]{1,3}(ms|s|m|MiB)?",
        proptest::sample::select(vec![
            "true",
            "redis",
            "sqlite",
            "sharded",
            "memory",
            "main",
            "redis://u:p@h/0",
            "/tmp/x",
            "a,b",
            "0.5",
        ])
        .prop_map(Into::into),
    ]
}

/// Text that looks like a configuration file, more or less.
fn file() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = schema::fields().map(schema::Field::key).collect();
    let tables: Vec<String> = schema::fields()
        .map(|field| format!("[{}]", field.table().replace('*', "main")))
        .collect();
    let line = prop_oneof![
        proptest::sample::select(tables),
        (proptest::sample::select(keys), value())
            .prop_map(|(key, value)| format!("{key} = {value:?}")),
        "[a-z.]{1,12} = [0-9a-z\"'\\[\\]{}=,.$-]{0,20}",
        ".{0,20}",
    ];
    vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_environment_panics(variables in vec((name(), value()), 0..8), flags in vec(("[a-z.]{0,20}", value()), 0..2)) {
        let mut sources = Sources::new().environment(variables);
        for (setting, value) in flags {
            sources = sources.flag(setting, value);
        }
        let _ = Config::load(&sources);
    }

    #[test]
    fn no_file_panics(text in file(), variables in vec((name(), value()), 0..3)) {
        let _ = Config::load(&Sources::new().text("larder.toml", text).environment(variables));
    }

    #[test]
    fn no_bytes_panic(text in "\\PC{0,200}") {
        let _ = Config::load(&Sources::new().text("larder.toml", text));
    }

    #[test]
    fn no_message_shows_a_password(key in "(url|host|port|servers|database|password|user|name|tls|zzz)", tail in "[a-z@:/?]{0,6}") {
        let file = format!("[stores.main]\ndriver = \"redis\"\n{key} = \"redis://u:QZXHUSH{tail}@h\"");
        let shown = match load_all(&file, &[], &[]) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(error) => error.to_string(),
        };
        prop_assert!(!shown.contains("QZXHUSH") || key == "user", "{}", shown);
    }

    #[test]
    fn what_loads_is_shown_as_what_loads(text in file()) {
        let sources = Sources::new().text("larder.toml", text).flag("dir", "/tmp/l");
        if let Ok(loaded) = Config::load(&sources) {
            let shown = loaded.to_toml();
            let again = Config::load(&Sources::new().text("larder.toml", shown.clone()));
            prop_assert_eq!(again.unwrap().to_toml(), shown);
        }
    }
}
