//! The types of settings, with their bounds.

use std::time::Duration;

use super::size::format_size;
use crate::ttl::format_duration;

/// The type of a setting, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Text,
    /// The name of a store, cache or queue.
    Name,
    Path,
    /// Shown without its credentials.
    Url,
    /// Never shown.
    Secret,
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    /// A duration of at least 1 ms, or `forever`.
    Ttl,
    Size {
        min: u64,
    },
    /// One of these words; `aliases` are accepted and stand for one of them.
    Choice {
        words: &'static [&'static str],
        aliases: &'static [(&'static str, &'static str)],
    },
    /// A list of strings.
    List,
}

impl Kind {
    /// Says what this kind takes, for messages and the reference.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text => "a string".into(),
            Self::Name => "a name".into(),
            Self::Path => "a path".into(),
            Self::Url => "a URL".into(),
            Self::Secret => "a string (secret)".into(),
            Self::Bool => "true or false".into(),
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Float { min, max } => format!("a number from {min} to {max}"),
            Self::Duration { min, max } => format!(
                "a duration from {} to {}",
                format_duration(*min),
                format_duration(*max)
            ),
            Self::Ttl => "a duration of at least 1ms, or \"forever\"".into(),
            Self::Size { min: 0 } => "a size in bytes".into(),
            Self::Size { min } => format!("a size of at least {}", format_size(*min)),
            Self::Choice { words, .. } => format!("one of {}", words.join(", ")),
            Self::List => "a list of strings".into(),
        }
    }
}
