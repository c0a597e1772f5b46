//! `clear`, and all other changes, by two instances of the store that know nothing of each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::store::Expiry;
use larder::testing::sealed;
use larder::{ErrorKind, Namespace, RedisStore, Store as _};
use tokio::task::JoinSet;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::history::{History, What};
use super::rig::{Rig, now, urls};
use crate::has_servers;

const KEYS: usize = 3;
/// The counter's place in the history.
const COUNTER: usize = KEYS;
const OPERATIONS: u32 = 1_000;

/// How a client breaks the rules, so that the judge can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Honest,
    IgnoresClears,
    PutsLate,
}

/// Does one random operation and notes it.
async fn step(rig: &Arc<Rig>, history: &History, client: Client) {
    let index = fastrand::usize(..KEYS);
    let key = format!("key:{index}");
    let began = history.tick();
    let end = |is_done: bool| is_done.then(|| history.tick());
    match fastrand::u32(..100) {
        0..45 => {
            if let Ok(read) = rig.get(&key).await {
                history.note(index, What::Read(read), began, end(true));
            }
        }
        45..70 => {
            let version = history.version();
            let done = if client == Client::PutsLate && fastrand::u32(..10) == 0 {
                let rig = Arc::clone(rig);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    rig.set(&key, version).await
                });
                true
            } else {
                rig.set(&key, version).await.is_ok()
            };
            history.note(index, What::Wrote(version), began, end(done));
        }
        70..80 => {
            let version = history.version();
            let added = rig.add(&key, version).await;
            if !added.as_ref().is_ok_and(|added| !added) {
                history.note(index, What::Wrote(version), began, end(added.is_ok()));
            }
        }
        80..88 => {
            let done = rig.delete(&key).await.is_ok();
            history.note(index, What::Removed, began, end(done));
        }
        88..97 => {
            if let Ok(sum) = rig.increment("counter").await {
                history.note(COUNTER, What::Counted(sum), began, end(true));
            }
        }
        _ => {
            let done = client == Client::IgnoresClears || rig.clear().await.is_ok();
            let ended = end(done);
            for key in 0..=KEYS {
                history.note(key, What::Removed, began, ended);
            }
        }
    }
}

