//! Loads, explored: in no order of their smallest steps does a caller get, from the store or from another's load, what a
//! change had made outdated before it called, nor do two loads run where one would do, nor does a caller wait for ever.
//!
//! The model has one key with a tag that is known and one that loaders name, three callers in two processes, a flight for
//! each who leads one, somebody who changes the key or a tag in the process of the first callers, somebody who does so
//! elsewhere, leases that end, registers and entries that are lost, and a process that dies. Each rule is broken once, and
//! then the exploration must find out. Left out: stores that fail, loaders that fail, loads of several keys.

#[path = "../explorer/mod.rs"]
mod explorer;
mod flights;
mod rules;
mod state;
mod steps;

use self::explorer::{Explored, explore};
use self::rules::{Rule, Rules};
use self::state::{CALLERS, Calling, HERE, Kind, State, THERE, What};
use self::steps::Loads;

/// Why a state must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// A caller would get a value that was computed before a change began that has returned before it called.
    Outdated,
    /// A load stored its value although what it might replace had been gone.
    Overwrote,
    /// A load began while another ran and nothing had happened.
    Second,
    /// From here, some caller never gets an answer.
    Stuck,
}

/// Who takes part, and how often.
#[derive(Debug, Clone, Copy)]
struct Cast {
    /// The process of each caller.
    callers: &'static [u8],
    /// Whether loaders name a tag while they compute.
    learns: bool,
    /// Whether there is an entry that is of no use to whoever loads.
    is_foreign: bool,
    /// Changes in the process of the first callers, and elsewhere.
    here: u8,
    remote: u8,
    leases_end: bool,
    losses: u8,
    crashes: bool,
    /// Whether who waits for another's load may stop to.
    is_impatient: bool,
    /// Whether callers find that a value wants to be refreshed.
    refreshes: bool,
    /// Whether every caller must be able to get an answer.
    must_end: bool,
}

const NOBODY: Cast = Cast {
    callers: &[],
    learns: false,
    is_foreign: false,
    here: 0,
    remote: 0,
    leases_end: false,
    losses: 0,
    crashes: false,
    is_impatient: false,
    refreshes: false,
    must_end: false,
};

impl Cast {
    /// Returns what those who change something can do.
    fn changes(self) -> impl Iterator<Item = What> {
        let learnt = self.learns.then_some(What::InvalidateLearnt);
        [What::Set, What::Delete, What::Invalidate]
            .into_iter()
            .chain(learnt)
    }
}

fn start(cast: Cast) -> State {
    let mut state = State::default();
    for me in 0..CALLERS {
        match cast.callers.get(me) {
            Some(process) => state.callers[me].process = *process,
            None => state.callers[me].at = Calling::Over,
        }
    }
    if cast.is_foreign {
        state.slot.kind = Kind::Foreign;
    }
    state.here.left = cast.here;
    state.remote.left = cast.remote;
    state.losses = cast.losses;
    state
}

