//! Puts note what they change only while somebody follows; the first one after he came finds that out by itself.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use larder::store::{Change, Note, Write};
use larder::testing::write_id;
use larder::{RedisStore, Store as _};
use tokio::time::sleep;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::journal::{RECOVERY, Reader, STREAM, has_all, note, number, pair};
use super::rig::{Rig, now, put, urls};
use super::slots::{monitor, parse};
use crate::has_servers;

/// The key that is there while somebody follows the journal of the rig.
const FOLLOWED: &str = "{0}f:net:test:v1";
const LONG: Duration = Duration::from_secs(20);

/// Returns what readers are told of a put.
fn told_of(write: &Write<'_>) -> Note {
    let key = String::from_utf8(write.key.to_vec()).unwrap();
    match &write.change {
        Change::Put(entry) => note(&key, write_id(entry)),
        _ => unreachable!("a put"),
    }
}

fn call(server: &RedisServer, words: &[&str]) -> i64 {
    let reply = now(|| server.call(words)).unwrap();
    number(&reply)
}

/// Puts until the process knows that nobody follows, and the register of the namespace.
async fn forget(rig: &Rig, keys: &[String]) {
    for version in 0..3 {
        let writes: Vec<_> = keys.iter().map(|key| put(key, version)).collect();
        rig.store.write_many(&rig.namespace, &writes).await.unwrap();
    }
}

