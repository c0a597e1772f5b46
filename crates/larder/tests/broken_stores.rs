//! The laws catch what they are for: each of these stores is wrong in one way, and a law must say so.

use std::panic;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use larder::lock::LockStore;
use larder::store::{
    Capabilities, Change, Condition, Entry, Expiry, Memory, ScanPage, Store, StoreStats, Write,
};
use larder::testing::store::{
    StoreUnderTest, check, conditions, counters, entries, expiry, health, keys, listing,
    namespaces, sorted_sets,
};
use larder::testing::{body, sealed_integer, write_id};
use larder::{Clock, Glob, ManualClock, Namespace, Result, store_conformance};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Nothing: the store is sound.
    None,
    /// Times are rounded up to whole seconds.
    Seconds,
    /// Conditions are checked first and the write is made later.
    CheckThenWrite,
    /// `IfUnchanged` only looks whether there is an entry.
    IgnoresWriteIds,
    /// Bulk reads come in the order of the keys.
    SortsReads,
    /// Keys end at their first zero byte.
    CStrings,
    /// Upper and lower case of keys are the same.
    FoldsCase,
    /// Namespaces and keys are glued together.
    GluesNamespaces,
    /// `clear` does nothing but say so.
    KeepsOnClear,
    /// Increments read and write back.
    ReadThenAdd,
    /// Each increment sets the expiry anew.
    ExtendsCounters,
    /// A touch of nothing reports success.
    TouchesNothing,
    /// `Keep` means never.
    ForgetsExpiry,
    /// Listings repeat the last key of a page.
    RepeatsKeys,
    /// Listings end after the first page.
    EndsEarly,
    /// Counts ignore the pattern.
    CountsAll,
    /// Writes go through in reverse.
    ReversesWrites,
    /// Values are cut at 64 KiB.
    CutsValues,
    /// Says that it cannot count, and counts.
    Modest,
}

#[derive(Debug)]
struct Broken {
    inner: Memory,
    flaw: Flaw,
}

impl Broken {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn key(&self, namespace: &Namespace, key: &[u8]) -> Vec<u8> {
        match self.flaw {
            Flaw::CStrings => key
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec(),
            Flaw::FoldsCase => key.to_ascii_lowercase(),
            Flaw::GluesNamespaces => {
                // Cut at the length of the shortest namespace of the law: as if joined by nothing.
                let name = namespace.to_string();
                let name = name.split(':').next().unwrap_or_default();
                [&name.as_bytes()[..20.min(name.len())], key].concat()
            }
            _ => key.to_vec(),
        }
    }

    fn space(&self, namespace: &Namespace) -> Namespace {
        match self.flaw {
            Flaw::GluesNamespaces => Namespace::new("glued", "cache", 1),
            _ => namespace.clone(),
        }
    }

    fn expiry(&self, expiry: Expiry) -> Expiry {
        match expiry {
            Expiry::After(ttl_ms) if self.is(Flaw::Seconds) => {
                Expiry::After(ttl_ms.div_ceil(1000).saturating_mul(1000))
            }
            Expiry::Keep if self.is(Flaw::ForgetsExpiry) => Expiry::Never,
            other => other,
        }
    }

    async fn write(&self, namespace: &Namespace, write: &Write<'_>) -> Result<bool> {
        let key = self.key(namespace, write.key);
        let mut write = Write {
            key: &key,
            expiry: self.expiry(write.expiry),
            ..write.clone()
        };
        if let (Change::Put(value), true) = (&mut write.change, self.is(Flaw::CutsValues)) {
            value.truncate(64 << 10);
        }
        if self.is(Flaw::TouchesNothing) && write.change == Change::Touch {
            self.inner.write_many(namespace, &[write]).await?;
            return Ok(true);
        }
        if let (Condition::IfUnchanged(_), true) = (write.condition, self.is(Flaw::IgnoresWriteIds))
        {
            write.condition = Condition::IfPresent;
            // Lets others come first, who would be noticed by their write id.
            tokio::task::yield_now().await;
        }
        if self.is(Flaw::CheckThenWrite) && write.condition != Condition::Always {
            let present = self.inner.get_many(namespace, &[&key]).await?.remove(0);
            let id = present.as_ref().map(|entry| write_id(&entry.value));
            let readable = present.is_some_and(|entry| body(&entry.value).is_some());
            let holds = match write.condition {
                Condition::Always => true,
                Condition::IfAbsent | Condition::IfVacant => !readable,
                Condition::IfPresent => readable,
                Condition::IfUnchanged(wanted) => id == Some(wanted),
            };
            tokio::time::sleep(Duration::from_micros(200)).await;
            if !holds {
                return Ok(false);
            }
            write.condition = Condition::Always;
        }
        Ok(self
            .inner
            .write_many(&self.space(namespace), &[write])
            .await?[0])
    }
}

