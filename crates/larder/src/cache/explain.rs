//! Why a read finds what it finds: the entry, its tags, and what made it invalid.

use std::fmt;

use serde::Serialize;

use super::history::name_of;
use super::raw::{Inspection, inspect};
use super::{Cache, Inner};
use crate::envelope::{self, Envelope, Unreadable};
use crate::error::Result;
use crate::key::KeyRef;
use crate::store::{Entry, Examined, Invalidation, Register, RegisterState};

/// An invalidation so much older than an entry, by the clocks of two processes, may still be what made it invalid.
const SLACK_MS: u64 = 1000;

/// Why a read of a key finds what it finds; see [`Cache::explain`].
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Where a read through this handle finds a value.
    pub source: ReadSource,
    /// What the store has under the key.
    pub state: EntryState,
    /// What its header says; `None`: there is nothing.
    pub entry: Option<Inspection>,
    /// The tags and subtrees that make it invalid or stale.
    pub causes: Vec<Cause>,
}

/// Where a read finds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReadSource {
    /// In the local tier of this process, which may be behind the store by its `max_staleness`.
    Local,
    /// In the store.
    Store,
    /// Nowhere: it misses.
    Nowhere,
}

/// What a store has under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EntryState {
    /// An entry that may be used.
    Present,
    /// An entry that may be used and that somebody wants to be refreshed.
    Stale,
    /// An entry that a tag has made invalid.
    Invalidated,
    /// No entry: somebody loads one.
    Loading,
    /// No entry: somebody loads one, and an invalidation has overtaken that, so that it will not be stored.
    Overtaken,
    /// An entry of before the cache was cleared.
    Cleared,
    /// An entry that has expired; it may still be [served stale](super::Remember::stale_for).
    Expired,
    /// An entry of another schema version than this handle's.
    OtherSchema,
    /// An entry whose bytes are damaged.
    Damaged,
    /// Bytes of a layout that this version does not know.
    UnknownLayout,
    /// Nothing: it was never written, or was deleted, evicted or removed after it had expired or was invalidated.
    Absent,
}

impl EntryState {
    /// Returns whether a read finds the entry.
    #[must_use]
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Present | Self::Stale)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Stale => "stale",
            Self::Invalidated => "invalidated",
            Self::Loading => "loading",
            Self::Overtaken => "overtaken",
            Self::Cleared => "cleared",
            Self::Expired => "expired",
            Self::OtherSchema => "other schema",
            Self::Damaged => "damaged",
            Self::UnknownLayout => "unknown layout",
            Self::Absent => "absent",
        }
    }
}

impl fmt::Display for EntryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl fmt::Display for ReadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Store => "store",
            Self::Nowhere => "nowhere",
        })
    }
}

/// A tag or subtree that makes an entry invalid or stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// The tag as `users`, the subtree as `user:1:*`.
    pub tag: String,
    /// What happened to it.
    pub happened: Happened,
    /// When it was invalidated or marked last, in milliseconds since the Unix epoch; `None`: nobody remembers.
    pub at_ms: Option<u64>,
    /// How long ago that was, in milliseconds.
    pub ago_ms: Option<u64>,
}

/// What happened to a tag since an entry was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Happened {
    /// It was invalidated.
    Invalidated,
    /// Its entries were marked stale.
    MarkedStale,
    /// It was invalidated, or the store has lost what it knew of it, by an eviction or a restart.
    InvalidatedOrLost,
}

