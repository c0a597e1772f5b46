//! Locks on a cluster: all keys of a name in one slot, listings of all masters, and a master that is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use larder::lock::{Answer, Ask, Owner, Rate};
use larder::{Glob, RedisStore};
use tokio::time::{sleep, timeout};
use xtask::servers::private::RedisCluster;

use super::super::rig::{now, urls};
use super::{Locks, ask};
use crate::has_servers;

/// What users may call their locks to disturb the slots.
const NAMES: [&str; 9] = [
    "plain",
    "{other}",
    "{}",
    "}{",
    "{",
    "}",
    "a{b}c{d}",
    "{0}l:x:y:v1:z",
    "l:{\r\n}\0 *[a-b]\\",
];

async fn connect(cluster: &RedisCluster) -> Locks {
    let builder = RedisStore::cluster(urls(cluster)).response_timeout(Duration::from_millis(800));
    Locks::new(&builder.connect().await.unwrap())
}

/// Returns the slots of all keys of locks, by what the keys have in common.
fn slots(cluster: &RedisCluster) -> BTreeMap<String, BTreeSet<String>> {
    let mut slots = BTreeMap::<_, BTreeSet<_>>::new();
    for node in &cluster.nodes()[..3] {
        let names = node.call(&["KEYS", "{*}[lqwhb]:*"]).unwrap();
        for name in names.items() {
            let name = name.text();
            let slot = node.call(&["CLUSTER", "KEYSLOT", &name]).unwrap().text();
            let left = node.call(&["PTTL", &name]).unwrap().text();
            assert!(left.parse::<i64>().unwrap() > 0, "{name} has no end");
            let (tag, rest) = name.split_once('}').unwrap();
            let (kind, rest) = rest.split_at(1);
            let of_name = slots.entry(rest.to_owned()).or_default();
            of_name.insert(format!("{tag} {slot}"));
            assert!("lqwhb".contains(kind));
        }
    }
    slots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_users_choose_no_slot_and_waiters_are_called_on_every_master() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let (locks, elsewhere) = (connect(&cluster).await, connect(&cluster).await);
    let (store, space) = (&locks.store, &locks.space);
    let rate = Rate {
        tokens: 1,
        interval_ms: 60_000,
        burst: 3,
    };
    for name in NAMES {
        let (holder, waiter, last) = (Owner::new(), Owner::new(), Owner::new());
        locks.fence(name, &ask(&holder)).await.expect(name);
        assert_eq!(locks.fence(name, &ask(&waiter)).await, None, "{name}");
        assert_eq!(locks.fence(name, &ask(&last)).await, None, "{name}");
        let listener = store.listen(space, name.as_bytes(), &waiter).await;
        let released = elsewhere
            .store
            .release(space, name.as_bytes(), &holder, Some(3));
        assert!(released.await.unwrap());
        let rung = timeout(Duration::from_secs(1), listener.rung()).await;
        rung.expect(name);
        assert!(locks.fence(name, &ask(&waiter)).await.is_some(), "{name}");
        let taken = store.take(space, name.as_bytes(), &rate, 2).await.unwrap();
        assert!(taken.allowed && taken.remaining == 1, "{name}");
        let held = store.hold_times(space, name.as_bytes()).await.unwrap();
        assert_eq!(held, [3], "{name}");
    }
    let slots = now(|| slots(&cluster));
    assert_eq!(slots.len(), NAMES.len(), "{slots:?}");
    for (name, places) in slots {
        assert_eq!(places.len(), 1, "{name} is in {places:?}");
    }
    let listed = store.list(space, &Glob::all(), 100).await.unwrap();
    let names: BTreeSet<_> = listed.iter().map(|status| status.name.as_bytes()).collect();
    assert_eq!(names, NAMES.iter().map(|name| name.as_bytes()).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_finds_all_names_in_use_with_who_holds_and_waits() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let locks = connect(&cluster).await;
    let (store, space) = (&locks.store, &locks.space);
    let mut fences = BTreeMap::new();
    for number in 0..200 {
        let name = format!("job:{number:03}");
        let pair = |owner: &Owner| Ask {
            permits: 2,
            ..ask(owner)
        };
        let owners: Vec<_> = (0..3).map(|_| Owner::new()).collect();
        let mut holders = Vec::new();
        for owner in &owners {
            if let Answer::Granted { fence, .. } = locks.acquire(&name, &pair(owner)).await.unwrap()
            {
                holders.push((owner.to_string(), fence));
            }
        }
        assert_eq!(holders.len(), 2);
        fences.insert(name, holders);
        // One that was used and is free, and another space.
        let idle = format!("idle:{number}");
        locks.fence(&idle, &ask(&owners[0])).await.unwrap();
        locks.release(&idle, &owners[0]).await;
    }
    let other = larder::Namespace::new("net", "locks", 11);
    let taken = store.acquire(&other, b"job:x", &ask(&Owner::new())).await;
    taken.unwrap();
    let listed = store.list(space, &Glob::all(), 1000).await.unwrap();
    assert_eq!(listed.len(), 200);
    for status in &listed {
        let holders = status.holders.iter().map(|h| (h.owner.clone(), h.fence));
        let name = status.name.as_str().unwrap();
        assert_eq!(holders.collect::<Vec<_>>(), fences[name], "{name}");
        assert_eq!(status.waiters, 1, "{name}");
        assert!(
            status
                .holders
                .iter()
                .all(|h| h.left_ms > 0 && h.held_ms < 60_000)
        );
    }
    let some = Glob::new("job:01?").unwrap();
    assert_eq!(store.list(space, &some, 1000).await.unwrap().len(), 10);
    assert_eq!(store.list(space, &some, 3).await.unwrap().len(), 3);
    let none = Glob::new("idle:*").unwrap();
    assert!(store.list(space, &none, 9).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_grow_while_masters_are_lost() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let locks = connect(&cluster).await;
    let mut latest = BTreeMap::<String, u64>::new();
    // Grants of each name since a call about it failed.
    let mut since_failure = BTreeMap::<String, u32>::new();
    let mut failures = 0;
    now(|| cluster.nodes()[0].kill());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) || since_failure.values().any(|n| *n < 20) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{since_failure:?}"
        );
        for number in 0..12 {
            let (name, owner) = (format!("job:{number}"), Owner::new());
            let brief = Ask {
                ttl_ms: 300,
                heartbeat_ms: None,
                ..ask(&owner)
            };
            let release = || {
                locks
                    .store
                    .release(&locks.space, name.as_bytes(), &owner, None)
            };
            let since_failure = since_failure.entry(name.clone()).or_default();
            match locks.acquire(&name, &brief).await {
                Ok(Answer::Busy { .. }) => continue,
                Ok(Answer::Granted { fence, .. }) => {
                    let before = latest.insert(name.clone(), fence);
                    assert!(before < Some(fence), "{name}: {fence} after {before:?}");
                    // If its end is lost, the lease ends by itself.
                    if release().await.is_ok() {
                        *since_failure += 1;
                        continue;
                    }
                }
                Err(_) => {}
            }
            (failures, *since_failure) = (failures + 1, 0);
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(failures > 0 && latest.len() == 12);
    println!(
        "{failures} calls failed, all went on after {:?}",
        began.elapsed()
    );
}
