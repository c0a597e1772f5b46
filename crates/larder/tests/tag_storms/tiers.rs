//! Storms by processes with local tiers. A copy may be outdated for as long as the tier may lag behind other processes, and
//! never by a change of its own process.

use crate::Kind;
use crate::plan::Plan;
use crate::storm::{Outcome, rage};

/// How often a storm may fail to notice what is wrong.
const CHANCES: usize = 20;

/// Makes the test of each store.
macro_rules! storms_of_tiers {
    ($($name:ident: $kind:ident,)*) => {$(
        #[test]
        fn $name() {
            nothing_is_outdated_for_too_long(Kind::$kind);
        }
    )*};
}

storms_of_tiers! {
    told: Told,
    sqlite: Sqlite,
    file: File,
    redis: Redis,
    redis_cluster: RedisCluster,
    memcached: Memcached,
}

fn storm(kind: Kind) -> Outcome {
    let outcome = rage(kind, Plan::of(crate::PROCESSES).tiered());
    outcome.report(&format!("{}, local tiers", kind.name()));
    outcome
}

fn nothing_is_outdated_for_too_long(kind: Kind) {
    let outcome = storm(kind);
    outcome.assert_sound();
    assert!(outcome.counts.local_hits > 0, "the tiers never hit");
}

/// The checker finds journals out.
fn is_caught(kind: Kind) {
    let finds = |_| !storm(kind).is_sound();
    assert!((0..CHANCES).any(finds), "nothing outdated was read");
}

#[test]
fn lost_notes_are_caught() {
    is_caught(Kind::ForgetsNotes);
}

#[test]
fn notes_before_their_changes_are_caught() {
    is_caught(Kind::NotesEarly);
}
