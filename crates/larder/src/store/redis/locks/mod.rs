//! Locks, semaphores and rate limiters on Redis: the rules of `lease` in Lua, one script for each call.
//!
//! ```text
//! acquire, release of a name that nobody waits for: one round trip and four commands in a script
//! ```
//! Time is the server's. Every key of a lease expires in the end; a lease that nobody uses is forgotten after 7 days,
//! and fences grow after that, too, since they are at least the time of day in us. See `lua/lock_common.lua` for what
//! is kept. While the slot of a name moves to another server, its lock waits for the end of the move.

mod ears;
mod listing;
mod reply;
mod scripts;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, Value};

pub(super) use self::ears::Ears;

use self::scripts::{ACQUIRE, EVICT, EXTEND, RELEASE, TAKE};
use super::keys::{self, Bucket};
use super::{Inner, named};
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::{
    Answer, Ask, HOLD_TIMES, HOLD_TIMES_MS, IDLE_MS, Listener, LockStatus, LockStore, MAX_WAITERS,
    Owner, Rate, Taken,
};
use crate::redis_conn::{Call, Script};

/// Kinds of keys; see `keys`.
const LEASE: u8 = b'l';
const QUEUE: u8 = b'q';
const POLL_BY: u8 = b'w';
const HISTORY: u8 = b'h';
const BUCKET: u8 = b'b';
/// The longest lease and heartbeat, in ms: 300 years. With it, times have 14 digits, which Lua writes exactly.
const MAX_MS: u64 = 10_000_000_000_000;

/// The lock store of a Redis store.
pub(super) struct Leases {
    inner: Arc<Inner>,
}

/// The keys of a name.
struct Place<'a> {
    slot: u16,
    lane: u64,
    bucket: &'a Bucket,
    space: &'a Namespace,
    name: &'a [u8],
}

impl<'a> Place<'a> {
    fn of(inner: &'a Inner, space: &'a Namespace, name: &'a [u8]) -> Self {
        let bucket = &inner.buckets.all()[inner.buckets.index_of(space, name)];
        Self {
            slot: bucket.slot,
            lane: u64::from(crc32c::crc32c(name)) % inner.link.lanes(),
            bucket,
            space,
            name,
        }
    }

    fn key(&self, kind: u8) -> Vec<u8> {
        keys::name(self.bucket, kind, self.space, self.name)
    }

    /// Returns the beginning of a command that runs a script on keys of some kinds.
    fn command(&self, script: &Script, kinds: &[u8]) -> Cmd {
        let keys: Vec<_> = kinds.iter().map(|kind| self.key(*kind)).collect();
        let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        script.command(&keys)
    }
}

impl Leases {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    async fn run(&self, place: &Place<'_>, script: &'static Script, command: Cmd) -> Result<Value> {
        self.inner.ready().await.map_err(named)?;
        let call = Call::script(place.slot, script, command).lane(place.lane);
        self.inner.link.one(&call).await.map_err(named)
    }
}

#[async_trait]
impl LockStore for Leases {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let place = Place::of(&self.inner, space, name);
        let mut command = place.command(&ACQUIRE, &[LEASE, QUEUE, POLL_BY]);
        command.arg(ask.owner.as_str()).arg(ask.permits);
        command.arg(ask.ttl_ms.min(MAX_MS));
        match ask.heartbeat_ms {
            Some(heartbeat_ms) => command.arg(heartbeat_ms.min(MAX_MS)),
            None => command.arg(""),
        };
        command
            .arg(u8::from(ask.barge))
            .arg(MAX_WAITERS)
            .arg(IDLE_MS);
        let reply = self.run(&place, &ACQUIRE, command).await?;
        reply::answer(reply).map_err(named)
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        let place = Place::of(&self.inner, space, name);
        let mut command = place.command(&EXTEND, &[LEASE]);
        command
            .arg(owner.as_str())
            .arg(ttl_ms.min(MAX_MS))
            .arg(IDLE_MS);
        let reply = self.run(&place, &EXTEND, command).await?;
        Ok(reply::count(&reply).map_err(named)? == 1)
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        let place = Place::of(&self.inner, space, name);
        let mut command = place.command(&RELEASE, &[LEASE, QUEUE, POLL_BY, HISTORY]);
        command.arg(owner.as_str());
        match held_ms {
            Some(held_ms) => command.arg(held_ms),
            None => command.arg(""),
        };
        command.arg(HOLD_TIMES).arg(HOLD_TIMES_MS);
        let reply = self.run(&place, &RELEASE, command).await?;
        Ok(reply::count(&reply).map_err(named)? == 1)
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        let place = Place::of(&self.inner, space, name);
        let command = place.command(&EVICT, &[LEASE, QUEUE, POLL_BY]);
        let reply = self.run(&place, &EVICT, command).await?;
        reply::count(&reply).map_err(named)
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        self.inner.ready().await.map_err(named)?;
        let place = Place::of(&self.inner, space, name);
        let mut command = redis::cmd("LRANGE");
        command.arg(place.key(HISTORY)).arg(0).arg(HOLD_TIMES - 1);
        let call = Call::new(place.slot, command).lane(place.lane);
        let reply = self.inner.link.one(&call).await.map_err(named)?;
        Ok(reply::hold_times(reply))
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let listed = self.inner.list_leases(space, pattern, limit).await;
        listed.map_err(named)
    }

    async fn take(
        &self,
        space: &Namespace,
        name: &[u8],
        rate: &Rate,
        tokens: u64,
    ) -> Result<Taken> {
        let place = Place::of(&self.inner, space, name);
        let mut command = place.command(&TAKE, &[BUCKET]);
        command
            .arg(tokens)
            .arg(rate.tokens)
            .arg(rate.interval_ms)
            .arg(rate.burst);
        let reply = self.run(&place, &TAKE, command).await?;
        reply::taken(reply).map_err(named)
    }

    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        let channel = Place::of(&self.inner, space, name).key(LEASE);
        self.inner.ears.listen(&channel, owner).await
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("link", &self.inner.link)
            .finish_non_exhaustive()
    }
}
