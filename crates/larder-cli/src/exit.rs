//! The exit codes: a contract with scripts.

use std::process::ExitCode;

/// How the program ends. The text of `--help` lists the same codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// The command failed.
    Failed = 1,
    /// The arguments are wrong, or the command refuses to go on without a confirmation.
    Refused = 2,
    /// There is no such entry, nobody holds the lock, or no entry depends on the tag.
    Missing = 3,
    /// A part was done, then it failed; some servers are down, or have not acknowledged an invalidation.
    Partial = 4,
    /// The store cannot be reached, or did not answer in time.
    Unreachable = 5,
    /// A check of `doctor` failed.
    Unhealthy = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The paragraph of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    the command failed
  2    wrong usage, or refused (a removal without a terminal and without --yes)
  3    miss: there is no such entry; nobody holds the lock; no entry has the tag
  4    a part was done, then it failed; some servers of a store are down
  5    the store cannot be reached
  6    doctor found something unhealthy
  130  interrupted

Data goes to standard output, messages go to standard error. `cache:get KEY` is the same as `cache get KEY`.";
