//! A process that does what it is told, line by line, and says what became of it; and how its parent speaks to it.
//!
//! Loads are asked for in the background, so that their process can be told more meanwhile. Times are in ns of the clock that
//! all processes share.

use std::fmt::Display;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use larder::{Cache, RedisStore};
use tokio::sync::{Semaphore, mpsc};

use crate::child::{Child, MARK};
use crate::moment::now;
use crate::{Kind, MS, PATIENCE, place, races};

pub(crate) const ROLE: &str = "party";
/// A file in the directory of a store whose server does not answer at times.
const SHAKY: &str = "shaky";
/// How long calls to such a server may take.
const SHORT: Duration = Duration::from_millis(300);

/// A process, as its parent sees it.
pub(crate) struct Party(pub(crate) Child);

/// How some callers ask for a key at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) key: &'a str,
    pub(crate) callers: u64,
    /// How long a load takes; `None`: until it is let go.
    pub(crate) load: Option<Duration>,
    pub(crate) lease: Duration,
    /// Whether they wait for the loads of other processes.
    pub(crate) shares: bool,
}

/// What became of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Answers {
    /// When loads began.
    pub(crate) loads_ns: Vec<u64>,
    /// When the last answer came.
    pub(crate) ended_ns: u64,
    pub(crate) count: u64,
    /// The different answers.
    pub(crate) values: Vec<String>,
}

impl Party {
    /// Starts a process with a local tier whose copies may be outdated for so long, or without one.
    pub(crate) fn start(
        kind: Kind,
        dir: &Path,
        number: usize,
        max_staleness: Option<Duration>,
    ) -> Self {
        let bound_ms = max_staleness.map_or(0, |bound| bound.as_millis() as u64);
        let child = Child::start(ROLE, kind, dir, (number, bound_ms));
        assert_eq!(child.hear(), "ready");
        Self(child)
    }

    /// Tells a process before it starts that its server may be away.
    pub(crate) fn expect_trouble(dir: &Path) {
        std::fs::write(dir.join(SHAKY), "").unwrap();
    }

    /// Waits for a word, but not for long.
    pub(crate) fn hear_within(&self, limit: Duration) -> Option<String> {
        self.0.heard.recv_timeout(limit).ok()
    }

    /// Gives an order and waits for its end.
    pub(crate) fn order(&mut self, order: impl Display) -> String {
        self.0.tell(&order.to_string());
        self.0.hear()
    }

    /// Reads a key; the process must have nothing else to say.
    pub(crate) fn get(&mut self, key: &str) -> Option<String> {
        let got = self.order(format!("get {key}"));
        (got != "-").then_some(got)
    }

    /// Returns hits of the local tier, gaps of the journal and loads that were overtaken.
    pub(crate) fn stats(&mut self) -> [u64; 3] {
        let told = self.order("stats");
        let mut numbers = told.split(' ').map(|word| word.parse().unwrap());
        std::array::from_fn(|_| numbers.next().unwrap())
    }

    /// Asks for a key; [`Party::answers`] are to be waited for.
    pub(crate) fn ask(&mut self, asked: Asked<'_>) {
        let load = asked
            .load
            .map_or_else(|| "-".to_owned(), |it| it.as_millis().to_string());
        let (key, callers, shares) = (asked.key, asked.callers, asked.shares);
        let lease_ms = asked.lease.as_millis();
        let order = format!("ask {key} {callers} {load} {lease_ms} {shares}");
        self.0.tell(&order);
    }

    /// Waits until a load begins; returns when it did.
    pub(crate) fn load_begun(&self) -> u64 {
        let heard = self.0.hear();
        let began = heard.strip_prefix("load ").expect("a load begins");
        began.parse().unwrap()
    }

    /// Waits for all answers.
    pub(crate) fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        while !answers.hear(&self.0.hear()) {}
        answers
    }
}

impl Answers {
    /// Takes in what was said; returns whether that was all.
    pub(crate) fn hear(&mut self, said: &str) -> bool {
        if let Some(began) = said.strip_prefix("load ") {
            self.loads_ns.push(began.parse().unwrap());
            return false;
        }
        let rest = said.strip_prefix("answers ").expect("the end");
        let mut words = rest.split(' ');
        let mut number = || words.next().unwrap().parse().unwrap();
        (self.ended_ns, self.count) = (number(), number());
        self.values = words.map(str::to_owned).collect();
        true
    }
}

fn say(word: impl Display) {
    println!("{MARK}{word}");
}

/// Hears orders in a thread: reading them blocks.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    orders
}

/// What the process has.
struct Member {
    cache: Cache,
    number: usize,
    dir: PathBuf,
    /// Loads that wait take a permit each.
    gate: Arc<Semaphore>,
    values: Arc<AtomicU64>,
}

