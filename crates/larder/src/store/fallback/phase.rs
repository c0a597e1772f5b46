//! Which side a call goes to, and whether its reply may be believed.
//!
//! ```text
//! Primary --a call fails--> Standby --a probe succeeds--> returning --replayed--> Primary
//!    \--a connection was made anew: was there an outage?--^   \--the primary fails again--> Standby
//! ```
//! A healthy call loads one word before, and compares that the connections are the same after. All else is behind a lock:
//! calls on the standby share it, and whoever changes the phase holds it alone; this is what "returning" means.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Inner;
use super::journal::{Generation, Turn};
use super::patience::to_the_end;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;

/// How long a call waits for a return to end.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often a call begins anew because the side changed under it.
const MAX_TURNS: u32 = 4;

/// Where calls go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not known whether the primary can be trusted: at the start, and while that is found out.
    Unknown,
    /// The primary is trusted since this generation.
    Primary(Generation),
    /// The primary was seen to fail in this generation.
    Standby(Generation),
}

/// The phase: a word for calls to a healthy primary, and the truth behind a lock.
#[derive(Debug)]
pub(super) struct Gate {
    /// A number that each change of the phase raises, twice, and a lowest bit: the primary is trusted.
    word: std::sync::atomic::AtomicU64,
    phase: RwLock<Phase>,
    /// The present outage.
    outage: Mutex<Option<Outage>>,
    /// Why it is not known whether there was one.
    trouble: Mutex<Option<Error>>,
}

/// An outage as it began.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) error: Error,
}

/// What a call to the primary saw before it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) word: u64,
    epoch: u64,
    pub(super) disturbances: u64,
}

/// What it means when a reply came from a primary that had not been asked for its journal yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stakes {
    /// It may be old: read again.
    Read,
    /// It stands, for what the replay removes is a miss.
    Write,
    /// It is worth nothing unless there was no outage.
    Exclusive,
}

/// How often a call may begin anew.
#[derive(Debug)]
pub(super) struct Turns(u32);

/// The side that a call goes to.
pub(super) enum Side<'a> {
    Primary(Seen),
    Standby(Stay<'a>),
}

/// A call's permission to use the standby; nobody returns to the primary while it lives.
pub(super) struct Stay<'a> {
    inner: &'a Arc<Inner>,
    generation: Generation,
    _phase: RwLockReadGuard<'a, Phase>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self(MAX_TURNS)
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            word: 0.into(),
            phase: RwLock::new(Phase::Unknown),
            outage: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    pub(super) fn word(&self) -> u64 {
        self.word.load(Ordering::SeqCst)
    }

    /// Returns whether calls go to the primary.
    pub(super) fn is_primary(&self) -> bool {
        self.word() & 1 == 1
    }

    /// Sets the phase; calls to the primary that began before notice by the word.
    pub(super) fn set(&self, held: &mut Phase, phase: Phase) {
        *held = phase;
        let next = (self.word() | 1) + 1;
        let trusted = u64::from(matches!(phase, Phase::Primary(_)));
        self.word.store(next | trusted, Ordering::SeqCst);
    }

    pub(super) async fn read(&self) -> Result<RwLockReadGuard<'_, Phase>> {
        let read = tokio::time::timeout(MAX_WAIT, self.phase.read()).await;
        read.map_err(|_elapsed| still_returning())
    }

    pub(super) async fn write(&self) -> Result<RwLockWriteGuard<'_, Phase>> {
        let write = tokio::time::timeout(MAX_WAIT, self.phase.write()).await;
        write.map_err(|_elapsed| still_returning())
    }

    /// Returns the phase; `None` while it is being changed.
    pub(super) fn peek(&self) -> Option<Phase> {
        self.phase.try_read().ok().map(|phase| *phase)
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        let outage = self.outage.lock();
        outage.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn trouble(&self) -> Option<Error> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why the journal could not be replayed or, by `None`, that it could.
    pub(super) fn set_trouble(&self, trouble: Option<Error>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Notes that an outage begins or, by `None`, ends; returns the one before.
    pub(super) fn set_outage(&self, outage: Option<Outage>) -> Option<Outage> {
        let mut present = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *present, outage)
    }
}

impl Inner {
    /// Returns what a call to the trusted primary must remember.
    #[inline]
    pub(super) fn trusted(&self) -> Option<Seen> {
        let word = self.gate.word();
        (word & 1 == 1).then(|| Seen {
            word,
            epoch: self.epoch.load(Ordering::SeqCst),
            disturbances: self.disturbances.load(Ordering::SeqCst),
        })
    }

