//! A store seen through one namespace, with the short calls that laws are written in.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::store::{Entry, Expiry, ScannedKey, SortedSetOp, SortedSetReply, Store, Write};

/// Listings of laws end within so many pages, else the cursor runs in circles.
const MAX_PAGES: usize = 100_000;

/// A store in one namespace. Cloning shares both.
#[derive(Debug, Clone)]
pub(super) struct Space {
    pub(super) store: Arc<dyn Store>,
    pub(super) namespace: Namespace,
}

impl Space {
    pub(super) fn new(store: Arc<dyn Store>, namespace: Namespace) -> Self {
        Self { store, namespace }
    }

    pub(super) async fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        let mut entries = self.store.get_many(&self.namespace, &[key]).await?;
        assert_eq!(entries.len(), 1, "one result per key");
        Ok(entries.remove(0))
    }

    /// Returns the stored bytes of a key.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.entry(key).await?.map(|entry| entry.value))
    }

    pub(super) async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        let entries = self.store.get_many(&self.namespace, keys).await?;
        Ok(entries
            .into_iter()
            .map(|entry| Some(entry?.value))
            .collect())
    }

    /// Stores an entry without conditions.
    pub(super) async fn put(&self, key: &[u8], value: &Bytes, expiry: Expiry) -> Result<()> {
        let applied = self.write(Write::put(key, value.clone(), expiry)).await?;
        assert!(applied, "a put without a condition is applied");
        Ok(())
    }

    pub(super) async fn delete(&self, key: &[u8]) -> Result<bool> {
        self.write(Write::delete(key)).await
    }

    pub(super) async fn write(&self, write: Write<'_>) -> Result<bool> {
        Ok(self.write_many(&[write]).await?[0])
    }

    pub(super) async fn write_many(&self, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let applied = self.store.write_many(&self.namespace, writes).await?;
        assert_eq!(applied.len(), writes.len(), "one result per write");
        Ok(applied)
    }

    pub(super) async fn increment(&self, key: &[u8], by: i64, expiry: Expiry) -> Result<i64> {
        self.store.increment(&self.namespace, key, by, expiry).await
    }

    pub(super) async fn sorted_set(&self, key: &[u8], op: SortedSetOp) -> Result<SortedSetReply> {
        self.store.sorted_set(&self.namespace, key, &op).await
    }

    pub(super) async fn clear(&self) -> Result<()> {
        self.store.clear(&self.namespace).await
    }

    pub(super) async fn count(&self, pattern: &Glob) -> Result<u64> {
        self.store.count(&self.namespace, pattern).await
    }

    /// Lists to the end, page by page, in the order met.
    pub(super) async fn list(&self, pattern: &Glob, limit: usize) -> Result<Vec<ScannedKey>> {
        let mut met = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let page = self
                .store
                .scan(&self.namespace, pattern, cursor.as_ref(), limit)
                .await?;
            assert!(page.keys.len() <= limit, "a page keeps its limit");
            met.extend(page.keys);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(met);
            }
        }
        panic!("the listing does not end");
    }

    /// Lists to the end and returns the sorted keys; each must have been met once.
    pub(super) async fn keys(&self, pattern: &Glob, limit: usize) -> Result<Vec<Vec<u8>>> {
        let met = self.list(pattern, limit).await?;
        let mut keys: Vec<_> = met
            .iter()
            .map(|scanned| scanned.key.as_bytes().to_vec())
            .collect();
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all, "each key is met once");
        Ok(keys)
    }
}

/// Runs `count` tasks that start at the same moment; returns what they return, in no order.
pub(super) async fn together<T, W>(count: usize, mut task: impl FnMut(usize) -> W) -> Result<Vec<T>>
where
    T: Send + 'static,
    W: Future<Output = Result<T>> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let (start, work) = (Arc::clone(&start), task(index));
        tasks.spawn(async move {
            start.wait().await;
            work.await
        });
    }
    tasks.join_all().await.into_iter().collect()
}
