//! The protocol of tags, explored: in no order of its smallest steps does a read return what an invalidation, a set, a
//! delete or a clear had made outdated before it began.
//!
//! The model has one key, the registers of a tag, of the subtree above it and of a tag that loads learn of, two loaders
//! that try again, somebody who sets, somebody who deletes or clears, somebody who invalidates, and losses of anything
//! at any time. Each rule of the protocol is broken once, and then the exploration must find out.

mod rules;
mod search;
mod state;
mod steps;

use self::rules::{Rule, Rules};
use self::search::explore;
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
}

const NOBODY: Cast = Cast {
    is_tagged: true,
    attempts: [2, 2],
    sets: 0,
    deletes: 0,
    invalidations: 0,
    reads: 0,
    copies: 0,
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
    state
}

/// Explores to the end; nothing may be wrong.
fn holds(rules: Rules, cast: Cast) {
    let began = std::time::Instant::now();
    let explored = explore(rules, start(cast));
    println!(
        "{} states in {:?}: {cast:?}",
        explored.states,
        began.elapsed()
    );
    assert_eq!(explored.wrong, None);
}

/// Explores with one rule broken; something must go wrong.
fn breaks(rule: Rule, cast: Cast) {
    let explored = explore(Rules::without(rule), start(cast));
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

needed! {
    late_capture: CaptureBeforeCompute with INVALIDATED,
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
