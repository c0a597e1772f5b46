//! Cleaning up behind tags: entries that are invalid, and registers that nothing carries any more.
//!
//! Under a lock of the store, with its fence as the number of the suspicion (see [`crate::store::Retirement`]), in steps
//! between which servers are free. The rules of the store keep it from harming anything even if two do it at a time.

use std::future::IntoFuture;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::{Cache, Inner};
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::lock::{HolderStatus, LockGuard};
use crate::store::{MIN_REGISTER_MS, Register, Retirement};
use crate::ttl::format_duration;

/// Entries of one step.
const STEP_ENTRIES: usize = 256;
/// Registers of one step.
const STEP_REGISTERS: usize = 100;
/// The longest rest between two steps; as long as the step took, if that is less.
const MAX_REST: Duration = Duration::from_millis(50);
/// How long the lock outlives its holder's process.
const LOCK_TTL: Duration = Duration::from_secs(30);
/// How soon after the beginning of a cleanup the next one may begin.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long it may take to find out who holds the lock.
const LOOK: Duration = Duration::from_secs(2);
/// The most names in a report.
const MAX_NAMES: usize = 1000;
const DEFAULT_MAX_TAG_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
const MIN_TAG_AGE: Duration = Duration::from_millis(MIN_REGISTER_MS);
const MAX_TAG_AGE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a cleanup came to; see [`Cache::cleanup_tags`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct CleanupReport {
    /// How many entries were removed, or would be: they were invalid, or had expired.
    pub keys: u64,
    /// How many tags and subtrees, which nothing carries any more, got an end, or would.
    pub tags: u64,
    /// Their names, sorted, a subtree as `user:123:*`: up to 1000.
    pub names: Vec<String>,
}

/// A cleanup about to be made; see [`Cache::cleanup_tags`].
#[derive(Debug, Clone)]
#[must_use = "nothing is cleaned up until it is awaited"]
pub struct CleanupTags {
    cache: Cache,
    max_tag_age: Duration,
    dry_run: bool,
}

impl Cache {
    /// Removes entries of this cache that invalidations left behind, and lets the store forget tags that no entry carries
    /// any more. Await the builder. Nothing depends on it but room: invalid entries are never returned, and tags that are
    /// forgotten are there again when they are next used.
    ///
    /// One at a time in all processes, under a lock of the store that renews itself, and at most one in 10 seconds: of those
    /// who start it together one does the work. Dropping it stops it.
    ///
    /// # Guarantees
    /// No valid entry becomes invalid, and no load or write under way is lost by it, even if the lock is.
    ///
    /// Cost: looks at every entry of the cache, and once more if there are tags to forget, in steps of 256 entries. It rests
    /// after each for as long as that took, up to 50 ms. About 4 MiB of memory.
    ///
    /// # Errors
    /// `Conflict`: another one is under way, the message says whose and since when; or it began less than 10 seconds ago.
    /// `LockLost`: the lock was lost before the work was done; the message says what was. `InvalidConfig`: tags are
    /// switched off. `Unsupported`: the store cannot list its tags; `InvalidArgument`: [`CleanupTags::max_tag_age`] is out of
    /// bounds; `Unavailable`, `Timeout`: some of it may have been done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// cache.set("page", "..").tags(["news"]).await?;
    /// cache.invalidate_tags(["news"]).await?;
    /// assert_eq!(cache.cleanup_tags().await?.keys, 1);
    /// # Ok(()) }
    /// ```
    pub fn cleanup_tags(&self) -> CleanupTags {
        CleanupTags {
            cache: self.clone(),
            max_tag_age: DEFAULT_MAX_TAG_AGE,
            dry_run: false,
        }
    }
}

impl CleanupTags {
    /// How long a tag that nothing carries is kept yet, and its names are listed, counted from the cleanup that found it:
    /// 1 hour, so that whatever is being loaded can be stored, to 365 days; default 7 days. If it is used meanwhile, it stays.
    ///
    /// Tags of entries with a TTL need none of this: they go a minute after the longest of these.
    pub fn max_tag_age(mut self, age: Duration) -> Self {
        self.max_tag_age = age;
        self
    }

    /// Changes nothing, and only counts what a cleanup would do now. Takes no lock.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    async fn run(self) -> Result<CleanupReport> {
        let inner = &self.cache.inner;
        let named = |error: Error| error.store(inner.store.name()).operation("cleanup_tags");
        inner.needs_tags().map_err(named)?;
        if !inner.capabilities.tag_listing {
            let refused = Error::unsupported("tags that are forgotten need a list of all");
            return Err(named(refused));
        }
        let keep_ms = self.keep_ms().map_err(named)?;
        let mut work = Work::new(inner);
        if self.dry_run {
            work.survey().await.map_err(named)?;
            return Ok(work.finish());
        }
        let guard = inner.begin_cleanup().await.map_err(named)?;
        let done = tokio::select! {
            done = work.clean(guard.fence() as u32, keep_ms) => done,
            () = guard.lost() => Err(work_lost()),
        };
        // One that is not released ends by itself, and the work is done.
        let _ = guard.release().await;
        match done {
            Ok(()) => Ok(work.finish()),
            Err(error) if error.kind() == ErrorKind::LockLost => Err(named(work.lost())),
            Err(error) => Err(named(error)),
        }
    }

    fn keep_ms(&self) -> Result<u64> {
        if (MIN_TAG_AGE..=MAX_TAG_AGE).contains(&self.max_tag_age) {
            return Ok(duration_ms(self.max_tag_age));
        }
        let (least, most) = (format_duration(MIN_TAG_AGE), format_duration(MAX_TAG_AGE));
        let message = format!("the age of tags must be from {least} to {most}");
        Err(Error::argument(message))
    }
}

