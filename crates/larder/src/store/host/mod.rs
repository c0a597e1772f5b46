//! Leases of stores whose processes share a host: the rules, applied to encoded records.
//!
//! A store that can read, change and write one record as an atomic step implements [`Records`] and has a [`LockStore`]
//! by it. Times are those of the host's clock since it started, so no change of date moves them, and a record tells which
//! start that was: after another one, nobody holds anything, while fences and hold times go on. A bucket is full then.
//! Whoever is refused looks whether the others still live ([`owners`]), so that the leases of a killed process are
//! free at once. All processes must see the same clock: not for several time namespaces.

mod owners;
mod record;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::owners::Owners;
use self::record::Record;
#[cfg(feature = "file")]
pub(super) use self::record::id_of;
pub(super) use self::record::{Id, Kind};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::lease::{
    Answer, Ask, Bells, Bucket, IDLE_MS, Lease, Listener, LockStatus, LockStore, Now, Owner, Rate,
    Taken,
};

/// How long the first waiter sleeps between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A change of one record.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    Acquire(Ask),
    Extend {
        owner: Owner,
        ttl_ms: u64,
    },
    Release {
        owner: Owner,
        held_ms: Option<u64>,
    },
    Evict,
    /// The only one for buckets.
    Take {
        rate: Rate,
        tokens: u64,
    },
}

/// What a rule answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Answered(Answer),
    /// Whether the owner held a lease.
    Held(bool),
    Evicted(u64),
    Taken(Taken),
}

/// What became of applying a rule.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) outcome: Outcome,
    /// Whose turn it may be now.
    pub(super) next: Option<Owner>,
    /// What to write, if anything changed.
    pub(super) written: Option<Written>,
}

/// A record to be written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// Until when it must be kept if nothing more happens, in ms since the Unix epoch.
    #[cfg_attr(
        not(any(feature = "sqlite", test)),
        expect(
            dead_code,
            reason = "the record tells it, too; only a table has an index"
        )
    )]
    pub(super) keep_until_ms: u64,
}

/// Whether a record can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Over,
    /// To be asked again at this time, in ms since the Unix epoch.
    Until(u64),
}

/// Applies rules, and knows the time and who is alive.
#[derive(Debug)]
pub(super) struct Ledger {
    clock: Clock,
    boot: String,
    owners: Owners,
    bells: Arc<Bells>,
}

impl Ledger {
    /// Uses the directory, whose parent exists, for the files of owners.
    pub(super) fn new(clock: Clock, owners_dir: PathBuf) -> Self {
        Self {
            boot: clock.boot_id().to_owned(),
            clock,
            owners: Owners::new(owners_dir),
            bells: Arc::default(),
        }
    }

    /// Must precede [`Ledger::apply`]: whoever is to hold a lease must be known to be alive.
    ///
    /// # Errors
    /// As [`Owners::enlist`].
    pub(super) fn prepare(&self, rule: &Rule) -> io::Result<()> {
        match rule {
            Rule::Acquire(ask) => self.owners.enlist(ask.owner.instance()),
            _ => Ok(()),
        }
    }

    /// Applies a rule to the bytes of a record, read in the same atomic step that will write them.
    ///
    /// # Errors
    /// `Overloaded`: too many wait. Nothing is to be written then.
    pub(super) fn apply(&self, id: &Id, rule: &Rule, present: Option<&[u8]>) -> Result<Effect> {
        match rule {
            Rule::Acquire(ask) => {
                self.change(id, present, |lease, now| self.acquire(lease, ask, now))
            }
            Rule::Extend { owner, ttl_ms } => self.change(id, present, |lease, now| {
                Ok((Outcome::Held(lease.extend(owner, *ttl_ms, now)), None))
            }),
            Rule::Release { owner, held_ms } => self.change(id, present, |lease, now| {
                let released = lease.release(owner, *held_ms, now);
                Ok((Outcome::Held(released.was_held), released.next))
            }),
            Rule::Evict => self.change(id, present, |lease, now| {
                Ok((Outcome::Evicted(lease.evict(now)), lease.next()))
            }),
            Rule::Take { rate, tokens } => self.take(id, present, rate, *tokens),
        }
    }