/// Lets several tasks of each store work on the same keys, and returns what the judge says.
async fn play(stores: &[RedisStore], client: Client) -> Vec<String> {
    let history = Arc::new(History::default());
    let mut tasks = JoinSet::new();
    for store in stores {
        let mut rig = Rig::new(store.clone());
        rig.namespace = Namespace::new("net", &format!("{client:?}"), 1);
        let rig = Arc::new(rig);
        for _ in 0..3 {
            let (rig, history) = (Arc::clone(&rig), Arc::clone(&history));
            tasks.spawn(async move {
                for _ in 0..OPERATIONS {
                    step(&rig, &history, client).await;
                }
                assert_eq!(rig.failures(), 0, "{:?}", rig.latest_failure());
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let wrong = history.judge();
    println!(
        "{client:?}: {} events, {} impossible",
        history.len(),
        wrong.len()
    );
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_by_another_instance_is_ever_undone() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let mut stores = Vec::new();
    for connections in [1, 4] {
        let builder = RedisStore::builder(server.url()).connections(connections);
        stores.push(builder.connect().await.unwrap());
    }
    let wrong = play(&stores, Client::Honest).await;
    assert!(
        wrong.is_empty(),
        "{} times, such as {:?}",
        wrong.len(),
        &wrong[0]
    );
    for client in [Client::IgnoresClears, Client::PutsLate] {
        let wrong = play(&stores, client).await;
        assert!(!wrong.is_empty(), "the judge is blind to {client:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_by_another_instance_is_ever_undone_on_a_cluster() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let builder = RedisStore::cluster(urls(&cluster)).buckets(16);
        let builder = builder.response_timeout(Duration::from_secs(5));
        stores.push(builder.connect().await.unwrap());
    }
    let wrong = play(&stores, Client::Honest).await;
    assert!(
        wrong.is_empty(),
        "{} times, such as {:?}",
        wrong.len(),
        &wrong[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn put_after_a_clear_that_only_the_other_instance_saw_is_there() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let one = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    let other = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    for round in 0..50 {
        one.set("old", 2 * round).await.unwrap();
        one.set("key", 2 * round).await.unwrap();
        other.clear().await.unwrap();
        one.set("key", 2 * round + 1).await.unwrap();
        for rig in [&one, &other] {
            assert_eq!(rig.get("key").await.unwrap(), Some(2 * round + 1));
            assert_eq!(rig.get("old").await.unwrap(), None);
        }
        // In bulk, of which some need the server's stamp and some carry their own.
        other.clear().await.unwrap();
        let writes = [
            super::rig::put("key", 1),
            super::rig::put("more", 2),
            super::rig::put("key", 3),
        ];
        let written = one.store.write_many(&one.namespace, &writes).await;
        assert_eq!(written.unwrap(), [true, true, true]);
        assert_eq!(other.get("key").await.unwrap(), Some(3));
        assert_eq!(other.get("more").await.unwrap(), Some(2));
    }
}

/// Waits until the server has at most so many keys.
async fn wait_for_size(server: &RedisServer, keys: u64) {
    let began = Instant::now();
    loop {
        let size = now(|| server.call(&["DBSIZE"])).unwrap().text();
        if size.parse::<u64>().unwrap() <= keys {
            break println!("down to {size} keys after {:?}", began.elapsed());
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{size} keys are left"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleared_entries_leave_the_server_and_foreign_keys_stay() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    let mut sibling = rig.another();
    sibling.namespace = Namespace::new("net", "sibling", 1);
    sibling.set("key", 1).await.unwrap();
    // Some look like ours, and are not: another kind of value, another layout, too few parts.
    let foreign = [
        ["SET", "session:1", "theirs"],
        ["SET", "{9}e:net:test:v1:key", "theirs"],
        ["SET", "{0}e:net", "theirs"],
        ["SET", "{0}e:net:test:v1:foreign", "theirs"],
        ["LPUSH", "{0}e:net:test:v1:list", "theirs"],
        ["LPUSH", "{0}e:any:thing:at:all", "theirs"],
        ["LPUSH", "{0}z:any:thing:at:all", "theirs"],
    ];
    for command in &foreign {
        now(|| server.call(command)).unwrap();
    }
    for round in 0..2 {
        for n in 0..1000 {
            rig.set(&format!("key:{n}"), n).await.unwrap();
        }
        let add = larder::store::SortedSetOp::Add {
            members: vec![(1.0, "m".into())],
            expiry: Expiry::Never,
        };
        let added = rig.store.sorted_set(&rig.namespace, b"set", &add).await;
        added.unwrap();
        rig.clear().await.unwrap();
        // What stays: foreign keys, the sibling and its register, and perhaps a new register.
        wait_for_size(&server, foreign.len() as u64 + 3).await;
        let pruned = rig.store.prune(usize::MAX).await.unwrap();
        assert!(round > 0 || pruned == 0, "{pruned}");
    }
    for command in &foreign {
        let kind = now(|| server.call(&["TYPE", command[1]])).unwrap().text();
        assert_ne!(kind, "none", "{command:?} is gone");
    }
    assert_eq!(sibling.get("key").await.unwrap(), Some(1));
    // Our own entry under a name that another program uses for something else.
    assert_eq!(rig.get("list").await.unwrap(), None);
    let error = rig.add("list", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    let error = rig.increment("list").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_server_and_evicted_keys_are_misses_only() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    rig.increment("count").await.unwrap();
    for round in 0..20 {
        rig.set("key", round).await.unwrap();
        rig.set("other", round).await.unwrap();
        match round % 4 {
            0 => now(|| server.call(&["FLUSHALL"])).unwrap(),
            1 => now(|| server.call(&["DEL", "{0}g:net:test:v1"])).unwrap(),
            2 => now(|| server.call(&["SCRIPT", "FLUSH"])).unwrap(),
            _ => now(|| server.call(&["DEL", "{0}e:net:test:v1:key"])).unwrap(),
        };
        let left = (round % 4 >= 2).then_some(round);
        assert_eq!(rig.get("other").await.unwrap(), left);
        assert_eq!(
            rig.get("key").await.unwrap(),
            left.filter(|_| round % 4 == 2)
        );
        // The next writes stand, whether by a script or without.
        rig.set("key", 100 + round).await.unwrap();
        assert_eq!(rig.get("key").await.unwrap(), Some(100 + round));
        assert!(rig.delete("key").await.unwrap());
        assert!(rig.add("key", 200 + round).await.unwrap());
        assert_eq!(rig.get("key").await.unwrap(), Some(200 + round));
        rig.increment("count").await.unwrap();
    }
    assert_eq!(rig.failures(), 0, "{:?}", rig.latest_failure());
    // Nobody else's bytes under our name are taken for an entry.
    let entry = sealed(b"key=1");
    let mut connection = now(|| server.connect()).unwrap();
    let command = [b"SET", &b"{0}e:net:test:v1:key"[..], &entry[..]];
    now(|| connection.call(&command)).unwrap();
    assert_eq!(rig.get("key").await.unwrap(), None);
}
