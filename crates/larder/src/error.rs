//! The one error type of the crate.
//!
//! An [`Error`] says what kind of thing went wrong, whether trying again can help, and where it
//! happened: store, operation, shortened key. A miss is `Ok(None)` and "already there" is
//! `Ok(false)`; neither is an error. Each store converts its client's errors in one function, which
//! also decides [`Error::is_retryable`].

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The result of a Larder operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync + 'static>;

/// The longest part of a key that an error shows, in bytes.
const SHOWN_KEY_BYTES: usize = 48;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store cannot be reached, is full, or refuses work at the moment.
    Unavailable,
    /// The operation did not finish in its time.
    Timeout,
    /// The store cannot do this at all; see `Capabilities`.
    Unsupported,
    /// A value could not be encoded or decoded.
    Codec,
    /// The configuration is wrong; the message names the setting and the fix.
    InvalidConfig,
    /// A key is empty, too long or otherwise not usable.
    InvalidKey,
    /// An argument is out of bounds: a TTL of zero, a pattern that is too long.
    InvalidArgument,
    /// A value, header or reply is over its size limit.
    TooLarge,
    /// The entry holds another kind of value, for example a sorted set.
    WrongType,
    /// A counter would leave the range of `i64`.
    Overflow,
    /// Stored bytes are damaged or of an unknown layout (only under `strict`).
    Corrupted,
    /// A lock or lease was lost before the work under it was done.
    LockLost,
    /// A conditional change lost against another one, repeatedly.
    Conflict,
    /// The loader of `remember` failed or panicked.
    Load,
    /// Some parts of the store have done it, others may not have.
    Partial,
    /// Too many callers wait for the same thing.
    Overloaded,
    /// A bug or an unexpected state in Larder.
    Internal,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "store unavailable",
            Self::Timeout => "timed out",
            Self::Unsupported => "not supported by this store",
            Self::Codec => "encoding failed",
            Self::InvalidConfig => "invalid configuration",
            Self::InvalidKey => "invalid key",
            Self::InvalidArgument => "invalid argument",
            Self::TooLarge => "too large",
            Self::WrongType => "wrong type",
            Self::Overflow => "counter overflow",
            Self::Corrupted => "stored entry is damaged",
            Self::LockLost => "lock lost",
            Self::Conflict => "conflicting change",
            Self::Load => "load failed",
            Self::Overloaded => "overloaded",
            Self::Partial => "done in part",
            Self::Internal => "internal error",
        })
    }
}

/// A failure of a Larder operation: opaque, one word in size.
///
/// Match on [`Error::kind`]; the text is for people and may change.
#[derive(Clone)]
pub struct Error(Box<Repr>);

#[derive(Clone)]
struct Repr {
    kind: ErrorKind,
    retryable: bool,
    message: Cow<'static, str>,
    store: Option<Cow<'static, str>>,
    operation: Option<&'static str>,
    key: Option<String>,
    source: Option<Source>,
    settling: Option<Settling>,
}

/// Tells when what was done in part has been done.
#[derive(Clone)]
pub(crate) struct Settling(watch::Receiver<bool>);

impl Settling {
    pub(crate) fn new(settled: watch::Receiver<bool>) -> Self {
        Self(settled)
    }
}