/// Plays the part of the process until there are no more orders.
pub(crate) async fn play(kind: Kind, dir: &Path, number: usize, bound: Option<Duration>) {
    let store = match dir.join(SHAKY).exists() {
        true => {
            let url = std::fs::read_to_string(dir.join(place::ADDRESS)).unwrap();
            let builder = RedisStore::builder(url).response_timeout(SHORT);
            Arc::new(builder.connect_timeout(SHORT).build_lazy().unwrap())
        }
        false => kind.open(dir).await,
    };
    let member = Member {
        cache: crate::cache(store, dir, bound),
        number,
        dir: dir.to_owned(),
        gate: Arc::new(Semaphore::new(0)),
        values: Arc::default(),
    };
    let mut orders = orders();
    say("ready");
    while let Some(order) = orders.recv().await {
        let words: Vec<&str> = order.split(' ').collect();
        member.obey(&words).await;
    }
}

impl Member {
    async fn obey(&self, words: &[&str]) {
        let cache = &self.cache;
        match *words {
            ["get", key] => {
                let value: Option<String> = cache.get(key).await.unwrap();
                say(value.as_deref().unwrap_or("-"));
            }
            ["set", key, value] => {
                cache.set(key, value).tags([key]).await.unwrap();
                say("done");
            }
            ["delete", key] => {
                cache.delete(key).await.unwrap();
                say("done");
            }
            ["invalidate", tag] => {
                cache.invalidate_tags([tag]).await.unwrap();
                say("done");
            }
            ["present", keys] => say(self.present(keys.parse().unwrap()).await),
            ["stats"] => {
                let stats = cache.stats().await.unwrap();
                let gaps = stats.local.map_or(0, |local| local.gaps);
                let process = stats.process;
                say(format!(
                    "{} {gaps} {}",
                    process.local_hits, process.overtaken_loads
                ));
            }
            ["go"] => self.gate.add_permits(1),
            ["ask", key, callers, load, lease_ms, shares] => self.ask(&Asked {
                key,
                callers: callers.parse().unwrap(),
                load: load.parse().ok().map(Duration::from_millis),
                lease: Duration::from_millis(lease_ms.parse().unwrap()),
                shares: shares == "true",
            }),
            ["read", key, ms] => self.read(key, ms.parse().unwrap()),
            ["race", start_ns, trials] => {
                let (start_ns, trials) = (start_ns.parse().unwrap(), trials.parse().unwrap());
                say(races::read(cache, start_ns, trials).await);
            }
            ["outdated", trials] => say(races::outdated(cache, trials.parse().unwrap()).await),
            _ => panic!("no such order: {words:?}"),
        }
    }

    /// Returns how many of these keys have a value.
    async fn present(&self, keys: u64) -> usize {
        let mut present = 0;
        for key in 0..keys {
            let value: Option<String> = self.cache.get(format!("key:{key}")).await.unwrap();
            present += usize::from(value.is_some());
        }
        present
    }

    /// Lets callers ask for a key, all at once, in tasks of their own.
    fn ask(&self, asked: &Asked<'_>) {
        let caller = |_| {
            let (cache, key) = (self.cache.clone(), asked.key.to_owned());
            let (load, lease, shares) = (asked.load, asked.lease, asked.shares);
            let (gate, values) = (Arc::clone(&self.gate), Arc::clone(&self.values));
            let number = self.number;
            tokio::spawn(async move {
                let loader = move || async move {
                    say(format!("load {}", now()));
                    match load {
                        Some(time) => tokio::time::sleep(time).await,
                        None => gate.acquire().await.unwrap().forget(),
                    }
                    let value = values.fetch_add(1, SeqCst);
                    Ok::<_, std::io::Error>(format!("{number}.{value}"))
                };
                let asked = cache.remember(&key, loader).tags([&key]).lease_ttl(lease);
                let asked = asked.max_wait(PATIENCE);
                match shares {
                    true => asked.await.unwrap(),
                    false => asked.unprotected().await.unwrap(),
                }
            })
        };
        let callers: Vec<_> = (0..asked.callers).map(caller).collect();
        tokio::spawn(async move {
            let count = callers.len();
            let mut values = std::collections::BTreeSet::new();
            for caller in callers {
                values.insert(caller.await.unwrap());
            }
            let values: Vec<_> = values.into_iter().collect();
            say(format!("answers {} {count} {}", now(), values.join(" ")));
        });
    }

    /// Reads a key for a while in a task: each millisecond, whatever becomes of it. What was read is left in a file.
    fn read(&self, key: &str, ms: u64) {
        let (cache, key) = (self.cache.clone(), key.to_owned());
        let file = reads_of(&self.dir, self.number);
        tokio::spawn(async move {
            let (end, mut failures, mut reads) = (now() + ms * 1_000_000, 0, String::new());
            while now() < end {
                let began = now();
                match cache.get::<String>(&key).await {
                    Ok(Some(value)) => reads.push_str(&format!("{value} {began}\n")),
                    Ok(None) => {}
                    Err(_) => failures += 1,
                }
                tokio::time::sleep(MS).await;
            }
            std::fs::write(file, reads).unwrap();
            say(format!("failures {failures}"));
        });
    }
}

/// Returns where a process leaves what it read.
pub(crate) fn reads_of(dir: &Path, number: usize) -> PathBuf {
    dir.with_file_name(format!("reads-{number}"))
}
