//! Servers that die, freeze and come back: no call hangs, failures are cheap, and work goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use larder::ErrorKind;
use larder::store::{Expiry, Memcached, Store, Write};
use larder::testing::sealed;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::server::Server;
use super::{PATIENCE, eventually, get, namespace, put};

const RESPONSE: Duration = Duration::from_millis(200);
/// A call takes a connection and up to three round trips; the rest is for a busy machine.
const LONGEST: Duration = Duration::from_millis(250 + 3 * 200 + 1000);

async fn connect(server: &Server) -> Memcached {
    let builder = Memcached::builder(server.address()).response_timeout(RESPONSE);
    builder.connect().await.unwrap()
}

fn is_outage(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_errors_and_is_used_again_once_it_is_back() {
    let mut server = Server::start(&[]).await;
    let builder = Memcached::builder(server.address()).connections(2);
    let store = builder.response_timeout(RESPONSE).connect().await.unwrap();
    let space = namespace();
    let stop = Arc::new(AtomicBool::new(false));
    let worked = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8_u8 {
        let (store, space) = (store.clone(), space.clone());
        let (stop, worked) = (Arc::clone(&stop), Arc::clone(&worked));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let outcome = match task % 2 {
                    0 => put(&store, &space, &[task], &[task]).await,
                    _ => get(&store, &space, &[task - 1]).await.map(|read| {
                        assert!(read.is_none() || read == Some(vec![task - 1]));
                    }),
                };
                assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
                match outcome {
                    Ok(()) => drop(worked.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        assert!(is_outage(error.kind()), "{error}");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        });
    }
    for _ in 0..3 {
        let before = worked.load(Ordering::Relaxed);
        eventually("the load works", || async {
            worked.load(Ordering::Relaxed) > before + 500
        })
        .await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.restart().await;
    }
    let before = worked.load(Ordering::Relaxed);
    eventually("the load works again", || async {
        worked.load(Ordering::Relaxed) > before + 500
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
}

#[tokio::test]
async fn a_restart_between_calls_goes_unnoticed() {
    let mut server = Server::start(&[]).await;
    let store = connect(&server).await;
    let space = namespace();
    for _ in 0..3 {
        put(&store, &space, b"k", b"v").await.unwrap();
        server.kill();
        server.restart().await;
        assert_eq!(get(&store, &space, b"k").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_frozen_server_is_a_timeout_and_then_fails_at_once() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    let space = namespace();
    put(&store, &space, b"k", b"v").await.unwrap();
    server.freeze().await;
    let start = Instant::now();
    let reads = (0..20).map(|_| get(&store, &space, b"k"));
    for read in join_all(reads).await {
        assert!(is_outage(read.unwrap_err().kind()));
    }
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
    eventually("calls fail at once", || async {
        let start = Instant::now();
        let error = get(&store, &space, b"k").await.unwrap_err();
        assert!(is_outage(error.kind()), "{error}");
        error.kind() == ErrorKind::Unavailable && start.elapsed() < RESPONSE / 4
    })
    .await;
    let node = store.nodes().await.unwrap().remove(0);
    assert!(node.problem.is_some());
    server.thaw();
    eventually("the server is used again", || async {
        get(&store, &space, b"k").await.is_ok()
    })
    .await;
    let read = get(&store, &space, b"k").await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"v"[..]));
}

/// One slow answer fails one call; the connection is kept, and its late reply is taken for nobody else's.
#[tokio::test]
async fn a_short_stall_costs_one_call() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    let space = namespace();
    put(&store, &space, b"k", b"v").await.unwrap();
    put(&store, &space, b"other", b"w").await.unwrap();
    server.freeze().await;
    let error = get(&store, &space, b"k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    server.thaw();
    let read = get(&store, &space, b"other").await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"w"[..]));
    let status = super::server::raw(&server.address(), "stats").await;
    assert!(status.contains("STAT curr_connections 2\r"), "{status}");
}

#[tokio::test]
async fn more_in_flight_than_allowed_is_overloaded() {
    let server = Server::start(&[]).await;
    let builder = Memcached::builder(server.address()).response_timeout(RESPONSE);
    let store = builder.max_in_flight(4).connect().await.unwrap();
    let space = namespace();
    // More than the bound in one call, and in many: it waits for its turn.
    let keys: Vec<_> = (0..100_u32).map(u32::to_be_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    assert_eq!(store.get_many(&space, &keys).await.unwrap().len(), 100);
    let reads = keys.iter().map(|key| get(&store, &space, key));
    assert!(join_all(reads).await.iter().all(Result::is_ok));
    server.freeze().await;
    let reads = keys.iter().map(|key| get(&store, &space, key));
    let kinds: Vec<_> = join_all(reads)
        .await
        .into_iter()
        .map(|read| read.unwrap_err().kind())
        .collect();
    assert!(kinds.iter().all(|kind| is_outage(*kind)), "{kinds:?}");
    assert!(kinds.contains(&ErrorKind::Timeout), "{kinds:?}");
    server.thaw();
    eventually("it works again", || async {
        get(&store, &space, b"k").await.is_ok()
    })
    .await;
}

/// Who asks a dead server does so rarely: the breaker answers for it.
#[tokio::test]
async fn the_breaker_spares_a_dead_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(client);
        }
    });
    let store = Memcached::builder(address).build_lazy().unwrap();
    let space = namespace();
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_millis(500) {
        let error = get(&store, &space, b"k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        calls += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    task.abort();
    let asked = asked.load(Ordering::Relaxed);
    assert!(calls > 50 && asked < 12, "{asked} of {calls}");
    let stats = format!("{:?}", store.stats().await.map_err(|error| error.kind()));
    assert_eq!(stats, "Err(Unavailable)");
}

/// Many callers that find no connection open one, not many.
#[tokio::test]
async fn callers_share_one_attempt_to_connect() {
    let server = Server::start(&[]).await;
    let store = Memcached::builder(server.address()).build_lazy().unwrap();
    let space = namespace();
    let reads = (0..50).map(|_| get(&store, &space, b"k"));
    assert!(join_all(reads).await.iter().all(Result::is_ok));
    let status = super::server::raw(&server.address(), "stats").await;
    assert!(status.contains("STAT curr_connections 2\r"), "{status}");
}

/// A dropped call leaves the connection to the others, and what it began to nobody's harm.
#[tokio::test]
async fn dropped_calls_disturb_nobody() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    let space = namespace();
    for n in 0..500_u32 {
        let (big, small) = (sealed(&vec![1; 100_000]), sealed(&n.to_be_bytes()));
        let dropped = [Write::put(b"k", big, Expiry::Never)];
        let _ = store.write_many(&space, &dropped).now_or_never();
        let _ = store.get_many(&space, &[b"k"]).now_or_never();
        let write = [Write::put(b"k", small, Expiry::Never)];
        assert_eq!(store.write_many(&space, &write).await.unwrap(), [true]);
        let read = get(&store, &space, b"k").await.unwrap();
        assert_eq!(read.as_deref(), Some(&n.to_be_bytes()[..]));
    }
}