impl Error {
    /// Creates an error of this kind; `message` is lower case and reads well after "failed to".
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let retryable = matches!(
            kind,
            ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Conflict
                | ErrorKind::Overloaded
                | ErrorKind::Partial
        );
        Self(Box::new(Repr {
            kind,
            retryable,
            message: message.into(),
            store: None,
            operation: None,
            key: None,
            source: None,
            settling: None,
        }))
    }

    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    pub(crate) fn argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Source::from(source.into()));
        self
    }

    /// Names the store, unless an inner layer named it already.
    #[must_use]
    pub fn store(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.0.store.get_or_insert_with(|| name.into());
        self
    }

    /// Returns the message with its causes, each said once.
    #[cfg(any(feature = "memcached", feature = "redis"))]
    pub(crate) fn explained(&self) -> String {
        let mut text = self.message().to_owned();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(&format!(": {said}"));
            }
            cause = error.source();
        }
        text
    }

    /// Names the store as the configuration does, whatever an inner layer called it.
    #[cfg(feature = "config")]
    #[must_use]
    pub(crate) fn in_store(mut self, name: &str) -> Self {
        self.0.store = Some(name.to_owned().into());
        self
    }

    /// Names the operation, unless an inner layer named it already.
    #[must_use]
    pub fn operation(mut self, name: &'static str) -> Self {
        self.0.operation.get_or_insert(name);
        self
    }

    /// Adds the key, shortened and with unprintable bytes escaped.
    #[must_use]
    pub fn key(mut self, key: &[u8]) -> Self {
        self.0.key.get_or_insert_with(|| shorten(key));
        self
    }

    /// Overrides whether trying again can help.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Notes that it is tried again in the background.
    #[must_use]
    pub(crate) fn settling(mut self, settling: Settling) -> Self {
        self.0.settling = Some(settling);
        self
    }

    /// Waits until an invalidation that failed has been made after all: the cache repeats it in the background as long as
    /// the process runs. Give it a time limit of your own. Cancel-safe.
    ///
    /// # Errors
    /// This error itself: nothing is repeated, because that could not help, because 10,000 invalidations wait already, or
    /// because it is the error of another operation. `Unavailable`: it turned out that repeating cannot help, or the cache was
    /// closed before.
    pub async fn await_settled(&self) -> Result<()> {
        let Some(Settling(settled)) = &self.0.settling else {
            return Err(self.clone());
        };
        let mut settled = settled.clone();
        let closed = |_closed| {
            let message = "the invalidation could not be made, or the cache was closed before";
            Self::new(ErrorKind::Unavailable, message).retryable(false)
        };
        settled
            .wait_for(|is_settled| *is_settled)
            .await
            .map(drop)
            .map_err(closed)
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the same call may succeed later without a change by the caller.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns the name of the store that failed, where one was involved.
    #[must_use]
    pub fn store_name(&self) -> Option<&str> {
        self.0.store.as_deref()
    }

    /// Returns the message alone, without kind, store and key.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

/// Returns `key` as printable text of at most [`SHOWN_KEY_BYTES`] source bytes.
fn shorten(key: &[u8]) -> String {
    let shown = key.get(..SHOWN_KEY_BYTES).unwrap_or(key);
    let mut text = shown.escape_ascii().to_string();
    if key.len() > shown.len() {
        text.push_str("..");
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repr = &*self.0;
        write!(f, "{}: {}", repr.kind, repr.message)?;
        let mut sep = " (";
        if let Some(store) = &repr.store {
            write!(f, "{sep}store {store}")?;
            sep = ", ";
        }
        if let Some(operation) = repr.operation {
            write!(f, "{sep}operation {operation}")?;
            sep = ", ";
        }
        if let Some(key) = &repr.key {
            write!(f, "{sep}key {key:?}")?;
            sep = ", ";
        }
        if sep == ", " {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_kind_store_operation_and_a_shortened_key() {
        let error = Error::new(ErrorKind::TooLarge, "value of 20 MiB is over the limit")
            .store("sqlite")
            .operation("set")
            .key(&[b'k'; 60]);
        let text = error.to_string();
        assert!(text.starts_with(
            "too large: value of 20 MiB is over the limit (store sqlite, operation set, key \""
        ));
        assert!(text.contains(&format!("{}..", "k".repeat(SHOWN_KEY_BYTES))));
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(!error.is_retryable());
    }

    #[test]
    fn inner_context_wins_over_outer() {
        let error = Error::new(ErrorKind::Timeout, "no reply")
            .store("inner")
            .store("outer");
        assert_eq!(error.store_name(), Some("inner"));
        assert!(error.is_retryable());
    }

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
