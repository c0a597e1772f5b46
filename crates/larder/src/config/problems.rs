//! What is wrong with a configuration, all at once.

use std::fmt::Write as _;

use super::origin::Origin;
use super::url;
use crate::error::{Error, ErrorKind};

/// The most problems that one error lists.
const MAX_SHOWN: usize = 20;
/// The most characters of a value or key that a message quotes.
const MAX_QUOTED: usize = 60;

/// The problems found so far, each with its place.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(Origin, String)>);

impl Problems {
    pub(super) fn push(&mut self, origin: &Origin, message: impl Into<String>) {
        self.0.push((origin.clone(), message.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns one error that lists up to [`MAX_SHOWN`] problems, those of the file first and in its order.
    pub(super) fn into_error(mut self) -> Error {
        self.0
            .sort_by_key(|(origin, _)| (origin.rank() == 0, origin.rank(), origin.line()));
        let mut lines = Vec::new();
        for (origin, message) in &self.0 {
            let line = at(origin, message);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        if let [line] = lines.as_slice() {
            return Error::new(ErrorKind::InvalidConfig, line.clone());
        }
        let mut text = format!("{} problems", lines.len());
        for line in lines.iter().take(MAX_SHOWN) {
            let _ = write!(text, "\n  {line}");
        }
        if lines.len() > MAX_SHOWN {
            let _ = write!(text, "\n  and {} more", lines.len() - MAX_SHOWN);
        }
        Error::new(ErrorKind::InvalidConfig, text)
    }
}

/// Puts the place before a message; a default has none.
pub(super) fn at(origin: &Origin, message: &str) -> String {
    match origin {
        Origin::Default => message.to_owned(),
        Origin::File { .. } | Origin::Env { .. } | Origin::Flag => format!("{origin}: {message}"),
    }
}

/// Quotes text of the user for a message: escaped, of bounded length, without a URL's credentials.
pub(super) fn quoted(text: &str) -> String {
    let text = url::redact(text);
    let shown: String = text
        .chars()
        .take(MAX_QUOTED)
        .flat_map(char::escape_debug)
        .collect();
    let cut = if text.chars().nth(MAX_QUOTED).is_some() {
        ".."
    } else {
        ""
    };
    format!("\"{shown}{cut}\"")
}

/// Puts "a" or "an" before a word.
pub(super) fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {word}")
}
