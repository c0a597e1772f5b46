//! How an attempt on the disk can end early, and how system errors become the crate's.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// The largest file that is read on an async caller's thread.
const BRIEF_READ_BYTES: u64 = 256 << 10;
/// How long a blocking thread waits for one lock: a stopped process must not hold callers for ever.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Why an attempt ended without a result.
#[derive(Debug)]
pub(super) enum Fault {
    /// It would wait or take long: to be repeated on a thread that may block.
    Busy,
    /// A directory went away meanwhile: to be repeated from the start, condition included.
    Vanished,
    /// It failed.
    Failed(Error),
}

pub(super) type Attempt<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How much an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort<'a> {
    /// Files over this size are [`Fault::Busy`].
    pub(super) max_read_bytes: u64,
    /// How long to wait for a lock; zero: [`Fault::Busy`] at once.
    pub(super) wait: Duration,
    withdrawn: Option<&'a AtomicBool>,
}

impl<'a> Effort<'a> {
    /// On an async caller's thread: waits for nobody and moves no large file.
    pub(super) const BRIEF: Effort<'static> = Effort {
        max_read_bytes: BRIEF_READ_BYTES,
        wait: Duration::ZERO,
        withdrawn: None,
    };

    /// On a thread that may block.
    pub(super) const FULL: Effort<'static> = Effort {
        max_read_bytes: u64::MAX,
        wait: LOCK_WAIT,
        withdrawn: None,
    };

    /// As [`Effort::FULL`], given up once the flag is set.
    pub(super) fn unless(withdrawn: &'a AtomicBool) -> Self {
        Self {
            withdrawn: Some(withdrawn),
            ..Self::FULL
        }
    }

    /// The same, waiting for a lock for so long.
    pub(super) fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Checks that the caller still wants the result.
    ///
    /// Asked under the lock: a write that was withdrawn before another one of the same caller took
    /// the lock must not be applied after it.
    pub(super) fn check_wanted(&self) -> Attempt<()> {
        match self.withdrawn {
            Some(flag) if flag.load(Ordering::Acquire) => {
                Err(Error::new(ErrorKind::Timeout, "the caller went away").into())
            }
            _ => Ok(()),
        }
    }
}

/// Returns the error of a failed system call; `action` reads well after "cannot".
///
/// Full disks and missing descriptors pass, so a retry can help; permissions do not change by themselves.
pub(super) fn failed(action: &str, root: &Path, error: io::Error) -> Error {
    let lasting = matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    );
    let message = format!("cannot {action} in {}: {error}", root.display());
    Error::new(ErrorKind::Unavailable, message)
        .store("file")
        .retryable(!lasting)
        .caused_by(error)
}

/// As [`failed`], but a missing file or directory is [`Fault::Vanished`].
pub(super) fn fault(action: &str, root: &Path, error: io::Error) -> Fault {
    if error.kind() == io::ErrorKind::NotFound {
        Fault::Vanished
    } else {
        Fault::Failed(failed(action, root, error))
    }
}
