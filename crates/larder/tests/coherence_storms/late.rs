//! Commands that arrive when their sender has given up, and copies of commands that were executed before: neither revives
//! what is gone. A copy of the beginning of a load could, so nothing that writes is ever sent twice, whatever happens to the
//! line.

mod seen;

use std::sync::Arc;
use std::time::Duration;

use larder::{Cache, RedisStore};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use xtask::servers::private::RedisServer;

use self::seen::Watcher;
use crate::proxy::Proxy;
use crate::{MS, PATIENCE, Site, report};

type LoadError = std::io::Error;

/// How long calls over the proxy may take.
const SHORT: Duration = Duration::from_millis(150);
/// What was held back has arrived when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(20);

/// A server, a cache at its side, and a proxy for those who come late.
struct Line {
    server: RedisServer,
    proxy: Proxy,
    site: Site,
    here: Cache,
}

impl Line {
    async fn new() -> Option<Self> {
        let server = crate::own_server()?;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let site = Site::new();
        let store = Arc::new(RedisStore::connect(server.url()).await.unwrap());
        let here = crate::cache(store, &site.store, None);
        Some(Self {
            server,
            proxy,
            site,
            here,
        })
    }

    /// Returns a cache behind the proxy that has forgotten all that went wrong before.
    async fn far(&self) -> Cache {
        let url = format!("redis://{}/", self.proxy.address());
        let builder = RedisStore::builder(url).response_timeout(SHORT);
        let store = builder.connect_timeout(SHORT).connect().await.unwrap();
        let prefix = crate::place::prefix(&self.site.store);
        Cache::builder(store).prefix(prefix).build().unwrap()
    }

    /// Lets everything go that was held back, and waits for it; returns how many bytes that were.
    async fn thaw(&self) -> u64 {
        let before = self.proxy.bytes_to_server();
        self.proxy.thaw();
        let mut latest = before;
        loop {
            sleep(QUIET).await;
            let now = self.proxy.bytes_to_server();
            if now == latest {
                return now - before;
            }
            latest = now;
        }
    }

    async fn get(&self, key: &str) -> Option<String> {
        self.here.get(key).await.unwrap()
    }
}

/// A load that ends when it is told to.
struct Slow {
    end: Arc<Notify>,
    task: tokio::task::JoinHandle<String>,
}

impl Slow {
    async fn start(cache: &Cache, key: &str) -> Self {
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, ends) = (Arc::clone(&begun), Arc::clone(&end));
        let (cache, key) = (cache.clone(), key.to_owned());
        let task = tokio::spawn(async move {
            let load = move || async move {
                told.notify_one();
                ends.notified().await;
                Ok::<_, LoadError>("old".to_owned())
            };
            cache.remember(&key, load).tags([&key]).await.unwrap()
        });
        begun.notified().await;
        Self { end, task }
    }

    async fn finish(self) {
        self.end.notify_one();
        assert_eq!(self.task.await.unwrap(), "old");
    }
}

async fn load(cache: &Cache, key: &str, value: &'static str) -> String {
    let load = move || async move { Ok::<_, LoadError>(value.to_owned()) };
    let loaded = timeout(PATIENCE, async {
        cache.remember(key, load).tags([key]).await.unwrap()
    });
    loaded.await.expect("it hangs")
}

/// Makes what there was before wrong, in one of several ways.
async fn overtake(cache: &Cache, key: &str, way: u64) {
    match way % 2 {
        0 => drop(cache.invalidate_tags([key]).await.unwrap()),
        _ => drop(cache.delete(key).await.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_commit_is_refused() {
    let Some(line) = Line::new().await else {
        return;
    };
    let (trials, mut bytes) = (report::trials(10, 100), 0);
    for trial in 0..trials {
        let key = format!("key:{trial}");
        let far = line.far().await;
        let slow = Slow::start(&far, &key).await;
        line.proxy.freeze();
        slow.end.notify_one();
        sleep(QUIET).await;
        overtake(&line.here, &key, trial).await;
        let expected = match trial / 2 % 2 {
            0 => None,
            _ => Some(load(&line.here, &key, "new").await),
        };
        bytes += line.thaw().await;
        slow.finish().await;
        assert_eq!(line.get(&key).await, expected, "trial {trial}");
    }
    report::row("late commits", format!("{trials} trials, 0 values revived"));
    assert!(bytes > 0, "nothing came late");
}

/// It has no condition, but the stamps of its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_set_carries_dead_stamps() {
    let Some(line) = Line::new().await else {
        return;
    };
    let (trials, mut bytes) = (report::trials(10, 100), 0);
    for trial in 0..trials {
        let key = format!("key:{trial}");
        let far = line.far().await;
        far.set(&key, "older").tags([&key]).await.unwrap();
        line.proxy.freeze();
        let late = far.set(&key, "old").tags([&key]);
        assert!(late.await.is_err());
        line.here.invalidate_tags([&key]).await.unwrap();
        if trial % 2 > 0 {
            load(&line.here, &key, "new").await;
        }
        bytes += line.thaw().await;
        let left = line.get(&key).await;
        assert!(left.as_deref().is_none_or(|it| it == "new"), "{left:?}");
    }
    report::row("late sets", format!("{trials} trials, 0 stamps revived"));
    assert!(bytes > 0, "nothing came late");
}

/// Whoever began it has given up, so nobody waits for it until the end of its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_beginning_holds_up_nobody() {
    let Some(line) = Line::new().await else {
        return;
    };
    let (trials, mut times_ns) = (report::trials(5, 200), Vec::new());
    for trial in 0..trials {
        let key = format!("key:{trial}");
        let far = line.far().await;
        line.proxy.freeze();
        assert_eq!(load(&far, &key, "old").await, "old");
        overtake(&line.here, &key, trial).await;
        line.thaw().await;
        let thawed = crate::moment::now();
        assert_eq!(load(&line.here, &key, "new").await, "new");
        times_ns.push(crate::moment::now() - thawed);
        sleep(50 * MS).await;
        assert_eq!(line.get(&key).await.as_deref(), Some("new"));
    }
    let figures = report::times(times_ns);
    report::row(
        "late beginnings",
        format!("{trials} trials, next load: {figures}"),
    );
}

/// What is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// All that a load and a set have sent, when there is a newer value.
    AllBehindNew,
    /// All but what could make registers, as the beginning of a load, when there is none.
    Rest,
    /// All, when there is none.
    All,
}

