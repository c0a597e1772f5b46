//! Leases: what locks, semaphores and rate limiters ask of a store, and the rules that all stores follow.
//!
//! A [`LockStore`] keeps leases by name. It knows nothing of waiting, renewal or guards, which are the same for all
//! stores (`lock`). Stores that can change one record atomically apply [`Lease`] and [`Bucket`], the rules as plain
//! data; Redis follows the same rules in Lua.
//!
//! ```text
//! acquire --> Granted { fence }                  release, expiry, eviction --> the head of the queue is next
//!         \-> Busy, in the queue --(polls before its heartbeat ends, or loses its place)--> acquire
//! ```

mod bell;
mod bucket;
mod owner;
mod state;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::bell::Bells;
pub use self::bell::Listener;
pub(crate) use self::bucket::Bucket;
pub use self::bucket::{Rate, Taken};
pub use self::owner::Owner;
#[cfg(feature = "redis")]
pub(crate) use self::state::too_many_waiters;
pub(crate) use self::state::{Lease, Now};

use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, Namespace};

/// The most holders that one name may have.
pub const MAX_PERMITS: u32 = 1000;
/// The most waiters that one name may have; one more is `Overloaded`.
pub const MAX_WAITERS: usize = 10_000;
/// How many hold times are remembered for each name.
pub const HOLD_TIMES: usize = 32;
/// How long a lease that nobody uses is remembered: 7 days. Its fences keep growing after that, too.
pub const IDLE_MS: u64 = 7 * 24 * 3600 * 1000;
/// How long hold times are remembered after the last one: 90 days.
pub const HOLD_TIMES_MS: u64 = 90 * 24 * 3600 * 1000;

/// An attempt to become a holder.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Who asks; another attempt of the same owner is the same attempt.
    pub owner: Owner,
    /// How many holders there may be: 1 for a lock, up to [`MAX_PERMITS`] for a semaphore.
    pub permits: u32,
    /// How long the lease lasts, in ms.
    pub ttl_ms: u64,
    /// If no permit is free: wait in the queue, and lose the place unless the owner asks again within so many ms. Stores
    /// may shorten it by an eighth, so that not every question must be written down.
    pub heartbeat_ms: Option<u64>,
    /// Take a free permit even if others wait.
    pub barge: bool,
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The owner is a holder: since now, or since an earlier attempt whose answer was lost.
    Granted {
        /// Greater than that of every earlier grant under this name.
        fence: u64,
        /// How long the lease still lasts, in ms.
        left_ms: u64,
    },
    /// It is not.
    Busy {
        /// How many wait before the owner.
        ahead: u64,
        /// When asking again can help, even if nobody gives anything up, in ms.
        retry_ms: u64,
    },
}

/// What is known of a name in use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LockStatus {
    /// The name.
    #[serde(serialize_with = "as_text")]
    pub name: Key,
    /// Who holds it, by the order of their grants.
    pub holders: Vec<HolderStatus>,
    /// How many wait.
    pub waiters: u64,
}

/// A holder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HolderStatus {
    /// Host, process and a number.
    pub owner: String,
    /// The fence of the grant.
    pub fence: u64,
    /// How long it has been held, in ms.
    pub held_ms: u64,
    /// How long the lease still lasts, in ms.
    pub left_ms: u64,
}

fn as_text<S: serde::Serializer>(name: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// A place that keeps leases. Object safe.
///
/// # Guarantees
/// Each call is one atomic step on its name. Time is the store's: the server's clock, or the host's clock that no
/// change of date moves. Of one name, no two owners hold more permits than the smallest `permits` that both asked
/// with, unless the store lost data or an operator evicted a holder; fences grow with each grant, also then: to no less
/// than the time of day in us.
///
/// # Errors
/// Of all methods: `Unavailable`, `Timeout`: the change was made or was not; asking again with the same owner is safe.
/// `Unsupported`: not on this store, as its capabilities say.
#[async_trait]
pub trait LockStore: fmt::Debug + Send + Sync + 'static {
    /// Grants a permit if one is free and it is the owner's turn; else puts the owner in the queue, if it waits.
    ///
    /// # Errors
    /// `Overloaded`: [`MAX_WAITERS`] wait already.
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer>;

    /// Makes the owner's lease last so many ms from now; `false`: it holds none.
    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool>;

    /// Ends the owner's lease and its place in the queue; `false`: it held no lease. One that has ended may
    /// count as held as long as nobody else was let in. Remembers how long it was held, if told.
    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool>;

    /// Ends the leases of all holders, for operators; returns how many there were.
    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64>;

    /// Returns the last [`HOLD_TIMES`] hold times that were remembered, in ms, the latest first.
    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>>;

    /// Lists up to `limit` names in use that match, in no order. Cost: O(everything in the store).
    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>>;

    /// Takes tokens from a bucket that fills at a rate, all or none.
    async fn take(&self, space: &Namespace, name: &[u8], rate: &Rate, tokens: u64)
    -> Result<Taken>;

    /// Returns whether attempts are granted in their order.
    fn is_fair(&self) -> bool {
        true
    }

    /// Returns how long the first waiter may sleep between two attempts: short where nobody tells it that a holder in
    /// another process has released.
    fn longest_pause(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Hears, from when this returns, that it may be the owner's turn. A hint: it may come late, never, or for nothing.
    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener;
}
