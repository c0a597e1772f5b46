//! Locks of processes that are killed or stopped, at any moment.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use larder::Result;
use larder::lock::{Answer, Ask, LockStore, Owner};
use larder::store::Store;

use crate::Kind;
use crate::child::Child;
use crate::roles::{namespace, say, told};

/// A lease that is not meant to end by itself during a test.
const LONG_MS: u64 = 600_000;
/// A lease that is.
const SHORT_MS: u64 = 1500;
/// A dead process's leases are free within this, on a busy machine, too.
const AT_ONCE: Duration = Duration::from_secs(2);
const NAME: &[u8] = b"shared";
/// An open store has looked after its files by then.
const UPKEEP: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(5);

const CONTENDERS: usize = 4;
const KILLS: usize = 100;
/// What the holder writes its fence to, and locks: the kernel knows whether there are two.
const WITNESS: &str = "witness";
/// A contender whose parent is gone ends after so many grants.
const MAX_GRANTS: usize = 100_000;

fn ask(owner: &Owner, ttl_ms: u64) -> Ask {
    Ask {
        owner: owner.clone(),
        permits: 1,
        ttl_ms,
        heartbeat_ms: Some(LONG_MS),
        barge: false,
    }
}

/// Asks once; returns the fence if the lock is granted.
async fn ask_once(locks: &dyn LockStore, ask: &Ask) -> Result<Option<u64>> {
    Ok(match locks.acquire(&namespace(), NAME, ask).await? {
        Answer::Granted { fence, .. } => Some(fence),
        Answer::Busy { .. } => None,
    })
}