    /// Decides where a call goes; waits for a return to end, up to [`MAX_WAIT`].
    #[inline]
    pub(super) async fn side(self: &Arc<Self>, turns: &mut Turns) -> Result<Side<'_>> {
        if turns.0 == 0 {
            return Err(self.unavailable("the primary comes and goes"));
        }
        turns.0 -= 1;
        match self.trusted() {
            Some(seen) => Ok(Side::Primary(seen)),
            None => Box::pin(self.side_behind_the_lock()).await,
        }
    }

    async fn side_behind_the_lock(self: &Arc<Self>) -> Result<Side<'_>> {
        for _ in 0..MAX_TURNS {
            if let Some(seen) = self.trusted() {
                return Ok(Side::Primary(seen));
            }
            let phase = self.gate.read().await?;
            match *phase {
                Phase::Primary(_) => {}
                Phase::Standby(generation) => {
                    self.ensure_prober();
                    return Ok(Side::Standby(Stay {
                        inner: self,
                        generation,
                        _phase: phase,
                    }));
                }
                Phase::Unknown => {
                    drop(phase);
                    let inner = Arc::clone(self);
                    to_the_end(async move { inner.find_out().await }).await?;
                }
            }
        }
        Err(self.unavailable("the primary comes and goes"))
    }

    /// Notes that the primary is about to be written to: the standby must not know better when it takes over.
    ///
    /// Returns whether the primary is still trusted; the order of the two steps makes sure that who changes the phase
    /// sees the note, or this call the change.
    #[inline]
    pub(super) fn about_to_write(&self, seen: Seen) -> bool {
        if self.wrote.load(Ordering::Relaxed) {
            return true;
        }
        self.wrote.store(true, Ordering::SeqCst);
        self.gate.word() == seen.word
    }

    /// Returns the reply, or `None`: begin anew.
    #[inline]
    pub(super) async fn judge<T: Send>(
        self: &Arc<Self>,
        seen: Seen,
        stakes: Stakes,
        reply: Result<T>,
    ) -> Result<Option<T>> {
        let failed = reply.as_ref().is_err_and(is_outage);
        if !failed && self.primary.connection_epoch() == seen.epoch {
            return reply.map(Some);
        }
        Box::pin(self.doubt(seen, stakes, reply)).await
    }

    async fn doubt<T: Send>(
        self: &Arc<Self>,
        seen: Seen,
        stakes: Stakes,
        reply: Result<T>,
    ) -> Result<Option<T>> {
        match reply {
            Err(error) if is_outage(&error) => {
                let (inner, cause) = (Arc::clone(self), error.clone());
                to_the_end(async move { inner.switch(seen, &cause).await }).await?;
                match stakes {
                    Stakes::Exclusive => Err(self.refusal(Some(error))),
                    Stakes::Read | Stakes::Write => Ok(None),
                }
            }
            reply => {
                let inner = Arc::clone(self);
                let is_clean = to_the_end(async move { inner.verify(seen).await }).await?;
                match stakes {
                    Stakes::Read => Ok(None),
                    Stakes::Exclusive if !is_clean => Err(self.unavailable(
                        "the primary was away for a while: whether the change still holds is not known",
                    )),
                    Stakes::Write | Stakes::Exclusive => reply.map(Some),
                }
            }
        }
    }

    /// Returns the error of what exists in the primary only.
    pub(super) fn refusal(&self, error: Option<Error>) -> Error {
        let cause = error.or_else(|| Some(self.gate.outage()?.error));
        // Whether a change was made before its reply was lost is not known; a timeout says so.
        let kind = cause.as_ref().map_or(ErrorKind::Unavailable, Error::kind);
        let message = "conditional writes, counters, sorted sets and listings never fall back, for there must be one truth about them, and the store that holds it is down";
        let refusal = Error::new(kind, message).store(self.primary.name());
        match cause {
            Some(cause) => refusal.caused_by(cause),
            None => refusal,
        }
    }

    pub(super) fn unavailable(&self, message: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, message).store(self.primary.name())
    }
}

impl Stay<'_> {
    /// Returns the namespace in the standby that stands for this one.
    pub(super) fn entries(&self, namespace: &Namespace) -> Namespace {
        let journal = &self.inner.journal;
        journal.entries_space(self.generation.number, namespace)
    }

    /// Puts keys on record that are about to change.
    pub(super) async fn record(
        &self,
        namespace: &Namespace,
        keys: impl Iterator<Item = &[u8]> + Send,
    ) -> Result<()> {
        let journal = &self.inner.journal;
        let number = self.generation.number;
        journal.record(number, namespace, keys).await
    }

    /// Puts on record that the namespace is about to be cleared.
    pub(super) async fn record_everything(&self, namespace: &Namespace) -> Result<()> {
        let journal = &self.inner.journal;
        let number = self.generation.number;
        journal.record_everything(number, namespace).await
    }

    /// Returns the standby's reply, or `None` when another process returned meanwhile: begin anew.
    pub(super) async fn confirm<T: Send>(self, reply: Result<T>) -> Result<Option<T>> {
        let inner = self.inner;
        let reply = reply?;
        let present = inner.journal.generation().await?;
        if present == self.generation {
            inner.standby_calls.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(reply));
        }
        drop(self);
        let inner = Arc::clone(inner);
        to_the_end(async move { inner.follow().await }).await?;
        Ok(None)
    }
}

fn still_returning() -> Error {
    let message = "the primary is back, and what changed without it is being replayed";
    Error::new(ErrorKind::Unavailable, message)
}

/// Returns whether an error says that the primary is down.
pub(super) fn is_outage(error: &Error) -> bool {
    let is_transport = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
    is_transport && error.is_retryable()
}

/// Returns whether a process that finds this generation must ask the primary before it goes on.
pub(super) fn is_news(present: Generation, known: Generation) -> bool {
    present.number != known.number && present.turn == Turn::Back
}
