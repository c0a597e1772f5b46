//! Walking the entries that depend on registers, some at a time, and removing those that are invalid.

use bytes::Bytes;

use super::listing::parse_cursor;
use super::shard::{Lookup, Shard, SlotKey, is_live};
use super::{Inner, lock};
use crate::envelope;
use crate::error::Result;
use crate::store::TidyPage;
use crate::tag::Verdict;

impl Inner {
    /// Makes one step: shards in turn, keys of a shard in order.
    pub(super) fn tidy(
        &self,
        namespace: u64,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        let (first, mut after) = match cursor {
            Some(cursor) => parse_cursor(cursor)?,
            None => (0, Bytes::new()),
        };
        let mut page = TidyPage::default();
        let mut left = limit.max(1);
        for index in first..self.shards.len() {
            let mut shard = lock(&self.shards[index]);
            let (slots, has_more) = next_stamped(&shard, namespace, &after, left);
            for slot in &slots {
                self.tidy_one(&mut shard, slot, removes, &mut page);
            }
            if has_more {
                let last = slots.last().map_or(&after, |slot| &slot.key);
                page.next = Some([&(index as u32).to_le_bytes(), &last[..]].concat().into());
                return Ok(page);
            }
            left -= slots.len();
            after = Bytes::new();
        }
        Ok(page)
    }

    fn tidy_one(&self, shard: &mut Shard, slot: &SlotKey, removes: bool, page: &mut TidyPage) {
        let lookup = Lookup {
            namespace: slot.namespace,
            key: &slot.key,
        };
        let Some(entry) = shard.entries.peek(&lookup) else {
            return;
        };
        let is_needed = is_live(entry, self.clock.now_ms())
            && self.registers.verdict(slot.namespace, &entry.value) != Verdict::Invalid;
        if is_needed {
            page.carried.extend(envelope::registers(&entry.value));
            return;
        }
        page.removed += u64::from(!envelope::is_load(&entry.value));
        if removes {
            shard.entries.remove(&lookup);
        }
    }
}

/// Returns the entries with stamps that come next in a shard, and whether there are more.
fn next_stamped(
    shard: &Shard,
    namespace: u64,
    after: &Bytes,
    limit: usize,
) -> (Vec<SlotKey>, bool) {
    let entries = shard.entries.iter();
    let next = entries.filter(|(slot, entry)| {
        slot.namespace == namespace && slot.key > *after && envelope::has_stamps(&entry.value)
    });
    let mut slots: Vec<_> = next.map(|(slot, _)| slot.clone()).collect();
    let has_more = slots.len() > limit;
    if has_more {
        slots.select_nth_unstable(limit);
        slots.truncate(limit);
    }
    slots.sort_unstable();
    (slots, has_more)
}
