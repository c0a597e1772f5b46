//! Listing and counting keys.

use bytes::Bytes;

use super::shard::SlotKey;
use super::{Inner, lock};
use crate::envelope;
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::key::Key;
use crate::store::{Entry, Register, ScanPage, ScannedKey};
use crate::tag::Verdict;

impl Inner {
    /// Lists one page: shards in turn, keys of a shard in order.
    pub(super) fn scan(
        &self,
        namespace: u64,
        listed: &Listed<'_>,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let (first, mut after) = match cursor {
            Some(cursor) => parse_cursor(cursor)?,
            None => (0, Bytes::new()),
        };
        let mut page = ScanPage::default();
        for index in first..self.shards.len() {
            let wanted = limit.max(1) - page.keys.len();
            let mut found = self.scan_shard(index, namespace, listed, &after);
            let full = found.len() >= wanted;
            if found.len() > wanted {
                found.select_nth_unstable_by(wanted, |a, b| a.key.cmp(&b.key));
                found.truncate(wanted);
            }
            found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            page.keys.extend(found);
            if full {
                let last = page.keys.last().map(|scanned| scanned.key.as_bytes());
                let last = last.unwrap_or_default();
                page.next = Some([&(index as u32).to_le_bytes(), last].concat().into());
                return Ok(page);
            }
            after = Bytes::new();
        }
        Ok(page)
    }

    /// Lists what matches in one shard, in no order.
    fn scan_shard(
        &self,
        index: usize,
        namespace: u64,
        listed: &Listed<'_>,
        after: &Bytes,
    ) -> Vec<ScannedKey> {
        let now_ms = self.clock.now_ms();
        let shard = lock(&self.shards[index]);
        let later = |(slot, _): &(&SlotKey, &Entry)| slot.key > *after;
        let visible = |(slot, entry): &(&SlotKey, &Entry)| self.is_visible(slot, entry);
        let found = shard.live(namespace, now_ms);
        let wanted = |(slot, entry): &(&SlotKey, &Entry)| listed.wants(slot, entry);
        let found = found.filter(later).filter(visible).filter(wanted);
        found
            .map(|(slot, entry)| ScannedKey {
                key: Key::from(slot.key.clone()),
                bytes: entry.value.len() as u64,
                expires_at_ms: entry.expires_at_ms,
            })
            .collect()
    }

    /// Returns whether a live entry may be seen: it is no mark of a load, and valid.
    fn is_visible(&self, slot: &SlotKey, entry: &Entry) -> bool {
        !envelope::is_load(&entry.value)
            && self.registers.verdict(slot.namespace, &entry.value) != Verdict::Invalid
    }

    pub(super) fn count(&self, namespace: u64, pattern: &Glob) -> u64 {
        let now_ms = self.clock.now_ms();
        let visible = |(slot, entry): &(&SlotKey, &Entry)| self.is_visible(slot, entry);
        let of_shard = |shard| {
            let shard = lock(shard);
            let live = shard.live(namespace, now_ms);
            live.filter(|(slot, _)| pattern.matches(&slot.key))
                .filter(visible)
                .count() as u64
        };
        self.shards.iter().map(of_shard).sum()
    }
}

/// What is listed.
pub(super) enum Listed<'a> {
    Matching(&'a Glob),
    By(&'a Register),
}

impl Listed<'_> {
    fn wants(&self, slot: &SlotKey, entry: &Entry) -> bool {
        match self {
            Self::Matching(pattern) => pattern.matches(&slot.key),
            Self::By(register) => envelope::carries(&entry.value, register),
        }
    }
}

pub(super) fn parse_cursor(cursor: &Bytes) -> Result<(usize, Bytes)> {
    let index = cursor
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes));
    let index = index.ok_or_else(|| Error::argument("the cursor is not of this store"))?;
    Ok((index as usize, cursor.slice(4..)))
}
