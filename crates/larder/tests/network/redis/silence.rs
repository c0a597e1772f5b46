//! Servers that are there and do not answer: half-open lines, frozen ones, slow ones, and too many calls at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use larder::{ErrorKind, RedisStore};
use tokio::time::{sleep, timeout};
use xtask::servers::private::RedisServer;

use super::rig::{Rig, SLACK, now};
use crate::has_servers;
use crate::proxy::Proxy;

const CONNECT: Duration = Duration::from_millis(200);
const RESPONSE: Duration = Duration::from_millis(200);
/// The breaker's longest wait is 2 s.
const BACK_WITHIN: Duration = Duration::from_secs(4);

struct Line {
    server: RedisServer,
    proxy: Proxy,
    rig: Rig,
}

impl Line {
    async fn new() -> Self {
        let server = now(RedisServer::start).unwrap();
        let proxy = Proxy::start(server.address()).await.unwrap();
        let store = RedisStore::builder(format!("redis://{}/", proxy.address()))
            .connect_timeout(CONNECT)
            .response_timeout(RESPONSE);
        let rig = Rig::new(store.connect().await.unwrap());
        rig.set("key", 1).await.unwrap();
        Self { server, proxy, rig }
    }

    /// The first calls time out, in time; later ones are refused at once, however many there are.
    async fn check_silence(&self, how: &str) {
        let bound = CONNECT + RESPONSE + SLACK;
        let error = self.rig.get("key").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{how}: {error}");
        for _ in 0..8 {
            self.rig.get("key").await.unwrap_err();
        }
        assert!(
            self.rig.slowest() < bound,
            "{how}: {:?}",
            self.rig.slowest()
        );
        let began = Instant::now();
        let all = join_all((0..200).map(|_| self.rig.get("key"))).await;
        let taken = began.elapsed();
        assert!(all.iter().all(Result::is_err), "{how}");
        assert!(taken < bound, "{how}: {taken:?}");
        let at_once = all.iter().flat_map(|read| read.as_ref().err());
        let at_once = at_once.filter(|error| error.kind() == ErrorKind::Unavailable);
        assert!(at_once.count() >= 199, "{how}: the breaker is closed");
        println!(
            "{how}: slowest {:?}, 200 at once {taken:?}",
            self.rig.slowest()
        );
    }

    async fn check_recovery(&self, how: &str) {
        let began = Instant::now();
        while let Err(error) = self.rig.get("key").await {
            assert!(began.elapsed() < BACK_WITHIN, "{how}: {error}");
            sleep(Duration::from_millis(10)).await;
        }
        println!("{how}: back after {:?}", began.elapsed());
        for version in 2..100 {
            self.rig.set("key", version).await.unwrap();
            assert_eq!(self.rig.get("key").await.unwrap(), Some(version));
        }
        self.rig.set("key", 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_server_costs_its_timeout_and_then_nothing() {
    if !has_servers() {
        return;
    }
    let line = Line::new().await;
    line.proxy.half_open();
    line.check_silence("half-open").await;
    line.proxy.heal().await;
    line.check_recovery("half-open").await;
    line.proxy.delay(RESPONSE * 2);
    line.check_silence("slow").await;
    line.proxy.heal().await;
    line.check_recovery("slow").await;
    line.proxy.freeze();
    line.check_silence("frozen").await;
    line.proxy.heal().await;
    line.check_recovery("frozen").await;
    now(|| line.server.pause()).unwrap();
    line.check_silence("paused").await;
    now(|| line.server.resume()).unwrap();
    line.check_recovery("paused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_line_is_left_even_if_no_caller_waits_for_the_timeout() {
    if !has_servers() {
        return;
    }
    let line = Line::new().await;
    line.proxy.half_open();
    let before = line.proxy.connections();
    let began = Instant::now();
    while line.proxy.connections() == before {
        let call = timeout(Duration::from_millis(20), line.rig.get("key"));
        call.await.unwrap_err();
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "the line is still trusted"
        );
    }
    println!("left after {:?}", began.elapsed());
    line.proxy.heal().await;
    line.check_recovery("half-open").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_the_limit_are_refused() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let builder = RedisStore::builder(format!("redis://{}/", proxy.address()));
    let store = builder.max_in_flight(10).connect().await.unwrap();
    let rig = Rig::new(store);
    rig.set("key", 1).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    // Additions are never merged with others.
    let all = join_all((0..50).map(|_| rig.increment("count"))).await;
    let served = all.iter().filter(|sum| sum.is_ok()).count();
    assert_eq!(served, 10);
    for error in all.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.is_retryable());
    }
    assert_eq!(
        rig.get("key").await.unwrap(),
        Some(1),
        "the places are free again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_dropped_anywhere_leave_nothing_behind() {
    if !has_servers() {
        return;
    }
    let line = Line::new().await;
    let builder = RedisStore::builder(format!("redis://{}/", line.proxy.address()));
    let builder = builder.connect_timeout(CONNECT).response_timeout(RESPONSE);
    // A place that is not given back would be missed soon.
    let store = builder.max_in_flight(4).connect().await.unwrap();
    let rig = Rig::new(store);
    let drop_calls = async |count: u64| {
        for n in 0..count {
            let patience = async {
                for _ in 0..n % 50 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                _ = async { match n % 5 {
                    0 => rig.get("key").await.map(|_| ()),
                    1 => rig.set("dropped", n).await,
                    2 => rig.increment("count").await.map(|_| ()),
                    3 => rig.add("added", n).await.map(|_| ()),
                    _ => rig.delete("added").await.map(|_| ()),
                } } => {}
                () = patience => {}
            }
        }
    };
    for round in 0..5 {
        drop_calls(400).await;
        line.proxy.cut_now();
        drop_calls(100).await;
        // The breaker opens, and its probes are dropped.
        line.proxy.freeze();
        for _ in 0..3 {
            rig.get("key").await.unwrap_err();
        }
        for _ in 0..20 {
            let probe = timeout(Duration::from_millis(10), rig.get("key"));
            assert!(!probe.await.is_ok_and(|read| read.is_ok()));
        }
        line.proxy.heal().await;
        let began = Instant::now();
        while let Err(error) = rig.get("key").await {
            assert!(began.elapsed() < BACK_WITHIN, "round {round}: {error}");
            sleep(Duration::from_millis(5)).await;
        }
        for version in 0..50 {
            rig.set("own", version).await.unwrap();
            assert_eq!(rig.get("own").await.unwrap(), Some(version));
            assert_eq!(rig.get("key").await.unwrap(), Some(1));
        }
    }
}
