//! The laws of tags catch what they are for: each of these stores is wrong in one way, and a law must say so.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod calls;
mod examine;
mod flaws;
mod key_sets;
mod layout;
mod retirement;
mod store;

use std::panic::{self, AssertUnwindSafe};

use larder::store::Memory;
use larder::testing::store::{
    StoreUnderTest, check, health, tags_entries, tags_examined, tags_listings, tags_loads,
    tags_races, tags_registers, tags_retirement,
};
use larder::{ManualClock, Result, store_conformance};

use self::flaws::Flaw;
use self::key_sets::KeySets;
use self::store::BrokenTags;

fn broken(flaw: Flaw) -> StoreUnderTest {
    let time = ManualClock::new();
    let source = Memory::builder().clock(time.clock()).build();
    let store = BrokenTags::new(source.expect("a store in memory"), flaw);
    StoreUnderTest::new(store).time(time)
}

/// How often a law of chance may fail to notice.
const CHANCES: usize = 5;

/// Returns whether the law fails for the store.
fn is_caught<W: Future<Output = Result<()>>>(law: impl Fn() -> W + Copy + Send + 'static) -> bool {
    (0..CHANCES).any(|_| panic::catch_unwind(AssertUnwindSafe(|| check(law))).is_err())
}

/// Makes a test that the law fails for the store with the flaw.
macro_rules! caught {
    ($($name:ident: $flaw:ident by $theme:ident::$law:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let law = || async { $theme::$law(&broken(Flaw::$flaw)).await };
                assert!(is_caught(law), "the law holds for broken tags");
            }
        )*
    };
}

// Without a flaw every law holds, so it is the flaw that the laws find.
store_conformance!(no_flaw, broken(Flaw::None));

// Registers.
caught! {
    captured_nothing: CapturesNothing by tags_registers::captures_return_the_same_numbers,
    captured_nothing_to_depend_on: CapturesNothing by tags_entries::entries_under_present_stamps_are_read_back,
    renewed_by_captures: RenewsOnCapture by tags_registers::captures_return_the_same_numbers,
    renewed_by_concurrent_captures: RenewsOnCapture by tags_registers::concurrent_captures_agree,
    shared_prefixes: InvalidatesByPrefix by tags_entries::entries_die_with_any_of_their_registers,
    other_numbers_changed: InvalidatesByPrefix by tags_registers::registers_have_numbers_of_their_own,
    kept_registers: KeepsRegisters by tags_registers::numbers_never_come_back,
    one_register_forgotten: ForgetsTheLast by tags_registers::numbers_never_come_back,
    repeated_numbers: RepeatsNumbers by tags_registers::numbers_never_come_back,
    repeated_numbers_of_late_writers: RepeatsNumbers by tags_entries::stamps_of_before_are_dead,
    repeated_numbers_after_clear: RepeatsNumbers by tags_registers::clear_drops_registers,
    told_that_all_were_there: AlwaysHad by tags_registers::invalidation_tells_what_was_there,
    told_that_none_was_there: NeverHad by tags_registers::invalidation_tells_what_was_there,
    told_of_the_unused: AlwaysHad by tags_registers::invalidating_nothing_is_fine,
    nothing_means_all: InvalidatesByPrefix by tags_registers::names_may_be_long_and_strange,
    unchanged_any: ForgetsAny by tags_registers::any_changes_with_each_invalidation,
    unchanged_any_of_nothing: ForgetsAnyOfNothing by tags_registers::any_changes_with_each_invalidation,
    any_moved_by_writes: MovesAnyWithWrites by tags_registers::any_changes_with_nothing_else,
    any_moved_by_captures: RenewsOnCapture by tags_registers::any_changes_with_nothing_else,
    judged_any: JudgesAny by tags_registers::any_invalidates_no_entry,
    mixed_namespaces: MixesNamespaces by tags_registers::invalidation_stays_in_its_namespace,
    names_cut_at_zero: CStrings by tags_registers::names_may_be_long_and_strange,
    kept_on_clear: KeepsRegistersOnClear by tags_registers::clear_drops_registers,
}

