//! What is going on for a key at this moment, so that nothing outlives the change that overtook it.
//!
//! A **marker** lives from before a read or load is sent until its result is put somewhere. A **change** (set,
//! delete, increment, ..) lives from before it is sent until after the store acknowledged it, and dooms every
//! marker it overlaps: a doomed read is not inserted into the local tier, a doomed load is not written to the store. A
//! load that is being written holds a **commit**; a change waits for the commits of its key, so that it is
//! the later of the two in the store as well. A **flush** (`clear`) is a change of all keys.
//!
//! **News** of changes that the store has been through, by others or by tag, only keeps reads and loads out of the local
//! tier: which loads they overtake is for the store to judge, and most reload what has just changed.
//!
//! ```text
//! reader:  mark ---- read ------------- insert if clean      loader: mark -- load -- commit -- write -- end
//! writer:        change -- store ok -- remove from L1 -- end         change: waits ................ store
//! ```

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::DefaultHashBuilder;
use tokio::sync::Notify;

const SHARDS: usize = 16;
/// Begins an activity: one more under way, and one more ever begun.
const BEGIN: u64 = (1 << 32) + 1;
/// Ends an activity.
const END: u64 = 1;
/// The part of the activity that counts what is under way.
const UNDER_WAY: u64 = (1 << 32) - 1;

/// The state of all keys that something is going on for; the others cost nothing.
#[derive(Debug)]
pub(crate) struct Inflight {
    shards: [Mutex<HashMap<Box<[u8]>, State>>; SHARDS],
    hasher: DefaultHashBuilder,
    /// Counts markers, changes and flushes: the low half those under way, the high half those ever begun.
    activity: AtomicU64,
    /// Counts begun and ended flushes.
    epoch: AtomicU64,
    /// Counts news of no key in particular.
    news: AtomicU64,
    flushes: AtomicU64,
    commits: AtomicU64,
    commit_ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Markers and changes that hold this state in the map.
    holders: u32,
    /// Changes that have begun and not ended.
    changes: u32,
    /// Loads of this key that are being written to the store.
    commits: u32,
    /// Counts begun and ended changes.
    version: u64,
    /// Counts news of this key.
    news: u64,
}

/// All news that may concern a key, as counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct News {
    of_key: u64,
    of_all: u64,
}

impl Inflight {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            activity: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            news: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            commit_ended: Notify::new(),
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, HashMap<Box<[u8]>, State>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        lock(&self.shards[index])
    }

    /// Starts watching a key, before the read or load is sent.
    pub(crate) fn mark<'a>(&'a self, key: &[u8], now_ms: u64) -> Marker<'a> {
        self.activity.fetch_add(BEGIN, SeqCst);
        let epoch = self.epoch.load(SeqCst);
        let mut shard = self.shard(key);
        let state = shard.entry(key.into()).or_default();
        state.holders += 1;
        let version =
            (state.changes == 0 && self.flushes.load(SeqCst) == 0).then_some(state.version);
        Marker {
            inflight: self,
            key: key.into(),
            version,
            epoch,
            news: self.news(state),
            since_ms: now_ms,
        }
    }

    /// Begins a change of a key, and waits until no load of it is being written.
    pub(crate) async fn change<'a>(&'a self, key: &[u8]) -> Change<'a> {
        self.activity.fetch_add(BEGIN, SeqCst);
        let change = {
            let mut shard = self.shard(key);
            let state = shard.entry(key.into()).or_default();
            state.holders += 1;
            state.changes += 1;
            state.version += 1;
            Change {
                inflight: self,
                key: key.into(),
                version: state.version,
                epoch: self.epoch.load(SeqCst),
                news: self.news(state),
            }
        };
        self.wait_until(|| {
            self.shard(key)
                .get(key)
                .is_none_or(|state| state.commits == 0)
        })
        .await;
        change
    }

    /// Returns a moment at which nothing is going on for any key, if this is one.
    #[inline]
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        let activity = self.activity.load(SeqCst);
        (activity & UNDER_WAY == 0).then_some(Quiet(activity))
    }

    /// Returns whether nothing has begun since then, not even what has ended again.
    ///
    /// Whoever changes the local tier and *then* finds this true has been overtaken by nobody: a marker that is
    /// set later reads the tier after it was set.
    #[inline]
    pub(crate) fn is_quiet_since(&self, then: Quiet) -> bool {
        self.activity.load(SeqCst) == then.0
    }

    /// Returns the keys that something is going on for, in no order.
    pub(crate) fn keys(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            keys.extend(lock(shard).keys().filter(|key| wanted(key)).cloned());
        }
        keys
    }

    /// Makes a change that needs no waiting: `apply` runs while no marker of the key can be inserted.
    pub(crate) fn change_now<T>(&self, key: &[u8], apply: impl FnOnce() -> T) -> T {
        let mut shard = self.shard(key);
        if !shard.is_empty()
            && let Some(state) = shard.get_mut(key)
        {
            state.version += 1;
        }
        apply()
    }

    /// Applies news of a key: what is under way for it is not inserted, and nothing is while `apply` runs.
    pub(crate) fn hear<T>(&self, key: &[u8], apply: impl FnOnce() -> T) -> T {
        let mut shard = self.shard(key);
        if !shard.is_empty()
            && let Some(state) = shard.get_mut(key)
        {
            state.news += 1;
        }
        apply()
    }

    /// Applies news of no key in particular: what is under way is not inserted, and `apply` runs after every insertion that
    /// was allowed before.
    pub(crate) fn hear_of_all(&self, apply: impl FnOnce()) {
        self.news.fetch_add(1, SeqCst);
        self.settle(apply);
    }

    fn news(&self, state: &State) -> News {
        News {
            of_key: state.news,
            of_all: self.news.load(SeqCst),
        }
    }

    fn settle(&self, apply: impl FnOnce()) {
        for shard in &self.shards {
            drop(lock(shard));
        }
        apply();
    }

    /// Begins a change of all keys, and waits until no load is being written.
    pub(crate) async fn flush(&self) -> Flush<'_> {
        self.activity.fetch_add(BEGIN, SeqCst);
        self.flushes.fetch_add(1, SeqCst);
        self.epoch.fetch_add(1, SeqCst);
        let flush = Flush { inflight: self };
        self.wait_until(|| self.commits.load(SeqCst) == 0).await;
        flush
    }

    async fn wait_until(&self, ready: impl Fn() -> bool) {
        loop {
            let mut ended = std::pin::pin!(self.commit_ended.notified());
            ended.as_mut().enable();
            if ready() {
                return;
            }
            ended.await;
        }
    }

    fn is_clean(&self, state: &State, marker: &Marker<'_>) -> bool {
        marker.version == Some(state.version)
            && self.flushes.load(SeqCst) == 0
            && self.epoch.load(SeqCst) == marker.epoch
    }
}

