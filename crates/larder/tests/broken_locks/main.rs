//! The laws of locks catch what they are for: each of these lock stores is wrong in one way, and a law must say so.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod flaws;
mod plain;

use std::panic;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use larder::lock::LockStore;
use larder::store::{Capabilities, Entry, Memory, ScanPage, Store, StoreStats, Write};
use larder::testing::store::{
    StoreUnderTest, check, contention, health, limiters, lock_lists, lock_names, lock_queues,
    locks, semaphores,
};
use larder::{Clock, Glob, ManualClock, Namespace, Result, store_conformance};

use self::flaws::{BrokenLocks, Flaw};
use self::plain::PlainLocks;

/// A sound store of entries with other locks.
#[derive(Debug)]
struct Relocked {
    inner: Memory,
    locks: Option<Arc<dyn LockStore>>,
    can: Capabilities,
    /// What clearing frees.
    cleared: Option<BrokenLocks>,
}

#[async_trait]
impl Store for Relocked {
    fn name(&self) -> &'static str {
        "relocked"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.can;
        (can.tags, can.tag_listing) = (false, false);
        can
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        self.locks.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.inner.get_many(namespace, keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        self.inner.write_many(namespace, writes).await
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        if let Some(locks) = &self.cleared {
            locks.free_all().await?;
        }
        self.inner.clear(namespace).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.inner.scan(namespace, pattern, cursor, limit).await
    }
}

fn memory(time: &ManualClock) -> Memory {
    let store = Memory::builder().clock(time.clock()).build();
    store.expect("a store in memory")
}

fn broken(flaw: Flaw) -> StoreUnderTest {
    let time = ManualClock::new();
    let inner = memory(&time);
    let locks = BrokenLocks::new(&inner, flaw);
    let mut can = inner.capabilities();
    can.limiters &= flaw != Flaw::Modest;
    let store = Relocked {
        inner,
        can,
        cleared: (flaw == Flaw::ClearsLocks).then(|| locks.clone()),
        locks: (flaw != Flaw::Boastful).then(|| Arc::new(locks) as _),
    };
    StoreUnderTest::new(store).time(time)
}

/// Sound locks that can do as little as locks may.
fn plain() -> StoreUnderTest {
    let time = ManualClock::new();
    let inner = memory(&time);
    let mut can = inner.capabilities();
    (can.fair_locks, can.durable_fences) = (false, false);
    (can.locks_freed_on_death, can.limiters) = (false, false);
    let store = Relocked {
        inner,
        can,
        cleared: None,
        locks: Some(Arc::new(PlainLocks::new())),
    };
    StoreUnderTest::new(store).time(time)
}

/// Makes a test that the law holds for sound locks, and fails for those with the flaw.
macro_rules! caught {
    ($($name:ident: $flaw:ident by $theme:ident::$law:ident,)*) => {
        $(
            #[test]
            fn $name() {
                check(|| async { $theme::$law(&broken(Flaw::None)).await });
                let law = || check(|| async { $theme::$law(&broken(Flaw::$flaw)).await });
                assert!(panic::catch_unwind(law).is_err(), "the law holds for broken locks");
            }
        )*
    };
}

// The laws ask nothing of plain locks that they cannot do.
store_conformance!(plain_locks, plain());

// Holders and their leases.
caught! {
    one_holder_too_many: GrantsToOneMore by locks::one_owner_holds_at_a_time,
    one_contender_too_many: GrantsToOneMore by contention::contenders_never_hold_together,
    one_permit_too_many: GrantsToOneMore by semaphores::permits_bound_the_holders,
    one_permit_too_many_at_once: GrantsToOneMore by contention::holders_never_exceed_the_permits,
    torn_grants: ChecksThenGrants by contention::simultaneous_attempts_grant_one,
    torn_grants_under_load: ChecksThenGrants by contention::contenders_never_hold_together,
    torn_grants_of_one_owner: ChecksThenGrants by contention::simultaneous_attempts_of_one_owner_are_one,
    late_grants: GrantsLater by locks::release_takes_back_a_dropped_attempt,
    first_number_of_permits: RemembersPermits by semaphores::smaller_number_of_permits_counts,
    refused_holder: RefusesItsHolder by locks::asking_again_gets_the_same_grant,
    refused_holder_of_a_permit: RefusesItsHolder by semaphores::each_permit_has_its_own_fence,
    renewed_when_asked: RenewsWhenAsked by locks::asking_again_gets_the_same_grant,
    another_fence_when_asked: RefencesWhenAsked by locks::asking_again_gets_the_same_grant,
    endless_leases: ForgetsExpiry by locks::lease_ends_after_its_ttl_and_not_before,
    endless_permits: ForgetsExpiry by semaphores::permit_ends_alone,
    short_leases: EndsEarly by locks::lease_ends_after_its_ttl_and_not_before,
    ttls_as_dates: TakesTtlsForDates by locks::extreme_ttls_do_not_wrap,
    restarted_fences: RestartsFences by locks::fences_grow_with_every_grant,
    restarted_fences_under_load: RestartsFences by contention::contenders_never_hold_together,
    fences_from_one: RestartsFences by locks::fences_start_at_the_time_of_day,
    released_from_nobody: AlwaysReleases by locks::only_the_owner_can_release,
    ended_and_released_twice: AlwaysReleases by locks::ended_lease_can_be_given_up,
    repeated_fences: RepeatsFences by locks::fences_grow_with_every_grant,
    shared_fences: RepeatsFences by semaphores::each_permit_has_its_own_fence,
    fences_of_evicted_holders: RepeatsFences by locks::evicted_holder_holds_nothing,
    released_by_anyone: ReleasesForAnyone by locks::only_the_owner_can_release,
    released_too_late: ReleasesForAnyone by locks::late_release_spares_the_next_holder,
    released_twice: FreesTwice by locks::second_release_finds_nothing,
    permit_released_twice: FreesTwice by semaphores::second_release_frees_no_second_permit,
    all_permits_released: FreesAll by semaphores::permits_bound_the_holders,
    extended_by_anyone: ExtendsForAnyone by locks::only_the_owner_can_extend,
    added_extensions: AddsExtensions by locks::extension_counts_from_now,
    evicted_nothing: EvictsNothing by locks::evicted_holder_holds_nothing,
    evicted_one_of_many: EvictsOne by semaphores::permits_bound_the_holders,
}