/// Asks until the lock is granted; returns the fence.
async fn acquire(locks: &dyn LockStore, ask: &Ask) -> Result<u64> {
    loop {
        if let Some(fence) = ask_once(locks, ask).await? {
            return Ok(fence);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn release(locks: &dyn LockStore, owner: &Owner) -> Result<bool> {
    let namespace = namespace();
    locks.release(&namespace, NAME, owner, Some(1)).await
}

/// The role that takes the lock for so many ms and keeps it until it is told, or killed.
pub(crate) async fn hold(store: &dyn Store, ttl_ms: u64) -> Result<()> {
    let locks = store.lock_store().unwrap();
    say(acquire(&*locks, &ask(&Owner::new(), ttl_ms)).await?);
    told();
    Ok(())
}

/// The role that opens the store by a relative path, takes the lock, goes to another directory and extends it there.
pub(crate) async fn wander(kind: Kind, dir: &Path) -> Result<()> {
    std::env::set_current_dir(dir).unwrap();
    let store = kind.open(Path::new("."));
    let (locks, owner) = (store.lock_store().unwrap(), Owner::new());
    say(acquire(&*locks, &ask(&owner, LONG_MS)).await?);
    std::env::set_current_dir(dir.join("elsewhere")).unwrap();
    tokio::time::sleep(UPKEEP).await;
    say(locks.extend(&namespace(), NAME, &owner, LONG_MS).await?);
    told();
    Ok(())
}

/// The role that takes a place in the queue and keeps it.
pub(crate) async fn queue(store: &dyn Store) -> Result<()> {
    let locks = store.lock_store().unwrap();
    let granted = ask_once(&*locks, &ask(&Owner::new(), LONG_MS)).await?;
    say(granted.is_some());
    told();
    Ok(())
}

/// The role that takes the lock again and again, and asks the witness whether it is alone.
pub(crate) async fn contend(store: &dyn Store, dir: &Path) -> Result<()> {
    let locks = store.lock_store().unwrap();
    let witness = OpenOptions::new().read(true).write(true).open(dir);
    let witness = witness.unwrap();
    for _ in 0..MAX_GRANTS {
        let owner = Owner::new();
        let fence = acquire(&*locks, &ask(&owner, LONG_MS)).await?;
        bear_witness(&witness, fence);
        say(fence);
        assert!(release(&*locks, &owner).await?, "the lock was lost");
    }
    Ok(())
}

/// Panics unless this holder is alone and its fence greater than any before.
fn bear_witness(witness: &File, fence: u64) {
    use std::os::unix::fs::FileExt;
    witness.try_lock().expect("no other holder");
    let mut former = [0; 8];
    witness.read_exact_at(&mut former, 0).unwrap();
    let former = u64::from_le_bytes(former);
    assert!(fence > former, "fence {fence} after {former}");
    witness.write_all_at(&fence.to_le_bytes(), 0).unwrap();
    witness.unlock().unwrap();
}

fn with_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(work)
}

/// A killed holder and a killed waiter hold up nobody.
pub(crate) fn the_killed_hold_up_nobody(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let store = kind.open(dir.path());
    let locks = store.lock_store().unwrap();
    let holder = Child::start("hold", kind, dir.path(), (0, LONG_MS));
    let former: u64 = holder.hear().parse().unwrap();
    let waiter = Child::start("queue", kind, dir.path(), (1, 0));
    assert_eq!(waiter.hear(), "false");
    let own = ask(&Owner::new(), LONG_MS);
    with_runtime(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let early = ask_once(&*locks, &own).await.unwrap();
        assert_eq!(early, None, "both are alive");
        holder.kill();
        waiter.kill();
        let start = Instant::now();
        let fence = tokio::time::timeout(AT_ONCE, acquire(&*locks, &own)).await;
        assert!(fence.expect("at once").unwrap() > former);
        println!("free after {:?}", start.elapsed());
    });
}

/// A stopped holder keeps the lock for as long as its lease lasts, and no longer.
pub(crate) fn a_stopped_holder_keeps_its_lease(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let store = kind.open(dir.path());
    let locks = store.lock_store().unwrap();
    let start = Instant::now();
    let holder = Child::start("hold", kind, dir.path(), (0, SHORT_MS));
    let former: u64 = holder.hear().parse().unwrap();
    let heard = Instant::now();
    holder.signal("STOP");
    with_runtime(async {
        let own = ask(&Owner::new(), LONG_MS);
        let fence = tokio::time::timeout(Duration::from_secs(30), acquire(&*locks, &own)).await;
        assert!(fence.expect("an end").unwrap() > former);
    });
    let lease = Duration::from_millis(SHORT_MS);
    assert!(start.elapsed() >= lease, "it was taken away");
    assert!(heard.elapsed() < lease + AT_ONCE, "{:?}", heard.elapsed());
}

/// A process that opened the store by a relative path and then goes elsewhere stays with it.
pub(crate) fn a_holder_that_wanders_keeps_its_lease(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    let elsewhere = store_dir.join("elsewhere");
    drop(kind.open(&store_dir));
    fs::create_dir(&elsewhere).unwrap();
    let holder = Child::start("wander", kind, &store_dir, (0, 0));
    holder.hear();
    assert_eq!(holder.hear(), "true", "it still holds the lock");
    let left_there = fs::read_dir(elsewhere).unwrap().count();
    assert_eq!(left_there, 0, "it began a new store");
    let locks = kind.open(&store_dir).lock_store().unwrap();
    with_runtime(async {
        let own = ask(&Owner::new(), LONG_MS);
        assert_eq!(ask_once(&*locks, &own).await.unwrap(), None);
    });
}

/// Four processes take the lock in turn while one is killed every 0 to 30 ms: never are there two holders, fences grow,
/// and nobody waits for the dead.
pub(crate) fn killed_contenders_exclude_each_other(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    fs::create_dir(&store_dir).unwrap();
    fs::write(dir.path().join(WITNESS), [0; 8]).unwrap();
    // Its creation is not what is to be interrupted.
    drop(kind.open(&store_dir));
    let start = |number| Child::start("contend", kind, &store_dir, (number, 0));
    let mut contenders: Vec<_> = (0..CONTENDERS).map(|n| Some(start(n))).collect();
    let mut fences = Vec::new();
    let mut note = |said: Vec<String>| {
        fences.extend(said.iter().map(|fence| fence.parse::<u64>().unwrap()));
    };
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..=30)));
        let number = fastrand::usize(..CONTENDERS);
        // Whoever saw two holders has ended already, and says so in its output.
        note(contenders[number].take().unwrap().kill_running());
        contenders[number] = Some(start(number));
    }
    std::thread::sleep(Duration::from_millis(500));
    for contender in contenders.into_iter().flatten() {
        note(contender.kill_running());
    }
    let granted = fences.len();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), granted, "a fence was given twice");
    println!("{KILLS} kills, {granted} grants");
    assert!(granted > KILLS, "hardly anybody got the lock");
    kind.check_files(&store_dir);
}

/// Returns where the witness of a store is.
pub(crate) fn witness_of(store_dir: &Path) -> std::path::PathBuf {
    store_dir.with_file_name(WITNESS)
}