/// See [`Inflight::quiet`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet(u64);

/// Watches a key; see [`Inflight::mark`].
#[derive(Debug)]
pub(crate) struct Marker<'a> {
    inflight: &'a Inflight,
    key: Box<[u8]>,
    /// The version at the start; `None` when a change was going on already.
    version: Option<u64>,
    epoch: u64,
    news: News,
    since_ms: u64,
}

impl Marker<'_> {
    /// Returns when the marker was set, by the monotonic clock that it was given.
    pub(crate) fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Runs `insert` if nothing changed the key since the marker was set, nor was there news of such a change, and nothing
    /// can while it runs.
    pub(crate) fn if_clean(&self, insert: impl FnOnce()) {
        let shard = self.inflight.shard(&self.key);
        if shard.get(&self.key).is_some_and(|state| {
            self.inflight.is_clean(state, self) && self.inflight.news(state) == self.news
        }) {
            insert();
        }
    }

    /// Returns whether nothing changed the key since the marker was set.
    #[cfg(test)]
    fn is_clean(&self) -> bool {
        let mut clean = false;
        self.if_clean(|| clean = true);
        clean
    }

    /// Begins to write what was loaded; `None` when a change overtook the load.
    pub(crate) fn commit(&self) -> Option<Commit<'_>> {
        // Counted before the flushes are looked at, as a flush counts itself before it looks at the commits.
        self.inflight.commits.fetch_add(1, SeqCst);
        let mut commit = Commit {
            inflight: self.inflight,
            key: None,
        };
        let mut shard = self.inflight.shard(&self.key);
        let state = shard
            .get_mut(&self.key)
            .filter(|state| self.inflight.is_clean(state, self));
        if let Some(state) = state {
            state.commits += 1;
            commit.key = Some(&self.key);
        }
        drop(shard);
        commit.key.is_some().then_some(commit)
    }
}

impl Drop for Marker<'_> {
    fn drop(&mut self) {
        release(&mut self.inflight.shard(&self.key), &self.key);
        self.inflight.activity.fetch_sub(END, SeqCst);
    }
}

/// A load that is being written; see [`Marker::commit`].
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    inflight: &'a Inflight,
    key: Option<&'a [u8]>,
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key
            && let Some(state) = self.inflight.shard(key).get_mut(key)
        {
            state.commits -= 1;
        }
        self.inflight.commits.fetch_sub(1, SeqCst);
        self.inflight.commit_ended.notify_waiters();
    }
}

/// A change that is under way; dropping it ends it, whatever became of it.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    inflight: &'a Inflight,
    key: Box<[u8]>,
    version: u64,
    epoch: u64,
    news: News,
}