    fn change(
        &self,
        id: &Id,
        present: Option<&[u8]>,
        rule: impl FnOnce(&mut Lease, Now) -> Result<(Outcome, Option<Owner>)>,
    ) -> Result<Effect> {
        let now = self.now();
        let mut lease = self.lease(id, present);
        let before = lease.clone();
        let (outcome, next) = rule(&mut lease, now)?;
        let written = if lease == before {
            None
        } else {
            let idle_at_ms = lease.keep_until_ms(now, IDLE_MS);
            Some(self.write(id, now, idle_at_ms, lease)?)
        };
        Ok(Effect {
            outcome,
            next,
            written,
        })
    }

    fn acquire(&self, lease: &mut Lease, ask: &Ask, now: Now) -> Result<(Outcome, Option<Owner>)> {
        let mut answer = lease.acquire(ask, now);
        if !matches!(answer, Ok(Answer::Granted { .. })) {
            self.forget_dead(lease);
            answer = lease.acquire(ask, now);
        }
        let answer = answer?;
        let next = match answer {
            Answer::Granted { .. } => lease.next_to_share(ask.permits),
            Answer::Busy { .. } => None,
        };
        Ok((Outcome::Answered(answer), next))
    }

    /// Drops dead processes' leases and places. Only this call remembers who is dead: a process is asked about after
    /// the record was read, so nobody has become an owner since.
    fn forget_dead(&self, lease: &mut Lease) {
        let verdicts = RefCell::<HashMap<String, bool>>::default();
        lease.forget(|owner| {
            let instance = owner.instance();
            let known = verdicts.borrow().get(instance).copied();
            known.unwrap_or_else(|| {
                let is_dead = self.owners.is_dead(instance);
                verdicts.borrow_mut().insert(instance.to_owned(), is_dead);
                is_dead
            })
        });
    }

    fn take(&self, id: &Id, present: Option<&[u8]>, rate: &Rate, tokens: u64) -> Result<Effect> {
        let now = self.now();
        let known = present.and_then(|bytes| decode::<Bucket>(id, bytes));
        let known = known.filter(|record| self.is_of_this_boot(&record.boot));
        let known = known.map(|record| record.state);
        let (bucket, taken) = Bucket::take(known, rate, tokens, now.ms);
        // A refusal takes nothing: the level at another time follows from the former record as well.
        let written = if taken.allowed {
            let full_at_ms = now.ms.saturating_add(rate.fill_ms());
            Some(self.write(id, now, full_at_ms, bucket)?)
        } else {
            None
        };
        Ok(Effect {
            outcome: Outcome::Taken(taken),
            next: None,
            written,
        })
    }

    /// Returns the hold times that a record remembers.
    fn hold_times(&self, id: &Id, present: Option<&[u8]>) -> Vec<u64> {
        self.lease(id, present).hold_times()
    }

    /// Returns the status of a record's name if it matches and is in use.
    pub(super) fn status(&self, id: &Id, bytes: &[u8], pattern: &Glob) -> Option<LockStatus> {
        if !pattern.matches(&id.name) {
            return None;
        }
        let mut lease = self.lease(id, Some(bytes));
        self.forget_dead(&mut lease);
        let (holders, waiters) = lease.status(self.now())?;
        Some(LockStatus {
            name: Key::from(&id.name[..]),
            holders,
            waiters,
        })
    }

    /// Tells whether a record can be removed: by the clock of leases, which no change of date moves, or by the date if the
    /// host was restarted.
    pub(super) fn use_of(&self, bytes: &[u8]) -> Use {
        let Some(record) = record::decode_head(bytes) else {
            return Use::Over;
        };
        let now_ms = self.clock.now_ms();
        let left_ms = if self.is_of_this_boot(&record.boot) {
            record.idle_at_ms.saturating_sub(self.clock.boot_ms())
        } else {
            record.keep_until_ms.saturating_sub(now_ms)
        };
        match left_ms {
            0 => Use::Over,
            _ => Use::Until(now_ms.saturating_add(left_ms)),
        }
    }

    /// Removes what dead processes left behind, now and then. Only for threads that may block.
    pub(super) fn sweep_owners(&self) {
        self.owners.sweep();
    }

    /// Decodes a lease; of a record from before the host's start, only what outlasts that. A container may name the start
    /// otherwise than its host does: whoever lives has not seen another one.
    fn lease(&self, id: &Id, present: Option<&[u8]>) -> Lease {
        let Some(record) = present.and_then(|bytes| decode::<Lease>(id, bytes)) else {
            return Lease::default();
        };
        let mut lease = record.state;
        if !self.is_of_this_boot(&record.boot) {
            lease.forget(|owner| !self.owners.is_alive(owner.instance()));
        }
        lease
    }