impl IntoFuture for CleanupTags {
    type Output = Result<CleanupReport>;
    type IntoFuture = BoxFuture<'static, Result<CleanupReport>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl Inner {
    /// Returns the name of the lock and of the limiter of cleanups: one for each namespace.
    fn cleanup_name(&self) -> String {
        let namespace = String::from_utf8_lossy(self.namespace.as_bytes());
        format!("cleanup_tags:{namespace}")
    }

    /// Takes the lock of cleanups.
    ///
    /// Many start them together, and a cleanup of a small cache is over before the last of them has asked; so there is
    /// a limiter as well, which outlives the holder.
    async fn begin_cleanup(&self) -> Result<LockGuard> {
        let name = self.cleanup_name();
        let lock = self.locks.lock(&*name).ttl(LOCK_TTL).renew(true);
        let Some(guard) = lock.try_acquire().await? else {
            return Err(self.cleanup_of_others(&name).await);
        };
        let limiter = self.locks.limiter(&*name).per(1, COOL_DOWN);
        let taken = limiter.try_take(1).await?;
        if taken.allowed {
            return Ok(guard);
        }
        let wait = Duration::from_millis(taken.retry_after_ms);
        let ago = format_duration(COOL_DOWN.saturating_sub(wait));
        let wait = format_duration(wait);
        let message = format!("a cleanup began {ago} ago; the next may begin in {wait}");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Says who does it already.
    async fn cleanup_of_others(&self, name: &str) -> Error {
        // A listing walks through the whole store; who cannot be found in time stays unnamed.
        let holder = match timeout(LOOK, self.holder(name)).await {
            Ok(Ok(holder)) => holder,
            Ok(Err(_)) | Err(_) => None,
        };
        let message = match holder {
            Some(holder) => {
                let held = format_duration(Duration::from_millis(holder.held_ms));
                format!(
                    "another cleanup is under way, by {} for {held}",
                    holder.owner
                )
            }
            None => "another cleanup is under way".to_owned(),
        };
        Error::new(ErrorKind::Conflict, message)
    }

    async fn holder(&self, name: &str) -> Result<Option<HolderStatus>> {
        let pattern = Glob::new(escaped(name))?;
        let listed = self.locks.list_matching(&pattern).await?;
        Ok(listed.into_iter().flat_map(|lock| lock.holders).next())
    }
}

/// Returns the pattern that matches this text alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

fn work_lost() -> Error {
    Error::new(ErrorKind::LockLost, "the lock was lost")
}

/// A cleanup under way.
struct Work<'a> {
    inner: &'a Inner,
    report: CleanupReport,
    /// What was counted, since a listing may meet it again.
    counted: Names,
}

impl<'a> Work<'a> {
    fn new(inner: &'a Inner) -> Self {
        Self {
            inner,
            report: CleanupReport::default(),
            counted: Names::new(),
        }
    }

    fn finish(mut self) -> CleanupReport {
        self.report.names.sort_unstable();
        self.report
    }

    fn lost(&self) -> Error {
        let CleanupReport { keys, tags, .. } = self.report;
        let message = format!(
            "the lock was lost after {keys} entries were removed and {tags} tags got an end; nothing is left half done"
        );
        Error::new(ErrorKind::LockLost, message)
    }

    /// Counts what a cleanup would do.
    async fn survey(&mut self) -> Result<()> {
        let carried = self.walk(false).await?;
        self.retire(&carried, Retirement::Look).await.map(drop)
    }

