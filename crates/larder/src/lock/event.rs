//! What should not happen often, for those who want to know.

use std::time::Duration;

use crate::error::Error;
use crate::key::Key;
use crate::lease::Owner;

/// Something about a lock that may deserve attention; see [`super::Locks::events`]. Each is also logged by `tracing`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LockEvent {
    /// An attempt failed: the time to wait was over, or the store failed. A `None` of `try_acquire` is no failure.
    NotAcquired {
        /// The lock.
        name: Key,
        /// How long the attempt took.
        waited: Duration,
        /// Why it failed.
        error: Error,
    },
    /// A lease ended before its holder gave it up.
    Lost {
        /// The lock.
        name: Key,
        /// The fence of the lease.
        fence: u64,
        /// How long it was held.
        held: Duration,
    },
    /// A lock is held for twice as long as 99 % of its recent holds in this process took, and still is.
    LongHold {
        /// The lock.
        name: Key,
        /// Who holds it.
        owner: Owner,
        /// How long it has been held.
        held: Duration,
    },
}

impl LockEvent {
    pub(super) fn log(&self) {
        match self {
            Self::NotAcquired {
                name,
                waited,
                error,
            } => tracing::debug!(lock = %name, ?waited, %error, "a lock was not acquired"),
            Self::Lost { name, fence, held } => {
                tracing::warn!(lock = %name, fence, ?held, "a lock was lost while it was held");
            }
            Self::LongHold { name, owner, held } => {
                tracing::warn!(lock = %name, %owner, ?held, "a lock is held for unusually long");
            }
        }
    }
}
