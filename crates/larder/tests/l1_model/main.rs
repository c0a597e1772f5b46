//! The local tier, explored: in no order of its smallest steps is a copy used that a change of this process had made outdated
//! before it returned, nor one that somebody else's change had made outdated longer ago than the bound on staleness.
//!
//! The model has one key of a store with a journal, and a process with a local tier: two readers, a load, two changes that
//! may overlap, and the task that follows the journal, whose stream may be lost or trimmed. Others set, delete,
//! invalidate, mark as stale and clear. Time passes in ticks. Each rule is broken once, and then the exploration must
//! find out. Left out: several parts of a store, causal tokens, schemas and types, TTLs, clears by this process.

mod changes;
#[path = "../explorer/mod.rs"]
mod explorer;
mod journal;
mod rules;
mod state;
mod steps;

use self::explorer::{Explored, explore};
use self::rules::{Rule, Rules};
use self::state::{CHANGERS, INITIAL, READERS, Slot, State, What};
use self::steps::Tier;

/// Why a state must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// A read from the store that begins now returns what a change had made outdated.
    InStore,
    /// So does a read of the local tier, for a change of this process, or one that returned longer ago than the bound.
    InTier,
}

/// Who takes part, and how often.
#[derive(Debug, Clone, Copy)]
struct Cast {
    /// Whether the store tells of changes.
    is_told: bool,
    /// How often each reader reads.
    reads: [u8; READERS],
    loads: u8,
    /// What this process may do, and how many changes it makes.
    own: &'static [What],
    own_changes: u8,
    /// What others may do, and how many changes they make.
    remote: &'static [What],
    remote_changes: u8,
    /// Whether a change is noted after it was made, not by the same step, so that notes may change their order.
    notes_are_late: bool,
    /// How often the stream is lost or trimmed.
    losses: u8,
}

const NOBODY: Cast = Cast {
    is_told: true,
    reads: [0, 0],
    loads: 0,
    own: &[What::Set, What::Delete, What::Invalidate, What::Soften],
    own_changes: 0,
    remote: &[What::Set, What::Delete, What::Invalidate, What::Soften],
    remote_changes: 0,
    notes_are_late: false,
    losses: 0,
};

fn start(cast: Cast) -> State {
    let mut state = State::new();
    state.slot = Slot::Value(INITIAL);
    state.make(INITIAL);
    for (reader, left) in state.readers.iter_mut().zip(cast.reads) {
        reader.left = left;
    }
    state.loader.left = cast.loads;
    for me in 0..CHANGERS {
        state.changers[me].left = u8::from(me < usize::from(cast.own_changes));
        state.remotes[me].left = u8::from(me < usize::from(cast.remote_changes));
    }
    state.losses = cast.losses;
    state
}

fn explored(broken: Option<Rule>, cast: Cast) -> Explored<Tier> {
    let rules = Rules { broken };
    explore(&Tier { rules, cast }, start(cast))
}

/// Explores to the end; nothing may be wrong. `wider` takes longer than the suite has time for.
fn holds(cast: Cast, wider: Cast) {
    let is_wide = std::env::var_os("LARDER_TEST_WIDE_MODELS").is_some();
    let cast = if is_wide { wider } else { cast };
    let began = std::time::Instant::now();
    let explored = explored(None, cast);
    println!(
        "{} states in {:?}: {cast:?}",
        explored.states,
        began.elapsed()
    );
    assert_eq!(explored.wrong, None);
}

/// Explores with one rule broken; that must go wrong.
fn breaks(rule: Rule, cast: Cast) {
    let explored = explored(Some(rule), cast);
    let (wrong, way) = explored.wrong.expect("nothing goes wrong without the rule");
    println!("{rule:?}: {wrong:?} after {} steps: {way:?}", way.len());
    assert_eq!(wrong, Wrong::InTier, "{way:?}");
}

/// Readers, beside changes of others.
const READ: Cast = Cast {
    reads: [1, 1],
    remote_changes: 2,
    ..NOBODY
};
/// A reader, beside changes of this process.
const CHANGED: Cast = Cast {
    reads: [1, 0],
    own_changes: 2,
    ..NOBODY
};
/// A reader, beside one change of this process and one elsewhere.
const BOTH: Cast = Cast {
    own_changes: 1,
    remote_changes: 1,
    ..CHANGED
};
const LOADED: Cast = Cast {
    loads: 1,
    remote_changes: 1,
    ..NOBODY
};
const LOST: Cast = Cast {
    remote_changes: 1,
    losses: 1,
    reads: [1, 0],
    ..NOBODY
};
/// Nobody tells of changes.
const CAPPED: Cast = Cast {
    is_told: false,
    ..READ
};

