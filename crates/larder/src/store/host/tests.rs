//! What outlasts a restart of the host, a change of date and the death of a process.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::ManualClock;
use crate::lease::{HOLD_TIMES_MS, IDLE_MS};

/// An instance that no file stands for.
const ELSEWHERE: &str = "host/1/00112233445566778899aabbccddeeff-1";

/// A record in memory, and what changes it.
struct Place {
    ledger: Ledger,
    dir: PathBuf,
    id: Id,
    bytes: Option<Vec<u8>>,
    keep_until_ms: u64,
}

impl Place {
    fn new(clock: &ManualClock, dir: &Path) -> Self {
        let dir = dir.join("owners");
        Self {
            ledger: Ledger::new(clock.clock(), dir.clone()),
            dir,
            id: Id::new(Kind::Lease, &Namespace::new("app", "locks", 1), b"name"),
            bytes: None,
            keep_until_ms: 0,
        }
    }

    /// Goes on after a restart of the host.
    fn restart(&mut self, boot: &str) {
        self.ledger = Ledger::new(self.ledger.clock.clone(), self.dir.clone());
        self.ledger.boot = boot.to_owned();
    }

    fn apply(&mut self, rule: &Rule) -> Outcome {
        self.ledger.prepare(rule).unwrap();
        let effect = self.ledger.apply(&self.id, rule, self.bytes.as_deref());
        let effect = effect.unwrap();
        if let Some(written) = effect.written {
            self.bytes = Some(written.bytes);
            self.keep_until_ms = written.keep_until_ms;
        }
        effect.outcome
    }

    /// Returns the fence if the owner is granted the lease.
    fn acquire(&mut self, owner: &Owner) -> Option<u64> {
        let ask = Ask {
            owner: owner.clone(),
            permits: 1,
            ttl_ms: 60_000,
            heartbeat_ms: Some(5000),
            barge: false,
        };
        match self.apply(&Rule::Acquire(ask)) {
            Outcome::Answered(Answer::Granted { fence, .. }) => Some(fence),
            Outcome::Answered(Answer::Busy { .. }) => None,
            other => panic!("{other:?}"),
        }
    }

    fn hold_times(&self) -> Vec<u64> {
        self.ledger.hold_times(&self.id, self.bytes.as_deref())
    }
}

/// Returns an owner of another process than those of other numbers.
fn owner_of(process: u128) -> Owner {
    Owner::from_text(&format!("host/1/{process:032x}-1"))
}

fn is_held(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Held(true))
}

#[test]
fn a_restart_of_the_host_frees_holders_and_keeps_fences_and_hold_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&ManualClock::new(), dir.path());
    place.restart("first");
    let (a, b, c) = (owner_of(1), owner_of(2), owner_of(3));
    let first = place.acquire(&a).unwrap();
    place.apply(&Rule::Release {
        owner: a.clone(),
        held_ms: Some(17),
    });
    let second = place.acquire(&a).unwrap();
    assert_eq!(place.acquire(&b), None);
    place.restart("second");
    let extend = Rule::Extend {
        owner: a.clone(),
        ttl_ms: 1,
    };
    assert!(!is_held(place.apply(&extend)), "it is no holder any more");
    let third = place.acquire(&c).expect("nobody waits before it either");
    assert!(first < second && second < third);
    assert_eq!(place.hold_times(), [17]);
    place.ledger.boot.clear();
    assert_eq!(place.acquire(&a), None, "an unknown start may be the same");
}

#[test]
fn a_container_that_names_the_start_otherwise_excludes_and_is_excluded() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let (mut host, mut container) = (
        Place::new(&clock, dir.path()),
        Place::new(&clock, dir.path()),
    );
    host.restart("first");
    container.restart("second");
    let (a, b) = (owner_of(1), owner_of(2));
    host.acquire(&a).unwrap();
    container.bytes = host.bytes.take();
    assert_eq!(container.acquire(&b), None, "the holder lives");
    host.bytes = container.bytes.take();
    let release = Rule::Release {
        owner: a.clone(),
        held_ms: None,
    };
    assert!(is_held(host.apply(&release)));
    assert_eq!(host.acquire(&a), None, "the other was first");
    container.bytes = host.bytes.take();
    assert!(container.acquire(&b).is_some());
}

