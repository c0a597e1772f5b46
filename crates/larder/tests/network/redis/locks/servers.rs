//! One server that forgets: its scripts, its data, and what has had its time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use larder::lock::{Answer, Ask, IDLE_MS, MAX_WAITERS, Owner, Rate};
use larder::{Cache, ErrorKind, Glob, RedisStore};
use tokio::time::sleep;
use xtask::servers::private::RedisServer;

use super::super::rig::now;
use super::{LONG_MS, Locks, ask};
use crate::has_servers;

/// Returns all keys of a server with what is left of their time, in ms; -1: for ever.
fn keys(server: &RedisServer) -> Vec<(String, i64)> {
    let names = now(|| server.call(&["KEYS", "*"])).unwrap();
    let names = names.items().iter().map(xtask::servers::resp::Value::text);
    let left = |name: &String| now(|| server.call(&["PTTL", name])).unwrap().text();
    names
        .map(|name| {
            let left = left(&name).parse().unwrap();
            (name, left)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_grow_whatever_is_lost() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let mut latest = 0;
    let grow = async |latest: &mut u64, how: &str| {
        for _ in 0..50 {
            let owner = Owner::new();
            let fence = locks.fence("a", &ask(&owner)).await.expect(how);
            assert!(fence > *latest, "{how}: {fence} after {latest}");
            *latest = fence;
            assert!(locks.release("a", &owner).await, "{how}");
        }
    };
    grow(&mut latest, "at first").await;
    now(|| server.call(&["FLUSHALL"])).unwrap();
    grow(&mut latest, "after all was flushed").await;
    now(|| {
        server.kill();
        server.wipe().unwrap();
        server.start_again().unwrap();
    });
    // One call may meet the connection as it breaks.
    let _ = locks.acquire("b", &ask(&Owner::new())).await;
    grow(&mut latest, "after a restart without data").await;
    now(|| server.call(&["SCRIPT", "FLUSH"])).unwrap();
    grow(&mut latest, "after the scripts were flushed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_is_sent_again_when_it_is_forgotten() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let (store, space, owner) = (&locks.store, &locks.space, Owner::new());
    let rate = Rate {
        tokens: 1,
        interval_ms: LONG_MS,
        burst: 2,
    };
    let flush = || {
        now(|| server.call(&["SCRIPT", "FLUSH"])).unwrap();
    };
    for _ in 0..2 {
        flush();
        assert!(locks.fence("a", &ask(&owner)).await.is_some());
        flush();
        assert!(store.extend(space, b"a", &owner, LONG_MS).await.unwrap());
        flush();
        assert_eq!(store.list(space, &Glob::all(), 9).await.unwrap().len(), 1);
        flush();
        assert!(store.take(space, b"a", &rate, 1).await.unwrap().allowed);
        flush();
        assert_eq!(store.evict(space, b"a").await.unwrap(), 1);
        flush();
        let again = store.release(space, b"a", &owner, Some(5)).await;
        assert!(!again.unwrap());
    }
    assert_eq!(store.hold_times(space, b"a").await.unwrap(), [5, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiter_behind_twenty_dead_ones_has_its_turn_once_they_are_overdue() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let heartbeat = Duration::from_millis(700);
    let beating = |owner: &Owner| Ask {
        heartbeat_ms: Some(heartbeat.as_millis() as u64),
        ..ask(owner)
    };
    let (holder, live) = (Owner::new(), Owner::new());
    locks.fence("a", &ask(&holder)).await.unwrap();
    for number in 0..20 {
        let answer = locks.acquire("a", &beating(&Owner::new())).await.unwrap();
        assert!(matches!(answer, Answer::Busy { ahead, .. } if ahead == number));
    }
    let began = Instant::now();
    let answer = locks.acquire("a", &beating(&live)).await.unwrap();
    assert!(matches!(answer, Answer::Busy { ahead: 20, .. }));
    assert!(locks.release("a", &holder).await);
    let mut polls = 0;
    loop {
        match locks.acquire("a", &beating(&live)).await.unwrap() {
            Answer::Granted { .. } => break,
            Answer::Busy { ahead, retry_ms } => {
                assert!(retry_ms > 0 && retry_ms <= heartbeat.as_millis() as u64 + 1);
                assert!(ahead > 0, "nobody holds it");
                sleep(Duration::from_millis(retry_ms).min(heartbeat / 3)).await;
            }
        }
        polls += 1;
    }
    let taken = began.elapsed();
    println!("granted after {taken:?} and {polls} polls");
    // All at once, not one after the other.
    assert!(polls < 8, "{polls}");
    assert!(taken < 2 * heartbeat, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_end_by_the_clock_of_the_server_and_leave_nothing_for_ever() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let (store, space) = (&locks.store, &locks.space);
    let (a, b) = (Owner::new(), Owner::new());
    let brief = |owner: &Owner| Ask {
        ttl_ms: 300,
        heartbeat_ms: Some(400),
        ..ask(owner)
    };
    let first = locks.fence("a", &brief(&a)).await.unwrap();
    let Answer::Busy { ahead: 0, retry_ms } = locks.acquire("a", &brief(&b)).await.unwrap() else {
        panic!("it is held");
    };
    assert!(retry_ms <= 300, "{retry_ms}");
    store.release(space, b"b", &b, Some(7)).await.unwrap();
    let rate = Rate {
        tokens: 10,
        interval_ms: 1000,
        burst: 5,
    };
    store.take(space, b"a", &rate, 5).await.unwrap();
    let all = keys(&server);
    assert_eq!(all.len(), 5, "{all:?}");
    for (name, left) in &all {
        assert!(*left > 0, "{name} has no end");
        let most = match name.as_bytes()[3] {
            b'l' => IDLE_MS as i64 + 300,
            b'q' | b'w' => 400 + 10_000,
            b'h' => larder::lock::HOLD_TIMES_MS as i64,
            _ => 500,
        };
        assert!(*left <= most, "{name}: {left} ms");
    }
    sleep(Duration::from_millis(retry_ms + 10)).await;
    assert!(!store.extend(space, b"a", &a, 300).await.unwrap());
    assert!(locks.fence("a", &brief(&b)).await.unwrap() > first);
    assert!(!locks.release("a", &a).await, "its lease has ended");
    // Until somebody else is let in, who comes late has held it.
    locks.fence("c", &brief(&a)).await.unwrap();
    sleep(Duration::from_millis(310)).await;
    assert_eq!(store.evict(space, b"c").await.unwrap(), 0);
    locks.fence("c", &brief(&a)).await.unwrap();
    sleep(Duration::from_millis(310)).await;
    assert!(locks.release("c", &a).await);
    assert!(!locks.release("c", &a).await);
    assert!(locks.fence("a", &brief(&b)).await.is_some());
    assert!(store.extend(space, b"a", &b, 600).await.unwrap());
    sleep(Duration::from_millis(400)).await;
    let listed = store.list(space, &Glob::all(), 9).await.unwrap();
    assert_eq!(listed[0].holders[0].owner, b.as_str());
    sleep(Duration::from_millis(300)).await;
    assert!(store.list(space, &Glob::all(), 9).await.unwrap().is_empty());
    // The bucket is full again, and need not be known.
    let all = keys(&server);
    assert!(
        all.iter()
            .all(|(name, left)| *left > 0 && !name.contains("b:")),
        "{all:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_tokens_are_there_when_that_was_said() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let take = async |name: &str, rate: &Rate, tokens: u64| {
        let taken = locks
            .store
            .take(&locks.space, name.as_bytes(), rate, tokens);
        taken.await.unwrap()
    };
    let daily = Rate {
        tokens: 7,
        interval_ms: Rate::MAX_INTERVAL_MS,
        burst: 1,
    };
    // From a full bucket, so that no time has passed: a seventh of a day, rounded up.
    let refused = take("day", &daily, 2).await;
    assert_eq!((refused.allowed, refused.remaining), (false, 1));
    assert_eq!(refused.retry_after_ms, 12_342_858);
    let rate = Rate {
        tokens: 3,
        interval_ms: 1000,
        burst: 5,
    };
    let began = Instant::now();
    let mut taken = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let answer = take("a", &rate, 1).await;
        taken += u64::from(answer.allowed);
        assert_eq!(answer.allowed, answer.retry_after_ms == 0);
        assert!(answer.retry_after_ms <= 334, "{answer:?}");
        sleep(Duration::from_millis(answer.retry_after_ms)).await;
    }
    // The burst, and what came in two seconds or a little more.
    let passed_ms = began.elapsed().as_millis() as u64 + 50;
    assert!((10..=5 + passed_ms * 3 / 1000).contains(&taken), "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_waiter_too_many_is_refused() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    locks.fence("a", &ask(&Owner::new())).await.unwrap();
    let owners: Vec<_> = (0..MAX_WAITERS).map(|_| Owner::new()).collect();
    for some in owners.chunks(500) {
        let asks: Vec<_> = some.iter().map(ask).collect();
        let answers = asks.iter().map(|ask| locks.acquire("a", ask));
        for answer in join_all(answers).await {
            assert!(matches!(answer, Ok(Answer::Busy { .. })), "{answer:?}");
        }
    }
    let refused = locks.acquire("a", &ask(&Owner::new())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Overloaded);
    // Those who wait may go on, and those who do not wait may try.
    let answer = locks.acquire("a", &ask(&owners[7])).await;
    assert!(matches!(answer, Ok(Answer::Busy { .. })), "{answer:?}");
    let trial = Ask {
        heartbeat_ms: None,
        ..ask(&Owner::new())
    };
    let answer = locks.acquire("a", &trial).await.unwrap();
    assert!(matches!(answer, Answer::Busy { ahead, .. } if ahead == MAX_WAITERS as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_extended_and_released_on_a_server_that_is_full() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let (store, space, owner) = (&locks.store, &locks.space, Owner::new());
    locks.fence("a", &ask(&owner)).await.unwrap();
    now(|| server.call(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])).unwrap();
    now(|| server.call(&["CONFIG", "SET", "maxmemory", "1"])).unwrap();
    assert!(
        store
            .extend(space, b"a", &owner, 2 * LONG_MS)
            .await
            .unwrap()
    );
    let refused = locks.acquire("b", &ask(&owner)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let released = store.release(space, b"a", &owner, Some(1)).await;
    assert!(released.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_entry_has_no_fence_and_is_replaced() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let store = RedisStore::builder(server.url()).connect().await.unwrap();
    let cache = Cache::builder(store).build().unwrap();
    cache.set("k", "seven").fence(7).await.unwrap();
    let mut names = keys(&server).into_iter().map(|(name, _)| name);
    let entry = names.find(|name| name.ends_with('k')).unwrap();
    now(|| server.call(&["APPEND", &entry, "x"])).unwrap();
    cache.set("k", "one").fence(1).await.unwrap();
    assert_eq!(cache.get::<String>("k").await.unwrap().unwrap(), "one");
    cache.set("k", "zero").fence(0).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_leaves_nothing_behind() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let store = RedisStore::builder(server.url()).connect().await.unwrap();
    let cache = Cache::builder(store).build().unwrap();
    let chaos = |_| {
        let cache = cache.clone();
        tokio::spawn(async move {
            for round in 0..60 {
                let lock = match round % 3 {
                    0 => cache.lock("l"),
                    1 => cache.semaphore("s", 2),
                    _ => cache.lock("l").fair(false),
                };
                let lock = lock.renew(true).wait(Duration::from_secs(5));
                let patience = Duration::from_micros(fastrand::u64(..20_000));
                let work = async {
                    match fastrand::u8(..3) {
                        0 => drop(lock.with_fence(|_| sleep(patience)).await),
                        1 => drop(lock.try_acquire().await.map(|_| ())),
                        _ => {
                            let guard = lock.acquire().await?;
                            guard.extend(Duration::from_secs(9)).await?;
                            guard.release().await?;
                        }
                    }
                    larder::Result::Ok(())
                };
                let _: Result<larder::Result<()>, _> = tokio::time::timeout(patience, work).await;
            }
        })
    };
    for task in (0..40).map(chaos).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let ended = Instant::now();
    loop {
        let locks = cache.locks().list().await.unwrap();
        let semaphores = cache.locks().list_semaphores().await.unwrap();
        if locks.is_empty() && semaphores.is_empty() {
            break;
        }
        assert!(
            ended.elapsed() < Duration::from_secs(3),
            "{locks:?} {semaphores:?}"
        );
        sleep(Duration::from_millis(10)).await;
    }
    let stats = cache.locks().stats();
    assert_eq!((stats.held, stats.lost), (0, 0));
}
