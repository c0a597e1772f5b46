//! A single server that is killed and started again, over and over, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::RedisStore;
use tokio::task::JoinSet;
use xtask::servers::private::RedisServer;

use super::rig::{Rig, SLACK, now};
use crate::has_servers;

const RESTARTS: u32 = 20;
const TASKS: u64 = 4;
const KEYS: u64 = 25;
const CONNECT: Duration = Duration::from_millis(250);
const RESPONSE: Duration = Duration::from_millis(500);
/// What the calls may take in all: a connection, a reply, and a script sent again to a server that forgot it.
const LIMIT: Duration = Duration::from_millis(250 + 500 + 500 + 50);

/// How often the server lost everything; a task that sees it change forgets what it knew.
static WIPES: AtomicU64 = AtomicU64::new(0);

/// Reads, writes and adds to keys of its own; while the server keeps its data, nothing acknowledged is lost.
async fn load(rig: Arc<Rig>, task: u64, stop: Arc<AtomicBool>) {
    let mut acknowledged = [0; KEYS as usize];
    let mut attempted = [0; KEYS as usize];
    let mut wipes = 0;
    for round in 0_u64.. {
        if stop.load(SeqCst) {
            return;
        }
        let index = (round % KEYS) as usize;
        let key = format!("key:{task}:{index}");
        if wipes != WIPES.load(SeqCst) {
            wipes = WIPES.load(SeqCst);
            acknowledged = [0; KEYS as usize];
        }
        let read = rig.get(&key).await;
        if let (Ok(read), true) = (read, wipes == WIPES.load(SeqCst)) {
            let read = read.unwrap_or(0);
            let range = acknowledged[index]..=attempted[index];
            assert!(range.contains(&read), "{key}: {read} is not in {range:?}");
        }
        attempted[index] = round + 1;
        let began_in = WIPES.load(SeqCst);
        let written = if round % 2 == 0 {
            rig.set(&key, round + 1).await.is_ok()
        } else {
            let put = super::rig::put(&key, round + 1);
            let put = larder::store::Write {
                expiry: larder::store::Expiry::Keep,
                ..put
            };
            rig.write(put).await.is_ok()
        };
        if written && began_in == wipes && wipes == WIPES.load(SeqCst) {
            acknowledged[index] = round + 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_may_be_killed_twenty_times() {
    if !has_servers() {
        return;
    }
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = now(|| RedisServer::with_args(&args)).unwrap();
    let store = RedisStore::builder(server.url())
        .connect_timeout(CONNECT)
        .response_timeout(RESPONSE);
    let store = store.connect().await.unwrap();
    let rig = Arc::new(Rig::new(store.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(load(Arc::clone(&rig), task, Arc::clone(&stop)));
    }
    let probe = Rig::new(store);
    let mut longest = Duration::ZERO;
    for restart in 0..RESTARTS {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now(|| {
            if restart % 2 == 1 {
                WIPES.fetch_add(1, SeqCst);
            }
            server.kill();
            if restart % 2 == 1 {
                WIPES.fetch_add(1, SeqCst);
                server.wipe().unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        now(|| server.start_again().unwrap());
        let began = Instant::now();
        probe.set_in_the_end("probe", u64::from(restart)).await;
        longest = longest.max(began.elapsed());
        assert_eq!(probe.get("probe").await.unwrap(), Some(u64::from(restart)));
    }
    stop.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    println!(
        "{} of {} calls failed, the slowest took {:?}; back at most {longest:?} after the server",
        rig.failures(),
        rig.calls(),
        rig.slowest(),
    );
    assert!(rig.failures() > 0, "nothing was felt");
    assert!(rig.slowest() < LIMIT + SLACK, "{:?}", rig.slowest());
    assert!(longest < Duration::from_secs(3), "{longest:?}");
}
