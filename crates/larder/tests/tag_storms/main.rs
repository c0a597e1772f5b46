//! Storms of everything that tags are used with, by real processes on one store: no read returns what was invalidated, set
//! anew, deleted or cleared before it began, whatever the store loses of its bookkeeping.
//!
//! The suite has the short form; `cargo xtask soak tags` has the long one, in which hit ratios are judged, too: a cache
//! that always misses is never wrong. A store is one line in [`storms!`], and what [`place::Kind`] knows of it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../processes/child.rs"]
#[expect(dead_code, reason = "nobody is killed in these storms")]
mod child;
mod evicted;
#[path = "../broken_tags/key_sets.rs"]
mod key_sets;
#[path = "../broken_tags/layout.rs"]
#[expect(dead_code, reason = "key sets need a part of it")]
mod layout;
mod losses;
mod moment;
mod place;
mod plan;
mod record;
mod storm;
mod tiers;
mod told;
mod worker;

use std::io::BufRead as _;

use self::place::Kind;
use self::plan::{Plan, operations};
use self::storm::rage;

const PROCESSES: u64 = 4;
/// How often a short storm may fail to notice what is wrong.
const CHANCES: usize = 8;

/// Makes the tests of each store: without and with losses, where something can lose registers behind its back.
macro_rules! storms {
    ($($name:ident: $kind:ident $($loses:ident)?,)*) => {$(
        mod $name {
            use crate::Kind;

            #[test]
            fn nothing_outdated_is_read() {
                crate::nothing_outdated_is_read(Kind::$kind);
            }

            $(
                #[test]
                fn lost_registers_make_misses() {
                    crate::lost_registers_make_misses(Kind::$kind, stringify!($loses));
                }
            )?
        }
    )*};
}

storms! {
    memory: Memory,
    sqlite: Sqlite loses,
    file: File loses,
    redis: Redis loses,
    redis_cluster: RedisCluster loses,
    memcached: Memcached,
}

fn plan_for(kind: Kind) -> Plan {
    Plan::of(if kind.is_shared() { PROCESSES } else { 1 })
}

fn nothing_outdated_is_read(kind: Kind) {
    let outcome = rage(kind, plan_for(kind));
    outcome.report(kind.name());
    outcome.assert_sound();
}

/// One register is lost for each hundred operations.
fn lost_registers_make_misses(kind: Kind, _loses: &str) {
    let plan = plan_for(kind);
    let calm = Plan {
        operations: plan.operations / 4,
        ..plan
    };
    let calm = rage(kind, calm);
    let lossy = rage(kind, plan.losing());
    lossy.report(&format!("{}, registers lost", kind.name()));
    lossy.assert_sound();
    assert!(lossy.counts.lost > 0, "nothing was lost");
    if operations().1 {
        let (calm, lossy) = (calm.hit_ratio(), lossy.hit_ratio());
        assert!(
            lossy >= 0.8 * calm,
            "{lossy} of the reads hit, without losses {calm}"
        );
    }
}

/// The widespread design of a set of keys per tag does not pass.
#[test]
fn key_sets_are_caught() {
    let is_caught = |_| {
        let outcome = rage(Kind::KeySets, Plan::of(1));
        outcome.report(Kind::KeySets.name());
        !outcome.outdated.is_empty()
    };
    assert!((0..CHANCES).any(is_caught), "nothing outdated was read");
}

/// What a child process runs; see [`child::Child::start`]. Does nothing in any other.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(child::ROLE) else {
        return;
    };
    assert_eq!(role, "storm");
    let variable = |name: &str| std::env::var(name).unwrap();
    let kind = Kind::by_name(&variable(child::STORE));
    let (dir, number) = (variable(child::DIR), variable(child::NUMBER));
    // The test framework has left an unfinished line.
    println!();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(worker::play(kind, dir.as_ref(), number.parse().unwrap()));
}

fn say(word: impl std::fmt::Display) {
    println!("{}{word}", child::MARK);
}

fn told() -> Option<String> {
    std::io::stdin().lock().lines().next().map(Result::unwrap)
}
