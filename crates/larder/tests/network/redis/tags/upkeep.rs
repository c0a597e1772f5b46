//! How long registers stay, what is reclaimed, and reads of tagged entries that go out together.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use larder::store::{Expiry, Register, SortedSetOp, Write};
use larder::testing::{sealed, sealed_integer, stamped};
use larder::{RedisStore, Store as _};
use tokio::time::sleep;
use xtask::servers::private::RedisServer;

use super::super::rig::now;
use super::{Tagged, numbered, tag, token};
use crate::has_servers;

const HOUR_MS: u64 = 3_600_000;

async fn store_of(server: &RedisServer) -> Tagged {
    Tagged::new(RedisStore::connect(server.url()).await.unwrap())
}

fn names(server: &RedisServer, pattern: &str) -> Vec<String> {
    let names = now(|| server.call(&["KEYS", pattern])).unwrap();
    names.items().iter().map(|name| name.text()).collect()
}

/// Returns how long the register of a tag stays, in ms; `None`: for good.
fn left_ms(server: &RedisServer, tag: &str) -> Option<u64> {
    let name = names(server, &format!("*}}r:*:={tag}")).pop().unwrap();
    let left = now(|| server.call(&["PTTL", &name])).unwrap().text();
    left.parse().ok()
}

async fn put(tagged: &Tagged, key: &str, registers: &[Register], expiry: Expiry) {
    let seal = |stamps| Ok(stamped(&sealed(b"v"), stamps));
    let put = larder::store::StampedPut {
        registers,
        expiry,
        seal: &seal,
    };
    let (store, namespace) = (&tagged.store, &tagged.namespace);
    let put = store.put_stamped(namespace, key.as_bytes(), &put);
    put.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_stay_longer_than_what_depends_on_them() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let tagged = store_of(&server).await;
    let around = |left: Option<u64>, expected: u64| {
        let left = left.unwrap();
        assert!(left <= expected && left + 10_000 > expected, "{left}");
    };
    let (lease, grace) = (tag("lease"), 60_000);
    let begun = tagged.begin("lease", &[lease], 1).await.unwrap();
    around(left_ms(&server, "lease"), HOUR_MS);
    let value = stamped(&sealed(b"v"), begun.stamps);
    let put_long = Write::put(b"lease", value, Expiry::After(5 * HOUR_MS));
    assert!(tagged.write(put_long).await.unwrap());
    around(left_ms(&server, "lease"), 5 * HOUR_MS + grace);
    put(&tagged, "a", &[tag("a")], Expiry::After(1000)).await;
    around(left_ms(&server, "a"), HOUR_MS);
    let touch = Write::touch(b"a", Expiry::After(3 * HOUR_MS));
    assert!(tagged.write(touch).await.unwrap());
    around(left_ms(&server, "a"), 3 * HOUR_MS + grace);
    put(&tagged, "b", &[tag("a"), tag("b")], Expiry::After(HOUR_MS)).await;
    around(left_ms(&server, "a"), 3 * HOUR_MS + grace);
    around(left_ms(&server, "b"), HOUR_MS + grace);
    put(&tagged, "c", &[tag("b")], Expiry::Never).await;
    assert_eq!(left_ms(&server, "b"), None);
    put(&tagged, "b", &[tag("b")], Expiry::After(1000)).await;
    assert_eq!(left_ms(&server, "b"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_removes_what_tags_made_invalid() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let tagged = store_of(&server).await;
    let (dead, live) = (tag("dead"), tag("live"));
    for key in numbered(300) {
        put(&tagged, &key, &[dead.clone(), live.clone()], Expiry::Never).await;
        put(
            &tagged,
            &format!("live:{key}"),
            std::slice::from_ref(&live),
            Expiry::Never,
        )
        .await;
        tagged.set(&format!("plain:{key}"), "v").await.unwrap();
    }
    tagged.begin("mark", &[live], token()).await.unwrap();
    tagged.invalidate(&[dead]).await.unwrap();
    assert_eq!(tagged.store.prune(30).await.unwrap(), 30);
    assert_eq!(tagged.store.prune(10_000).await.unwrap(), 270);
    assert_eq!(tagged.store.prune(10_000).await.unwrap(), 0);
    assert_eq!(names(&server, "*}e:*").len(), 601);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_of_before_a_clear_are_reclaimed() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let tagged = store_of(&server).await;
    for n in 0..200 {
        let registers = [tag("a"), tag(&format!("b:{n}"))];
        put(&tagged, &format!("key:{n}"), &registers, Expiry::Never).await;
    }
    assert_eq!(names(&server, "*}r:*").len(), 201);
    tagged.store.clear(&tagged.namespace).await.unwrap();
    // What is put now must survive the sweep.
    put(&tagged, "key", &[tag("a"), tag("b:0")], Expiry::Never).await;
    let began = Instant::now();
    while names(&server, "*}r:*").len() != 2 {
        assert!(began.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(tagged.get("key").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_go_out_together_are_judged_each_by_its_own_tags() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (here, there) = (store_of(&server).await, store_of(&server).await);
    let keys = numbered(300);
    let of = |n: usize| match n % 3 {
        0 => Vec::new(),
        left => vec![tag(&format!("a:{left}")), tag(&format!("b:{}", n % 11))],
    };
    for (n, key) in keys.iter().enumerate() {
        here.put(key, key, &of(n)).await.unwrap();
    }
    let (dead, gone) = (tag("b:4"), |n: usize| !n.is_multiple_of(3) && n % 11 == 4);
    for round in 0..3 {
        if round == 2 {
            here.invalidate(std::slice::from_ref(&dead)).await.unwrap();
        }
        for tagged in [&there, &here] {
            let reads = join_all(keys.iter().map(|key| tagged.get(key))).await;
            for (n, (key, read)) in keys.iter().zip(reads).enumerate() {
                let expected = (round < 2 || !gone(n)).then_some(key);
                assert_eq!(read.unwrap().as_ref(), expected, "{key} in round {round}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_that_knows_no_tags_does_everything_right() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let here = store_of(&server).await;
    let registers = [tag("a"), tag("b")];
    let keys = numbered(40);
    for is_dead in [false, true] {
        for key in &keys {
            put(&here, key, &registers, Expiry::Never).await;
        }
        let stamps = here.store.capture(&here.namespace, b"n", &registers);
        let number = stamped(&sealed_integer(40), stamps.await.unwrap());
        let number = Write::put(b"n", number, Expiry::Never);
        assert!(here.write(number).await.unwrap());
        if is_dead {
            here.invalidate(&registers[1..]).await.unwrap();
        }
        let there = store_of(&server).await;
        let sum = there
            .store
            .increment(&there.namespace, b"n", 2, Expiry::Never);
        assert_eq!(sum.await.unwrap(), if is_dead { 2 } else { 42 });
        let length = there
            .store
            .sorted_set(&there.namespace, b"key:0", &SortedSetOp::Len);
        assert_eq!(length.await.is_ok(), is_dead, "an entry is no set");
        let begun = there.begin("key:1", &[tag("c")], token()).await.unwrap();
        assert_eq!(
            (begun.is_granted, begun.entry.is_some()),
            (is_dead, !is_dead)
        );
        let touches = keys[2..].iter();
        let touches = touches.map(|key| Write::touch(key.as_bytes(), Expiry::Never));
        let deletes = keys[2..].iter().map(|key| Write::delete(key.as_bytes()));
        for writes in [touches.collect::<Vec<_>>(), deletes.collect()] {
            let there = store_of(&server).await;
            let written = there.store.write_many(&there.namespace, &writes);
            assert!(
                written
                    .await
                    .unwrap()
                    .iter()
                    .all(|applied| *applied != is_dead)
            );
        }
        here.invalidate(&registers[..1]).await.unwrap();
        assert_eq!(
            there.get("n").await.unwrap().is_some(),
            is_dead,
            "kept stamps"
        );
    }
}
