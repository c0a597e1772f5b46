//! Ten thousand callers of one cold key at once, in one process and in eight: how often it is loaded, and how long after
//! the load's own time the last of them has its value. Each process has all peers in it and runs one when it is told.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cached::macros::cached;
use hitbox::concurrency::BroadcastConcurrencyManager;
use hitbox::policy::{ConcurrencyLimit, PolicyConfig};
use hitbox_moka::MokaBackend;
use larder::{Cache, Local, MemoryStore, RedisStore};
use tokio::task::JoinSet;
use xtask::servers::private::RedisServer;

use crate::measure::target;
use crate::workload::HOUR;

const CALLERS: usize = 10_000;
const LOAD: Duration = Duration::from_millis(100);
const ROUNDS: usize = 7;
/// From telling the processes to the common start.
const AHEAD: Duration = Duration::from_millis(60);

/// Name, and what it is.
const PEERS: &[(&str, &str)] = &[
    ("larder", "larder remember, Redis"),
    ("larder-eager", "larder remember, Redis, retry_interval 5 ms"),
    ("larder-tier", "larder remember, Redis and a local tier"),
    ("larder-memory", "larder remember, in the process only"),
    ("moka", "moka get_with"),
    ("cached", "cached, sync_writes default"),
    ("cached-by-key", "cached, sync_writes by_key"),
    ("hitbox", "hitbox-fn, broadcast, limit 1"),
];

static LOADS: AtomicU64 = AtomicU64::new(0);

async fn load(key: &str) -> String {
    LOADS.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(LOAD).await;
    format!("{key:v<100}")
}

#[cached(sync_writes = "default")]
async fn by_default(key: String) -> String {
    load(&key).await
}

#[cached(sync_writes = "by_key")]
async fn by_key(key: String) -> String {
    load(&key).await
}

#[hitbox_fn::cached]
async fn by_hitbox(key: String) -> String {
    load(&key).await
}

type Hitbox = hitbox_fn::Cache<MokaBackend, BroadcastConcurrencyManager<String>, hitbox::DisabledOffload>;

#[derive(Clone)]
struct Peers {
    redis: Cache,
    tiered: Cache,
    memory: Cache,
    moka: moka::future::Cache<String, String>,
    hitbox: Hitbox,
}

impl Peers {
    async fn open(url: &str) -> Self {
        let store = async || RedisStore::connect(url).await.expect("the server answers");
        let local = Local::capacity_bytes(16 << 20);
        let limit = ConcurrencyLimit::new(1).expect("it is within its bounds");
        let policy = PolicyConfig::builder().ttl(HOUR).concurrency(limit).build();
        let tiered = Cache::builder(store().await).prefix("tiered").default_ttl(HOUR).local(local);
        Self {
            redis: Cache::builder(store().await).default_ttl(HOUR).build().expect("the options are valid"),
            tiered: tiered.build().expect("the options are valid"),
            memory: Cache::builder(MemoryStore::new()).default_ttl(HOUR).build().expect("the options are valid"),
            moka: moka::future::Cache::builder().max_capacity(1000).time_to_live(HOUR).build(),
            hitbox: hitbox_fn::Cache::builder()
                .backend(MokaBackend::builder().max_entries(1000).build())
                .policy(policy)
                .concurrency_manager(BroadcastConcurrencyManager::new())
                .build(),
        }
    }

    async fn ask(&self, peer: &str, key: String) -> String {
        let remember = |cache: &Cache, look: Duration| {
            let (cache, key) = (cache.clone(), key.clone());
            async move {
                let asked = key.clone();
                let load = || async move { Ok::<_, std::io::Error>(load(&asked).await) };
                cache.remember(&key, load).retry_interval(look).await.expect("it is loaded")
            }
        };
        let usual = Duration::from_millis(100);
        match peer {
            "larder" => remember(&self.redis, usual).await,
            "larder-eager" => remember(&self.redis, Duration::from_millis(5)).await,
            "larder-tier" => remember(&self.tiered, usual).await,
            "larder-memory" => remember(&self.memory, usual).await,
            "moka" => self.moka.get_with(key.clone(), load(&key)).await,
            "cached" => by_default(key).await,
            "cached-by-key" => by_key(key).await,
            "hitbox" => by_hitbox(key).cache(&self.hitbox).await,
            _ => panic!("there is no {peer}"),
        }
    }

