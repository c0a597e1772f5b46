//! The protocol of tags, explored: in no order of its smallest steps does a read return what an invalidation, a set, a
//! delete or a clear had made outdated before it began.
//!
//! The model has one key, the registers of a tag, of the subtree above it and of a tag that loads learn of, two loaders
//! that try again, somebody who sets, somebody who deletes or clears, somebody who invalidates, and losses of anything
//! at any time. Each rule of the protocol is broken once, and then the exploration must find out.

#[path = "../explorer/mod.rs"]
mod explorer;
mod failover;
mod others;
mod rules;
mod state;
mod steps;

use self::explorer::explore;
use self::rules::{Rule, Rules};
use self::state::{Loading, State};
use self::steps::Wrong;

/// Who takes part, and how often.
#[derive(Debug, Clone, Copy)]
struct Cast {
    /// Whether the first loader's values depend on registers.
    is_tagged: bool,
    /// How often each loader tries.
    attempts: [u8; 2],
    sets: u8,
    deletes: u8,
    invalidations: u8,
    reads: u8,
    copies: u8,
    counts: u8,
    /// How often somebody adds a tag.
    edits: u8,
    /// How often somebody invalidates by pattern; in place of the second invalidation.
    globs: u8,
    failovers: u8,
}

const NOBODY: Cast = Cast {
    is_tagged: true,
    attempts: [2, 2],
    sets: 0,
    deletes: 0,
    invalidations: 0,
    reads: 0,
    copies: 0,
    counts: 0,
    edits: 0,
    globs: 0,
    failovers: 0,
};

fn start(cast: Cast) -> State {
    let mut state = State::default();
    state.loaders[0].is_tagged = cast.is_tagged;
    (state.loaders[1].is_tagged, state.loaders[1].learns) = (true, true);
    for (loader, attempts) in state.loaders.iter_mut().zip(cast.attempts) {
        loader.left = attempts;
        if attempts == 0 {
            loader.at = Loading::Over;
        }
    }
    state.writer.left = cast.sets;
    state.deletes_left = cast.deletes;
    state.invalidator.left = cast.invalidations;
    state.reader.left = cast.reads;
    state.late.left = cast.copies;
    state.counts_left = cast.counts;
    state.editor.left = cast.edits;
    state.globber.left = cast.globs;
    state.failover.left = cast.failovers;
    state
}

/// Explores to the end; nothing may be wrong.
fn holds(rules: Rules, cast: Cast) {
    let began = std::time::Instant::now();
    let explored = explore(&rules, start(cast));
    println!(
        "{} states in {:?}: {cast:?}",
        explored.states,
        began.elapsed()
    );
    assert_eq!(explored.wrong, None);
}

/// Explores with one rule broken; something must go wrong.
fn breaks(rule: Rule, cast: Cast) {
    let explored = explore(&Rules::without(rule), start(cast));
    let (wrong, way) = explored.wrong.expect("nothing goes wrong without the rule");
    println!("{rule:?}: {wrong:?} after {} steps: {way:?}", way.len());
    let expected = match rule {
        Rule::MarksAreJudged => Wrong::Blocked,
        _ => Wrong::Outdated,
    };
    assert_eq!(wrong, expected);
}