    fn write<T: Serialize>(&self, id: &Id, now: Now, idle_at_ms: u64, state: T) -> Result<Written> {
        let idle_in_ms = idle_at_ms.saturating_sub(now.ms);
        let keep_until_ms = self.clock.now_ms().saturating_add(idle_in_ms);
        let record = Record {
            id: id.clone(),
            boot: self.boot.clone(),
            idle_at_ms,
            keep_until_ms,
            state,
        };
        Ok(Written {
            bytes: record.encode()?,
            keep_until_ms,
        })
    }

    /// A start that is not known counts as the same: a lease that outlasts its time is better than two holders.
    fn is_of_this_boot(&self, boot: &str) -> bool {
        boot == self.boot || boot.is_empty() || self.boot.is_empty()
    }

    fn now(&self) -> Now {
        Now {
            ms: self.clock.boot_ms(),
            fence: self.clock.now_us(),
        }
    }
}

/// Decodes the record of this id; a damaged one counts as absent.
fn decode<T: DeserializeOwned>(id: &Id, bytes: &[u8]) -> Option<Record<T>> {
    let record = Record::decode(bytes).filter(|record| record.id == *id);
    if record.is_none() {
        let name = id.name.escape_ascii();
        tracing::warn!(%name, "the record of a lease is damaged; it counts as absent");
    }
    record
}

/// A place that keeps records, each of which it can change as one atomic step.
#[async_trait]
pub(super) trait Records: fmt::Debug + Send + Sync + 'static {
    /// Returns what applies the rules.
    fn ledger(&self) -> &Arc<Ledger>;

    /// Reads the record, applies a rule by [`Ledger::prepare`] and [`Ledger::apply`], and writes it, as one atomic step.
    async fn apply(&self, id: Id, rule: Rule) -> Result<(Outcome, Option<Owner>)>;

    /// Reads a record.
    async fn read(&self, id: Id) -> Result<Option<Vec<u8>>>;

    /// Lists leases by [`Ledger::status`].
    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>>;
}

/// Applies a rule to a lease and wakes who may be next.
async fn apply_to_lease<R: Records + ?Sized>(
    records: &R,
    (space, name): (&Namespace, &[u8]),
    rule: Rule,
) -> Result<Outcome> {
    let id = Id::new(Kind::Lease, space, name);
    let (outcome, next) = records.apply(id, rule).await?;
    if let Some(next) = next {
        let bells = &records.ledger().bells;
        bells.ring(&channel(space, name), next.as_str());
    }
    Ok(outcome)
}

/// Returns one channel for each lease: the name of a space ends with no colon.
fn channel(space: &Namespace, name: &[u8]) -> Vec<u8> {
    [space.as_bytes(), b":", name].concat()
}

fn unexpected(outcome: Outcome) -> Error {
    Error::new(ErrorKind::Internal, format!("unexpected {outcome:?}"))
}

#[async_trait]
impl<R: Records> LockStore for R {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let rule = Rule::Acquire(ask.clone());
        match apply_to_lease(self, (space, name), rule).await? {
            Outcome::Answered(answer) => Ok(answer),
            other => Err(unexpected(other)),
        }
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        let owner = owner.clone();
        let rule = Rule::Extend { owner, ttl_ms };
        match apply_to_lease(self, (space, name), rule).await? {
            Outcome::Held(held) => Ok(held),
            other => Err(unexpected(other)),
        }
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        let owner = owner.clone();
        let rule = Rule::Release { owner, held_ms };
        match apply_to_lease(self, (space, name), rule).await? {
            Outcome::Held(held) => Ok(held),
            other => Err(unexpected(other)),
        }
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        match apply_to_lease(self, (space, name), Rule::Evict).await? {
            Outcome::Evicted(count) => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        let id = Id::new(Kind::Lease, space, name);
        let present = self.read(id.clone()).await?;
        Ok(self.ledger().hold_times(&id, present.as_deref()))
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        Records::list(self, space, pattern, limit).await
    }

    async fn take(
        &self,
        space: &Namespace,
        name: &[u8],
        rate: &Rate,
        tokens: u64,
    ) -> Result<Taken> {
        let rate = *rate;
        let id = Id::new(Kind::Bucket, space, name);
        match self.apply(id, Rule::Take { rate, tokens }).await? {
            (Outcome::Taken(taken), _) => Ok(taken),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Nobody tells a waiter of a release in another process.
    fn longest_pause(&self) -> Duration {
        LONGEST_PAUSE
    }

    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        self.ledger().bells.listen(&channel(space, name), owner)
    }
}