#[test]
fn a_bucket_is_full_after_a_restart_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&ManualClock::new(), dir.path());
    place.id.kind = Kind::Bucket;
    place.restart("first");
    let rate = Rate {
        tokens: 1,
        interval_ms: 1000,
        burst: 3,
    };
    let take = |place: &mut Place| match place.apply(&Rule::Take { rate, tokens: 3 }) {
        Outcome::Taken(taken) => taken.allowed,
        other => panic!("{other:?}"),
    };
    assert!(take(&mut place));
    assert!(!take(&mut place));
    place.restart("second");
    assert!(take(&mut place));
}

#[test]
fn a_damaged_record_counts_as_absent_and_the_fence_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let mut place = Place::new(&clock, dir.path());
    let former = place.acquire(&Owner::new()).unwrap();
    let mut others = place.bytes.clone().unwrap();
    others[20] ^= 1;
    clock.advance(Duration::from_millis(1));
    for damaged in [others, b"junk".to_vec(), Vec::new()] {
        place.bytes = Some(damaged);
        assert!(place.acquire(&Owner::new()).unwrap() > former);
    }
    let other_name = Id::new(Kind::Lease, &Namespace::new("app", "locks", 1), b"other");
    place.id = other_name;
    let misplaced = place.acquire(&Owner::new());
    assert!(misplaced.is_some(), "a record of another name says nothing");
}

#[test]
fn records_are_kept_while_they_say_something() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let mut place = Place::new(&clock, dir.path());
    place.restart("first");
    let owner = Owner::new();
    place.acquire(&owner).unwrap();
    let now_ms = clock.clock().now_ms();
    assert_eq!(place.keep_until_ms, now_ms + 60_000 + IDLE_MS);
    let bytes = place.bytes.clone().unwrap();
    assert_eq!(
        place.ledger.use_of(&bytes),
        Use::Until(place.keep_until_ms),
        "the date may be wrong"
    );
    clock.advance(Duration::from_millis(60_000 + IDLE_MS));
    assert_eq!(place.ledger.use_of(&bytes), Use::Over);
    assert_eq!(place.ledger.use_of(b"junk"), Use::Over);
    let held_ms = Some(1);
    place.apply(&Rule::Release { owner, held_ms });
    let now_ms = clock.clock().now_ms();
    assert_eq!(place.keep_until_ms, now_ms + HOLD_TIMES_MS);
    place.restart("second");
    let bytes = place.bytes.unwrap();
    assert_eq!(place.ledger.use_of(&bytes), Use::Until(place.keep_until_ms));
    clock.advance(Duration::from_millis(HOLD_TIMES_MS));
    assert_eq!(place.ledger.use_of(&bytes), Use::Over, "by the date");
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&ManualClock::new(), dir.path());
    let (a, b) = (Owner::new(), Owner::new());
    let release = |owner: &Owner| Rule::Release {
        owner: owner.clone(),
        held_ms: None,
    };
    assert!(!is_held(place.apply(&release(&a))));
    place.apply(&Rule::Evict);
    assert_eq!(place.bytes, None);
    place.acquire(&a).unwrap();
    let before = place.bytes.clone();
    place.acquire(&a).unwrap();
    place.apply(&release(&b));
    assert_eq!(place.bytes, before);
}

#[test]
fn the_leases_of_the_dead_are_free_and_those_of_strangers_last() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let mut place = Place::new(&clock, dir.path());
    let stranger = Owner::from_text(ELSEWHERE);
    let mut elsewhere = Place::new(&clock, dir.path());
    elsewhere.acquire(&stranger).unwrap();
    place.bytes = elsewhere.bytes.take();
    let own = Owner::new();
    assert_eq!(place.acquire(&own), None, "it lives");
    let status = |place: &Place| {
        let bytes = place.bytes.as_deref().unwrap();
        let status = place
            .ledger
            .status(&place.id, bytes, &Glob::new("*").unwrap());
        status.map(|status| (status.holders.len(), status.waiters))
    };
    assert_eq!(status(&place), Some((1, 1)));
    drop(elsewhere);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(status(&place), Some((0, 1)), "the dead are not listed");
    assert!(place.acquire(&own).is_some());
    std::fs::remove_dir_all(dir.path().join("owners")).unwrap();
    let mut other = Place::new(&clock, dir.path());
    other.bytes = place.bytes.take();
    assert_eq!(
        other.acquire(&stranger),
        None,
        "what is missing is not dead"
    );
}
