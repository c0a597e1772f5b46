//! Reads: each round trip brings entries and the registers that decide whether they count.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::Memcached;
use super::frame::{Frame, ItemKey};
use super::pipe::{Pipe, Reply};
use super::register::unexpected;
use super::reply::Code;
use super::request::{Batch, MAX_COMMANDS};
use super::tags::{Fetched, MAX_REGISTERS, Weighed};
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Entry, Register};

/// Entries read in one round trip. Larger bulk calls take several, so that others get their turn.
const MAX_KEYS: usize = 256;
const _: () = assert!(MAX_KEYS + MAX_REGISTERS < MAX_COMMANDS);

/// What was read together, in the order it was asked for.
#[derive(Debug)]
struct Met<'a> {
    found: Vec<(ItemKey<'a>, Option<Entry>)>,
    /// The register of the namespace.
    life: Option<u64>,
    fetched: Fetched,
}

impl Memcached {
    /// Reads one entry. Cost: one round trip; two if it depends on registers that were not expected.
    pub(super) async fn read_one(
        &self,
        namespace: &Namespace,
        key: &[u8],
    ) -> Result<Option<Entry>> {
        let key = ItemKey::entry(namespace, key);
        let lane = self.lane(&key);
        if let Some(registers) = self.inner.known.registers(key) {
            let keys = [key];
            let read = self.read_tagged(namespace, lane, &keys, &registers);
            return Ok(Box::pin(read).await?.pop().flatten());
        }
        let register = ItemKey::register(namespace);
        let build = |pipe: &Pipe| {
            let mut batch = pipe.batch(0);
            batch.get(&key);
            batch
        };
        let (life, mut replies) = self.inner.server.read(lane, &register, build).await?;
        let item = replies.pop().ok_or_else(unexpected)?;
        check_read(&item)?;
        let entry = self.entry(&key, item, life);
        if !entry
            .as_ref()
            .is_some_and(|entry| envelope::has_stamps(&entry.value))
        {
            return Ok(entry);
        }
        let met = Met {
            found: vec![(key, entry)],
            life,
            fetched: Fetched::default(),
        };
        Ok(Box::pin(self.weigh(namespace, lane, met))
            .await?
            .pop()
            .flatten())
    }

    /// Reads many entries. Cost: a round trip for each 256 of them, at the same time on all connections; two if some
    /// depend on registers that were not expected.
    pub(super) async fn read_many(
        &self,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Entry>>> {
        let mut lanes = vec![Vec::new(); self.inner.server.lanes()];
        for (index, key) in keys.iter().enumerate() {
            let key = ItemKey::entry(namespace, key);
            lanes[self.lane(&key)].push((index, key));
        }
        let lanes = lanes.into_iter().enumerate();
        let reads = lanes.map(|(lane, asked)| self.read_lane(namespace, lane, asked));
        let found = try_join_all(reads).await?;
        let mut entries = vec![None; keys.len()];
        for (index, entry) in found.into_iter().flatten() {
            entries[index] = entry;
        }
        Ok(entries)
    }

    async fn read_lane(
        &self,
        namespace: &Namespace,
        lane: usize,
        asked: Vec<(usize, ItemKey<'_>)>,
    ) -> Result<Vec<(usize, Option<Entry>)>> {
        let mut found = Vec::with_capacity(asked.len());
        for chunk in asked.chunks(MAX_KEYS) {
            let keys: Vec<_> = chunk.iter().map(|(_, key)| *key).collect();
            let registers = self.believed(&keys);
            let read = self.read_tagged(namespace, lane, &keys, &registers).await?;
            let indices = chunk.iter().map(|(index, _)| *index);
            found.extend(indices.zip(read));
        }
        Ok(found)
    }

    /// Returns registers that entries are believed to depend on, as many as fit into one round trip.
    fn believed(&self, keys: &[ItemKey<'_>]) -> Vec<Register> {
        let known = keys
            .iter()
            .filter_map(|key| self.inner.known.registers(key));
        let known: Vec<Arc<[Register]>> = known.collect();
        let distinct: BTreeSet<_> = known.iter().flat_map(|names| names.iter()).collect();
        distinct.into_iter().take(MAX_REGISTERS).cloned().collect()
    }

    /// Reads entries together with registers.
    async fn read_tagged(
        &self,
        namespace: &Namespace,
        lane: usize,
        keys: &[ItemKey<'_>],
        registers: &[Register],
    ) -> Result<Vec<Option<Entry>>> {
        let register = ItemKey::register(namespace);
        let build = |pipe: &Pipe| -> Batch {
            let mut batch = pipe.batch((keys.len() + registers.len()) * 64);
            for key in keys {
                batch.get(key);
            }
            for name in registers {
                batch.get(&ItemKey::tag_register(namespace, name));
            }
            batch
        };
        let (life, items) = self.inner.server.read(lane, &register, build).await?;
        let mut items = items.into_iter();
        let mut found = Vec::with_capacity(keys.len());
        for (key, item) in keys.iter().zip(&mut items) {
            check_read(&item)?;
            found.push((*key, self.entry(key, item, life)));
        }
        let mut fetched = Fetched::default();
        fetched.take(namespace, registers, items)?;
        let met = Met {
            found,
            life,
            fetched,
        };
        self.weigh(namespace, lane, met).await
    }

    /// Judges entries by their registers, and reads those that were not read with them.
    async fn weigh(
        &self,
        namespace: &Namespace,
        lane: usize,
        mut met: Met<'_>,
    ) -> Result<Vec<Option<Entry>>> {
        let mut missing = BTreeSet::new();
        for (_, entry) in &met.found {
            let weighed = entry
                .as_ref()
                .map(|entry| met.fetched.weigh(&entry.value, met.life));
            if let Some(Weighed::Open(names)) = weighed {
                missing.extend(names.into_iter().filter(|name| !met.fetched.has(name)));
            }
        }
        let missing: Vec<_> = missing.into_iter().collect();
        self.fetch(namespace, lane, &missing, &mut met.fetched)
            .await?;
        let judged = met.found.into_iter().map(|(key, entry)| {
            let mut entry = entry?;
            if envelope::has_stamps(&entry.value) || !met.fetched.is_empty() {
                self.inner.known.learn_from(key, &entry.value);
            }
            match met.fetched.weigh(&entry.value, met.life) {
                Weighed::Invalid | Weighed::Open(_) => return None,
                weighed => entry.is_stale = weighed == Weighed::Stale,
            }
            Some(entry)
        });
        Ok(judged.collect())
    }

    /// Returns an entry that counts as far as its namespace and its expiry say, and is no load under way.
    fn entry(&self, key: &ItemKey<'_>, item: Reply, register: Option<u64>) -> Option<Entry> {
        let frame = Frame::parse(key, item.body)?;
        let live = frame.is_live(register, self.inner.clock.now_ms());
        let live = live && !envelope::is_load(&frame.value);
        live.then(|| Entry::new(frame.value, frame.expires_at_ms))
    }
}

/// Refuses what is no reply to a read.
pub(super) fn check_read(reply: &Reply) -> Result<()> {
    match reply.code {
        Code::Value | Code::Missing => Ok(()),
        _ => Err(unexpected()),
    }
}
