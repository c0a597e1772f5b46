//! A process that hears nothing of what others change, because its line is cut, the journal is not to be read, or lost.

use std::sync::Arc;
use std::time::Duration;

use larder::{Cache, RedisStore};
use xtask::servers::private::RedisServer;

use crate::moment::now;
use crate::party::{Party, reads_of};
use crate::proxy::Proxy;
use crate::{FOR_EVER, Kind, MS, PATIENCE, Site, report};

const KEY: &str = "key";
const KEYS: u64 = 100;
/// What a read may be outdated for beyond the bound.
const SLACK: Duration = Duration::from_millis(100);
/// How long the line is well before the cut and behind it; a client that gave up waits for up to 2 s.
const BEFORE: Duration = Duration::from_millis(500);
const BEHIND: Duration = Duration::from_millis(3500);
/// More notes than a journal keeps.
const FLOOD: u64 = 9000;

/// A server, and a reader behind a proxy.
struct Line {
    server: RedisServer,
    proxy: Proxy,
    site: Site,
    writer: Cache,
    reader: Party,
}

impl Line {
    async fn new(max_staleness: Duration) -> Option<Self> {
        let server = crate::own_server()?;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let site = Site::of_server(&format!("redis://{}/", proxy.address()));
        Party::expect_trouble(&site.store);
        let store = Arc::new(RedisStore::connect(server.url()).await.unwrap());
        let writer = crate::cache(store, &site.store, None);
        let reader = Party::start(Kind::Redis, &site.store, 1, Some(max_staleness));
        Some(Self {
            server,
            proxy,
            site,
            writer,
            reader,
        })
    }

    /// Reads a key until the reader's tier answers.
    fn warm(&mut self, key: &str) {
        let began = now();
        loop {
            let [before, ..] = self.reader.stats();
            self.reader.get(key);
            if self.reader.stats()[0] > before {
                return;
            }
            assert!(now() - began < PATIENCE.as_nanos() as u64, "it never hits");
        }
    }

    fn journals(&self) -> Vec<String> {
        let names = self.server.call(&["KEYS", "*}j:*"]).unwrap();
        names.items().iter().map(|name| name.text()).collect()
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing gets through, without a word.
    Silence,
    /// Connections are closed, and refused.
    Refusal,
    /// All gets through but the journal.
    Journal,
}

impl Fault {
    async fn strike(self, line: &Line) {
        match self {
            Self::Silence => line.proxy.half_open(),
            Self::Refusal => {
                line.proxy.refuse().await;
                line.proxy.cut_now();
            }
            Self::Journal => {
                line.server
                    .call(&["ACL", "SETUSER", "default", "-xrange"])
                    .unwrap();
            }
        }
    }

