//! The one list of the store laws, and what makes tests of it.

/// Hands the list of all store laws, by theme, to a macro, behind what that macro is to receive first.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_store_law {
    ([$($receiver:tt)*] $first:tt) => {
        $($receiver)*! {
            $first
            conditions {
                conditions_guard_deletes_and_touches
                if_absent_changes_nothing_where_there_is_an_entry
                if_absent_is_exclusive
                if_absent_succeeds_over_an_expired_entry
                if_absent_succeeds_over_unreadable_bytes
                if_present_counts_unreadable_bytes_as_absent
                if_present_needs_a_live_entry
                if_unchanged_is_exclusive
                if_unchanged_needs_the_same_write_id
                touch_changes_the_expiry_only
                touch_of_a_missing_entry_is_not_applied
            }
            contention {
                contenders_never_hold_together
                holders_never_exceed_the_permits
                simultaneous_attempts_grant_one
                simultaneous_attempts_of_one_owner_are_one
            }
            counters {
                absent_counter_starts_with_its_own_expiry
                concurrent_increments_are_exact
                counter_is_an_entry_like_any_other
                counter_starts_at_zero_and_goes_both_ways
                increment_keeps_the_expiry
                increment_of_what_is_no_integer_is_refused
                integers_that_were_set_can_be_incremented
                overflow_is_refused_and_changes_nothing
            }
            entries {
                bulk_calls_of_a_thousand_keys_work
                damaged_bytes_are_a_miss_or_come_back_as_they_are
                delete_reports_whether_there_was_an_entry
                dropped_write_does_not_undo_a_later_one
                dropped_write_is_applied_or_not
                empty_body_is_a_value
                empty_bulk_calls_answer_nothing
                get_many_keeps_order_and_duplicates
                largest_entry_is_kept_or_refused
                missing_key_is_none
                one_mebibyte_comes_back_whole
                overwrite_replaces_value_and_expiry
                readers_beside_writers_see_whole_values
                set_then_get_returns_the_same_bytes
                write_many_reports_each_write_in_order
                writes_of_one_call_to_one_key_apply_in_order
            }
            expiry {
                expired_entry_cannot_be_deleted
                expired_entry_is_a_miss
                expired_entry_is_neither_listed_nor_counted
                expiry_is_reported_by_the_clock
                keep_keeps_the_expiry
                keep_without_an_entry_means_never
                long_ttls_do_not_wrap
                prune_removes_only_expired_entries
                short_ttl_ends_in_milliseconds
            }
            health {
                capabilities_are_honest
                clock_is_the_one_given
                mixed_load_is_answered
                ping_answers
                stats_are_plausible
            }
            journal {
                a_restamped_entry_is_noted_as_another
                changes_are_noted_before_they_are_acknowledged
                first_poll_says_everything
                marks_are_not_noted
                notes_of_other_namespaces_stay_there
                order_is_kept
                own_changes_come_back
            }
            keys {
                keys_may_hold_any_bytes
                keys_of_any_bytes_are_listed
            }
            limiters {
                bucket_holds_its_burst_at_most
                buckets_are_independent
                burst_comes_first_and_then_the_rate
                change_of_the_rate_keeps_whole_tokens
                concurrent_takes_are_exact
                extreme_rates_stay_exact
                tokens_are_taken_all_or_none
                told_time_suffices_despite_refusals
            }
            listing {
                empty_namespace_lists_nothing
                foreign_cursors_are_harmless
                lasting_keys_are_met_despite_churn
                listed_keys_report_size_and_expiry
                pages_meet_every_key_once
                patterns_select_keys
                rare_matches_are_found
            }
            lock_lists {
                hold_times_outlast_leases
                latest_hold_times_are_remembered
                list_hides_what_is_not_in_use
                list_keeps_its_pattern_and_limit
                list_shows_all_holders
                list_shows_the_holder_and_counts_waiters
            }
            lock_names {
                clear_leaves_locks_alone
                locks_are_no_entries
                names_are_independent
                names_of_locks_may_hold_any_bytes
                spaces_of_locks_do_not_mix
            }
            lock_queues {
                attempt_without_heartbeat_does_not_queue
                barging_takes_a_free_permit_only
                bell_rings_after_eviction_and_cancelling
                bell_rings_for_the_next_on_release
                cancelled_waiter_lets_the_next_through
                dead_waiter_loses_its_place
                dead_waiters_cost_one_heartbeat_together
                ended_leases_go_to_the_queue
                full_queue_is_overloaded
                nobody_overtakes_the_queue
                told_death_of_the_first_suffices
                told_end_of_the_lease_suffices
                waiters_are_granted_in_order
            }
            locks {
                asking_again_gets_the_same_grant
                ended_lease_can_be_given_up
                evicted_holder_holds_nothing
                extension_counts_from_now
                extreme_ttls_do_not_wrap
                fences_grow_with_every_grant
                fences_start_at_the_time_of_day
                late_release_spares_the_next_holder
                lease_ends_after_its_ttl_and_not_before
                one_owner_holds_at_a_time
                only_the_owner_can_extend
                only_the_owner_can_release
                release_takes_back_a_dropped_attempt
                second_release_finds_nothing
            }
            namespaces {
                clear_beside_writers_leaves_no_zombie
                clear_empties_exactly_one_namespace
                clear_of_an_empty_namespace_is_fine
                namespaces_do_not_mix
                writes_after_clear_are_visible
            }
            rankings {
                length_and_scores_can_be_asked
                members_are_ordered_by_score_then_bytes
                ranks_count_from_both_ends
                score_ranges_include_both_ends
            }
            semaphores {
                each_permit_has_its_own_fence
                permit_ends_alone
                permits_are_granted_in_order
                permits_bound_the_holders
                second_release_frees_no_second_permit
                smaller_number_of_permits_counts
            }
            sorted_sets {
                adding_counts_new_members_and_changes_scores
                concurrent_set_operations_lose_nothing
                empty_set_disappears
                kinds_of_entries_do_not_mix
                members_are_removed_by_name_and_by_score
                members_may_hold_any_bytes
                scores_that_are_no_numbers_are_refused
                set_changes_keep_the_expiry
                set_is_an_entry_like_any_other
            }
            tags_entries {
                conditions_count_invalid_entries_as_absent
                entries_die_with_any_of_their_registers
                entries_may_have_many_registers
                entries_under_present_stamps_are_read_back
                entries_without_their_registers_are_invalid
                hard_invalidation_ends_stale_entries
                increments_obey_registers
                invalid_entries_are_neither_deleted_nor_touched
                invalid_entries_are_neither_listed_nor_counted
                keep_forgets_the_expiry_of_invalid_entries
                registers_outlive_their_entries
                soft_invalidation_makes_entries_stale
                sorted_sets_start_anew_over_invalid_entries
                stamped_puts_expire
                stamps_of_before_are_dead
            }
            tags_examined {
                absent_keys_show_nothing
                cleared_entries_are_told_from_others
                damage_is_shown_as_it_is
                invalid_entries_show_the_registers_to_blame
                loads_under_way_are_shown
                looking_changes_nothing
                reads_tell_the_invalid_from_the_absent
                stale_entries_show_the_registers_to_blame
                valid_entries_show_no_fault
            }
            tags_listings {
                foreign_cursors_of_tags_are_harmless
                invalidated_registers_are_not_listed
                keys_are_listed_by_register
                keys_listed_by_register_tell_size_and_expiry
                only_valid_entries_are_listed_by_register
                registers_are_listed
            }
            tags_loads {
                a_look_at_a_load_keeps_its_lease
                changes_of_the_key_end_its_load
                clear_ends_loads
                counts_and_sets_end_a_load
                invalidation_lets_the_next_load_begin
                keep_ignores_the_lease_of_a_load
                leases_of_loads_end
                loaders_renew_and_release_their_leases
                loads_are_granted_once
                loads_are_hidden
                loads_keep_their_place_otherwise
                loads_may_take_long
                loads_over_dead_entries_are_granted
                loads_over_valid_entries_return_them
                simultaneous_loads_grant_one
            }
            tags_races {
                loads_beside_each_other_are_kept
                no_read_returns_what_was_gone
                quiet_invalidation_leaves_nothing
                sets_after_an_invalidation_are_valid
            }
            tags_registers {
                any_changes_with_each_invalidation
                any_changes_with_nothing_else
                any_invalidates_no_entry
                captures_return_the_same_numbers
                clear_drops_registers
                concurrent_captures_agree
                invalidating_nothing_is_fine
                invalidation_stays_in_its_namespace
                invalidation_tells_what_was_there
                names_may_be_long_and_strange
                numbers_never_come_back
                registers_have_numbers_of_their_own
            }
            tags_retirement {
                cleanups_spare_what_is_stored_meanwhile
                foreign_cursors_of_walks_are_harmless
                late_entries_keep_ended_registers
                registers_of_short_lives_are_left_alone
                registers_without_entries_end
                stored_entries_clear_of_suspicion
                suspicion_changes_nothing
                suspicions_are_told_apart
                walks_remove_what_is_invalid
            }
        }
    };
}

