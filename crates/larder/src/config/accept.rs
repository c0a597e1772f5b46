//! What a kind of setting accepts, and what it says of the rest.

use std::time::Duration;

use super::kind::Kind;
use super::problems::{quoted, with_article};
use super::size::parse_size;
use super::suggest::did_you_mean;
use super::url;
use super::value::{Raw, Value};
use crate::ttl::parse_duration;

/// Why a value was not accepted.
enum Wrong {
    /// This was given, instead of what the kind describes.
    Given(String),
    /// A whole predicate: "must ..".
    Says(String),
}

impl Kind {
    /// Turns a raw value into a checked one, or says what is wrong with it: "must be ..".
    pub(super) fn accept(&self, raw: &Raw) -> Result<Value, String> {
        let accepted = match self {
            Self::Text | Self::Name | Self::Secret => {
                text(raw).map(|text| Value::Text(text.into()))
            }
            Self::Path => text(raw).and_then(path),
            Self::Url => text(raw).and_then(address),
            Self::Bool => boolean(raw),
            Self::Integer { min, max } => integer(raw, *min, *max),
            Self::Float { min, max } => float(raw, *min, *max),
            Self::Duration { min, max } => duration(raw, *min, *max).map(Value::Duration),
            Self::Ttl => ttl(raw),
            Self::Size { min } => size(raw, *min),
            Self::Choice { words, aliases } => choice(raw, words, aliases),
            Self::List => list(raw),
        };
        accepted.map_err(|wrong| match wrong {
            Wrong::Given(given) => format!("must be {}, not {given}", self.describe()),
            Wrong::Says(predicate) => predicate,
        })
    }
}

/// Describes what was given instead of what was wanted.
fn given(raw: &Raw) -> Wrong {
    Wrong::Given(match raw {
        Raw::Loose(text) | Raw::Text(text) => quoted(text),
        Raw::Integer(number) => number.to_string(),
        Raw::Float(number) => format!("{number:?}"),
        Raw::Bool(flag) => flag.to_string(),
        Raw::List(_) => "a list".into(),
        Raw::Other(name) => with_article(name),
    })
}

fn text(raw: &Raw) -> Result<&str, Wrong> {
    match raw {
        Raw::Loose(text) | Raw::Text(text) => Ok(text),
        Raw::Integer(_) | Raw::Float(_) | Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => {
            Err(given(raw))
        }
    }
}

fn path(text: &str) -> Result<Value, Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::Given(quoted(text)));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Wrong::Says(
            "must not begin with ~, which only shells replace: write ${HOME}".into(),
        ));
    }
    Ok(Value::Text(text.into()))
}

fn address(text: &str) -> Result<Value, Wrong> {
    match url::split(text) {
        Some(_) => Ok(Value::Text(text.into())),
        None => Err(Wrong::Says(format!(
            "must be a URL such as redis://127.0.0.1:6379/0, not {}",
            quoted(text)
        ))),
    }
}

fn boolean(raw: &Raw) -> Result<Value, Wrong> {
    match raw {
        Raw::Bool(flag) => Ok(Value::Bool(*flag)),
        Raw::Loose(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
            _ => Err(given(raw)),
        },
        Raw::Text(text) => Err(quotes(text)),
        Raw::Integer(_) | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => Err(given(raw)),
    }
}

/// Describes a quoted value where a bare one belongs.
fn quotes(text: &str) -> Wrong {
    let bare = text.trim();
    let is_bare = matches!(bare, "true" | "false") || bare.parse::<f64>().is_ok();
    let hint = if is_bare { " (remove the quotes)" } else { "" };
    Wrong::Given(format!("{}{hint}", quoted(text)))
}

fn integer(raw: &Raw, min: u64, max: u64) -> Result<Value, Wrong> {
    let number = match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Loose(text) => text.trim().parse().ok(),
        Raw::Text(text) => return Err(quotes(text)),
        Raw::Float(_) | Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => None,
    };
    match number {
        Some(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
        _ => Err(given(raw)),
    }
}

fn float(raw: &Raw, min: f64, max: f64) -> Result<Value, Wrong> {
    let number = match raw {
        Raw::Float(number) => Some(*number),
        Raw::Integer(number) => number.to_string().parse().ok(),
        Raw::Loose(text) => text.trim().parse().ok(),
        Raw::Text(text) => return Err(quotes(text)),
        Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => None,
    };
    match number {
        Some(number) if (min..=max).contains(&number) => Ok(Value::Float(number)),
        _ => Err(given(raw)),
    }
}