fn explored(broken: Option<Rule>, cast: Cast) -> Explored<Loads> {
    let rules = Rules { broken };
    explore(&Loads { rules, cast }, start(cast))
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
fn breaks(rule: Rule, cast: Cast, expected: Wrong) {
    let explored = explored(Some(rule), cast);
    let (wrong, way) = explored.wrong.expect("nothing goes wrong without the rule");
    println!("{rule:?}: {wrong:?} after {} steps: {way:?}", way.len());
    assert_eq!(wrong, expected, "{way:?}");
}

/// Two callers of one process, beside changes there and elsewhere.
const TOGETHER: Cast = Cast {
    callers: &[HERE, HERE],
    here: 1,
    remote: 1,
    leases_end: true,
    ..NOBODY
};
/// The second caller comes from another process.
const APART: Cast = Cast {
    callers: &[HERE, THERE],
    ..TOGETHER
};
/// Two callers and a third in another process.
const BOTH: Cast = Cast {
    callers: &[HERE, HERE, THERE],
    remote: 1,
    leases_end: true,
    ..NOBODY
};
const LEARNING: Cast = Cast {
    learns: true,
    here: 0,
    ..TOGETHER
};

#[test]
fn callers_of_one_process_get_nothing_outdated() {
    let cast = Cast {
        leases_end: false,
        ..TOGETHER
    };
    let wider = Cast {
        remote: 2,
        losses: 1,
        ..TOGETHER
    };
    holds(cast, wider);
}

#[test]
fn several_changes_elsewhere_overtake_a_load() {
    let cast = Cast {
        here: 0,
        remote: 2,
        losses: 1,
        ..TOGETHER
    };
    holds(cast, Cast { remote: 3, ..cast });
}

#[test]
fn several_changes_of_its_own_process_overtake_a_load() {
    let cast = Cast {
        here: 2,
        remote: 0,
        ..TOGETHER
    };
    holds(cast, Cast { losses: 1, ..cast });
}

#[test]
fn callers_of_two_processes_get_nothing_outdated() {
    let cast = Cast {
        is_impatient: true,
        ..APART
    };
    let wider = Cast {
        remote: 2,
        losses: 1,
        ..cast
    };
    holds(cast, wider);
}

#[test]
fn who_joins_with_others_elsewhere_gets_nothing_outdated() {
    let wider = Cast {
        remote: 2,
        is_impatient: true,
        ..BOTH
    };
    holds(BOTH, wider);
}

#[test]
fn three_callers_share_what_the_store_said() {
    let cast = Cast {
        callers: &[HERE, HERE, HERE],
        leases_end: false,
        ..BOTH
    };
    holds(
        cast,
        Cast {
            remote: 2,
            leases_end: true,
            ..cast
        },
    );
}

#[test]
fn loads_that_learn_of_tags_are_joined_by_nobody_too_late() {
    holds(
        LEARNING,
        Cast {
            here: 1,
            ..LEARNING
        },
    );
}

#[test]
fn loads_that_replace_an_entry_store_nothing_outdated() {
    let cast = Cast {
        is_foreign: true,
        learns: true,
        losses: 1,
        here: 0,
        ..TOGETHER
    };
    let wider = Cast {
        learns: false,
        here: 1,
        ..cast
    };
    holds(cast, wider);
}

#[test]
fn one_loader_while_nothing_happens() {
    let cast = Cast {
        callers: &[HERE, HERE, THERE],
        must_end: true,
        ..NOBODY
    };
    holds(cast, cast);
}

/// Also when a process dies with its mark, and nobody loses patience.
#[test]
fn nobody_waits_for_ever() {
    let cast = Cast {
        crashes: true,
        must_end: true,
        ..BOTH
    };
    let wider = Cast {
        here: 1,
        remote: 0,
        ..cast
    };
    holds(cast, wider);
}

/// Makes a test that something goes wrong without the rule.
macro_rules! needed {
    ($($name:ident: $rule:ident with $cast:expr => $wrong:ident,)*) => {
        $(
            #[test]
            fn $name() {
                breaks(Rule::$rule, $cast, Wrong::$wrong);
            }
        )*
    };
}

const ALONE: Cast = Cast {
    callers: &[HERE],
    remote: 1,
    leases_end: true,
    ..NOBODY
};
const CROWDED: Cast = Cast {
    remote: 0,
    is_impatient: true,
    ..BOTH
};

needed! {
    late_capture: CaptureBeforeCompute with ALONE => Outdated,
    late_marks: MarkBeforeCompute with ALONE => Outdated,
    tokens_not_compared: TokensAreCompared with APART => Overwrote,
    renewals_that_create_marks: RenewalsCreateNothing with ALONE => Overwrote,
    repeated_marks: MarksAreNotRepeated with ALONE => Overwrote,
    marks_that_outlive_sets: SetsRemoveMarks with ALONE => Overwrote,
    marks_that_outlive_deletes: DeletesRemoveMarks with ALONE => Overwrote,
    joins_without_asking: JoinsAsk with TOGETHER => Outdated,
    joins_that_ask_for_registers_only: JoinsAskForTheMark with TOGETHER => Outdated,
    joins_that_do_not_ask_for_any: JoinsAskForAny with LEARNING => Outdated,
    joins_that_do_not_ask_for_registers:
        JoinsAskForRegisters with Cast { is_foreign: true, ..TOGETHER } => Outdated,
    proofs_that_count_from_the_answer:
        ProofsCountFromTheQuestion with Cast { callers: &[HERE, HERE, HERE], ..BOTH } => Outdated,
    beginnings_that_count_too_late: BeginningsCountBeforeTheyAreSent with TOGETHER => Outdated,
    leases_taken_without_a_new_begin:
        VainWaitsStoreNothing with Cast { is_impatient: true, ..APART } => Outdated,
    old_values_under_new_stamps:
        OldValuesKeepTheirStamps with Cast { refreshes: true, remote: 2, ..ALONE } => Outdated,
    marks_that_nobody_waits_for: MarksAreWaitedFor with CROWDED => Second,
    marks_that_never_end:
        MarksEnd with Cast { crashes: true, remote: 0, must_end: true, ..BOTH } => Stuck,
    landings_that_claim_nothing:
        LandingsAreClaimed with Cast { here: 0, must_end: true, ..TOGETHER } => Stuck,
}
