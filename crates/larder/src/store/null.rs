//! The store that keeps nothing: for caches that live in the local tier only, and to switch caching off.

use async_trait::async_trait;

use super::{Capabilities, Entry, ScanPage, Store, StoreStats, Write};
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;

/// A store that accepts every write and forgets it at once.
///
/// In front of it, a cache with a local tier is an in-process cache of typed values.
/// Counters and sorted sets answer `Unsupported`: one that forgets would be wrong without a sign of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Null;

impl Null {
    /// Creates the store.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Store for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discards: true,
            enumeration: true,
            ..Capabilities::default()
        }
    }

    async fn get_many(&self, _: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        Ok(vec![None; keys.len()])
    }

    async fn write_many(&self, _: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        Ok(writes
            .iter()
            .map(|write| {
                matches!(write.change, super::Change::Put(_)) && write.condition.holds(None)
            })
            .collect())
    }

    async fn clear(&self, _: &Namespace) -> Result<()> {
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats> {
        Ok(StoreStats {
            entries: Some(0),
            bytes: Some(0),
            ..StoreStats::default()
        })
    }

    async fn scan(
        &self,
        _: &Namespace,
        _: &Glob,
        _: Option<&bytes::Bytes>,
        _: usize,
    ) -> Result<ScanPage> {
        Ok(ScanPage::default())
    }
}
