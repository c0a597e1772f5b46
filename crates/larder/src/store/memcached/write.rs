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
//! Whatever reads an item reads the registers of tags that it is believed to depend on with it. If it depends on others, they
//! are read by one more step, `Weigh`, before it is judged; see [`super::tags`] for why that is not too late.
//!
//! A swap under the register that its item was judged by needs no second look at it: the item did not change since, so
//! if the namespace was cleared in between, the write took place just before, with the stamp that the clear made void. So
//! it did if a tag was invalidated: what it stored is invalid, too, where it was stamped before.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use super::Memcached;
use super::frame::{Frame, ItemKey};
use super::pipe::Pipe;
use super::register::{register_value, unexpected};
use super::request::MAX_COMMANDS;
use super::step::{Seen, Task};
use super::tags::{Fetched, MAX_REGISTERS, needs};
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::store::{Change, MAX_CAS_ATTEMPTS, Register, Write, conflict};

/// Bytes sent in one round trip, unless a single value is larger.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Writes sent in one round trip; a delete takes two commands.
const MAX_BATCH_WRITES: usize = 256;
const _: () = assert!(2 * MAX_BATCH_WRITES + MAX_REGISTERS < MAX_COMMANDS);

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
            .map(|write| Task::new(namespace, write, |key| self.inner.known.registers(key)))
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
                self.keep_stored(namespace, &mut tasks).await;
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
            let lanes = lanes.into_iter().enumerate();
            let mut sends: Vec<_> = lanes
                .filter(|(_, tasks)| !tasks.is_empty())
                .map(|(lane, tasks)| self.send_lane(namespace, lane, tasks, stamp))
                .collect();
            match sends.pop() {
                Some(only) if sends.is_empty() => only.await?,
                last => drop(try_join_all(sends.into_iter().chain(last)).await?),
            }
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
        let tags = registers(tasks);
        let build = |pipe: &Pipe| {
            let bytes: usize = tasks.iter().map(|task| task.bytes()).sum();
            let mut batch = pipe.batch(bytes);
            for task in tasks.iter() {
                task.write_to(&mut batch, stamp, now_ms);
            }
            for name in &tags {
                batch.get(&ItemKey::tag_register(namespace, name));
            }
            batch.get(&register);
            batch
        };
        let mut replies = self.inner.server.call(lane, build).await?;
        let register_reply = replies.pop().ok_or_else(unexpected)?;
        let own: usize = tasks.iter().map(|task| task.commands()).sum();
        if replies.len() != own + tags.len() {
            return Err(unexpected());
        }
        let mut fetched = Fetched::default();
        fetched.take(namespace, &tags, replies.drain(own..))?;
        let mut replies = &replies[..];
        let value = register_value(&register, &register_reply)?;
        if value != self.inner.registers.known(namespace) {
            self.inner.registers.note(namespace, value);
        }
        let seen = Seen {
            register: value,
            used: stamp,
            now_ms: self.inner.clock.now_ms(),
            fetched: &fetched,
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

    /// Keeps the registers of what was stored for longer than that, and remembers them.
    async fn keep_stored(&self, namespace: &Namespace, tasks: &mut [Task<'_>]) {
        let mut wanted = Vec::new();
        for task in tasks {
            let Some(stored) = task.take_stored() else {
                continue;
            };
            self.inner.known.learn_from(task.key, &stored.value);
            if envelope::has_stamps(&stored.value) {
                let now_ms = self.inner.clock.now_ms();
                wanted.extend(needs(&stored.value, stored.expires_at_ms, now_ms));
            }
        }
        if !wanted.is_empty() {
            self.keep(namespace, wanted).await;
        }
    }
}

/// Returns the registers that tasks want to be read, each once.
fn registers(tasks: &[&mut Task<'_>]) -> Vec<Register> {
    let all = tasks.iter().flat_map(|task| task.registers());
    let mut seen = HashSet::new();
    all.filter(|name| seen.insert(*name)).cloned().collect()
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
    let (mut bytes, mut registers) = (0, 0);
    let fits = |task: &&&mut Task<'_>| {
        bytes += task.bytes();
        registers += task.registers().len();
        bytes <= MAX_BATCH_BYTES && registers <= MAX_REGISTERS
    };
    let fitting = tasks.iter().take(MAX_BATCH_WRITES).take_while(fits);
    fitting.count().max(1)
}
