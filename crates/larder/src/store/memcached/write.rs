//! Writes: rounds of pipelined steps, until every write of a call is decided.
//!
//! ```text
//! put      Put: ms + register ------------- same stamp ----------> done      (one round trip)
//!                                \-- another: learn it, once more
//! add      Add: ms ME + register ---------- same stamp ----------> done
//!                                \-- there is an item: Look
//! delete   Delete: mg, md + register -----------------------------> done
//! others   Look: mg with version + register -> judge -> Swap or Remove with that version -> done
//!            ^-------------------------------------------------- it changed meanwhile
//! ```
//! A swap needs no second look at the register: its item did not change since it was judged, so if the namespace was
//! cleared in between, the write took place just before, with the stamp that the clear made void.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::Memcached;
use super::frame::{Frame, ItemKey};
use super::pipe::{Pipe, Reply};
use super::read::check_read;
use super::register::{register_value, stored, unexpected};
use super::reply::Code;
use super::request::{Batch, Item, Lifetime, MAX_COMMANDS, Mode};
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::store::{Change, Condition, Expiry, MAX_CAS_ATTEMPTS, Write, conflict};

/// Bytes sent in one round trip, unless a single value is larger.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Writes sent in one round trip; a delete takes two commands.
const MAX_BATCH_WRITES: usize = 256;
const _: () = assert!(2 * MAX_BATCH_WRITES < MAX_COMMANDS);

/// A write on its way.
#[derive(Debug)]
struct Task<'a> {
    write: &'a Write<'a>,
    key: ItemKey<'a>,
    step: Step,
}

/// What is to be sent next for a write.
#[derive(Debug)]
enum Step {
    /// Store it, whatever is there.
    Put,
    /// Store it where there is no item.
    Add,
    /// Remove it, and find out whether it counted.
    Delete,
    /// Read what is there.
    Look,
    /// Store this in place of the item that was judged, or where there was none.
    Swap {
        mode: Mode,
        /// The register when the item was judged; `None`: there was none, so nothing counted.
        stamp: Option<u64>,
        value: Bytes,
        expires_at_ms: Option<u64>,
    },
    /// Remove the item that was judged.
    Remove { version: u64 },
    /// Decided.
    Done(bool),
}