/// A bare number is seconds, whichever way it is written.
fn duration(raw: &Raw, min: Duration, max: Duration) -> Result<Duration, Wrong> {
    let text = match raw {
        Raw::Loose(text) | Raw::Text(text) => text.clone(),
        Raw::Integer(number) => number.to_string(),
        Raw::Float(number) => number.to_string(),
        Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => return Err(given(raw)),
    };
    let Ok(parsed) = parse_duration(&text) else {
        return Err(Wrong::Says(format!(
            "must be a duration, not {}: write seconds, or 250ms, 90s, 10m, 1h30m, 7d",
            quoted(&text)
        )));
    };
    // Whole milliseconds, so that what is shown is what is used.
    let whole = Duration::from_millis(u64::try_from(parsed.as_millis()).unwrap_or(u64::MAX));
    if (min..=max).contains(&whole) {
        return Ok(whole);
    }
    let is_bare = text.trim().parse::<f64>().is_ok();
    let hint = if is_bare {
        " (a bare number is seconds)"
    } else {
        ""
    };
    Err(Wrong::Given(format!("{text}{hint}")))
}

fn ttl(raw: &Raw) -> Result<Value, Wrong> {
    match raw {
        Raw::Loose(text) | Raw::Text(text) if text.trim() == "forever" => Ok(Value::Forever),
        _ => duration(raw, Duration::from_millis(1), Duration::MAX).map(Value::Duration),
    }
}

fn size(raw: &Raw, min: u64) -> Result<Value, Wrong> {
    let text = match raw {
        Raw::Loose(text) | Raw::Text(text) => text.clone(),
        Raw::Integer(number) => number.to_string(),
        Raw::Float(number) => number.to_string(),
        Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => return Err(given(raw)),
    };
    match parse_size(&text) {
        Ok(bytes) if bytes >= min => Ok(Value::Size(bytes)),
        Ok(_) => Err(Wrong::Given(text)),
        Err(_) => Err(Wrong::Says(format!(
            "must be a size, not {}: write bytes, or 512k, 64MiB, 1GB",
            quoted(&text)
        ))),
    }
}

fn choice(
    raw: &Raw,
    words: &[&'static str],
    aliases: &[(&'static str, &'static str)],
) -> Result<Value, Wrong> {
    let text = text(raw)?;
    let alias = aliases.iter().find(|(alias, _)| *alias == text);
    let word = alias.map_or(text, |(_, word)| word);
    if words.contains(&word) {
        return Ok(Value::Text(word.into()));
    }
    let meant = did_you_mean(text, words.iter().copied());
    Err(Wrong::Given(format!("{}{meant}", quoted(text))))
}

fn list(raw: &Raw) -> Result<Value, Wrong> {
    match raw {
        Raw::List(items) => Ok(Value::List(items.clone())),
        Raw::Loose(text) => Ok(Value::List(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(Into::into)
                .collect(),
        )),
        Raw::Text(text) => Err(Wrong::Given(format!(
            "{} (put it in brackets)",
            quoted(text)
        ))),
        Raw::Integer(_) | Raw::Float(_) | Raw::Bool(_) | Raw::Other(_) => Err(given(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_DURATION: Kind = Kind::Duration {
        min: Duration::ZERO,
        max: Duration::from_secs(60),
    };

    #[test]
    fn a_bare_number_is_seconds_in_every_spelling() {
        for raw in [
            Raw::Integer(2),
            Raw::Float(2.0),
            Raw::Text("2".into()),
            Raw::Loose("2s".into()),
        ] {
            let value = ANY_DURATION.accept(&raw).unwrap();
            assert_eq!(value, Value::Duration(Duration::from_secs(2)), "{raw:?}");
        }
        assert_eq!(
            ANY_DURATION.accept(&Raw::Float(0.25)).unwrap(),
            Value::Duration(Duration::from_millis(250))
        );
    }

    #[test]
    fn out_of_bounds_says_the_bounds_and_the_unit() {
        let message = ANY_DURATION.accept(&Raw::Integer(100_000)).unwrap_err();
        assert_eq!(
            message,
            "must be a duration from 0s to 1m, not 100000 (a bare number is seconds)"
        );
        assert!(ANY_DURATION.accept(&Raw::Integer(-1)).is_err());
        assert!(ANY_DURATION.accept(&Raw::Float(f64::NAN)).is_err());
    }

    #[test]
    fn only_loose_text_stands_for_other_types() {
        assert_eq!(
            Kind::Bool.accept(&Raw::Loose("Yes".into())),
            Ok(Value::Bool(true))
        );
        let message = Kind::Bool.accept(&Raw::Text("true".into())).unwrap_err();
        assert!(message.contains("remove the quotes"), "{message}");
        let items = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(
            Kind::List.accept(&Raw::Loose("a, b,".into())),
            Ok(Value::List(items))
        );
    }

    #[test]
    fn messages_hold_no_secret() {
        let message = Kind::Url
            .accept(&Raw::Text("u:hush@host".into()))
            .unwrap_err();
        assert!(!message.contains("hush"), "{message}");
        let value = Kind::Url
            .accept(&Raw::Text("redis://:hush@h".into()))
            .unwrap();
        assert_eq!(value.render(&Kind::Url), "\"redis://***@h\"");
    }
}
