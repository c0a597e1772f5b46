//! Values of settings, on their way in and checked, and how they are written.

use std::time::Duration;

use super::kind::Kind;
use super::secret::REDACTED;
use super::size::format_size;
use super::url;
use crate::ttl::format_duration;

/// A value on its way in, before its kind is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// Text that may stand for any type: of the environment, a flag, or a `${NAME}`.
    Loose(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<String>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Integer(u64),
    Float(f64),
    Duration(Duration),
    Forever,
    Size(u64),
    List(Vec<String>),
}

impl Value {
    /// Writes the value as TOML, without secrets.
    pub(super) fn render(&self, kind: &Kind) -> String {
        match (self, kind) {
            (Self::Text(_), Kind::Secret) => string(REDACTED),
            (Self::Text(text), Kind::Url) => string(&url::redact(text)),
            (Self::List(items), _) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| string(&url::redact(item)))
                    .collect();
                format!("[{}]", items.join(", "))
            }
            (Self::Text(text), _) => string(text),
            (Self::Bool(flag), _) => flag.to_string(),
            (Self::Integer(number), _) => number.to_string(),
            (Self::Float(number), _) => format!("{number:?}"),
            (Self::Duration(duration), _) => string(&format_duration(*duration)),
            (Self::Forever, _) => string("forever"),
            (Self::Size(bytes), _) => match format_size(*bytes) {
                plain if plain.bytes().all(|byte| byte.is_ascii_digit()) => plain,
                with_unit => string(&with_unit),
            },
        }
    }
}

fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