    /// Returns when the first caller could begin and when the last one had its value, on the machine's clock.
    async fn crowd(&self, peer: &str, start: u64, key: &str, callers: usize) -> (u64, u64) {
        tokio::time::sleep(Duration::from_nanos(start.saturating_sub(nanos()))).await;
        let begin = nanos();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (peers, peer, key) = (self.clone(), peer.to_owned(), key.to_owned());
            tasks.spawn(async move {
                let value = peers.ask(&peer, key).await;
                assert_eq!(value.len(), 100);
                nanos()
            });
        }
        let ends = tasks.join_all().await;
        (begin, ends.into_iter().max().unwrap_or(begin))
    }
}

fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    since.as_nanos().try_into().expect("it is before 2554")
}

/// One of the processes: a line tells peer, start, key and the number of callers; a line answers with loads, begin, end.
pub fn child(url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let peers = runtime.block_on(Peers::open(url));
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let [peer, start, key, callers] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not understood: {line}");
        };
        let (start, callers) = (start.parse().expect("a number"), callers.parse().expect("a number"));
        LOADS.store(0, Ordering::Relaxed);
        let (begin, end) = runtime.block_on(peers.crowd(peer, start, key, callers));
        println!("{} {begin} {end}", LOADS.load(Ordering::Relaxed));
    }
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(url: &str) -> Self {
        let program = std::env::current_exe().expect("the program has a path");
        let mut command = Command::new(program);
        command.args(["remember-child", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut process = Self { child, input, output };
        assert_eq!(process.answer(), "ready");
        process
    }

    fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{line}").expect("the process listens");
    }

    fn answer(&mut self) -> String {
        self.output.next().expect("the process lives").expect("a line")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends with its input; how it ended matters to nobody.
        drop(self.child.wait());
    }
}

#[derive(Default)]
struct Figures {
    loads: Vec<u64>,
    late_ms: Vec<f64>,
}

pub fn run() {
    for count in [1, 8] {
        let server = RedisServer::start().expect("a server");
        let mut processes: Vec<Process> = (0..count).map(|_| Process::start(&server.url())).collect();
        let mut figures: Vec<Figures> = PEERS.iter().map(|_| Figures::default()).collect();
        for round in 0..=ROUNDS {
            for ((peer, _), figures) in PEERS.iter().zip(&mut figures) {
                let (loads, late_ms) = one_round(&mut processes, peer, round);
                // The first one warms up: connections, threads, the processor's caches.
                if round > 0 {
                    figures.loads.push(loads);
                    figures.late_ms.push(late_ms);
                }
            }
        }
        report(count, figures);
    }
}

fn one_round(processes: &mut [Process], peer: &str, round: usize) -> (u64, f64) {
    let start = nanos() + AHEAD.as_nanos() as u64;
    let callers = CALLERS / processes.len();
    for process in &mut *processes {
        process.tell(&format!("{peer} {start} {peer}:{round} {callers}"));
    }
    let (mut loads, mut begin, mut end) = (0, u64::MAX, 0);
    for process in processes {
        let answer = process.answer();
        let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().expect("a number")).collect();
        loads += numbers[0];
        (begin, end) = (begin.min(numbers[1]), end.max(numbers[2]));
    }
    (loads, (end - begin) as f64 / 1e6 - LOAD.as_secs_f64() * 1e3)
}

fn report(count: usize, figures: Vec<Figures>) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("\n{CALLERS} callers of one cold key, {count} processes on {cores} cores, a load of {} ms", LOAD.as_millis());
    for ((_, what), mut row) in PEERS.iter().zip(figures) {
        row.loads.sort_unstable();
        row.late_ms.sort_by(f64::total_cmp);
        let (loads, late, last) = (&row.loads, &row.late_ms, ROUNDS - 1);
        let spread = format!("{} ({}..{})", loads[ROUNDS / 2], loads[0], loads[last]);
        let late = format!("{:.1} ({:.1}..{:.1})", late[ROUNDS / 2], late[0], late[last]);
        println!("  {what:44} loads {spread:20} last value after the load: {late} ms");
        if what.starts_with("larder remember, Redis") {
            target("loads at most", loads[last] as f64, 1.0, true);
        }
    }
}
