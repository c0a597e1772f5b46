//! Locks, within the limits of a cache server: an item is held by whoever could add it.
//!
//! ```text
//! acquire = ms ME lock + mg fences + mg lock, one round trip      release, extend = mg lock, then md or ms with its version
//! ```
//! # Fences
//! A fence is the version that the server gave the item when it was added, above a number that the locks of a space
//! share: the time of day in us when it was created, less the version of that moment. So fences grow with each store to
//! the server, and when the server lost its data as well, unless it stored more than a million items a second or its
//! clients' clocks differ. The number is read between the addition and a last look at the item: where that is still ours,
//! nobody has been granted the lock in between.

use std::time::Duration;

use async_trait::async_trait;

use super::frame::{Frame, ItemKey};
use super::pipe::{Pipe, Reply};
use super::read::check_read;
use super::register::{stored, unexpected};
use super::reply::Code;
use super::request::{Batch, CLOCK_ERROR_S, Item, Lifetime, Mode};
use super::{Memcached, NAME, check_namespace};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{MAX_KEY_BYTES, Namespace};
use crate::lease::{
    Answer, Ask, HOLD_TIMES, HOLD_TIMES_MS, Listener, LockStatus, LockStore, Owner, Rate, Taken,
};
use crate::store::MAX_CAS_ATTEMPTS;

/// How long a waiter sleeps between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The store as a keeper of locks.
#[derive(Debug)]
pub(super) struct Locks(pub(super) Memcached);

/// A lock as a read found it.
#[derive(Debug)]
struct Held {
    owner: Owner,
    version: u64,
    /// The version that the lock was granted with; an extension gives the item another one.
    granted: u64,
    /// The least that is left of it.
    left_ms: u64,
}

impl Held {
    /// Reads a lock; `None`: there is none, or nothing of ours.
    fn parse(key: &ItemKey<'_>, reply: Reply) -> Result<Option<Self>> {
        check_read(&reply)?;
        let Reply {
            cas, ttl_s, body, ..
        } = reply;
        let held = Frame::parse(key, body).map(|frame| Self {
            owner: Owner::from_text(&String::from_utf8_lossy(&frame.value)),
            version: cas,
            granted: if frame.stamp == 0 { cas } else { frame.stamp },
            left_ms: least_left_ms(ttl_s),
        });
        Ok(held)
    }
}

/// The server tells whole seconds by its inexact clock.
fn least_left_ms(ttl_s: Option<u64>) -> u64 {
    ttl_s.map_or(u64::MAX, |seconds| {
        (seconds.saturating_sub(CLOCK_ERROR_S) * 1000).max(1)
    })
}

/// Returns the item of a lock; `granted` is 0 where only the server will know it.
fn item(owner: &Owner, granted: u64, ttl_ms: u64) -> Item<'_> {
    Item {
        stamp: granted,
        expires_at_ms: None,
        lifetime: Lifetime::ending_in(ttl_ms, now_ms()),
        value: owner.as_str().as_bytes(),
    }
}

/// The time that the server's lifetimes follow, whatever clock entries do.
fn now_ms() -> u64 {
    Clock::system().now_ms()
}

fn check_name(space: &Namespace, name: &[u8]) -> Result<()> {
    check_namespace(space)?;
    if name.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    let message = format!("a name of over {MAX_KEY_BYTES} bytes");
    Err(Error::new(ErrorKind::InvalidKey, message).store(NAME))
}

fn channel(space: &Namespace, name: &[u8]) -> Vec<u8> {
    [space.as_bytes(), b":", name].concat()
}

/// What an attempt found.
#[derive(Debug)]
enum Found {
    Decided(Answer),
    /// The lock is ours, and its space has no fences yet, unless there is junk of this version.
    NoFences {
        granted: u64,
        mode: Mode,
    },
}