/// A loader that knows all that it depends on, and another that learns of a tag, beside all changes.
#[test]
fn nothing_outdated_is_read() {
    let cast = Cast {
        sets: 1,
        deletes: 1,
        invalidations: 2,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

#[test]
fn loaders_that_try_again_store_nothing_outdated() {
    let cast = Cast {
        deletes: 1,
        invalidations: 2,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

#[test]
fn loads_without_tags_are_kept_out_by_changes_of_the_key() {
    let cast = Cast {
        is_tagged: false,
        attempts: [2, 1],
        sets: 1,
        deletes: 2,
        invalidations: 1,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

#[test]
fn late_commits_are_harmless() {
    let cast = Cast {
        attempts: [2, 1],
        deletes: 1,
        invalidations: 1,
        copies: 1,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

#[test]
fn reads_by_two_steps_are_sound_in_either_order() {
    let cast = Cast {
        attempts: [1, 1],
        invalidations: 2,
        reads: 1,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

#[test]
fn counts_and_added_tags_serve_nothing_outdated() {
    let cast = Cast {
        attempts: [1, 1],
        invalidations: 1,
        counts: 1,
        edits: 1,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
    let cast = Cast {
        attempts: [1, 0],
        sets: 1,
        deletes: 1,
        invalidations: 1,
        edits: 2,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

#[test]
fn patterns_reach_what_loads_learn_of() {
    let cast = Cast {
        attempts: [1, 2],
        invalidations: 1,
        globs: 1,
        ..NOBODY
    };
    holds(Rules::ALL, cast);
}

/// The known limit: a replica that has not heard of an invalidation becomes the master, and serves what was invalidated.
#[test]
fn a_failover_that_lags_forgets_invalidations() {
    breaks(Rule::InvalidationsAreMadeAgain, FAILED_OVER);
}

/// Making them again closes it for all of them from then on, also where they and loads were under way.
#[test]
fn invalidations_made_again_after_a_failover_count() {
    holds(Rules::ALL, FAILED_OVER);
    let cast = Cast {
        attempts: [2, 0],
        invalidations: 2,
        ..FAILED_OVER
    };
    holds(Rules::ALL, cast);
}

/// Nothing makes deletes again.
#[test]
fn a_failover_that_lags_forgets_deletes() {
    let cast = Cast {
        deletes: 1,
        invalidations: 0,
        ..FAILED_OVER
    };
    let explored = explore(&Rules::ALL, start(cast));
    let (wrong, _) = explored.wrong.expect("the delete is forgotten");
    assert_eq!(wrong, Wrong::Outdated);
}

/// States that can be told apart, but never matter, hide nothing.
#[test]
fn nothing_outdated_is_read_in_states_told_apart() {
    let cast = Cast {
        attempts: [1, 1],
        deletes: 1,
        invalidations: 1,
        ..NOBODY
    };
    holds(Rules::ALL_EXACTLY, cast);
}

/// Makes a test that something goes wrong without the rule.
macro_rules! needed {
    ($($name:ident: $rule:ident with $cast:expr,)*) => {
        $(
            #[test]
            fn $name() {
                breaks(Rule::$rule, $cast);
            }
        )*
    };
}

const INVALIDATED: Cast = Cast {
    invalidations: 1,
    ..NOBODY
};
const LEARNING: Cast = Cast {
    attempts: [0, 1],
    invalidations: 2,
    copies: 1,
    ..NOBODY
};
const CHANGED: Cast = Cast {
    sets: 1,
    deletes: 1,
    ..NOBODY
};
const UNTAGGED: Cast = Cast {
    is_tagged: false,
    ..CHANGED
};
const REPEATED: Cast = Cast {
    deletes: 1,
    invalidations: 1,
    copies: 1,
    ..NOBODY
};

const COUNTED: Cast = Cast {
    attempts: [1, 1],
    invalidations: 1,
    counts: 1,
    ..NOBODY
};
const EDITED: Cast = Cast {
    attempts: [1, 0],
    invalidations: 1,
    edits: 1,
    ..NOBODY
};
const GLOBBED: Cast = Cast {
    attempts: [0, 1],
    globs: 1,
    ..NOBODY
};
const FAILED_OVER: Cast = Cast {
    attempts: [0, 1],
    invalidations: 1,
    failovers: 1,
    ..NOBODY
};

needed! {
    late_capture: CaptureBeforeCompute with INVALIDATED,
    late_marks: MarkBeforeCompute with CHANGED,
    commits_by_two_steps: CommitsAreAtomic with CHANGED,
    renewals_that_create_marks: RenewalsCreateNothing with CHANGED,
    marks_that_outlive_counts: CountsRemoveMarks with COUNTED,
    counts_over_invalid_entries: CountsJudge with COUNTED,
    tags_added_to_invalid_entries: EditsJudge with EDITED,
    added_tags_captured_too_late: EditsCaptureFirst with EDITED,
    patterns_that_list_too_early: GlobsChangeAnyFirst with GLOBBED,
    unstamped_subtrees: SubtreesAreStamped with INVALIDATED,
    numbers_that_come_back: NumbersAreNew with INVALIDATED,
    repeated_captures: CapturesAreNotRepeated with REPEATED,
    repeated_marks: MarksAreNotRepeated with REPEATED,
    repeated_tokens: TokensAreNew with REPEATED,
    tokens_not_compared: TokensAreCompared with CHANGED,
    marks_that_outlive_sets: SetsRemoveMarks with CHANGED,
    marks_that_outlive_deletes: DeletesRemoveMarks with CHANGED,
    marks_that_outlive_clears: ClearsRemoveMarks with UNTAGGED,
    missing_registers: MissingIsInvalid with INVALIDATED,
    numbers_not_compared: NumbersAreEqual with INVALIDATED,
    one_register_of_many: AllRegistersCount with INVALIDATED,
    doomed_loads: MarksAreJudged with INVALIDATED,
    any_changed_last: AnyChangesFirst with INVALIDATED,
    any_changed_sometimes: AnyChangesAlways with INVALIDATED,
    repeated_changes_of_any: AnyIsNotRepeated with LEARNING,
    unchecked_learnt_tags: LearntIsChecked with INVALIDATED,
    learnt_tags_checked_too_early: LearntIsCheckedLast with INVALIDATED,
    any_captured_too_late: AnyIsCapturedFirst with INVALIDATED,
    invalidations_that_do_not_wait: InvalidationsWait with INVALIDATED,
}
