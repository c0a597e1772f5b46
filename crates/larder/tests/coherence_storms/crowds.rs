//! Ten thousand callers in eight processes ask for one key that nobody has.

use std::time::Duration;

use crate::party::{Answers, Asked, Party};
use crate::{Kind, MS, Site, report};

const PROCESSES: usize = 8;
const CALLERS: u64 = 10_000 / PROCESSES as u64;
const LOAD: Duration = Duration::from_millis(300);
const LEASE: Duration = Duration::from_millis(800);
/// What a look at the store, and a busy machine, may add.
const SLACK: Duration = Duration::from_millis(200);

fn start(site: &Site) -> Vec<Party> {
    let start = |number| Party::start(Kind::Redis, &site.store, number, None);
    (0..PROCESSES).map(start).collect()
}

fn crowd(key: &str) -> Asked<'_> {
    Asked {
        key,
        callers: CALLERS,
        load: Some(LOAD),
        lease: LEASE,
        shares: true,
    }
}

/// Returns all loads, the last answer, and the different values.
fn sum(answers: &[Answers]) -> (Vec<u64>, u64, Vec<String>) {
    let loads = answers.iter().flat_map(|it| it.loads_ns.clone()).collect();
    let mut values: Vec<_> = answers.iter().flat_map(|it| it.values.clone()).collect();
    values.sort_unstable();
    values.dedup();
    let ended_ns = answers.iter().map(|it| it.ended_ns).max();
    assert!(answers.iter().all(|it| it.count == CALLERS), "{answers:?}");
    (loads, ended_ns.unwrap_or(0), values)
}

fn ask_all(parties: &mut [Party], asked: Asked<'_>) -> (Vec<u64>, u64, Vec<String>) {
    parties.iter_mut().for_each(|party| party.ask(asked));
    let answers: Vec<_> = parties.iter().map(Party::answers).collect();
    sum(&answers)
}

#[test]
fn one_of_all_loads() {
    let site = Site::new();
    let mut parties = start(&site);
    let (trials, mut late_ns) = (report::trials(1, 1000), Vec::new());
    for trial in 0..trials {
        let key = format!("key:{trial}");
        let (loads, ended_ns, values) = ask_all(&mut parties, crowd(&key));
        assert_eq!((loads.len(), values.len()), (1, 1), "{loads:?} {values:?}");
        late_ns.push(ended_ns.saturating_sub(loads[0] + LOAD.as_nanos() as u64));
        let (loads, _, again) = ask_all(&mut parties, crowd(&key));
        assert_eq!((loads.len(), again), (0, values));
    }
    if report::is_long() {
        let longest = late_ns.iter().max().copied().unwrap_or(0);
        assert!(longest <= SLACK.as_nanos() as u64, "{longest} ns");
    }
    let figures = report::times(late_ns);
    report::row(
        "crowd, one load for all",
        format!("{trials} trials, last answer after the load: {figures}"),
    );
}

/// Whoever asks before the load of its process has begun shares it; whoever asks later cannot know whether it still stands.
#[test]
fn without_leases_each_process_loads() {
    let site = Site::new();
    let mut asked = crowd("key");
    asked.shares = false;
    let (loads, _, _) = ask_all(&mut start(&site), asked);
    report::row("crowd, unprotected", format!("{} loads", loads.len()));
    let shared = PROCESSES * CALLERS as usize / 2;
    assert!((1..=shared).contains(&loads.len()), "{}", loads.len());
}

#[test]
fn one_of_the_others_loads_when_the_first_is_killed() {
    let site = Site::new();
    let (trials, mut times_ns) = (report::trials(1, 1000), Vec::new());
    for trial in 0..trials {
        let key = format!("key:{trial}");
        let mut parties = start(&site);
        let mut asked = crowd(&key);
        // The first load is let go by nobody.
        asked.load = None;
        parties.iter_mut().for_each(|party| party.ask(asked));
        let first = who_loads(&parties);
        let killed_ns = crate::moment::now();
        parties.swap_remove(first).0.kill();
        parties.iter_mut().for_each(|party| party.0.tell("go"));
        let answers: Vec<_> = parties.iter().map(Party::answers).collect();
        let (loads, _, values) = sum(&answers);
        assert_eq!((loads.len(), values.len()), (1, 1), "{loads:?} {values:?}");
        times_ns.push(loads[0].saturating_sub(killed_ns));
    }
    if report::is_long() {
        let longest = times_ns.iter().max().copied().unwrap_or(0);
        assert!(longest <= (LEASE + SLACK).as_nanos() as u64, "{longest} ns");
    }
    report::row(
        format!("crowd, first loader killed, lease {LEASE:?}"),
        format!("{trials} trials, next load: {}", report::times(times_ns)),
    );
}

/// Waits until a load begins; returns where.
fn who_loads(parties: &[Party]) -> usize {
    loop {
        for (index, party) in parties.iter().enumerate() {
            if let Some(heard) = party.hear_within(MS) {
                assert!(heard.starts_with("load "), "{heard}");
                return index;
            }
        }
    }
}