// Queues.
caught! {
    no_order: HasNoOrder by lock_queues::waiters_are_granted_in_order,
    no_order_under_load: HasNoOrder by contention::contenders_never_hold_together,
    no_order_of_permits: HasNoOrder by semaphores::permits_are_granted_in_order,
    overtaken_by_a_try: HasNoOrder by lock_queues::nobody_overtakes_the_queue,
    overtaken_after_the_end: HasNoOrder by lock_queues::ended_leases_go_to_the_queue,
    sent_to_the_end: SendsToTheEnd by lock_queues::waiters_are_granted_in_order,
    tries_in_the_queue: QueuesEveryone by lock_queues::attempt_without_heartbeat_does_not_queue,
    dead_for_ever: KeepsTheDead by lock_queues::dead_waiter_loses_its_place,
    dead_for_long: KeepsTheDead by lock_queues::told_death_of_the_first_suffices,
    dead_one_by_one: BuriesOneByOne by lock_queues::dead_waiters_cost_one_heartbeat_together,
    cancelled_in_the_queue: KeepsTheCancelled by lock_queues::cancelled_waiter_lets_the_next_through,
    barged_into_the_held: BargesIntoTheHeld by lock_queues::barging_takes_a_free_permit_only,
    no_barging: ForbidsBarging by lock_queues::barging_takes_a_free_permit_only,
    told_too_short_a_lease: PromisesTooMuch by lock_queues::told_end_of_the_lease_suffices,
    told_too_early_a_death: PromisesTooMuch by lock_queues::told_death_of_the_first_suffices,
    no_bell: IsDeaf by lock_queues::bell_rings_for_the_next_on_release,
    no_bell_after_eviction: IsDeaf by lock_queues::bell_rings_after_eviction_and_cancelling,
    endless_queue: TakesEveryWaiter by lock_queues::full_queue_is_overloaded,
}

// Names and lists.
caught! {
    idle_in_lists: ListsTheIdle by lock_lists::list_hides_what_is_not_in_use,
    everything_in_lists: ListsEverything by lock_lists::list_keeps_its_pattern_and_limit,
    limited_too_soon: LimitsTooSoon by lock_lists::list_keeps_its_pattern_and_limit,
    ttls_in_lists: ShowsTtls by lock_lists::list_shows_the_holder_and_counts_waiters,
    repeated_fences_in_lists: RepeatsFences by lock_lists::list_shows_all_holders,
    reversed_hold_times: ReversesHoldTimes by lock_lists::latest_hold_times_are_remembered,
    invented_hold_times: InventsHoldTimes by lock_lists::latest_hold_times_are_remembered,
    reversed_lasting_hold_times: ReversesHoldTimes by lock_lists::hold_times_outlast_leases,
    glued_spaces: GluesSpaces by lock_names::spaces_of_locks_do_not_mix,
    names_cut_at_zero: CStrings by lock_names::names_of_locks_may_hold_any_bytes,
    names_in_braces: KeepsBracesOnly by lock_names::names_of_locks_may_hold_any_bytes,
    evicted_with_others: EvictsNothing by lock_names::names_are_independent,
    cleared_locks: ClearsLocks by lock_names::clear_leaves_locks_alone,
    locks_as_entries: WritesEntries by lock_names::locks_are_no_entries,
    modest_capabilities: Modest by health::capabilities_are_honest,
    boastful_capabilities: Boastful by health::capabilities_are_honest,
}

// Rate limiters.
caught! {
    one_token_too_many: HoldsOneMore by limiters::tokens_are_taken_all_or_none,
    one_token_too_many_at_first: HoldsOneMore by limiters::burst_comes_first_and_then_the_rate,
    one_token_too_many_at_rest: HoldsOneMore by limiters::bucket_holds_its_burst_at_most,
    one_token_too_many_of_many: HoldsOneMore by limiters::extreme_rates_stay_exact,
    one_token_too_many_in_each: HoldsOneMore by limiters::buckets_are_independent,
    some_tokens: TakesSome by limiters::tokens_are_taken_all_or_none,
    some_tokens_despite_refusal: TakesSome by limiters::told_time_suffices_despite_refusals,
    torn_takes: ChecksThenTakes by limiters::concurrent_takes_are_exact,
    fixed_windows: CountsByWindow by limiters::burst_comes_first_and_then_the_rate,
    fixed_windows_of_another_rate: CountsByWindow by limiters::change_of_the_rate_keeps_whole_tokens,
    told_too_short_a_time: HurriesTakers by limiters::told_time_suffices_despite_refusals,
    bucket_names_cut_at_zero: CStrings by limiters::buckets_are_independent,
}
