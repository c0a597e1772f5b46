//! Adds a process's counters to the store, once a second while there is something new, and its notes of invalidations.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::stats::{CacheStats, Counter, Counts};
use super::{Cache, Inner};
use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::store::{Expiry, Store};

const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The task that flushes; stopped when the cache is dropped.
#[derive(Debug, Default)]
pub(super) struct Flusher(OnceLock<Option<AbortHandle>>);

impl Flusher {
    /// Starts the task on the first call, where other processes can see what it writes.
    #[inline]
    pub(super) fn ensure(&self, inner: &Arc<Inner>) {
        self.0.get_or_init(|| {
            let capabilities = inner.capabilities;
            if !(capabilities.shared && capabilities.counters) {
                return None;
            }
            let cache = Arc::downgrade(inner);
            Some(tokio::spawn(flush_forever(cache)).abort_handle())
        });
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some(Some(task)) = self.0.get() {
            task.abort();
        }
    }
}

async fn flush_forever(cache: Weak<Inner>) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let Some(inner) = cache.upgrade() else { return };
        if let Err(error) = inner.flush_counters().await {
            tracing::debug!(cache = %inner.name, %error, "counters stay here until the store takes them");
        }
        if let Err(error) = inner.tell_invalidations().await {
            tracing::debug!(cache = %inner.name, %error, "nobody else knows when tags were invalidated");
        }
    }
}

impl Cache {
    /// Returns what this process and all processes did with this cache, and figures of the store.
    ///
    /// What the store cannot tell because it is down at the moment is left out, as long as it has figures at all: then the
    /// total is what this process did, and the number of entries is unknown.
    ///
    /// Cost: some round trips, and a count of the cache's entries.
    ///
    /// # Errors
    /// The store's.
    pub async fn stats(&self) -> Result<CacheStats> {
        let inner = &self.inner;
        let process = inner.counters.snapshot();
        let store = inner.store.stats().await?;
        let total = if inner.capabilities.shared {
            present(inner.total().await)?.unwrap_or(process)
        } else {
            process
        };
        let entries = if inner.capabilities.enumeration {
            present(inner.store.count(&inner.namespace, &Glob::all()).await)?
        } else {
            None
        };
        let local = inner.local.as_ref();
        Ok(CacheStats {
            process,
            total,
            entries,
            local: local.map(|tier| tier.figures(inner.clock.monotonic_ms())),
            store,
        })
    }

    /// Hands what this process counted, and its notes for [`Cache::explain`], to the store now; otherwise it does so once a
    /// second. For the end of a program.
    ///
    /// # Errors
    /// The store's; then the counts are kept.
    pub async fn flush_stats(&self) -> Result<()> {
        self.inner.flush_counters().await?;
        self.inner.tell_invalidations().await
    }

    /// Returns the names of the caches of this prefix that have been used on this store, this one included.
    ///
    /// # Errors
    /// The store's; `Unsupported` where keys cannot be listed.
    pub async fn sibling_names(&self) -> Result<Vec<String>> {
        let mut names = vec![self.inner.name.clone()];
        let (pattern, mut cursor) = (Glob::all(), None);
        loop {
            let page = self
                .inner
                .store
                .scan(&self.inner.internal, &pattern, cursor.as_ref(), 1000)
                .await?;
            let name_of = |key: &Key| {
                key.as_str()?
                    .rsplit_once(':')
                    .map(|(name, _)| unescape(name))
            };
            names.extend(page.keys.iter().filter_map(|scanned| name_of(&scanned.key)));
            cursor = page.next;
            if cursor.is_none() {
                names.sort();
                names.dedup();
                return Ok(names);
            }
        }
    }
}

/// Returns what a store that is down cannot tell as `None`.
fn present<T>(told: Result<T>) -> Result<Option<T>> {
    match told {
        Err(error) if error.is_retryable() => Ok(None),
        told => told.map(Some),
    }
}

impl Inner {
    /// Returns what all processes did, this one included up to now.
    async fn total(&self) -> Result<Counts> {
        self.flush_counters().await?;
        read_counts(&*self.store, &self.internal, &self.name).await
    }

    async fn flush_counters(&self) -> Result<()> {
        if !(self.capabilities.shared && self.capabilities.counters) {
            return Ok(());
        }
        // One at a time: a caller who goes away loses at most the one that is on its way.
        for (counter, name) in Counter::ALL {
            let by = self.counters.take_new(*counter);
            if by == 0 {
                continue;
            }
            let key = counter_key(&self.name, name);
            let added = i64::try_from(by).unwrap_or(i64::MAX);
            let added = self
                .store
                .increment(&self.internal, key.as_bytes(), added, Expiry::Never)
                .await;
            if let Err(error) = added {
                self.counters.put_back(*counter, by);
                return Err(error);
            }
        }
        Ok(())
    }
}

fn counter_key(cache: &str, counter: &str) -> Key {
    Key::join([cache, counter])
}

/// Undoes the escaping of [`Key::join`].
fn unescape(part: &str) -> String {
    part.replace("%3A", ":").replace("%25", "%")
}

/// Reads the counters that all processes added to.
async fn read_counts(store: &dyn Store, internal: &Namespace, cache: &str) -> Result<Counts> {
    let keys: Vec<Key> = Counter::ALL
        .iter()
        .map(|(_, name)| counter_key(cache, name))
        .collect();
    let asked: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
    let entries = store.get_many(internal, &asked).await?;
    let values: Vec<u64> = entries
        .into_iter()
        .map(|entry| {
            let envelope = crate::envelope::Envelope::open(&entry?.value).ok()?;
            envelope.decode::<u64>().ok()
        })
        .map(Option::unwrap_or_default)
        .collect();
    Ok(Counts::from_fn(|counter| values[counter as usize]))
}