// Entries.
caught! {
    missing_is_valid: TakesMissingForValid by tags_entries::entries_without_their_registers_are_invalid,
    missing_is_valid_for_late_writers: TakesMissingForValid by tags_entries::stamps_of_before_are_dead,
    ordered_numbers: ComparesByOrder by tags_registers::numbers_never_come_back,
    first_register_only: JudgesTheFirst by tags_entries::entries_die_with_any_of_their_registers,
    first_of_many: JudgesTheFirst by tags_entries::entries_may_have_many_registers,
    restamped_by_writes: Restamps by tags_entries::stamps_of_before_are_dead,
    invalid_read: ReadsAnything by tags_entries::entries_die_with_any_of_their_registers,
    invalid_counter: ReadsAnything by tags_entries::increments_obey_registers,
    invalid_sorted_set: ReadsAnything by tags_entries::sorted_sets_start_anew_over_invalid_entries,
    invalid_in_conditions: ConditionsOnAnything by tags_entries::conditions_count_invalid_entries_as_absent,
    invalid_deleted: ConditionsOnAnything by tags_entries::invalid_entries_are_neither_deleted_nor_touched,
    invalid_touched: TouchesAnything by tags_entries::invalid_entries_are_neither_deleted_nor_touched,
    unstamped_counters: UnstampsCounters by tags_entries::increments_obey_registers,
    invalid_listed: ListsAnything by tags_entries::invalid_entries_are_neither_listed_nor_counted,
    invalid_kept_its_expiry: KeepsDeadExpiry by tags_entries::keep_forgets_the_expiry_of_invalid_entries,
    stamped_for_ever: StampedForEver by tags_entries::stamped_puts_expire,
    soft_is_hard: SoftIsHard by tags_entries::soft_invalidation_makes_entries_stale,
    soft_is_nothing: SoftIsNothing by tags_entries::soft_invalidation_makes_entries_stale,
    soft_for_ever: StaysSoft by tags_entries::soft_invalidation_makes_entries_stale,
    hard_is_soft: HardIsSoft by tags_entries::hard_invalidation_ends_stale_entries,
    hour_of_registers: ForgetsRegisters by tags_entries::registers_outlive_their_entries,
}

// Loads under way.
caught! {
    loads_read: ReadsLoads by tags_loads::loads_are_hidden,
    loads_listed: ListsLoads by tags_loads::loads_are_hidden,
    loads_as_entries: TakesLoadsForEntries by tags_loads::loads_are_hidden,
    loads_in_the_way_of_adds: TakesLoadsForEntries by tags_loads::changes_of_the_key_end_its_load,
    loads_deleted: DeletesLoads by tags_loads::changes_of_the_key_end_its_load,
    loads_touched: TouchesLoads by tags_loads::loads_are_hidden,
    leases_kept: KeepsLeases by tags_loads::keep_ignores_the_lease_of_a_load,
    values_end_with_leases: EndsWithLeases by tags_loads::leases_of_loads_end,
    put_spares_loads: PutsSpareLoads by tags_loads::changes_of_the_key_end_its_load,
    delete_spares_loads: DeletesSpareLoads by tags_loads::changes_of_the_key_end_its_load,
    clear_spares_loads: ClearsSpareLoads by tags_loads::clear_ends_loads,
    counts_spare_loads: PutsSpareLoads by tags_loads::counts_and_sets_end_a_load,
    granted_twice: GrantsTwice by tags_loads::loads_are_granted_once,
    granted_to_many: ChecksThenGrants by tags_loads::simultaneous_loads_grant_one,
    granted_over_entries: GrantsOverEntries by tags_loads::loads_over_valid_entries_return_them,
    refused_over_invalid_entries: RefusesOverDead by tags_loads::loads_over_dead_entries_are_granted,
    refused_over_invalid_loads: RefusesOverDead by tags_loads::invalidation_lets_the_next_load_begin,
    ignored_tokens: IgnoresTokens by tags_loads::loads_are_granted_once,
    ignored_tokens_of_hidden_loads: IgnoresTokens by tags_loads::loads_are_hidden,
    loads_of_other_registers: InvalidatesByPrefix by tags_registers::registers_have_numbers_of_their_own,
    hard_on_loads: SoftIsHard by tags_loads::loads_keep_their_place_otherwise,
    hour_of_loads: ForgetsRegisters by tags_loads::loads_may_take_long,
    endless_leases: ForgetsLeases by tags_loads::leases_of_loads_end,
    leases_that_cannot_be_renewed: RenewsNoLease by tags_loads::loaders_renew_and_release_their_leases,
}

