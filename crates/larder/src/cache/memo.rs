//! A memo: what one request has asked for is not asked for again.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::read::View;
use super::{Cache, Inner};
use crate::error::Result;

/// A memo takes in no more than so many keys.
const MAX_KEYS: usize = 10_000;

type Name = (TypeId, View, Box<[u8]>);
type Value = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static MEMO: Arc<Memo>;
}

/// What is known within a scope.
pub(super) struct Memo {
    cache: Arc<Inner>,
    known: Mutex<Known>,
    /// The scope around this one, of another cache.
    outer: Option<Arc<Self>>,
}

#[derive(Default)]
struct Known {
    /// `None`: there is no such value.
    values: HashMap<Name, Option<Value>>,
    /// Counts changes.
    version: u64,
}

/// What was asked for before; `None`: there was nothing.
pub(super) struct Noted<V>(pub(super) Option<Arc<V>>);

/// How many scopes of a cache are live.
#[derive(Debug, Default)]
pub(super) struct Memos(AtomicUsize);

impl Memos {
    /// Returns whether there may be a memo. Cost: a relaxed load.
    #[inline(always)]
    pub(super) fn are_live(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

/// A scope that is live.
struct Scope(Arc<Inner>);

impl Scope {
    fn begin(cache: &Arc<Inner>) -> Self {
        cache.memos.0.fetch_add(1, Relaxed);
        Self(Arc::clone(cache))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.0.memos.0.fetch_sub(1, Relaxed);
    }
}

impl Cache {
    /// Runs a future, the handling of a request for example, in which each key is asked for once: a second `get`,
    /// `get_shared` or `remember` of the key with the same type and schema version returns what the first one returned, also
    /// that there is nothing. A value that `remember` serves stale is not remembered.
    ///
    /// Whatever is changed through this cache within the future makes the memo forget all. Changes by others, be it another
    /// task of this process, are not seen until the future ends: it is for short work that wants one view of the data. A task
    /// that the future spawns is outside, and so is a loader. After 10,000 keys no more are remembered. A memo within one of
    /// the same cache is that memo.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// cache.set("user:1", "Ann").await?;
    /// cache.memo(async {
    ///     let first: Option<String> = cache.get("user:1").await?; // one round trip
    ///     let again: Option<String> = cache.get("user:1").await?; // none
    ///     assert_eq!(first, again);
    ///     larder::Result::Ok(())
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn memo<F: Future>(&self, future: F) -> F::Output {
        if self.inner.memo().is_some() {
            return future.await;
        }
        let _scope = Scope::begin(&self.inner);
        let memo = Memo {
            cache: Arc::clone(&self.inner),
            known: Mutex::default(),
            outer: MEMO.try_with(Arc::clone).ok(),
        };
        MEMO.scope(Arc::new(memo), future).await
    }
}

impl Inner {
    /// Returns the memo of this cache in this task.
    pub(super) fn memo(&self) -> Option<Arc<Memo>> {
        if !self.memos.are_live() {
            return None;
        }
        let mut memo = MEMO.try_with(Arc::clone).ok();
        while let Some(present) = memo {
            if std::ptr::eq(&*present.cache, self) {
                return Some(present);
            }
            memo = present.outer.as_ref().map(Arc::clone);
        }
        None
    }

    /// Makes the memo forget all, for something is changed.
    #[inline]
    pub(super) fn empty_memo(&self) {
        if let Some(memo) = self.memo() {
            let mut known = memo.known();
            known.version += 1;
            known.values.clear();
        }
    }

    /// Returns what is known, or reads it.
    pub(super) async fn known_or<V>(
        &self,
        key: &[u8],
        view: View,
        read: impl Future<Output = Result<Option<Arc<V>>>>,
    ) -> Result<Option<Arc<V>>>
    where
        V: Send + Sync + 'static,
    {
        let Some(memo) = self.memo() else {
            return read.await;
        };
        if let Some(Noted(value)) = memo.get::<V>(key, view) {
            return Ok(value);
        }
        let version = memo.version();
        let value = read.await?;
        memo.note(key, view, value.as_ref(), version);
        Ok(value)
    }
}

impl Memo {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was asked for before.
    pub(super) fn get<V: Send + Sync + 'static>(&self, key: &[u8], view: View) -> Option<Noted<V>> {
        let name = (TypeId::of::<V>(), view, key.into());
        let known = self.known().values.get(&name)?.clone();
        Some(Noted(known.and_then(|value| value.downcast().ok())))
    }

    /// Returns how often something was changed.
    pub(super) fn version(&self) -> u64 {
        self.known().version
    }

    /// Remembers what was read since this version, unless something was changed meanwhile.
    pub(super) fn note<V: Send + Sync + 'static>(
        &self,
        key: &[u8],
        view: View,
        value: Option<&Arc<V>>,
        version: u64,
    ) {
        let mut known = self.known();
        if known.version == version && known.values.len() < MAX_KEYS {
            let name = (TypeId::of::<V>(), view, key.into());
            let value = value.map(|value| Arc::clone(value) as Value);
            known.values.insert(name, value);
        }
    }
}
