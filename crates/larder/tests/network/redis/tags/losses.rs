//! Registers, scripts and servers that are lost: entries are missed, and never read when they should not be.

use std::time::{Duration, Instant};

use larder::RedisStore;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::super::rig::{now, urls};
use super::{Tagged, numbered, tag, token};
use crate::has_servers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_deleted_behind_our_back_make_misses() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let tagged = Tagged::new(RedisStore::connect(server.url()).await.unwrap());
    let keys = numbered(60);
    let registers = |n: usize| [tag(&format!("a:{}", n % 7)), tag(&format!("b:{}", n % 5))];
    for round in 0..20 {
        for (n, key) in keys.iter().enumerate() {
            tagged
                .put(key, &round.to_string(), &registers(n))
                .await
                .unwrap();
        }
        let names = now(|| server.call(&["KEYS", "*}r:*"])).unwrap();
        let names: Vec<_> = names.items().iter().map(|name| name.text()).collect();
        assert_eq!(names.len(), 12);
        let gone = &names[fastrand::usize(..names.len())];
        now(|| server.call(&["DEL", gone])).unwrap();
        for (n, key) in keys.iter().enumerate() {
            let depends = registers(n).iter().any(|register| {
                let name = String::from_utf8(register.as_bytes().to_vec()).unwrap();
                gone.ends_with(&name)
            });
            let expected = (!depends).then(|| round.to_string());
            assert_eq!(
                tagged.get(key).await.unwrap(),
                expected,
                "{key} without {gone}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicted_registers_make_misses() {
    if !has_servers() {
        return;
    }
    let args = ["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"];
    let server = now(|| RedisServer::with_args(&args)).unwrap();
    let here = Tagged::new(RedisStore::connect(server.url()).await.unwrap());
    let there = Tagged::new(RedisStore::connect(server.url()).await.unwrap());
    let keys = numbered(50);
    let registers = [tag("a"), tag("b"), tag("c")];
    let filler = "x".repeat(20_000);
    let mut hits = 0;
    for round in 0..30_usize {
        for key in &keys {
            // What was stored may be evicted at once; a put that never finds its registers says so.
            here.put(key, &round.to_string(), &registers).await.unwrap();
        }
        for n in 0..40 {
            there
                .set(&format!("filler:{n}:{round}"), &filler)
                .await
                .unwrap();
        }
        for read in there.get_all(&keys).await.unwrap().into_iter().flatten() {
            assert_eq!(read, round.to_string());
            hits += 1;
        }
        let dead = &registers[round % 3];
        there.invalidate(std::slice::from_ref(dead)).await.unwrap();
        for key in &keys {
            assert_eq!(here.get(key).await.unwrap(), None, "{key} in round {round}");
        }
    }
    assert!(hits > 0, "the test sees something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_are_loaded_again() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let tagged = Tagged::new(RedisStore::connect(server.url()).await.unwrap());
    let forget = || now(|| server.call(&["SCRIPT", "FLUSH"])).unwrap();
    let registers = [tag("a"), tag("b")];
    for round in 0..5 {
        let (put, loaded) = (format!("put:{round}"), format!("loaded:{round}"));
        forget();
        tagged.put(&put, "v", &registers).await.unwrap();
        forget();
        let token = token();
        let begun = tagged.begin(&loaded, &registers, token).await.unwrap();
        assert!(begun.is_granted);
        forget();
        let stored = tagged.commit(&loaded, "v", token, &begun.stamps).await;
        assert!(stored.unwrap());
        assert_eq!(tagged.get(&put).await.unwrap().as_deref(), Some("v"));
        forget();
        let told = tagged.invalidate(&registers[..1]).await.unwrap();
        assert_eq!((told.had, told.missing), (vec![true], 0));
        for key in [&put, &loaded] {
            assert_eq!(tagged.get(key).await.unwrap(), None, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidation_holds_after_a_replica_took_over() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let connect = || async {
        let builder =
            RedisStore::cluster(urls(&cluster)).response_timeout(Duration::from_millis(800));
        Tagged::new(builder.connect().await.unwrap())
    };
    let (here, there) = (connect().await, connect().await);
    let keys = numbered(100);
    let registers = [tag("a"), tag("b")];
    for key in &keys {
        here.put(key, "before", &registers).await.unwrap();
    }
    let lost = now(|| cluster.master_of(0)).unwrap();
    now(|| cluster.nodes()[lost].kill());
    let began = Instant::now();
    loop {
        match there.invalidate(&registers[1..]).await {
            Ok(told) if told.missing == 0 => break,
            _ => assert!(began.elapsed() < Duration::from_secs(20)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for tagged in [&here, &there] {
        for key in &keys {
            let read = loop {
                match tagged.get(key).await {
                    Ok(read) => break read,
                    Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            assert_eq!(read, None, "{key}");
        }
    }
    for key in &keys {
        here.put(key, "after", &registers).await.unwrap();
        assert_eq!(there.get(key).await.unwrap().as_deref(), Some("after"));
    }
}