impl Cache {
    /// Tells why a read of the key finds what it finds: what the store has there, valid or not, and which tags have made it
    /// invalid, and when.
    ///
    /// It tells of this moment: since the read, others may have written the key. What has expired, was cleared or was
    /// invalidated is [`EntryState::Absent`] once the store has removed it, on SQLite after a minute. Not counted as a read.
    ///
    /// Times of invalidations are best effort. Each process remembers its last 1000 tags and patterns, and tells the store
    /// of up to 100 tags a second, within a second, which keeps them for a day. Patterns are known to the process that
    /// invalidated them only.
    ///
    /// Cost: two round trips, and one more where tags are to blame. For people, not for programs.
    ///
    /// # Errors
    /// `InvalidKey`; the store's errors.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::cache::EntryState;
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// cache.set("user:1", "Ann").tags(["users", "user:1:profile"]).await?;
    /// cache.invalidate_tags(["user:1:*"]).await?;
    /// let explanation = cache.explain("user:1").await?;
    /// assert_eq!(explanation.state, EntryState::Invalidated);
    /// assert_eq!(explanation.causes[0].tag, "user:1:*");
    /// # Ok(()) }
    /// ```
    pub async fn explain(&self, key: impl Into<KeyRef<'_>>) -> Result<Explanation> {
        let key = key.into();
        let (key, inner) = (key.checked()?, &self.inner);
        let found = inner.store.examine(&inner.namespace, key).await;
        let found = found.map_err(|error| inner.tagged(error, "explain", key))?;
        let now_ms = inner.clock.now_ms();
        let tier = inner.local.as_ref();
        let is_local =
            tier.is_some_and(|tier| tier.holds(key, self.schema, inner.clock.monotonic_ms()));
        let mut state = found.as_ref().map_or(EntryState::Absent, |found| {
            state_of(found, self.schema, now_ms)
        });
        if is_local && inner.is_local_only() {
            state = EntryState::Present;
        }
        let causes = match &found {
            Some(found) if !found.is_cleared => inner.causes(found, now_ms).await,
            _ => Vec::new(),
        };
        Ok(Explanation {
            source: match state {
                _ if is_local => ReadSource::Local,
                state if state.is_readable() => ReadSource::Store,
                _ => ReadSource::Nowhere,
            },
            state,
            entry: found
                .map(|found| inspect(&Entry::new(found.value, found.expires_at_ms), now_ms)),
            causes,
        })
    }
}

impl Inner {
    /// Returns which registers make an entry invalid or stale, and when that happened.
    async fn causes(&self, found: &Examined, now_ms: u64) -> Vec<Cause> {
        let changed: Vec<_> = found
            .registers
            .iter()
            .filter_map(|examined| Some((examined.register.clone(), change(examined.state)?)))
            .collect();
        if changed.is_empty() {
            return Vec::new();
        }
        let created_ms = Envelope::open(&found.value).map_or(0, |it| it.header.created_ms);
        let oldest_ms = created_ms.saturating_sub(SLACK_MS);
        let times = self.invalidated_at(&changed).await;
        let causes = changed.into_iter().zip(times);
        let causes = causes.map(|((register, how), at_ms)| {
            cause(&register, how, at_ms.filter(|at| *at >= oldest_ms), now_ms)
        });
        causes.collect()
    }
}

/// Returns what is done to a register in this state.
fn change(state: RegisterState) -> Option<Invalidation> {
    match state {
        RegisterState::Same => None,
        RegisterState::Stale => Some(Invalidation::Soft),
        RegisterState::Changed | RegisterState::Missing => Some(Invalidation::Hard),
    }
}

fn cause(register: &Register, how: Invalidation, at_ms: Option<u64>, now_ms: u64) -> Cause {
    Cause {
        tag: name_of(register),
        happened: match (how, at_ms) {
            (Invalidation::Soft, _) => Happened::MarkedStale,
            (Invalidation::Hard, Some(_)) => Happened::Invalidated,
            (Invalidation::Hard, None) => Happened::InvalidatedOrLost,
        },
        at_ms,
        ago_ms: at_ms.map(|at| now_ms.saturating_sub(at)),
    }
}

/// Decides what a read makes of what it finds.
fn state_of(found: &Examined, schema: u32, now_ms: u64) -> EntryState {
    let is_load = envelope::is_load(&found.value);
    if found.is_cleared {
        return EntryState::Cleared;
    }
    let grace_ms = envelope::grace_ms(&found.value);
    let ends_at_ms = found.expires_at_ms.map(|at| at.saturating_sub(grace_ms));
    if ends_at_ms.is_some_and(|at| at <= now_ms) {
        // The lease of a load has ended: nobody loads any more.
        return match is_load {
            true => EntryState::Absent,
            false => EntryState::Expired,
        };
    }
    match (is_load, found.is_invalid()) {
        (true, false) => return EntryState::Loading,
        (true, true) => return EntryState::Overtaken,
        (false, true) => return EntryState::Invalidated,
        (false, false) => {}
    }
    let is_stale = |state| state == RegisterState::Stale;
    match Envelope::open(&found.value) {
        Err(Unreadable::Damaged) => EntryState::Damaged,
        Err(Unreadable::UnknownLayout) => EntryState::UnknownLayout,
        Ok(envelope) if envelope.header.schema != schema => EntryState::OtherSchema,
        Ok(_) if found.registers.iter().any(|it| is_stale(it.state)) => EntryState::Stale,
        Ok(_) => EntryState::Present,
    }
}