/// Makes a module of tests, one per store law, each on a store of its own.
///
/// The second argument is an expression of a [`StoreUnderTest`](crate::testing::store::StoreUnderTest); it sees
/// what is in scope where the macro stands, runs once per law, and may await.
///
/// ```
/// use larder::store::Memory;
/// use larder::testing::store::StoreUnderTest;
/// use larder::{ManualClock, store_conformance};
///
/// fn memory() -> StoreUnderTest {
///     let time = ManualClock::new();
///     let store = Memory::builder().clock(time.clock()).build().expect("a store in memory");
///     StoreUnderTest::new(store).time(time)
/// }
/// store_conformance!(laws_of_memory, memory());
/// ```
#[macro_export]
macro_rules! store_conformance {
    ($name:ident, $fixture:expr) => {
        mod $name {
            #[allow(
                unused_imports,
                reason = "the fixture may need nothing from around the module"
            )]
            use super::*;
            $crate::__each_store_law! { [$crate::__store_law_tests] { $fixture } }
        }
    };
}

/// Makes a test of each law; receives the list.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_law_tests {
    ({ $fixture:expr } $($theme:ident { $($law:ident)* })*) => {
        $($(
            #[test]
            fn $law() {
                $crate::testing::store::check(|| async {
                    $crate::testing::store::$theme::$law(&$fixture).await
                });
            }
        )*)*
    };
}

#[cfg(test)]
mod tests {
    macro_rules! names {
        ({} $($theme:ident { $($law:ident)* })*) => {
            [$((
                include_str!(concat!(stringify!($theme), ".rs")),
                vec![$(stringify!($law)),*],
            )),*]
        };
    }

    #[test]
    fn every_law_is_in_the_list() {
        for (source, listed) in __each_store_law! { [names] {} } {
            let mut written: Vec<_> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
                .collect();
            written.sort_unstable();
            assert_eq!(written, listed);
        }
    }
}
