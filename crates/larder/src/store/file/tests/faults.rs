//! Kills, full disks, missing descriptors and directories.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::*;
use crate::store::file::replace::{Temp, exchange};

/// Where a child process of a test finds its directory.
const CHILD_DIR: &str = "LARDER_TEST_CHILD_DIR";

#[test]
fn a_kill_before_or_after_the_exchange_loses_no_acknowledged_value() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    set(&store, b"k", "old");
    let path = path_of(&store, b"k");
    let (temp, file) = Temp::create(path.parent().unwrap()).unwrap();
    drop(file);
    let _never_dropped = std::mem::ManuallyDrop::new(temp);
    let left = temps(&store).remove(0);
    assert_eq!(get(&store, b"k").unwrap(), "old");
    fs::write(&left, fs::read(&path).unwrap()).unwrap();
    exchange(&left, &path).unwrap();
    assert_eq!(get(&store, b"k").unwrap(), "old");
    let add = Write::put(b"k", sealed("new"), Expiry::Never).when(Condition::IfAbsent);
    assert!(!write(&store, add));

    store.disk.sweep(&mut None, 1000).unwrap();
    assert_eq!(temps(&store).len(), 1, "a writer may still be at work");
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let stale = fs::File::open(&left).unwrap();
    stale.set_modified(old).unwrap();
    store.disk.sweep(&mut None, 1000).unwrap();
    assert_eq!(temps(&store).len(), 0);
    assert_eq!(get(&store, b"k").unwrap(), "old");
}

/// Starts one of the `child_` tests below, which do nothing by themselves, in a process of its own, in which a shell ran `setup` before.
fn child(test: &str, setup: &str, dir: &TempDir) -> Command {
    let mut command = Command::new("sh");
    let line = format!("{setup}; exec \"$@\"");
    command.args(["-c", &line, "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--test-threads=1"]);
    command.arg(format!("store::file::tests::faults::{test}"));
    command.env(CHILD_DIR, dir.path().join("cache"));
    command.stdout(Stdio::piped());
    command
}

/// Opens the store of the test that started this process; `None` when none did.
fn child_store() -> Option<File> {
    std::env::var_os(CHILD_DIR).map(|dir| File::open(dir).unwrap())
}

#[test]
fn every_acknowledged_write_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    for round in 0..20 {
        let mut killed = child("child_that_writes_until_killed", ":", &dir)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
        let mut acknowledged = None;
        for _ in 0..20 + 7 * round {
            let line = lines.next().unwrap().unwrap();
            acknowledged = line.strip_prefix("version ").map(str::to_owned);
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        let last = lines.map_while(|line| line.ok()?.strip_prefix("version ")?.parse::<u64>().ok());
        let last = last.last().or_else(|| acknowledged?.parse().ok()).unwrap();
        let store = open(&dir);
        let found: u64 = get(&store, b"k").unwrap().parse().unwrap();
        assert!(found == last || found == last + 1, "{found} after {last}");
        let sum = block_on(store.increment(&space(), b"n", 0, Expiry::Never)).unwrap() as u64;
        assert!(sum == found || sum + 1 == found, "{sum} with {found}");
        assert_eq!(stats(&store).quarantined, 0);
    }
}

#[test]
fn child_that_writes_until_killed() {
    let Some(store) = child_store() else { return };
    let from = get(&store, b"k").map_or(0, |text| text.parse().unwrap());
    let sum = block_on(store.increment(&space(), b"n", 0, Expiry::Never)).unwrap();
    block_on(store.increment(&space(), b"n", from as i64 - sum, Expiry::Never)).unwrap();
    println!();
    for version in from + 1..u64::MAX {
        set(&store, b"k", &version.to_string());
        block_on(store.increment(&space(), b"n", 1, Expiry::Never)).unwrap();
        println!("version {version}");
    }
}

#[test]
fn a_write_that_does_not_fit_fails_whole() {
    let dir = TempDir::new().unwrap();
    let limit = "ulimit -f 16; trap '' XFSZ";
    let output = child("child_with_a_file_size_limit", limit, &dir).output();
    assert!(output.unwrap().status.success());
}

#[test]
fn child_with_a_file_size_limit() {
    let Some(store) = child_store() else { return };
    set(&store, b"k", "old");
    let large = sealed(&"x".repeat(60_000));
    for key in [&b"k"[..], b"fresh"] {
        let put = Write::put(key, large.clone(), Expiry::Never);
        let error = block_on(store.write_many(&space(), &[put])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(temps(&store).len(), 0);
    assert_eq!(get(&store, b"k").unwrap(), "old");
    assert_eq!(get(&store, b"fresh"), None);
    set(&store, b"k", "new");
    assert_eq!(get(&store, b"k").unwrap(), "new");
}

#[test]
fn running_out_of_descriptors_is_an_error_that_passes() {
    let dir = TempDir::new().unwrap();
    let output = child("child_without_descriptors", "ulimit -n 40", &dir).output();
    assert!(output.unwrap().status.success());
}

#[test]
fn child_without_descriptors() {
    let Some(store) = child_store() else { return };
    set(&store, b"k", "v");
    let taken: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    let error = try_get(&store, b"k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for key in [&b"k"[..], b"fresh"] {
        let put = Write::put(key, sealed("new"), Expiry::Never);
        let error = block_on(store.write_many(&space(), &[put])).unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable());
    }
    drop(taken);
    assert_eq!(get(&store, b"k").unwrap(), "v");
    assert_eq!(temps(&store).len(), 0);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    fs::write(store.disk.layout.namespace_dir(address(b"k").namespace), "").unwrap();
    let put = Write::put(b"k", sealed("v"), Expiry::Never);
    let error = block_on(store.write_many(&space(), &[put])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_removed_directory_is_made_again_and_its_locks_with_it() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    set(&stores[0], b"k", "v");
    fs::remove_dir_all(stores[0].disk.layout.root()).unwrap();
    assert_eq!(get(&stores[0], b"k"), None);
    set(&stores[1], b"k", "again");
    assert_eq!(get(&stores[0], b"k").unwrap(), "again");
    let (layout, stripe) = (&stores[0].disk.layout, address(b"k").stripe());
    let held = stores[0]
        .disk
        .locks
        .stripe(layout, stripe, Effort::BRIEF)
        .unwrap();
    let second = stores[1].disk.locks.stripe(layout, stripe, Effort::BRIEF);
    assert!(matches!(second, Err(Fault::Busy)), "both lock the new file");
    drop((held, second));
    fs::remove_dir_all(stores[0].disk.layout.locks()).unwrap();
    set(&stores[0], b"k", "once more");
    fs::remove_dir_all(stores[0].disk.layout.namespace_dir(address(b"k").namespace)).unwrap();
    set(&stores[0], b"k", "and again");
    block_on(stores[0].ping()).unwrap();
}