// Looking at what is there.
caught! {
    invalid_not_shown: ExaminesValid by tags_examined::invalid_entries_show_the_registers_to_blame,
    invalid_read_as_absent: ReadsInvalidAsAbsent by tags_examined::reads_tell_the_invalid_from_the_absent,
    absent_read_as_invalid: ReadsAbsentAsInvalid by tags_examined::reads_tell_the_invalid_from_the_absent,
    marks_not_shown: ExaminesNoLoads by tags_examined::loads_under_way_are_shown,
    nothing_blamed: BlamesNothing by tags_examined::invalid_entries_show_the_registers_to_blame,
    nothing_blamed_for_staleness: BlamesTheHard by tags_examined::stale_entries_show_the_registers_to_blame,
    everything_blamed: BlamesEverything by tags_examined::valid_entries_show_no_fault,
    changed_not_blamed: BlamesTheMissing by tags_examined::invalid_entries_show_the_registers_to_blame,
    registers_made_by_looking: ExaminesByCapture by tags_examined::looking_changes_nothing,
    damage_not_shown: ExaminesReadable by tags_examined::damage_is_shown_as_it_is,
    cleared_shown: ExaminesCleared by tags_examined::cleared_entries_are_told_from_others,
    others_shown: ExaminesElsewhere by tags_examined::absent_keys_show_nothing,
}

// Listings and capabilities.
caught! {
    registers_end_early: EndsRegistersEarly by tags_listings::registers_are_listed,
    every_register_listed: ListsEveryRegister by tags_listings::registers_are_listed,
    kept_registers_listed: KeepsRegisters by tags_listings::invalidated_registers_are_not_listed,
    keys_end_early: EndsKeysEarly by tags_listings::keys_are_listed_by_register,
    every_key_listed: ListsEveryKey by tags_listings::keys_are_listed_by_register,
    invalid_keys_listed: ListsAnything by tags_listings::only_valid_entries_are_listed_by_register,
    loads_listed_by_register: ListsLoads by tags_listings::only_valid_entries_are_listed_by_register,
    sizes_forgotten: ForgetsSizes by tags_listings::keys_listed_by_register_tell_size_and_expiry,
    trusted_cursors: TrustsCursors by tags_listings::foreign_cursors_of_tags_are_harmless,
    modest_capabilities: Modest by health::capabilities_are_honest,
    boastful_capabilities: Boastful by health::capabilities_are_honest,
}

// Registers that nothing carries.
caught! {
    suspected_for_ever: SuspectsForEver by tags_retirement::stored_entries_clear_of_suspicion,
    ended_in_a_race: SuspectsForEver by tags_retirement::cleanups_spare_what_is_stored_meanwhile,
    mixed_suspicions: MixesSuspicions by tags_retirement::suspicions_are_told_apart,
    retired_short_lives: RetiresShortLives by tags_retirement::registers_of_short_lives_are_left_alone,
    nothing_tidied: TidiesNothing by tags_retirement::walks_remove_what_is_invalid,
    overlooked_loads: OverlooksLoads by tags_retirement::walks_remove_what_is_invalid,
    unsuspected_renewal: RenewsOnCapture by tags_retirement::suspicion_changes_nothing,
}

// Everything at once.
caught! {
    late_invalidation: InvalidatesLater by tags_races::no_read_returns_what_was_gone,
    invalid_read_in_a_race: ReadsAnything by tags_races::no_read_returns_what_was_gone,
    missing_is_valid_in_a_race: TakesMissingForValid by tags_races::no_read_returns_what_was_gone,
    repeated_numbers_in_a_race: RepeatsNumbers by tags_races::no_read_returns_what_was_gone,
    spared_loads_in_a_race: PutsSpareLoads by tags_races::no_read_returns_what_was_gone,
    deleted_loads_in_a_race: DeletesSpareLoads by tags_races::no_read_returns_what_was_gone,
    left_by_a_quiet_invalidation: KeepsRegisters by tags_races::quiet_invalidation_leaves_nothing,
    prefixes_in_a_race: MixesNamespaces by tags_registers::invalidation_stays_in_its_namespace,
    others_invalidated: RenewsOnCapture by tags_races::sets_after_an_invalidation_are_valid,
    loads_granted_beside: GrantsOverEntries by tags_races::loads_beside_each_other_are_kept,
}

fn key_sets() -> StoreUnderTest {
    StoreUnderTest::new(KeySets::new())
}

/// Alone, the widespread design of a set of keys per tag seems to work.
#[test]
fn key_sets_work_for_one_caller() {
    check(|| async {
        tags_entries::entries_die_with_any_of_their_registers(&key_sets()).await?;
        tags_loads::loads_are_granted_once(&key_sets()).await
    });
}

/// Under concurrency it leaves what no later invalidation reaches, and returns what was gone.
#[test]
fn key_sets_are_caught() {
    let returns = || async { tags_races::no_read_returns_what_was_gone(&key_sets()).await };
    assert!(is_caught(returns), "they return nothing that was gone");
    let leaves = || async { tags_races::quiet_invalidation_leaves_nothing(&key_sets()).await };
    assert!(is_caught(leaves), "they leave nothing");
    let finds = || async { tags_entries::stamps_of_before_are_dead(&key_sets()).await };
    assert!(is_caught(finds), "they find late writers");
}
