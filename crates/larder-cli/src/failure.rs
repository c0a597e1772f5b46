//! Why a command did not do what was asked: an exit code, a stable kind and a text for people.

use std::error::Error as _;
use std::io;

use larder::ErrorKind;

use crate::escape;
use crate::exit::Exit;

/// What a command comes to.
pub(crate) type Outcome<T = Exit> = Result<T, Failure>;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    kind: String,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, kind: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind: kind.to_owned(),
            message: message.into(),
        }
    }

    /// The arguments make no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, "usage", message)
    }

    /// The command wants a confirmation that nobody gave.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, "refused", message)
    }

    /// There is no entry under this key.
    pub(crate) fn missing(key: &[u8]) -> Self {
        let message = format!("there is no entry {:?}", escape::text(key));
        Self::new(Exit::Missing, "miss", message)
    }

    /// The command did not work out, for a reason that is not the store's.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, "interrupted", message)
    }

    /// Says what was done before this failure, or what can be done about it.
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.message = format!("{}; {done}", self.message);
        self
    }

    /// Replaces the exit code.
    pub(crate) fn exits(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether the reader of our output went away, which is nothing to report.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.kind == "broken_pipe"
    }
}

impl From<larder::Error> for Failure {
    fn from(error: larder::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout => Exit::Unreachable,
            ErrorKind::InvalidArgument | ErrorKind::InvalidKey => Exit::Refused,
            ErrorKind::Partial => Exit::Partial,
            _ => Exit::Failed,
        };
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // A client often wraps an error in one of the same words.
            if !message.contains(&text) {
                message.push_str(&format!(": {text}"));
            }
            cause = error.source();
        }
        Self::new(exit, &snake_case(&format!("{:?}", error.kind())), message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "broken_pipe", "the reader is gone");
        }
        Self::new(Exit::Failed, "io", error.to_string())
    }
}

/// Turns the name of a variant into the spelling of the JSON output.
fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (index, letter) in name.char_indices() {
        if letter.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_decide_the_exit_code() {
        for (kind, exit, name) in [
            (ErrorKind::Unavailable, Exit::Unreachable, "unavailable"),
            (ErrorKind::Timeout, Exit::Unreachable, "timeout"),
            (
                ErrorKind::InvalidArgument,
                Exit::Refused,
                "invalid_argument",
            ),
            (ErrorKind::Partial, Exit::Partial, "partial"),
            (ErrorKind::WrongType, Exit::Failed, "wrong_type"),
        ] {
            let failure = Failure::from(larder::Error::new(kind, "no"));
            assert_eq!((failure.exit(), failure.kind()), (exit, name));
        }
    }
}