#[async_trait]
impl Store for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        can.counters &= !self.is(Flaw::Modest);
        (can.tags, can.tag_listing) = (false, false);
        can
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn larder::store::Journal>> {
        self.inner.journal(namespace)
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        self.inner.lock_store()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        let mut keys: Vec<_> = keys.iter().map(|key| self.key(namespace, key)).collect();
        if self.is(Flaw::SortsReads) {
            keys.sort_unstable();
        }
        let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        self.inner.get_many(&self.space(namespace), &keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let mut applied = vec![false; writes.len()];
        for at in 0..writes.len() {
            let at = if self.is(Flaw::ReversesWrites) {
                writes.len() - 1 - at
            } else {
                at
            };
            applied[at] = self.write(namespace, &writes[at]).await?;
        }
        Ok(applied)
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        if self.is(Flaw::KeepsOnClear) {
            return Ok(());
        }
        self.inner.clear(&self.space(namespace)).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        let expiry = self.expiry(expiry);
        if self.is(Flaw::ReadThenAdd) {
            let present = self.inner.get_many(namespace, &[key]).await?.remove(0);
            let old = present.and_then(|entry| body(&entry.value));
            let old = old.and_then(|body| std::str::from_utf8(&body).ok()?.parse().ok());
            tokio::task::yield_now().await;
            let sum = old.unwrap_or(0_i64).wrapping_add(by);
            let put = Write::put(key, sealed_integer(sum), Expiry::Keep);
            self.inner.write_many(namespace, &[put]).await?;
            return Ok(sum);
        }
        let sum = self.inner.increment(namespace, key, by, expiry).await?;
        if self.is(Flaw::ExtendsCounters) {
            self.inner
                .write_many(namespace, &[Write::touch(key, expiry)])
                .await?;
        }
        Ok(sum)
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let mut page = self
            .inner
            .scan(&self.space(namespace), pattern, cursor, limit)
            .await?;
        if self.is(Flaw::RepeatsKeys) && page.keys.len() < limit {
            page.keys.extend(page.keys.last().cloned());
        }
        if self.is(Flaw::EndsEarly) {
            page.next = None;
        }
        Ok(page)
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        let all = Glob::all();
        let pattern = if self.is(Flaw::CountsAll) {
            &all
        } else {
            pattern
        };
        self.inner.count(&self.space(namespace), pattern).await
    }
}

fn broken(flaw: Flaw) -> StoreUnderTest {
    let time = ManualClock::new();
    let inner = Memory::builder()
        .clock(time.clock())
        .build()
        .expect("a store in memory");
    StoreUnderTest::new(Broken { inner, flaw }).time(time)
}

/// Makes a test that the law fails on the store with the flaw.
macro_rules! caught {
    ($($name:ident: $flaw:ident by $theme:ident::$law:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let law = || check(|| async { $theme::$law(&broken(Flaw::$flaw)).await });
                assert!(panic::catch_unwind(law).is_err(), "the law holds for a broken store");
            }
        )*
    };
}

caught! {
    rounded_ttls: Seconds by expiry::short_ttl_ends_in_milliseconds,
    torn_conditions: CheckThenWrite by conditions::if_absent_is_exclusive,
    torn_swaps: CheckThenWrite by conditions::if_unchanged_is_exclusive,
    ignored_write_ids: IgnoresWriteIds by conditions::if_unchanged_needs_the_same_write_id,
    lost_set_members: IgnoresWriteIds by sorted_sets::concurrent_set_operations_lose_nothing,
    sorted_reads: SortsReads by entries::get_many_keeps_order_and_duplicates,
    keys_cut_at_zero: CStrings by keys::keys_may_hold_any_bytes,
    keys_of_one_case: FoldsCase by keys::keys_may_hold_any_bytes,
    glued_namespaces: GluesNamespaces by namespaces::namespaces_do_not_mix,
    kept_on_clear: KeepsOnClear by namespaces::clear_empties_exactly_one_namespace,
    back_after_clear: KeepsOnClear by namespaces::clear_beside_writers_leaves_no_zombie,
    lost_increments: ReadThenAdd by counters::concurrent_increments_are_exact,
    lost_overflow: ReadThenAdd by counters::overflow_is_refused_and_changes_nothing,
    extended_counters: ExtendsCounters by counters::increment_keeps_the_expiry,
    touched_nothing: TouchesNothing by conditions::touch_of_a_missing_entry_is_not_applied,
    forgotten_expiry: ForgetsExpiry by expiry::keep_keeps_the_expiry,
    repeated_keys: RepeatsKeys by listing::pages_meet_every_key_once,
    missing_pages: EndsEarly by listing::pages_meet_every_key_once,
    missing_lasting_keys: EndsEarly by listing::lasting_keys_are_met_despite_churn,
    counts_of_everything: CountsAll by listing::patterns_select_keys,
    reversed_writes: ReversesWrites by entries::writes_of_one_call_to_one_key_apply_in_order,
    cut_values: CutsValues by entries::one_mebibyte_comes_back_whole,
    modest_capabilities: Modest by health::capabilities_are_honest,
}

// Without a flaw every law holds, so it is the flaw that the laws find.
store_conformance!(no_flaw, broken(Flaw::None));
