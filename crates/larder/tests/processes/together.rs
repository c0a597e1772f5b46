//! Processes that work at the same time, and all finish.

use std::path::Path;

use larder::store::Expiry;
use larder::testing::body;

use crate::Kind;
use crate::child::Child;
use crate::roles::{CONTESTED_KEYS, INCREMENTS, namespace};

const PROCESSES: usize = 8;
const FRESH_DIRECTORIES: usize = 20;

/// Starts processes in one role, lets them go at the same moment, and returns what each said.
fn run(role: &str, kind: Kind, dir: &Path) -> Vec<Vec<String>> {
    let start = |number| Child::start(role, kind, dir, (number, 0));
    let mut children: Vec<_> = (0..PROCESSES).map(start).collect();
    for child in &children {
        assert_eq!(child.hear(), "ready");
    }
    for child in &mut children {
        child.tell("go");
    }
    children.into_iter().map(Child::finish).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// Eight processes count to 10,000 each on one counter, which ends at exactly 80,000.
pub(crate) fn eight_processes_count_exactly(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    run("count", kind, dir.path());
    let store = kind.open(dir.path());
    let sum = block_on(store.increment(&namespace(), b"counter", 0, Expiry::Never));
    assert_eq!(sum.unwrap(), PROCESSES as i64 * INCREMENTS);
    drop(store);
    kind.check_files(dir.path());
}

/// Eight processes try to be first with 500 keys: each key has one winner, whose value it holds.
pub(crate) fn eight_processes_win_each_key_once(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let won = run("win", kind, dir.path());
    let store = kind.open(dir.path());
    let mut winners = vec![Vec::new(); CONTESTED_KEYS as usize];
    for (number, keys) in won.iter().enumerate() {
        for key in keys {
            winners[key.parse::<usize>().unwrap()].push(number);
        }
    }
    for (key, winners) in winners.iter().enumerate() {
        assert_eq!(winners.len(), 1, "key {key} was won by {winners:?}");
        let name = format!("contested-{key}");
        let read = block_on(store.get_many(&namespace(), &[name.as_bytes()])).unwrap();
        let holder = body(&read[0].as_ref().unwrap().value).unwrap();
        assert_eq!(holder, winners[0].to_string());
    }
}

/// Two processes open a fresh directory at the same moment; both work on the same files, 20 times.
pub(crate) fn two_processes_open_a_fresh_directory(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let start = |number| Child::start("open", kind, dir.path(), (number, 0));
    let mut children = [start(0), start(1)];
    for round in 0..FRESH_DIRECTORIES {
        let fresh = dir.path().join(format!("new-{round}/deep"));
        for child in &mut children {
            child.tell(fresh.to_str().unwrap());
        }
        for child in &children {
            assert_eq!(child.hear(), "done");
        }
        let store = kind.open(&fresh);
        let read = block_on(store.get_many(&namespace(), &[&[0], &[1]])).unwrap();
        assert!(
            read.iter().all(Option::is_some),
            "round {round}: two sets of files"
        );
    }
    for child in children {
        child.finish();
    }
}