impl Memcached {
    /// Applies writes, those of one key one after the other.
    pub(super) async fn apply(
        &self,
        namespace: &Namespace,
        writes: &[Write<'_>],
    ) -> Result<Vec<bool>> {
        self.check_sizes(namespace, writes).await?;
        let mut applied = Vec::with_capacity(writes.len());
        let mut rest = writes;
        while !rest.is_empty() {
            let (wave, later) = rest.split_at(distinct_keys(rest));
            applied.extend(self.apply_wave(namespace, wave).await?);
            rest = later;
        }
        Ok(applied)
    }

    /// Refuses what the server would refuse, before anything is sent.
    async fn check_sizes(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<()> {
        let limit = self.inner.server.item_limit().await?;
        for write in writes {
            let Change::Put(value) = &write.change else {
                continue;
            };
            let key = ItemKey::entry(namespace, write.key);
            let size = Frame::item_len(&key, value.len());
            if size as u64 > limit {
                let message = format!(
                    "an item of {size} bytes is over the server's limit of {limit} (memcached -I)"
                );
                return Err(Error::new(ErrorKind::TooLarge, message).key(write.key));
            }
        }
        Ok(())
    }

    /// Applies writes of different keys, all at a time.
    async fn apply_wave(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let mut tasks: Vec<_> = writes
            .iter()
            .map(|write| Task::new(namespace, write))
            .collect();
        for round in 0..MAX_CAS_ATTEMPTS {
            let undecided = tasks.iter_mut().filter(|task| task.is_undecided());
            let mut lanes: Vec<Vec<&mut Task<'_>>> = Vec::new();
            lanes.resize_with(self.inner.server.lanes(), Vec::new);
            let mut needs_stamp = false;
            for task in undecided {
                needs_stamp |= task.needs_stamp();
                lanes[self.lane(&task.key)].push(task);
            }
            if lanes.iter().all(Vec::is_empty) {
                return Ok(tasks.iter().map(Task::was_applied).collect());
            }
            if round > 2 {
                // Others change the same keys: they get their turn.
                tokio::task::yield_now().await;
            }
            let stamp = match self.inner.registers.known(namespace) {
                Some(stamp) => stamp,
                None if needs_stamp => self.learn(namespace).await?,
                None => 0,
            };
            let of_lane = |(lane, tasks)| self.send_lane(namespace, lane, tasks, stamp);
            try_join_all(lanes.into_iter().enumerate().map(of_lane)).await?;
        }
        let loser = tasks.iter().find(|task| task.is_undecided());
        let key = loser.map_or(&b""[..], |task| task.write.key);
        Err(conflict("memcached", key))
    }

    /// Sends the next step of these tasks over one connection, in as few round trips as the bounds allow.
    async fn send_lane(
        &self,
        namespace: &Namespace,
        lane: usize,
        mut tasks: Vec<&mut Task<'_>>,
        stamp: u64,
    ) -> Result<()> {
        let mut rest = &mut tasks[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at_mut(batch_len(rest));
            self.send_batch(namespace, lane, batch, stamp).await?;
            rest = later;
        }
        Ok(())
    }

    async fn send_batch(
        &self,
        namespace: &Namespace,
        lane: usize,
        tasks: &mut [&mut Task<'_>],
        stamp: u64,
    ) -> Result<()> {
        let register = ItemKey::register(namespace);
        let now_ms = self.inner.clock.now_ms();
        let build = |pipe: &Pipe| {
            let bytes: usize = tasks.iter().map(|task| task.bytes()).sum();
            let mut batch = pipe.batch(bytes);
            for task in tasks.iter() {
                task.write_to(&mut batch, stamp, now_ms);
            }
            batch.get(&register);
            batch
        };
        let replies = self.inner.server.call(lane, build).await?;
        let Some((register_reply, mut replies)) = replies.split_last() else {
            return Err(unexpected());
        };
        check_read(register_reply)?;
        let value = register_value(&register, register_reply);
        if value != self.inner.registers.known(namespace) {
            self.inner.registers.note(namespace, value);
        }
        let seen = Seen {
            register: value,
            used: stamp,
            now_ms: self.inner.clock.now_ms(),
        };
        for task in tasks.iter_mut() {
            let (own, others) = replies
                .split_at_checked(task.commands())
                .ok_or_else(unexpected)?;
            replies = others;
            let settled = task.settle(own, &seen);
            settled.map_err(|error| error.key(task.write.key))?;
        }
        Ok(())
    }
}

/// What a round found out about the namespace.
#[derive(Debug, Clone, Copy)]
struct Seen {
    register: Option<u64>,
    /// The stamp that puts and adds were sent with.
    used: u64,
    now_ms: u64,
}

impl<'a> Task<'a> {
    fn new(namespace: &'a Namespace, write: &'a Write<'a>) -> Self {
        let step = match (&write.change, write.condition, write.expiry) {
            (Change::Delete, Condition::Always, _) => Step::Delete,
            (Change::Put(_), Condition::Always, Expiry::After(_) | Expiry::Never) => Step::Put,
            (Change::Put(_), Condition::IfAbsent, _) => Step::Add,
            _ => Step::Look,
        };
        Self {
            write,
            key: ItemKey::entry(namespace, write.key),
            step,
        }
    }

    fn is_undecided(&self) -> bool {
        !matches!(self.step, Step::Done(_))
    }

    fn was_applied(&self) -> bool {
        matches!(self.step, Step::Done(true))
    }

    fn needs_stamp(&self) -> bool {
        matches!(
            self.step,
            Step::Put | Step::Add | Step::Swap { stamp: None, .. }
        )
    }

    /// How many commands, and so replies, the step takes.
    fn commands(&self) -> usize {
        match self.step {
            Step::Delete => 2,
            Step::Done(_) => 0,
            _ => 1,
        }
    }

    /// How many bytes the step sends, roughly.
    fn bytes(&self) -> usize {
        let value = match (&self.step, &self.write.change) {
            (Step::Put | Step::Add, Change::Put(value)) => value.len(),
            (Step::Swap { value, .. }, _) => value.len(),
            _ => 0,
        };
        400 + Frame::len(&self.key, value)
    }

    fn write_to(&self, batch: &mut Batch, stamp: u64, now_ms: u64) {
        let item = |value, expires_at_ms, stamp| Item {
            stamp,
            expires_at_ms,
            lifetime: lifetime(expires_at_ms, now_ms),
            value,
        };
        match (&self.step, &self.write.change) {
            (Step::Put | Step::Add, Change::Put(value)) => {
                let expires_at_ms = self.write.expiry.at(now_ms, None);
                let mode = match self.step {
                    Step::Put => Mode::Set,
                    _ => Mode::Add,
                };
                batch.set(&self.key, mode, item(value, expires_at_ms, stamp));
            }
            (
                Step::Swap {
                    mode,
                    stamp: judged,
                    value,
                    expires_at_ms,
                },
                _,
            ) => {
                let stamp = judged.unwrap_or(stamp);
                batch.set(&self.key, *mode, item(value, *expires_at_ms, stamp));
            }
            (Step::Delete, _) => {
                batch.get(&self.key);
                batch.delete(&self.key, None);
            }
            (Step::Remove { version }, _) => batch.delete(&self.key, Some(*version)),
            _ => batch.get_with_version(&self.key),
        }
    }

    /// Decides, or finds the next step.
    fn settle(&mut self, replies: &[Reply], seen: &Seen) -> Result<()> {
        let visible = seen.register == Some(seen.used);
        self.step = match (&self.step, replies) {
            (Step::Put, [set]) => match stored(set)? {
                true if visible => Step::Done(true),
                _ => Step::Put,
            },
            (Step::Add, [set]) => match stored(set)? {
                true if visible => Step::Done(true),
                _ => Step::Look,
            },
            (Step::Swap { .. }, [set]) => match stored(set)? {
                true => Step::Done(true),
                false => Step::Look,
            },
            (Step::Remove { .. }, [removed]) => match removed.code {
                Code::Done => Step::Done(true),
                Code::Exists | Code::NotFound => Step::Look,
                _ => return Err(unexpected()),
            },
            (Step::Delete, [item, removed]) => {
                check_read(item)?;
                let counted = self.live(item, seen).is_some();
                match removed.code {
                    Code::Done => Step::Done(counted),
                    Code::NotFound => Step::Done(false),
                    _ => return Err(unexpected()),
                }
            }
            (Step::Look, [item]) => {
                check_read(item)?;
                self.judge(item, seen)
            }
            _ => return Err(unexpected()),
        };
        Ok(())
    }

    fn live(&self, item: &Reply, seen: &Seen) -> Option<Frame> {
        let frame = Frame::parse(&self.key, &item.body)?;
        frame.is_live(seen.register, seen.now_ms).then_some(frame)
    }

    /// Checks the condition against what was read, and says what to do about it.
    fn judge(&self, item: &Reply, seen: &Seen) -> Step {
        let present = self.live(item, seen);
        let entry = present.as_ref().map(|frame| &frame.value);
        if !self.write.condition.holds(entry) {
            return Step::Done(false);
        }
        let value = match (&self.write.change, &present) {
            (Change::Put(value), _) => value.clone(),
            (Change::Touch, Some(frame)) => frame.value.clone(),
            (Change::Delete, Some(_)) => return Step::Remove { version: item.cas },
            (Change::Touch | Change::Delete, None) => return Step::Done(false),
        };
        let present_expiry = present.and_then(|frame| frame.expires_at_ms);
        Step::Swap {
            mode: match item.code {
                Code::Value => Mode::Swap(item.cas),
                _ => Mode::Add,
            },
            stamp: seen.register,
            value,
            expires_at_ms: self.write.expiry.at(seen.now_ms, present_expiry),
        }
    }
}

/// Returns how many writes at the front are of different keys.
fn distinct_keys(writes: &[Write<'_>]) -> usize {
    if writes.len() <= 1 {
        return writes.len();
    }
    let mut seen = HashSet::with_capacity(writes.len());
    writes
        .iter()
        .position(|write| !seen.insert(write.key))
        .unwrap_or(writes.len())
}

/// Returns how many tasks at the front go into one batch: at least one.
fn batch_len(tasks: &[&mut Task<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |task: &&&mut Task<'_>| {
        bytes += task.bytes();
        bytes <= MAX_BATCH_BYTES
    };
    let fitting = tasks.iter().take(MAX_BATCH_WRITES).take_while(fits);
    fitting.count().max(1)
}

/// Returns how long Memcached is to keep an item, by its own clock: the system's, not the store's.
fn lifetime(expires_at_ms: Option<u64>, now_ms: u64) -> Lifetime {
    let Some(at) = expires_at_ms else {
        return Lifetime::ENDLESS;
    };
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Lifetime::ending_in(at.saturating_sub(now_ms), epoch.map_or(0, duration_ms))
}