/// Lets the journals of one server end as if nobody had read them for long.
async fn end(server: &RedisServer) {
    for key in [STREAM, FOLLOWED] {
        call(server, &["PEXPIRE", key, "1"]);
    }
    sleep(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_put_after_a_reader_came_is_told() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    let there = RedisStore::connect(server.url()).await.unwrap();
    let mut gone: Option<Reader> = None;
    for came in 0..3 {
        forget(&rig, &["a".to_owned()]).await;
        assert_eq!(call(&server, &["EXISTS", STREAM, FOLLOWED]), 0);
        let mut reader = Reader::new(&there, &rig.namespace).await;
        let left = [STREAM, FOLLOWED].map(|key| call(&server, &["PTTL", key]));
        assert!(
            left.iter().all(|ms| (500_000..=600_000).contains(ms)),
            "{left:?}"
        );
        if let Some(mut earlier) = gone {
            assert_eq!(earlier.poll().await.unwrap(), [Note::All]);
        }
        for version in 10..13 {
            let write = put("a", version);
            let told = told_of(&write);
            assert!(rig.write(write).await.unwrap());
            let news = reader.poll().await.unwrap();
            assert_eq!(news, [told], "version {version}, time {came}");
        }
        end(&server).await;
        gone = Some(reader);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_put_of_each_bucket_of_a_cluster_is_told() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let builder = || RedisStore::cluster(urls(&cluster)).buckets(16);
    let rig = Rig::new(builder().connections(3).connect().await.unwrap());
    let there = builder().connect().await.unwrap();
    let keys: Vec<_> = (0..300).map(|n| format!("key:{n}")).collect();
    forget(&rig, &keys).await;
    let mut reader = Reader::new(&there, &rig.namespace).await;
    for version in 10..12 {
        let writes: Vec<_> = keys.iter().map(|key| put(key, version)).collect();
        rig.store.write_many(&rig.namespace, &writes).await.unwrap();
        let told = reader.poll().await.unwrap();
        assert_eq!(told.len(), keys.len());
        for write in &writes {
            assert!(told.contains(&told_of(write)));
        }
    }
}

#[tokio::test]
async fn first_puts_that_go_out_together_are_told() {
    if !has_servers() {
        return;
    }
    let server = RedisServer::start().unwrap();
    let builder = RedisStore::builder(server.url()).response_timeout(LONG);
    let rig = Rig::new(builder.connect().await.unwrap());
    let there = RedisStore::connect(server.url()).await.unwrap();
    let keys: Vec<_> = (0..40).map(|n| format!("key:{n}")).collect();
    forget(&rig, &keys).await;
    let mut reader = Reader::new(&there, &rig.namespace).await;
    // So none of them knows what another one has seen.
    server.call(&["CLIENT", "PAUSE", "300", "WRITE"]).unwrap();
    let writes: Vec<_> = keys.iter().map(|key| put(key, 10)).collect();
    let told = writes.iter().map(told_of).collect::<Vec<_>>();
    for written in join_all(writes.into_iter().map(|write| rig.write(write))).await {
        assert!(written.unwrap());
    }
    let news = reader.poll().await.unwrap();
    for note in told {
        assert!(news.contains(&note), "{note:?} in {news:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_put_whose_caller_went_away_is_told() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let builder = RedisStore::builder(server.url()).response_timeout(LONG);
    let rig = Rig::new(builder.connect().await.unwrap());
    let there = RedisStore::connect(server.url()).await.unwrap();
    for count in [1, 2] {
        let keys: Vec<_> = (0..count).map(|n| format!("key:{n}")).collect();
        forget(&rig, &keys).await;
        let mut reader = Reader::new(&there, &rig.namespace).await;
        now(|| server.call(&["CLIENT", "PAUSE", "500", "WRITE"])).unwrap();
        let writes: Vec<_> = keys.iter().map(|key| put(key, 10)).collect();
        {
            let mut written = Box::pin(rig.store.write_many(&rig.namespace, &writes));
            assert!(written.as_mut().now_or_never().is_none());
            sleep(Duration::from_millis(50)).await;
        }
        let (began, mut news) = (Instant::now(), Vec::new());
        while !writes.iter().all(|write| news.contains(&told_of(write))) {
            assert!(began.elapsed() < RECOVERY, "{count}: {news:?}");
            news.extend(reader.poll().await.unwrap());
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!has_all(&news));
        end(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_that_passed_unnoted_are_everything() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (rig, mut reader) = pair(&server).await;
    let there = RedisStore::connect(server.url()).await.unwrap();
    let losses: [&[&[&str]]; 3] = [
        &[&["DEL", FOLLOWED]],
        &[&["PEXPIRE", FOLLOWED, "0"]],
        &[
            &["DEL", FOLLOWED],
            &["LPUSH", FOLLOWED, "of another program"],
        ],
    ];
    for loss in losses {
        for comes_another in [false, true] {
            rig.set("a", 1).await.unwrap();
            reader.settle().await;
            for words in loss {
                now(|| server.call(words)).unwrap();
            }
            forget(&rig, &["a".to_owned()]).await;
            if comes_another {
                // Whoever comes next makes the key anew, and finds the old journal.
                let mut another = Reader::new(&there, &rig.namespace).await;
                another.settle().await;
                assert_eq!(call(&server, &["EXISTS", STREAM, FOLLOWED]), 2);
            }
            assert_eq!(reader.poll().await.unwrap(), [Note::All], "{loss:?}");
            let write = put("a", 2);
            let told = told_of(&write);
            rig.write(write).await.unwrap();
            assert_eq!(reader.poll().await.unwrap(), [told], "{loss:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_are_one_round_trip_but_the_first_for_a_reader() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    let there = RedisStore::connect(server.url()).await.unwrap();
    forget(&rig, &["a".to_owned()]).await;
    let (tell, lines) = mpsc::channel();
    now(|| monitor(server.address(), tell));
    let put = async || {
        rig.set("a", 1).await.unwrap();
        now(|| server.call(&["ECHO", "mark"])).unwrap();
        let mut names = Vec::new();
        loop {
            let (_, line) = now(|| lines.recv_timeout(LONG)).unwrap();
            let Some((false, words)) = parse(&line) else {
                continue;
            };
            match words[0].to_ascii_uppercase().as_slice() {
                b"ECHO" => return names,
                name @ (b"SET" | b"GET" | b"XADD") => {
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
                // Not those of the reader.
                b"MGET" if words.len() == 3 => names.push("MGET".to_owned()),
                _ => {}
            }
        }
    };
    assert_eq!(put().await, ["SET", "MGET"]);
    let reader = Reader::new(&there, &rig.namespace).await;
    assert_eq!(put().await, ["SET", "MGET", "XADD"]);
    assert_eq!(put().await, ["SET", "XADD", "MGET"]);
    drop(reader);
    end(&server).await;
    assert_eq!(put().await, ["SET", "XADD", "MGET"]);
    assert_eq!(put().await, ["SET", "MGET"]);
}