/// Lets copies of commands arrive after an invalidation; returns how many of them write, and what is read then.
async fn send_again(line: &Line, far: &Cache, key: &str, again: Again) -> (u64, Option<String>) {
    let watcher = Watcher::start(&line.server);
    Slow::start(far, key).await.finish().await;
    far.set(key, "old").tags([key]).await.unwrap();
    let seen = watcher.stop(&line.server);
    line.here.invalidate_tags([key]).await.unwrap();
    if again == Again::AllBehindNew {
        load(&line.here, key, "new").await;
    }
    let mut copies = 0;
    for command in seen {
        if again == Again::Rest && command.captures() {
            continue;
        }
        copies += u64::from(command.writes());
        // Some are refused: they are about their connection.
        drop(line.server.connect().unwrap().call(&command.words));
    }
    (copies, line.get(key).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_commands_revive_nothing() {
    let Some(line) = Line::new().await else {
        return;
    };
    let far = line.far().await;
    let (trials, mut copies) = (report::trials(20, 10), 0);
    for trial in 0..trials {
        let again = match trial % 2 {
            0 => Again::AllBehindNew,
            _ => Again::Rest,
        };
        let (sent, left) = send_again(&line, &far, &format!("key:{trial}"), again).await;
        assert_ne!(left.as_deref(), Some("old"), "trial {trial}, {again:?}");
        copies += sent;
    }
    report::row(
        "copies of commands",
        format!("{trials} trials, {copies} copies, 0 values revived"),
    );
    assert!(copies >= trials, "nothing was sent again");
}

/// Why nothing that writes may be sent twice; this test would also notice if copies did not arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_beginning_would_revive_a_stamp() {
    let Some(line) = Line::new().await else {
        return;
    };
    let far = line.far().await;
    let (_, left) = send_again(&line, &far, "key", Again::All).await;
    assert_eq!(left.as_deref(), Some("old"));
}

/// Writes in all ways, whatever becomes of it.
async fn use_all(cache: &Cache, key: &str) {
    let load = || async { Ok::<_, LoadError>("v".to_owned()) };
    drop(cache.remember(key, load).tags([key]).await);
    drop(cache.set(key, "w").tags([key]).await);
    drop(cache.add(key, "x").tags([key]).await);
    drop(cache.invalidate_tags([key]).await);
    drop(cache.add(key, "x").tags([key]).await);
    drop(cache.increment(format!("{key}:count"), 1).await);
    drop(cache.delete(key).await);
}

/// Lines are cut, stand still and lose everything, at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_writes_is_sent_twice() {
    let Some(line) = Line::new().await else {
        return;
    };
    // So that the server knows the scripts: it executes none of those that it does not know.
    let known = line.far().await;
    use_all(&known, "known").await;
    let watcher = Watcher::start(&line.server);
    let trials = report::trials(15, 50);
    for trial in 0..trials {
        let far = line.far().await;
        // Where it strikes is up to chance.
        line.proxy.cut_after(fastrand::usize(..400));
        for round in 0..4 {
            let key = format!("key:{trial}:{}", round % 2);
            use_all(&far, &key).await;
            match fastrand::u8(..6) {
                0 => line.proxy.cut_now(),
                1 => line.proxy.half_open(),
                2 => line.proxy.freeze(),
                _ => {}
            }
        }
        line.proxy.heal().await;
        line.thaw().await;
    }
    let seen = watcher.stop(&line.server);
    let mut writes: Vec<_> = seen.iter().filter(|seen| seen.writes()).collect();
    let count = writes.len();
    writes.sort_unstable();
    let twice = writes.windows(2).find(|pair| pair[0] == pair[1]);
    report::row(
        "writes over bad lines",
        format!("{count} executed, none of them twice"),
    );
    assert_eq!(twice.map(|pair| pair[0].to_string()), None::<String>);
    assert!(count as u64 > trials, "hardly anything was written");
}
