//! Reads: each round trip brings entries and the register that decides whether they count.

use futures_util::future::try_join_all;

use super::Memcached;
use super::frame::{Frame, ItemKey};
use super::pipe::{Pipe, Reply};
use super::register::unexpected;
use super::reply::Code;
use super::request::Batch;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::Entry;

/// Entries read in one round trip. Larger bulk calls take several, so that others get their turn.
const MAX_KEYS: usize = 256;

impl Memcached {
    /// Reads one entry. Cost: one round trip.
    pub(super) async fn read_one(
        &self,
        namespace: &Namespace,
        key: &[u8],
    ) -> Result<Option<Entry>> {
        let key = ItemKey::entry(namespace, key);
        let register = ItemKey::register(namespace);
        let build = |pipe: &Pipe| {
            let mut batch = pipe.batch(0);
            batch.get(&key);
            batch
        };
        let lane = self.lane(&key);
        let (stamp, mut replies) = self.inner.server.read(lane, &register, build).await?;
        let item = replies.pop().ok_or_else(unexpected)?;
        check_read(&item)?;
        Ok(self.entry(&key, item, stamp))
    }

    /// Reads many entries. Cost: a round trip for each 256 of them, at the same time on all connections.
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
            self.read_chunk(namespace, lane, chunk, &mut found).await?;
        }
        Ok(found)
    }

    async fn read_chunk(
        &self,
        namespace: &Namespace,
        lane: usize,
        asked: &[(usize, ItemKey<'_>)],
        found: &mut Vec<(usize, Option<Entry>)>,
    ) -> Result<()> {
        let register = ItemKey::register(namespace);
        let build = |pipe: &Pipe| -> Batch {
            let mut batch = pipe.batch(asked.len() * 64);
            for (_, key) in asked {
                batch.get(key);
            }
            batch
        };
        let (stamp, items) = self.inner.server.read(lane, &register, build).await?;
        for ((index, key), item) in asked.iter().zip(items) {
            check_read(&item)?;
            found.push((*index, self.entry(key, item, stamp)));
        }
        Ok(())
    }

    fn entry(&self, key: &ItemKey<'_>, item: Reply, register: Option<u64>) -> Option<Entry> {
        let frame = Frame::parse(key, item.body)?;
        let live = frame.is_live(register, self.inner.clock.now_ms());
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