impl Locks {
    /// Cost: one round trip; two more for the first lock of a space.
    async fn try_acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let mut is_added = false;
        for _ in 0..MAX_CAS_ATTEMPTS {
            match self.attempt((space, name), ask, &mut is_added).await? {
                Found::Decided(answer) => return Ok(answer),
                Found::NoFences { granted, mode } => {
                    self.create_fences(space, granted, mode).await?;
                }
            }
        }
        let message = "the number of fences is gone as soon as it is created";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    async fn attempt(
        &self,
        (space, name): (&Namespace, &[u8]),
        ask: &Ask,
        is_added: &mut bool,
    ) -> Result<Found> {
        let (key, fences) = (ItemKey::lock(space, name), ItemKey::fences(space));
        let attempt = |pipe: &Pipe| {
            let mut batch = pipe.batch(256);
            batch.set(&key, Mode::Add, item(&ask.owner, 0, ask.ttl_ms));
            batch.get_with_version(&fences);
            batch.look(&key);
            batch
        };
        let [added, base, look] = self.call(&key, attempt).await?;
        *is_added |= stored(&added)?;
        let retry_ms = match look.code {
            Code::Value => look.ttl_s.map_or(1000, |seconds| seconds.max(1) * 1000),
            // It ended just now, or was evicted.
            _ => 1,
        };
        let held = Held::parse(&key, look)?;
        let Some(held) = held.filter(|held| held.owner == ask.owner) else {
            let ahead = 0;
            return Ok(Found::Decided(Answer::Busy { ahead, retry_ms }));
        };
        check_read(&base)?;
        let Some(first) = Frame::stamp(&fences, &base.body) else {
            let granted = held.granted;
            let mode = add_or_swap(&base);
            return Ok(Found::NoFences { granted, mode });
        };
        let left_ms = if *is_added {
            ask.ttl_ms
        } else {
            held.left_ms.min(ask.ttl_ms)
        };
        let fence = first.saturating_add(held.granted);
        Ok(Found::Decided(Answer::Granted { fence, left_ms }))
    }

    /// Creates what the fences of a space start from, unless somebody else just did.
    async fn create_fences(&self, space: &Namespace, granted: u64, mode: Mode) -> Result<()> {
        let key = ItemKey::fences(space);
        let number = Item {
            stamp: Clock::system().now_us().saturating_sub(granted),
            expires_at_ms: None,
            lifetime: Lifetime::ENDLESS,
            value: b"",
        };
        let create = |pipe: &Pipe| {
            let mut batch = pipe.batch(64);
            batch.set(&key, mode, number);
            batch
        };
        let [created] = self.call(&key, create).await?;
        stored(&created).map(drop)
    }

    /// Sends a batch of so many commands.
    async fn call<const N: usize>(
        &self,
        key: &ItemKey<'_>,
        build: impl FnOnce(&Pipe) -> Batch,
    ) -> Result<[Reply; N]> {
        let replies = self.0.inner.server.call(self.0.lane(key), build).await?;
        replies.try_into().map_err(|_other: Vec<_>| unexpected())
    }

    /// Reads a lock. Cost: one round trip.
    async fn look(&self, key: &ItemKey<'_>) -> Result<Option<Held>> {
        let look = |pipe: &Pipe| {
            let mut batch = pipe.batch(0);
            batch.look(key);
            batch
        };
        let [found] = self.call(key, look).await?;
        Held::parse(key, found)
    }

    /// Changes an owner's lock while it is the owner's; `false`: it is not.
    async fn change(
        &self,
        key: &ItemKey<'_>,
        owner: &Owner,
        build: impl Fn(&mut Batch, &Held),
    ) -> Result<bool> {
        for _ in 0..MAX_CAS_ATTEMPTS {
            let Some(held) = self.look(key).await?.filter(|held| held.owner == *owner) else {
                return Ok(false);
            };
            let change = |pipe: &Pipe| {
                let mut batch = pipe.batch(256);
                build(&mut batch, &held);
                batch
            };
            let [changed] = self.call(key, change).await?;
            match changed.code {
                Code::Done => return Ok(true),
                Code::NotFound => return Ok(false),
                // It changed since: perhaps an extension of the same owner's.
                Code::Exists => {}
                _ => return Err(unexpected()),
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "the lock always changed meanwhile",
        ))
    }

    /// Remembers a hold time unless somebody else does just now: one of many is no loss.
    async fn note_hold_time(&self, space: &Namespace, name: &[u8], held_ms: u64) -> Result<()> {
        let key = ItemKey::hold_times(space, name);
        let (mut times, mode) = self.read_hold_times(&key).await?;
        times.truncate(HOLD_TIMES - 1);
        times.insert(0, held_ms);
        let value: Vec<u8> = times.iter().flat_map(|ms| ms.to_le_bytes()).collect();
        let write = |pipe: &Pipe| {
            let mut batch = pipe.batch(value.len());
            let item = Item {
                stamp: 0,
                expires_at_ms: None,
                lifetime: Lifetime::ending_in(HOLD_TIMES_MS, now_ms()),
                value: &value,
            };
            batch.set(&key, mode, item);
            batch
        };
        let [written] = self.call(&key, write).await?;
        stored(&written).map(drop)
    }