/// A store outlives the runtime that opened its connections.
#[test]
fn another_runtime_gets_connections_of_its_own() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let first = runtime();
    let server = first.block_on(Server::start(&[]));
    let store = first.block_on(connect(&server));
    let space = namespace();
    first.block_on(put(&store, &space, b"k", b"v")).unwrap();
    drop(first);
    let read = runtime().block_on(get(&store, &space, b"k")).unwrap();
    assert_eq!(read.as_deref(), Some(&b"v"[..]));
}

/// Whoever trusts what it saw over one connection must learn that there is another.
#[tokio::test]
async fn every_connection_is_counted_before_it_answers() {
    let mut server = Server::start(&[]).await;
    let store = connect(&server).await;
    let space = namespace();
    let first = store.connection_epoch();
    put(&store, &space, b"k", b"v").await.unwrap();
    assert_eq!(store.connection_epoch(), first);
    for restarts in 1..=3 {
        server.kill();
        server.restart().await;
        eventually("the store works again", || async {
            get(&store, &space, b"k").await.is_ok()
        })
        .await;
        assert!(store.connection_epoch() >= first + restarts);
    }
}

/// A caller that connects and is not polled any more (the loser of a `select!` that is kept) holds up nobody for long.
#[tokio::test]
async fn a_caller_that_stops_while_it_connects_holds_up_nobody() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let store = Memcached::builder(address).build_lazy().unwrap();
    let space = namespace();
    let mut stopped = Box::pin(get(&store, &space, b"k"));
    for _ in 0..10 {
        assert!((&mut stopped).now_or_never().is_none());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let other = tokio::time::timeout(PATIENCE, get(&store, &space, b"k")).await;
    let error = other.expect("no call hangs").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    drop(stopped);
}

/// A runtime that exists and runs nothing, as one kept per thread between calls, holds up nobody else.
#[test]
fn a_runtime_that_stands_still_holds_up_no_other() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (idle, busy) = (runtime(), runtime());
    let server = idle.block_on(Server::start(&[]));
    let store = idle.block_on(connect(&server));
    let space = namespace();
    idle.block_on(put(&store, &space, b"k", b"v")).unwrap();
    busy.block_on(async {
        let first = tokio::time::timeout(PATIENCE, get(&store, &space, b"k")).await;
        let error = first.expect("no call hangs").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let read = get(&store, &space, b"k").await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"v"[..]));
    });
    // And back: the first one still works, with a connection of its own if need be.
    idle.block_on(async {
        eventually("the store works again", || async {
            get(&store, &space, b"k").await.is_ok()
        })
        .await;
    });
}
