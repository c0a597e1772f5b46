//! Critical sections of processes that are stopped at any moment, on stores that may be restarted: what the lock guards
//! accepts nothing from a former holder, and who trusts its guard is alone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::testing::{Section, SectionHistory};
use larder::{Cache, Result};

use crate::Kind;
use crate::child::Child;
use crate::roles::{say, told};

/// Shorter than most stops, so that leases are lost.
const TTL: Duration = Duration::from_millis(400);
const WAIT: Duration = Duration::from_secs(60);
/// Few, so that the one that is stopped is often the holder.
/// What the lock guards: the greatest fence it has seen, beside the directory of the store.
const RESOURCE: &str = "resource";
const WAITERS: usize = 20;

/// How hard processes are disturbed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storm {
    pub(crate) processes: usize,
    pub(crate) lasts: Duration,
    pub(crate) longest_stop_ms: u64,
    /// Whether the store forgets leases, so that only fences are left.
    pub(crate) forgets: bool,
}

impl Storm {
    /// Returns the storm of the suite, or that of a soak if the variable `LARDER_TEST_STORM_S` says how long it lasts.
    pub(crate) fn new() -> Self {
        let soak = std::env::var("LARDER_TEST_STORM_S").ok();
        let soak = soak.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
        Self {
            processes: if soak.is_some() { 8 } else { 3 },
            longest_stop_ms: if soak.is_some() { 3000 } else { 1500 },
            lasts: soak.unwrap_or(Duration::from_secs(8)),
            forgets: false,
        }
    }
}

/// Returns the time by a clock that all processes share.
fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64) * 1_000_000_000 + (time.tv_nsec as u64)
}

fn resource(dir: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(dir.with_file_name(RESOURCE)).unwrap()
}

/// Writes to the resource, which refuses a fence that is older than the newest it has seen.
fn write(resource: &File, fence: u64) -> bool {
    resource.lock().unwrap();
    let mut newest = [0; 8];
    let is_first = resource.read_at(&mut newest, 0).unwrap() == 0;
    let accepted = is_first || fence >= u64::from_le_bytes(newest);
    if accepted {
        resource.write_all_at(&fence.to_le_bytes(), 0).unwrap();
    }
    resource.unlock().unwrap();
    accepted
}

/// The role that enters one section after the other, and says what it saw.
pub(crate) async fn sections(kind: Kind, dir: &Path) -> Result<()> {
    let cache = Cache::builder(kind.open(dir)).build()?;
    let resource = resource(dir);
    let lock = cache.lock("section").ttl(TTL).wait(WAIT);
    say("ready");
    told();
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        let guard = match lock.acquire().await {
            Ok(guard) => guard,
            Err(error) if error.is_retryable() => continue,
            Err(error) => return Err(error),
        };
        let enter_ns = now_ns();
        // Brief ones try the hand-over, long ones are stopped while they hold the lock.
        let longest_us = if fastrand::bool() { 2_000 } else { 200_000 };
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..longest_us))).await;
        let accepted = write(&resource, guard.fence());
        let exit_ns = now_ns();
        // Asked last: whoever is told yes was alone until before.
        let trusted = guard.is_valid();
        let fence = guard.fence();
        say(format_args!(
            "{fence} {enter_ns} {exit_ns} {accepted} {trusted}"
        ));
        // It may be lost, which is what this is about, or the server may be away.
        let _ = guard.release().await;
    }
    Ok(())
}

/// Reads what a child said; the last it said before it was killed may be cut off.
fn parse(line: &str) -> Option<(Section, bool)> {
    let words: Vec<_> = line.split(' ').collect();
    if !matches!(words.last(), Some(&("true" | "false"))) || words.len() != 5 {
        return None;
    }
    let number = |at: usize| words[at].parse().unwrap();
    let section = Section {
        fence: number(0),
        ticket: None,
        enter_ns: number(1),
        exit_ns: number(2),
        accepted: words[3] == "true",
    };
    Some((section, words[4] == "true"))
}

