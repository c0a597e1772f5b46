//! How many entries carry which tags.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;

use super::Cache;
use crate::envelope;
use crate::error::Result;
use crate::glob::Glob;
use crate::store::{Register, ScannedKey};

/// Keys asked for in one round trip.
const PAGE_KEYS: usize = 100;
/// About how many bytes of entries are looked at in one round trip.
const PAGE_BYTES: u64 = 16 << 20;

/// How many entries carry which tags; see [`Cache::tag_stats`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct TagStats {
    /// How many valid entries carry any tag.
    pub tagged_keys: u64,
    /// The tags that valid entries carry, those with the most entries first.
    pub tags: Vec<TagCount>,
}

/// How many entries carry a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TagCount {
    /// The tag.
    pub tag: String,
    /// How many valid entries carry it.
    pub keys: u64,
}

impl Cache {
    /// Counts the valid entries by their tags. Entries that come and go meanwhile may count or not.
    ///
    /// Cost: reads every entry of the cache, at most 16 MiB or one entry at a time; for people, not for programs.
    ///
    /// # Errors
    /// `Unsupported`: the store cannot list its keys; the store's errors.
    pub async fn tag_stats(&self) -> Result<TagStats> {
        let (mut counts, mut tagged_keys) = (HashMap::new(), 0);
        let mut cursor = None;
        loop {
            let inner = &self.inner;
            let page = inner.page(&Glob::all(), cursor.as_ref(), PAGE_KEYS).await?;
            for keys in portions(&page.keys) {
                let keys: Vec<_> = keys.iter().map(|scanned| scanned.key.as_bytes()).collect();
                let entries = inner.store.get_many(&inner.namespace, &keys).await?;
                for entry in entries.into_iter().flatten() {
                    tagged_keys += u64::from(count(&entry.value, &mut counts));
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(TagStats::new(tagged_keys, counts));
            }
        }
    }
}

impl TagStats {
    fn new(tagged_keys: u64, counts: HashMap<Bytes, u64>) -> Self {
        let named = |(tag, keys): (Bytes, u64)| TagCount {
            tag: String::from_utf8_lossy(&tag).into_owned(),
            keys,
        };
        let mut tags: Vec<_> = counts.into_iter().map(named).collect();
        tags.sort_unstable_by(|a, b| b.keys.cmp(&a.keys).then_with(|| a.tag.cmp(&b.tag)));
        Self { tagged_keys, tags }
    }
}

/// Counts the tags of an entry; returns whether it has any.
fn count(entry: &Bytes, counts: &mut HashMap<Bytes, u64>) -> bool {
    let stamps = envelope::stamps(entry).unwrap_or_default().into_iter();
    let mut is_tagged = false;
    for tag in stamps.filter(|stamp| stamp.kind == Register::EXACT) {
        // A copy, so that the name does not keep the entry's bytes alive.
        let name = Bytes::copy_from_slice(&tag.name);
        *counts.entry(name).or_default() += 1;
        is_tagged = true;
    }
    is_tagged
}

/// Cuts a page so that what is read at once stays within bounds.
fn portions(keys: &[ScannedKey]) -> Vec<&[ScannedKey]> {
    let mut portions = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, scanned) in keys.iter().enumerate() {
        if at > from && bytes + scanned.bytes > PAGE_BYTES {
            portions.push(&keys[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += scanned.bytes;
    }
    portions.push(&keys[from..]);
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[tokio::test]
    async fn valid_entries_are_counted_by_tag() -> Result<()> {
        let cache = Cache::builder(Memory::new()).build()?;
        for n in 0..250 {
            let key = format!("user:{n}");
            cache.set(&*key, &n).tags(["users", "all:people"]).await?;
        }
        cache.set("post", "v").tags(["posts"]).await?;
        cache.set("gone", "v").tags(["posts", "old"]).await?;
        cache.set("plain", "v").await?;
        cache.invalidate_tags(["old"]).await?;
        let stats = cache.tag_stats().await?;
        assert_eq!(stats.tagged_keys, 251);
        let tags = stats.tags.iter().map(|tag| (tag.tag.as_str(), tag.keys));
        let expected = [("all:people", 250), ("users", 250), ("posts", 1)];
        assert_eq!(tags.collect::<Vec<_>>(), expected);
        Ok(())
    }

    #[test]
    fn large_entries_are_read_one_by_one() {
        let key = |bytes| ScannedKey {
            key: "k".into(),
            bytes,
            expires_at_ms: None,
        };
        let keys = [key(9 << 20), key(9 << 20), key(1), key(40 << 20)];
        let sizes: Vec<_> = portions(&keys).into_iter().map(<[_]>::len).collect();
        assert_eq!(sizes, [1, 2, 1]);
        assert_eq!(portions(&[]).len(), 1);
    }
}