    async fn clean(&mut self, suspicion: u32, keep_ms: u64) -> Result<()> {
        let carried = self.walk(true).await?;
        if !self
            .retire(&carried, Retirement::Suspect(suspicion))
            .await?
        {
            return Ok(());
        }
        drop(carried);
        let epoch = self.inner.store.connection_epoch();
        let carried = self.walk(true).await?;
        if self.inner.store.connection_epoch() != epoch {
            let message =
                "a connection was lost meanwhile, so that entries may have been overlooked";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let end = Retirement::End { suspicion, keep_ms };
        self.retire(&carried, end).await.map(drop)
    }

    /// Walks over all entries with tags and returns what those that stay carry.
    async fn walk(&mut self, removes: bool) -> Result<Names> {
        let (mut carried, mut cursor) = (Names::new(), None::<Bytes>);
        loop {
            let began = Instant::now();
            let Inner {
                store, namespace, ..
            } = self.inner;
            let step = store.tidy(namespace, cursor.as_ref(), STEP_ENTRIES, removes);
            let page = step.await?;
            self.report.keys += page.removed;
            for register in &page.carried {
                carried.insert(register);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(carried);
            }
            rest(began).await;
        }
    }

    /// Takes a step with all registers that are not carried; returns whether it applied to any.
    async fn retire(&mut self, carried: &Names, step: Retirement) -> Result<bool> {
        let (mut any, mut cursor, everything) = (false, None::<Bytes>, Glob::all());
        let is_counted = !matches!(step, Retirement::Suspect(_));
        loop {
            let began = Instant::now();
            let Inner {
                store, namespace, ..
            } = self.inner;
            let listing =
                store.scan_registers(namespace, &everything, cursor.as_ref(), STEP_REGISTERS);
            let mut page = listing.await?;
            page.registers
                .retain(|register| !carried.may_hold(register));
            if !page.registers.is_empty() {
                let applied = store.retire(namespace, &page.registers, step).await?;
                for (register, _) in page.registers.iter().zip(applied).filter(|(_, did)| *did) {
                    any = true;
                    if is_counted {
                        self.count(register);
                    }
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(any);
            }
            rest(began).await;
        }
    }

    fn count(&mut self, register: &Register) {
        if !self.counted.insert(register) {
            return;
        }
        self.report.tags += 1;
        if self.report.names.len() < MAX_NAMES {
            let path = register.path();
            let mut name = String::from_utf8_lossy(&path).into_owned();
            if register.kind() == Register::SUBTREE {
                name.push_str(":*");
            }
            self.report.names.push(name);
        }
    }
}

/// Leaves the store to others for as long as a step took.
async fn rest(began: Instant) {
    let took = began.elapsed();
    if took < Duration::from_millis(1) {
        tokio::task::yield_now().await;
    } else {
        sleep(took.min(MAX_REST)).await;
    }
}

/// Names of registers in bounded memory: holds all that it was given, and with bad luck takes another for one of these.
/// That one is spared, and has other luck the next time.
struct Names {
    bits: Box<[u64]>,
    hasher: RandomState,
}

impl Names {
    /// 2 MiB: of a million names, one in 70 of others is taken for one.
    const BITS: usize = 1 << 24;

    fn new() -> Self {
        Self {
            bits: vec![0; Self::BITS / 64].into(),
            hasher: RandomState::new(),
        }
    }

    /// Returns whether it is new for certain.
    fn insert(&mut self, register: &Register) -> bool {
        let mut is_new = false;
        for bit in self.places(register) {
            let word = &mut self.bits[bit / 64];
            is_new |= *word & (1 << (bit % 64)) == 0;
            *word |= 1 << (bit % 64);
        }
        is_new
    }

    fn may_hold(&self, register: &Register) -> bool {
        let is_set = |bit: usize| self.bits[bit / 64] & (1 << (bit % 64)) != 0;
        self.places(register).into_iter().all(is_set)
    }

    fn places(&self, register: &Register) -> [usize; 2] {
        let hash = self.hasher.hash_one(register.as_bytes());
        [
            hash as usize % Self::BITS,
            (hash >> 32) as usize % Self::BITS,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_forgotten_and_few_others_are_known() {
        let name = |n: usize| Register::new(Register::EXACT, &n.to_le_bytes());
        let mut names = Names::new();
        for n in 0..10_000 {
            names.insert(&name(n));
        }
        assert!((0..10_000).all(|n| names.may_hold(&name(n))));
        let others = (10_000..20_000).filter(|n| names.may_hold(&name(*n)));
        assert!(others.count() < 20);
    }

    #[test]
    fn a_name_is_a_pattern_of_itself() -> Result<()> {
        for name in ["a:b", "a*?[x]\\", "["] {
            let glob = Glob::new(escaped(name))?;
            assert!(glob.matches(name.as_bytes()) && !glob.matches(b"a:bx"));
        }
        Ok(())
    }
}