/// Lets processes enter sections while they are stopped for longer than their leases, one after the other.
pub(crate) fn stopped_holders_harm_nobody(
    kind: Kind,
    dir: &Path,
    storm: Storm,
    restart: impl Fn(),
) {
    let start = |number| Child::start("sections", kind, dir, (number, 0));
    let mut children: Vec<_> = (0..storm.processes).map(start).collect();
    children
        .iter()
        .for_each(|child| assert_eq!(child.hear(), "ready"));
    children.iter_mut().for_each(|child| child.tell("go"));
    let end = Instant::now() + storm.lasts;
    while Instant::now() < end {
        let child = &children[fastrand::usize(..storm.processes)];
        child.signal("STOP");
        let stop_ms = fastrand::u64(..=storm.longest_stop_ms);
        std::thread::sleep(Duration::from_millis(stop_ms));
        child.signal("CONT");
        if fastrand::u8(..4) == 0 {
            restart();
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(..200)));
    }
    let said = children.into_iter().flat_map(Child::kill_running);
    let sections: Vec<_> = said.filter_map(|line| parse(&line)).collect();
    judge(&sections, storm.forgets);
}

/// Checks the sections, and that they were disturbed.
fn judge(sections: &[(Section, bool)], forgets: bool) {
    let (mut all, mut trusted) = (SectionHistory::default(), SectionHistory::default());
    all.extend(sections.iter().map(|(section, _)| *section));
    assert_eq!(all.fence_violations(), []);
    trusted.extend(sections.iter().filter(|s| s.1).map(|s| s.0));
    if !forgets {
        assert_eq!(trusted.exclusion_violations(), []);
        let refused = sections.iter().find(|(s, trusted)| *trusted && !s.accepted);
        assert_eq!(refused, None, "a holder that was alone is never refused");
    }
    let (all, trusted) = (all.len(), trusted.len());
    let refused = sections
        .iter()
        .filter(|(section, _)| !section.accepted)
        .count();
    println!(
        "{all} sections, {} lost their lease, {refused} were refused",
        all - trusted
    );
    // Whoever is stopped in the queue stops the queue: often it goes on for moments only.
    assert!(trusted > 5, "hardly anybody got in");
}

/// The role that waits in many tasks at once, and is killed.
pub(crate) async fn crowd(kind: Kind, dir: &Path) -> Result<()> {
    let cache = Cache::builder(kind.open(dir)).build()?;
    let wait = |_| {
        let lock = cache.lock("section").wait(WAIT);
        tokio::spawn(async move { lock.acquire().await })
    };
    let waiting: Vec<_> = (0..WAITERS).map(wait).collect();
    say("ready");
    told();
    drop(waiting);
    Ok(())
}

/// Twenty waiters die at once: who is behind them waits for one of their heartbeats at most, not for twenty.
pub(crate) fn dead_waiters_cost_one_heartbeat(kind: Kind, dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cache = Cache::builder(kind.open(dir)).build().unwrap();
        let lock = cache.lock("section").ttl(WAIT).wait(WAIT);
        let holder = lock.acquire().await.unwrap();
        let crowd = Child::start("crowd", kind, dir, (0, 0));
        waiters(&cache, WAITERS).await;
        let behind = tokio::spawn(async move { lock.acquire().await });
        waiters(&cache, WAITERS + 1).await;
        crowd.kill_running();
        let start = Instant::now();
        holder.release().await.unwrap();
        let guard = behind.await.unwrap().unwrap();
        let waited = start.elapsed();
        println!("{WAITERS} dead waiters cost {waited:?}");
        // A heartbeat is 5 s; a machine may be busy. Twenty of them would be 100 s.
        assert!(waited < Duration::from_secs(12), "{waited:?}");
        guard.release().await.unwrap();
    });
}

async fn waiters(cache: &Cache, count: usize) {
    for _ in 0..3000 {
        let listed = cache.locks().list().await.unwrap();
        if listed
            .first()
            .is_some_and(|lock| lock.waiters == count as u64)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} never wait");
}