impl Change<'_> {
    /// Ends the change: `remove` runs always; `insert` after it, if no other change overlapped this one, nor any news.
    pub(crate) fn finish(self, remove: impl FnOnce(), insert: impl FnOnce()) {
        let shard = self.inflight.shard(&self.key);
        remove();
        let alone = shard.get(&self.key).is_some_and(|state| {
            state.changes == 1
                && state.version == self.version
                && self.inflight.news(state) == self.news
        });
        let unflushed = self.inflight.flushes.load(SeqCst) == 0
            && self.inflight.epoch.load(SeqCst) == self.epoch;
        if alone && unflushed {
            insert();
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut shard = self.inflight.shard(&self.key);
        if let Some(state) = shard.get_mut(&self.key) {
            state.changes -= 1;
            state.version += 1;
        }
        release(&mut shard, &self.key);
        drop(shard);
        self.inflight.activity.fetch_sub(END, SeqCst);
    }
}

/// A change of all keys that is under way.
#[derive(Debug)]
pub(crate) struct Flush<'a> {
    inflight: &'a Inflight,
}

impl Flush<'_> {
    /// Runs `clear` after every insert that was allowed before the flush; until the flush ends there is none.
    pub(crate) fn settle(&self, clear: impl FnOnce()) {
        self.inflight.settle(clear);
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.inflight.epoch.fetch_add(1, SeqCst);
        self.inflight.flushes.fetch_sub(1, SeqCst);
        self.inflight.activity.fetch_sub(END, SeqCst);
    }
}

fn release(shard: &mut HashMap<Box<[u8]>, State>, key: &[u8]) {
    if let Some(state) = shard.get_mut(key) {
        state.holders -= 1;
        if state.holders == 0 {
            shard.remove(key);
        }
    }
}

fn lock(shard: &Mutex<HashMap<Box<[u8]>, State>>) -> MutexGuard<'_, HashMap<Box<[u8]>, State>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn is_idle(inflight: &Inflight) -> bool {
        inflight.quiet().is_some() && inflight.shards.iter().all(|shard| lock(shard).is_empty())
    }

    #[tokio::test]
    async fn a_change_dooms_every_marker_it_overlaps() {
        let inflight = Inflight::new();
        let before = inflight.mark(b"k", 0);
        let other = inflight.mark(b"other", 0);
        assert!(before.is_clean());
        let change = inflight.change(b"k").await;
        let during = inflight.mark(b"k", 0);
        drop(change);
        let after = inflight.mark(b"k", 0);
        assert!(!before.is_clean() && !during.is_clean());
        assert!(after.is_clean() && other.is_clean());
        drop((before, during, after, other));
        assert!(is_idle(&inflight));
    }

    #[test]
    fn what_came_and_went_is_not_quiet() {
        let inflight = Inflight::new();
        let quiet = inflight.quiet().unwrap();
        assert!(inflight.is_quiet_since(quiet));
        let marker = inflight.mark(b"k", 0);
        assert!(inflight.quiet().is_none());
        drop(marker);
        assert!(inflight.quiet().is_some() && !inflight.is_quiet_since(quiet));
    }

    #[tokio::test]
    async fn news_keeps_out_of_the_tier_and_stops_no_commit() {
        let inflight = Inflight::new();
        let (one, other) = (inflight.mark(b"k", 0), inflight.mark(b"other", 0));
        let change = inflight.change(b"changed").await;
        inflight.hear(b"k", || ());
        assert!(!one.is_clean() && one.commit().is_some());
        assert!(other.is_clean());
        inflight.hear_of_all(|| ());
        assert!(!other.is_clean() && other.commit().is_some());
        let mut inserted = false;
        change.finish(|| (), || inserted = true);
        assert!(!inserted);
        assert!(inflight.mark(b"k", 0).is_clean());
    }

    #[tokio::test]
    async fn a_flush_dooms_all_markers() {
        let inflight = Inflight::new();
        let before = inflight.mark(b"a", 0);
        let flush = inflight.flush().await;
        let during = inflight.mark(b"b", 0);
        flush.settle(|| ());
        drop(flush);
        assert!(!before.is_clean() && !during.is_clean());
        assert!(inflight.mark(b"a", 0).is_clean());
    }

    #[tokio::test]
    async fn a_change_waits_for_the_commit_of_an_older_load() {
        let inflight = Arc::new(Inflight::new());
        let marker = inflight.mark(b"k", 0);
        let commit = marker.commit().unwrap();
        let waiting = Arc::clone(&inflight);
        let change = tokio::spawn(async move { drop(waiting.change(b"k").await) });
        let flushing = Arc::clone(&inflight);
        let flush = tokio::spawn(async move { drop(flushing.flush().await) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!change.is_finished() && !flush.is_finished());
        drop(commit);
        change.await.unwrap();
        flush.await.unwrap();
        assert!(marker.commit().is_none());
        drop(marker);
        assert!(is_idle(&inflight));
    }

    #[tokio::test]
    async fn only_a_lone_change_inserts() {
        let inflight = Inflight::new();
        let mut inserted = 0;
        let first = inflight.change(b"k").await;
        let second = inflight.change(b"k").await;
        first.finish(|| (), || inserted += 1);
        second.finish(|| (), || inserted += 1);
        assert_eq!(inserted, 0);
        inflight.change(b"k").await.finish(|| (), || inserted += 1);
        assert_eq!(inserted, 1);
    }
}