    async fn end(self, line: &Line) {
        line.proxy.heal().await;
        line.server
            .call(&["ACL", "SETUSER", "default", "+xrange"])
            .unwrap();
    }
}

/// A writer counts on, and the reader never has a count that was outdated longer ago than the bound.
async fn copies_end_at_the_bound(fault: Fault) {
    let (bound, cut) = match report::is_long() {
        true => (Duration::from_secs(1), Duration::from_secs(5)),
        false => (Duration::from_millis(400), Duration::from_millis(1500)),
    };
    let Some(mut line) = Line::new(bound).await else {
        return;
    };
    // When each count was acknowledged.
    let mut ended_ns = vec![0];
    line.writer.set(KEY, "0").await.unwrap();
    line.warm(KEY);
    let (start, all_ms) = (now(), (BEFORE + cut + BEHIND).as_millis());
    let (strikes, ends) = (start + ns(BEFORE), start + ns(BEFORE + cut));
    let mut is_struck = [false; 2];
    line.reader.0.tell(&format!("read {KEY} {all_ms}"));
    let failures = loop {
        if let Some(heard) = line.reader.hear_within(5 * MS) {
            break heard;
        }
        if !is_struck[0] && now() >= strikes {
            fault.strike(&line).await;
            is_struck[0] = true;
        }
        if !is_struck[1] && now() >= ends {
            fault.end(&line).await;
            is_struck[1] = true;
        }
        let count = ended_ns.len().to_string();
        line.writer.set(KEY, &count).await.unwrap();
        ended_ns.push(now());
    };
    let reads = std::fs::read_to_string(reads_of(&line.site.store, 1)).unwrap();
    let reads = reads.lines().map(|line| {
        let (count, began) = line.split_once(' ').unwrap();
        (
            count.parse::<usize>().unwrap(),
            began.parse::<u64>().unwrap(),
        )
    });
    let lag = |&(count, began): &(usize, u64)| {
        let outdated_at = ended_ns.get(count + 1);
        outdated_at.map_or(0, |outdated_at| began.saturating_sub(*outdated_at))
    };
    let reads: Vec<_> = reads.collect();
    let worst = Duration::from_nanos(reads.iter().map(lag).max().unwrap_or(0));
    let behind = reads.iter().filter(|(_, began)| *began > ends).count();
    let [local_hits, ..] = line.reader.stats();
    report::row(
        format!("{fault:?} for {cut:?}, bound {bound:?}"),
        format!(
            "{} reads, {local_hits} of them local, {failures}, {behind} behind it; outdated for {worst:?} at most",
            reads.len()
        ),
    );
    assert!(worst <= bound + SLACK, "{worst:?}");
    assert!(local_hits > 0 && behind > 0, "a cache that always misses");
}

fn ns(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_end_at_the_bound_in_silence() {
    copies_end_at_the_bound(Fault::Silence).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_end_at_the_bound_without_a_line() {
    copies_end_at_the_bound(Fault::Refusal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_end_at_the_bound_without_a_journal() {
    copies_end_at_the_bound(Fault::Journal).await;
}

/// What becomes of a journal before its reader has come to the end.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Deleted,
    Trimmed,
    Overflown,
}

impl Loss {
    async fn happen(self, line: &Line) {
        for journal in line.journals() {
            match self {
                Self::Deleted => drop(line.server.call(&["DEL", &journal]).unwrap()),
                Self::Trimmed => {
                    let trim = ["XTRIM", &journal, "MAXLEN", "0"];
                    drop(line.server.call(&trim).unwrap());
                }
                Self::Overflown => {}
            }
        }
        if matches!(self, Self::Overflown) {
            let notes = (0..FLOOD).map(|_| line.writer.set("noise", "x"));
            for note in notes {
                note.await.unwrap();
            }
        }
    }
}

/// With copies that only news can end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_lost_takes_the_copies_along() {
    let Some(mut line) = Line::new(FOR_EVER).await else {
        return;
    };
    for loss in [Loss::Deleted, Loss::Trimmed, Loss::Overflown] {
        let trials = match loss {
            Loss::Overflown => report::trials(1, 2000),
            _ => report::trials(5, 100),
        };
        let mut times_ns = Vec::new();
        for trial in 0..trials {
            line.writer.set(KEY, "old").await.unwrap();
            // Its news must have come first.
            while line.reader.get(KEY).as_deref() != Some("old") {
                tokio::time::sleep(MS).await;
            }
            line.warm(KEY);
            let [_, gaps_before, _] = line.reader.stats();
            line.proxy.freeze();
            line.writer.set(KEY, "new").await.unwrap();
            loss.happen(&line).await;
            line.proxy.thaw();
            let thawed = now();
            while line.reader.get(KEY).as_deref() != Some("new") {
                assert!(now() - thawed < ns(PATIENCE), "{loss:?} {trial}");
                tokio::time::sleep(MS).await;
            }
            times_ns.push(now() - thawed);
            let [_, gaps, _] = line.reader.stats();
            assert!(gaps > gaps_before, "{loss:?}: there was no gap");
        }
        report::row(
            format!("journal {loss:?} past its reader"),
            format!("{trials} trials, copies gone: {}", report::times(times_ns)),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_everything_takes_the_copies_along() {
    let Some(mut line) = Line::new(FOR_EVER).await else {
        return;
    };
    let mut times_ns = Vec::new();
    let trials = report::trials(2, 500);
    for _ in 0..trials {
        for key in 0..KEYS {
            line.writer.set(format!("key:{key}"), "v").await.unwrap();
        }
        let all = format!("present {KEYS}");
        while line.reader.order(&all) != KEYS.to_string() {
            tokio::time::sleep(MS).await;
        }
        line.warm("key:0");
        let [before, ..] = line.reader.stats();
        line.reader.order(&all);
        assert!(line.reader.stats()[0] > before, "the tier never hits");
        line.server.call(&["FLUSHALL"]).unwrap();
        let flushed = now();
        while line.reader.order(&all) != "0" {
            assert!(now() - flushed < ns(PATIENCE), "copies stay");
            tokio::time::sleep(MS).await;
        }
        times_ns.push(now() - flushed);
    }
    if report::is_long() {
        let longest = times_ns.iter().max().copied().unwrap_or(0);
        assert!(longest <= 1_100_000_000, "{longest} ns");
    }
    report::row(
        "FLUSHALL",
        format!("{trials} trials, copies gone: {}", report::times(times_ns)),
    );
}
