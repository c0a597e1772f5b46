//! Two processes of the shop on one Redis, each with a local tier: what one changes, the other shows.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod http;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// As `redis.toml` says.
const MAX_STALENESS: Duration = Duration::from_secs(1);
/// Nothing takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is changed, and where it shows.
struct Subject {
    pages: [&'static str; 2],
    /// The caches behind these pages.
    caches: [&'static str; 2],
}

const USER: Subject = Subject {
    pages: ["/users/240", "/users?page=12"],
    caches: ["users", "pages"],
};
const PRODUCT: Subject = Subject {
    pages: ["/products/49", "/products?page=3"],
    caches: ["products", "pages"],
};

/// A process that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A shop that is open, in a process of its own.
struct Running {
    address: SocketAddr,
    _process: Process,
}

/// Opens two shops at once on one directory and, in the Redis of the tests, one cache of their own.
fn open_two() -> (TempDir, [Running; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let processes = [start(dir.path()), start(dir.path())];
    (dir, processes.map(Running::ready))
}

fn start(dir: &Path) -> Process {
    let redis = std::env::var("LARDER_TEST_REDIS_URL")
        .expect("LARDER_TEST_REDIS_URL is not set: run the tests by `cargo xtask test`");
    // A database of their own, since statistics count entries by listing the database.
    let redis = format!("{}/15", redis.trim_end_matches('/'));
    let process = Command::new(env!("CARGO_BIN_EXE_shop"))
        .args(["--listen", "127.0.0.1:0", "--limit", "1000000"])
        .args([
            "--config",
            concat!(env!("CARGO_MANIFEST_DIR"), "/redis.toml"),
        ])
        .arg(dir)
        .env("REDIS_URL", redis)
        .env("CACHE_PREFIX", dir.file_name().unwrap())
        // A busy machine is not what is tested.
        .env("LARDER__STORES__MAIN__RESPONSE_TIMEOUT", "30s")
        .stdout(Stdio::piped())
        .spawn();
    Process(process.unwrap())
}

impl Running {
    /// Waits until the process says where it listens.
    fn ready(mut process: Process) -> Self {
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("http://").expect("the shop opens");
        let address = address.split(' ').next().unwrap().parse().unwrap();
        Self {
            address,
            _process: process,
        }
    }

    /// Returns the body of a page that must be there.
    async fn page(&self, path: &str, cookie: &str) -> String {
        let response = http::get_as(self.address, path, cookie).await;
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        response.body
    }

    /// Makes a change; returns the cookie that stands for it.
    async fn change(&self, path: &str, form: &str) -> String {
        let response = http::post(self.address, path, form).await;
        assert_eq!(response.status, 303, "{path}: {}", response.body);
        let cookie = response.header("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Returns how many reads of these caches were answered without the server.
    async fn local_hits(&self, caches: [&str; 2]) -> [u64; 2] {
        let stats = http::get(self.address, "/stats").await.body;
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        caches.map(|name| {
            let hits = &stats["caches"][name]["process"]["local_hits"];
            hits.as_u64().unwrap()
        })
    }

    /// Asks for pages that must show this, until the local tier has answered for each cache behind them.
    async fn read_locally(&self, subject: &Subject, expected: &str, cookie: &str) {
        let started = Instant::now();
        let before = self.local_hits(subject.caches).await;
        loop {
            for path in subject.pages {
                let page = self.page(path, cookie).await;
                assert!(page.contains(expected), "{path}: {page}");
            }
            let now = self.local_hits(subject.caches).await;
            if now[0] > before[0] && now[1] > before[1] {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no local hits: {now:?}");
        }
    }

    /// Asks for the pages until all show this; returns when the last one was asked for that did not.
    async fn read_until_shown(&self, subject: &Subject, expected: &str) -> Option<Instant> {
        let started = Instant::now();
        let mut last_old = None;
        loop {
            let mut is_shown = true;
            for path in subject.pages {
                let asked = Instant::now();
                if !self.page(path, "").await.contains(expected) {
                    (last_old, is_shown) = (Some(asked), false);
                }
            }
            if is_shown {
                return last_old;
            }
            assert!(started.elapsed() < PATIENCE, "{expected} is never shown");
        }
    }
}

/// Changes something in one process after the other, and judges how long the other shows what was there before.
async fn measure(subject: &Subject, changes: &[(String, String)], expected: &[String]) {
    let (_dir, [one, other]) = open_two();
    for (round, (path, form)) in changes.iter().enumerate() {
        let (here, there) = match round % 2 {
            0 => (&one, &other),
            _ => (&other, &one),
        };
        for shop in [here, there] {
            shop.read_locally(subject, &expected[round], "").await;
        }
        here.change(path, form).await;
        let changed = Instant::now();
        let last_old = there.read_until_shown(subject, &expected[round + 1]).await;
        let shown = changed.elapsed();
        // When it was asked for, not when it came: a machine that is busy makes no page older.
        let stale = last_old.map_or(Duration::ZERO, |asked| asked - changed);
        println!("{path}: old pages for {stale:?}, all new after {shown:?}");
        assert!(stale <= MAX_STALENESS, "{path}: {stale:?}");
    }
}

#[tokio::test]
async fn a_new_name_shows_in_the_other_process_in_time() {
    let names: Vec<_> = (1..=6).map(|round| format!("Round-{round}-")).collect();
    let rename = |name| ("/users/240".to_owned(), format!("name={name}"));
    let changes: Vec<_> = names.iter().map(rename).collect();
    let expected = [vec!["Ann Baker".to_owned()], names].concat();
    measure(&USER, &changes, &expected).await;
}

#[tokio::test]
async fn a_sale_shows_in_the_other_process_in_time() {
    let changes = vec![("/products/49/buy".to_owned(), String::new()); 6];
    let expected: Vec<_> = (43..=49).rev().map(|it| format!(" {it} left")).collect();
    measure(&PRODUCT, &changes, &expected).await;
}

#[tokio::test]
async fn who_changes_something_sees_it_at_once_in_the_other_process() {
    let (_dir, [here, there]) = open_two();
    let (mut name, mut behind) = ("Ann Baker".to_owned(), 0);
    for round in 1..=20 {
        there.read_locally(&USER, &name, "").await;
        let old = std::mem::replace(&mut name, format!("Round-{round}-"));
        let cookie = here.change("/users/240", &format!("name={name}")).await;
        // Others may still see the old name; how many do is chance.
        behind += u32::from(there.page(USER.pages[0], "").await.contains(&old));
        for path in USER.pages {
            let page = there.page(path, &cookie).await;
            assert!(page.contains(&name), "{path}, round {round}: {page}");
        }
        there.read_locally(&USER, &name, &cookie).await;
    }
    println!("in {behind} of 20 rounds another visitor saw the old name");
}
