//! The generated parts of `docs/configuration.md`, and the test that they are up to date.

use super::environment::FLAT_NAMES;
use super::init::sample;
use super::path::SettingPath;
use super::schema::{self, Fallback, Field};
use super::seeds;

/// Returns all settings as Markdown tables.
pub(super) fn settings() -> String {
    let mut text = String::new();
    let mut table = None;
    for field in schema::fields() {
        let next = (field.table(), field.drivers == ["sharded"]);
        if table != Some(next) {
            table = Some(next);
            text.push_str(&heading(field));
            text.push_str(
                "| key | type | default | environment | meaning |\n|---|---|---|---|---|\n",
            );
        }
        text.push_str(&row(field));
    }
    text
}

fn heading(field: &Field) -> String {
    match field.table() {
        "stores.*" if field.drivers == ["sharded"] => {
            "\n### `[stores.<name>]` of driver `sharded`\n\n".into()
        }
        "" => "\n### Top level\n\n".into(),
        table if table.ends_with(".nodes.*") => {
            format!(
                "\n### `[[{}]]`\n\n",
                table.trim_end_matches(".*").replace('*', "<name>")
            )
        }
        table => format!("\n### `[{}]`\n\n", table.replace('*', "<name>")),
    }
}

fn row(field: &Field) -> String {
    let default = match field.fallback {
        Fallback::Value(_) => format!("`{}`", sample(field)),
        Fallback::Derived(from) => from.into(),
        Fallback::Required => "required".into(),
        Fallback::Unset => "unset".into(),
    };
    let mut doc = field.doc.to_owned();
    if !field.drivers.is_empty() {
        let drivers: Vec<String> = field
            .drivers
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        doc.push_str(&format!(" Only for {}.", drivers.join(", ")));
    }
    let key = field.key().replace('*', "<name>");
    let cells = [
        format!("`{key}`"),
        field.kind.describe(),
        default,
        variables(field),
        doc,
    ];
    format!(
        "| {} |\n",
        cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
    )
}

fn variables(field: &Field) -> String {
    let names: Vec<String> = FLAT_NAMES
        .iter()
        .filter(|(_, dotted)| SettingPath::parse(dotted).matches(field.path))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    names.join(", ")
}

/// Returns the well-known variables as a Markdown table.
pub(super) fn variables_table() -> String {
    let mut text = String::from("\n| variable | setting |\n|---|---|\n");
    for (name, dotted) in FLAT_NAMES {
        text.push_str(&format!("| `{name}` | `{dotted}` |\n"));
    }
    text
}

/// Returns other systems' keys and ours as Markdown tables.
pub(super) fn other_systems() -> String {
    let mut text = String::new();
    for (title, keys) in seeds::TABLES {
        text.push_str(&format!(
            "\n### {title}\n\n| key | here | note |\n|---|---|---|\n"
        ));
        for seed in keys {
            let ours = seed.ours.map_or("none".into(), |ours| format!("`{ours}`"));
            text.push_str(&format!("| `{}` | {ours} | {} |\n", seed.key, seed.note));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn document() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md")
    }

    fn replace_generated(text: &str, name: &str, content: &str) -> String {
        let begin = format!("<!-- begin generated: {name} -->\n");
        let end = format!("<!-- end generated: {name} -->");
        let (before, rest) = text
            .split_once(&begin)
            .expect("the document has the marker");
        let (_, after) = rest
            .split_once(&end)
            .expect("the document has the end marker");
        format!("{before}{begin}{content}\n{end}{after}")
    }

    /// `LARDER_BLESS=1 cargo test` rewrites the document.
    #[test]
    fn the_document_holds_what_the_code_says() {
        let text = std::fs::read_to_string(document()).unwrap();
        let mut current = text.clone();
        for (name, content) in [
            ("settings", settings()),
            ("variables", variables_table()),
            ("other systems", other_systems()),
        ] {
            current = replace_generated(&current, name, &content);
        }
        if std::env::var_os("LARDER_BLESS").is_some() {
            std::fs::write(document(), &current).unwrap();
        } else {
            assert!(
                text == current,
                "docs/configuration.md is out of date; run the tests with LARDER_BLESS=1"
            );
        }
    }

    #[test]
    fn examples_of_the_document_load() {
        let text = std::fs::read_to_string(document()).unwrap();
        let examples: Vec<&str> = text
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(!examples.is_empty());
        for example in examples {
            let sources = crate::config::Sources::new()
                .text("larder.toml", example)
                .environment([("HOME", "/home/ann"), ("CDN_TOKEN", "t")]);
            if let Err(error) = crate::config::Config::load(&sources) {
                panic!("{error}\n{example}");
            }
        }
    }
}