    /// Returns the hold times, the latest first, and what must hold for them to be replaced.
    async fn read_hold_times(&self, key: &ItemKey<'_>) -> Result<(Vec<u64>, Mode)> {
        let read = |pipe: &Pipe| {
            let mut batch = pipe.batch(0);
            batch.get_with_version(key);
            batch
        };
        let [reply] = self.call(key, read).await?;
        check_read(&reply)?;
        let mode = add_or_swap(&reply);
        let frame = Frame::parse(key, reply.body);
        let value = frame.map(|frame| frame.value).unwrap_or_default();
        let (times, _) = value.as_chunks::<8>();
        let times = times.iter().map(|ms| u64::from_le_bytes(*ms)).collect();
        Ok((times, mode))
    }

    async fn remove(&self, key: &ItemKey<'_>) -> Result<bool> {
        let remove = |pipe: &Pipe| {
            let mut batch = pipe.batch(0);
            batch.delete(key, None);
            batch
        };
        let [removed] = self.call(key, remove).await?;
        match removed.code {
            Code::Done => Ok(true),
            Code::NotFound => Ok(false),
            _ => Err(unexpected()),
        }
    }

    fn ring(&self, space: &Namespace, name: &[u8]) {
        self.0.inner.bells.ring_channel(&channel(space, name));
    }
}

/// Returns how to replace exactly what was read, or create it where there was nothing.
fn add_or_swap(read: &Reply) -> Mode {
    match read.code {
        Code::Value => Mode::Swap(read.cas),
        _ => Mode::Add,
    }
}

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(Error::unsupported(what).store(NAME))
}

#[async_trait]
impl LockStore for Locks {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        check_name(space, name)?;
        if ask.permits > 1 {
            return unsupported("semaphores");
        }
        let answer = self.try_acquire(space, name, ask).await;
        answer.map_err(|error| error.store(NAME).key(name))
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        check_name(space, name)?;
        let key = ItemKey::lock(space, name);
        let extended = self.change(&key, owner, |batch, held| {
            let item = item(owner, held.granted, ttl_ms);
            batch.set(&key, Mode::Swap(held.version), item);
        });
        let extended = extended.await;
        extended.map_err(|error| error.store(NAME).key(name))
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        check_name(space, name)?;
        let key = ItemKey::lock(space, name);
        let remove = self.change(&key, owner, |batch, held| {
            batch.delete(&key, Some(held.version));
        });
        let released = remove.await;
        let was_held = released.map_err(|error| error.store(NAME).key(name))?;
        if was_held {
            self.ring(space, name);
        }
        if let Some(held_ms) = held_ms
            && let Err(error) = self.note_hold_time(space, name, held_ms).await
        {
            // The lock is free, which is what was asked for.
            tracing::debug!(%error, "a hold time is not remembered");
        }
        Ok(was_held)
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        check_name(space, name)?;
        let removed = self.remove(&ItemKey::lock(space, name)).await;
        let was_held = removed.map_err(|error| error.store(NAME).key(name))?;
        if was_held {
            self.ring(space, name);
        }
        Ok(u64::from(was_held))
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        check_name(space, name)?;
        let key = ItemKey::hold_times(space, name);
        let read = self.read_hold_times(&key).await;
        let (times, _) = read.map_err(|error| error.store(NAME).key(name))?;
        Ok(times)
    }

    async fn list(&self, _: &Namespace, _: &Glob, _: usize) -> Result<Vec<LockStatus>> {
        unsupported("locks cannot be listed")
    }

    async fn take(&self, _: &Namespace, _: &[u8], _: &Rate, _: u64) -> Result<Taken> {
        unsupported("rate limiters")
    }

    fn is_fair(&self) -> bool {
        false
    }

    /// Nobody tells a waiter of a release in another process.
    fn longest_pause(&self) -> Duration {
        LONGEST_PAUSE
    }

    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        self.0.inner.bells.listen(&channel(space, name), owner)
    }
}