#[test]
fn copies_of_what_others_change_are_no_older_than_the_bound() {
    holds(READ, Cast { losses: 1, ..READ });
}

#[test]
fn own_changes_are_seen_at_once() {
    let wider = Cast {
        reads: [2, 1],
        ..CHANGED
    };
    holds(CHANGED, wider);
}

#[test]
fn own_changes_beside_others_are_seen_at_once() {
    let wider = Cast {
        remote_changes: 2,
        ..BOTH
    };
    holds(BOTH, wider);
}

#[test]
fn loaded_values_are_kept_only_if_nothing_overtook_them() {
    let cast = Cast {
        loads: 1,
        reads: [0, 0],
        ..BOTH
    };
    let wider = Cast {
        reads: [1, 0],
        ..cast
    };
    holds(cast, wider);
}

#[test]
fn lost_and_trimmed_streams_hide_nothing() {
    let cast = Cast {
        remote: &[What::Set, What::Delete, What::Invalidate, What::Clear],
        losses: 2,
        ..LOST
    };
    let wider = Cast { loads: 1, ..cast };
    holds(cast, wider);
}

#[test]
fn copies_live_no_longer_than_the_bound_where_nobody_tells() {
    let cast = Cast {
        own_changes: 1,
        ..CAPPED
    };
    let wider = Cast {
        loads: 1,
        remote: &[What::Set, What::Delete, What::Invalidate],
        ..cast
    };
    let short = Cast {
        reads: [1, 0],
        ..cast
    };
    holds(short, wider);
}

/// The known limit: a value that is marked as stale while it is loaded is stored, and stale there; the copy does not know,
/// and nobody tells.
#[test]
fn values_marked_stale_while_they_are_loaded_are_kept_where_nobody_tells() {
    let cast = Cast {
        loads: 1,
        reads: [0, 0],
        ..CAPPED
    };
    let hard = Cast {
        remote: &[What::Set, What::Delete, What::Invalidate],
        ..cast
    };
    holds(hard, hard);
    let told = Cast {
        is_told: true,
        ..cast
    };
    holds(told, told);
    let (wrong, way) = explored(None, cast).wrong.expect("the copy is too old");
    println!("{wrong:?} after {} steps: {way:?}", way.len());
    assert_eq!(wrong, Wrong::InTier);
}

/// Where a store notes a change after it was made.
#[test]
fn late_notes_hide_nothing() {
    let wider = Cast {
        reads: [1, 1],
        ..LATE
    };
    holds(LATE, wider);
    let cast = Cast {
        notes_are_late: true,
        ..BOTH
    };
    let wider = Cast { loads: 1, ..cast };
    holds(cast, wider);
}

const LATE: Cast = Cast {
    notes_are_late: true,
    reads: [1, 0],
    ..READ
};

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

needed! {
    markers_after_the_read: MarkersComeFirst with READ,
    markers_that_end_before_the_commit: MarkersLast with LOADED,
    notes_that_doom_no_markers: NotesDoomMarkers with READ,
    registers_that_doom_no_markers: RegistersDoomMarkers with READ,
    gaps_that_doom_no_markers: GapsDoomMarkers with LOST,
    no_stream_as_no_news: NoStreamIsAGap with LOST,
    trimmed_streams_as_no_news: TrimmedIsAGap with LOST,
    polls_that_count_from_the_reply: PollsCountFromSending with READ,
    polls_that_count_too_early: PollsCountWhenApplied with READ,
    freshness_that_never_ends: FreshnessEnds with READ,
    own_changes_applied_too_late: OwnChangesAreAppliedFirst with CHANGED,
    own_sets_in_spite_of_others: SetsHeedOthers with CHANGED,
    stale_values_kept: StaleIsNotInserted with READ,
    notes_before_changes: NotesFollowChanges with READ,
    last_notes_only: EachNoteCounts with LATE,
    last_notes_only_beside_an_own_set:
        EachNoteCounts with Cast { notes_are_late: true, reads: [0, 0], ..BOTH },
    own_copies_kept: OwnCopiesGo with BOTH,
    lives_that_count_from_insertion: LivesCountFromSending with CAPPED,
}
