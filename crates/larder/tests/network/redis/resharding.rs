//! Slots that move from one master to another while the store uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use larder::store::{Condition, Expiry, SortedSetOp, SortedSetReply, Write};
use larder::testing::write_id;
use larder::{Namespace, RedisStore, Result, Store as _};
use tokio::task::JoinSet;
use xtask::servers::private::{RedisCluster, RedisServer};

use super::rig::{Rig, now, put, urls, version};
use crate::has_servers;

const KEYS: u64 = 500;

/// Where a key's version is: `at least` acknowledged, `at most` attempted.
#[derive(Clone, Copy, Default)]
struct Known {
    at_least: u64,
    at_most: u64,
}

impl Known {
    fn attempt(&mut self) -> u64 {
        self.at_most += 1;
        self.at_most
    }

    fn acknowledge(&mut self) {
        self.at_least = self.at_most;
    }

    fn check(&self, key: &str, read: Option<u64>) {
        let read = read.unwrap_or(0);
        let is_right = (self.at_least..=self.at_most).contains(&read);
        assert!(
            is_right,
            "{key}: {read} is not in {}..={}",
            self.at_least, self.at_most
        );
    }
}

/// One kind of load: the only writer of its keys, until it is told to stop.
async fn puts(rig: Arc<Rig>, stop: Arc<AtomicBool>) {
    let mut known = vec![Known::default(); KEYS as usize];
    let mut next = (0..KEYS as usize).cycle();
    while !stop.load(SeqCst) {
        let index = next.next().unwrap();
        let (key, known) = (format!("put:{index}"), &mut known[index]);
        if let Ok(read) = rig.get(&key).await {
            known.check(&key, read);
        }
        let version = known.attempt();
        let written = match version % 3 {
            0 => replace(&rig, &key, version).await,
            _ => rig.set(&key, version).await,
        };
        if written.is_ok() {
            known.acknowledge();
        }
    }
    for (index, known) in known.iter().enumerate() {
        let key = format!("put:{index}");
        known.check(&key, rig.get(&key).await.unwrap());
    }
}

/// Writes if the present entry is unchanged, which it is.
async fn replace(rig: &Rig, key: &str, version: u64) -> Result<()> {
    let keys = [key.as_bytes()];
    let read = rig.store.get_many(&rig.namespace, &keys);
    let present = rig.watch(read).await?.pop().flatten();
    let condition = present.map_or(Condition::IfAbsent, |entry| {
        Condition::IfUnchanged(write_id(&entry.value))
    });
    let applied = rig.write(put(key, version).when(condition)).await?;
    assert!(applied, "{key} changed by itself");
    Ok(())
}

async fn counters(rig: Arc<Rig>, stop: Arc<AtomicBool>) {
    let mut known = vec![Known::default(); 100];
    let mut next = (0..known.len()).cycle();
    while !stop.load(SeqCst) {
        let index = next.next().unwrap();
        let (key, known) = (format!("counter:{index}"), &mut known[index]);
        known.attempt();
        if let Ok(sum) = rig.increment(&key).await {
            known.check(&key, Some(sum as u64));
            known.at_least = sum as u64;
            known.at_most = sum as u64;
        }
    }
    for (index, known) in known.iter_mut().enumerate() {
        known.at_least += 1;
        known.attempt();
        let key = format!("counter:{index}");
        known.check(&key, Some(rig.increment(&key).await.unwrap() as u64));
    }
}

/// Adds and deletes keys, and members of sorted sets.
async fn additions(rig: Arc<Rig>, stop: Arc<AtomicBool>) {
    let mut members = Known::default();
    let mut number = 0;
    while !stop.load(SeqCst) {
        number += 1;
        let key = format!("add:{number}");
        if rig.add(&key, 1).await.is_ok_and(|added| added) {
            if let Ok(added) = rig.add(&key, 2).await {
                assert!(!added, "{key} was lost");
            }
            if rig.delete(&key).await.is_ok()
                && let Ok(read) = rig.get(&key).await
            {
                assert_eq!(read, None, "{key} came back");
            }
        }
        let add = SortedSetOp::Add {
            members: vec![(number as f64, format!("m{number}").into())],
            expiry: Expiry::Never,
        };
        members.at_most += 1;
        if set_op(&rig, number, &add).await.is_ok() {
            members.at_least += 1;
        }
    }
    let mut total = 0;
    for number in 0..20 {
        total += set_op(&rig, number, &SortedSetOp::Len).await.unwrap();
    }
    members.check("members", Some(total));
}

async fn set_op(rig: &Rig, number: u64, op: &SortedSetOp) -> Result<u64> {
    let key = format!("set:{}", number % 20);
    let done = rig.store.sorted_set(&rig.namespace, key.as_bytes(), op);
    match rig.watch(done).await? {
        SortedSetReply::Count(count) => Ok(count),
        SortedSetReply::Members(_) => panic!("members instead of a count"),
    }
}

/// Fills and clears a namespace of its own, in bulk.
async fn clears(mut rig: Rig, stop: Arc<AtomicBool>) -> Rig {
    rig.namespace = Namespace::new("net", "cleared", 1);
    let keys: Vec<_> = (0..100).map(|n| format!("clear:{n}")).collect();
    let bytes: Vec<_> = keys.iter().map(String::as_bytes).collect();
    let mut generation = 0;
    while !stop.load(SeqCst) {
        generation += 1;
        let writes: Vec<Write<'_>> = keys.iter().map(|key| put(key, generation)).collect();
        let written = rig.store.write_many(&rig.namespace, &writes);
        let is_written = rig.watch(written).await.is_ok();
        if let Ok(read) = rig.watch(rig.store.get_many(&rig.namespace, &bytes)).await {
            for (key, entry) in keys.iter().zip(read) {
                let read = entry.and_then(|entry| larder::testing::body(&entry.value));
                let read = read.map(|value| version(key, &value));
                assert!(!is_written || read == Some(generation), "{key}: {read:?}");
            }
        }
        if rig.clear().await.is_ok()
            && let Ok(read) = rig.watch(rig.store.get_many(&rig.namespace, &bytes)).await
        {
            assert!(
                read.iter().all(Option::is_none),
                "cleared entries came back"
            );
        }
    }
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_two_thousand_slots_move() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let builder = RedisStore::cluster(urls(&cluster)).buckets(1024);
    let store = builder.connect().await.unwrap();
    let rig = Arc::new(Rig::new(store.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    load.spawn(puts(Arc::clone(&rig), Arc::clone(&stop)));
    load.spawn(counters(Arc::clone(&rig), Arc::clone(&stop)));
    load.spawn(additions(Arc::clone(&rig), Arc::clone(&stop)));
    let clearing = tokio::spawn(clears(Rig::new(store), Arc::clone(&stop)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let moved = now(|| {
        cluster.move_slots(0, 1, 0..=999)?;
        cluster.move_slots(1, 2, 5461..=6460)
    });
    moved.unwrap();
    stop.store(true, SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let cleared = clearing.await.unwrap();
    let (calls, failures) = (
        rig.calls() + cleared.calls(),
        rig.failures() + cleared.failures(),
    );
    println!(
        "{failures} of {calls} calls failed, the slowest took {:?} and {:?}",
        rig.slowest(),
        cleared.slowest()
    );
    let latest = (rig.latest_failure(), cleared.latest_failure());
    assert!(failures * 200 < calls, "{failures} of {calls}: {latest:?}");
}

/// A slot on its way: some keys here, some there.
struct HalfMoved {
    slot: u16,
    from: usize,
    to: usize,
}

impl HalfMoved {
    /// Begins to move the slot of an entry.
    fn begin(cluster: &RedisCluster, entry: &str) -> Self {
        let slot = cluster.slot_of(entry).unwrap();
        let from = cluster.master_of(slot).unwrap();
        let to = (from + 1) % 3;
        let id = |node: &RedisServer| node.call(&["CLUSTER", "MYID"]).unwrap().text();
        let nodes = cluster.nodes();
        let (source, target, slot_text) = (id(&nodes[from]), id(&nodes[to]), slot.to_string());
        let set = |node: &RedisServer, state: &str, other: &str| {
            node.call(&["CLUSTER", "SETSLOT", &slot_text, state, other])
                .unwrap();
        };
        set(&nodes[to], "IMPORTING", &source);
        set(&nodes[from], "MIGRATING", &target);
        Self { slot, from, to }
    }

    fn migrate(&self, cluster: &RedisCluster, name: &str) {
        let target = cluster.nodes()[self.to].address();
        let (host, port) = (target.ip().to_string(), target.port().to_string());
        let command = ["MIGRATE", &host, &port, name, "0", "5000"];
        cluster.nodes()[self.from].call(&command).unwrap();
    }

    fn end(&self, cluster: &RedisCluster) {
        let (from, to) = (self.from, self.to);
        cluster.move_slots(from, to, self.slot..=self.slot).unwrap();
    }
}

/// Returns the names on any master that contain a text.
fn names(cluster: &RedisCluster, part: &str) -> Vec<String> {
    let masters = cluster.nodes()[..3].iter();
    let names = masters.flat_map(|node| node.call(&["KEYS", "*"]).unwrap().items().to_vec());
    let names = names.map(|name| name.text());
    names.filter(|name| name.contains(part)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slot_that_is_in_two_places_is_read_at_once_and_changed_once_it_has_arrived() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let store = RedisStore::cluster(urls(&cluster)).connect().await.unwrap();
    let rig = Rig::new(store);
    rig.set("key", 1).await.unwrap();
    rig.increment("count").await.unwrap();
    for (key, ready) in [("key", true), ("count", false)] {
        let entry = now(|| names(&cluster, &format!("e:net:test:v1:{key}"))).remove(0);
        let half = now(|| HalfMoved::begin(&cluster, &entry));
        now(|| half.migrate(&cluster, &entry));
        if ready {
            // The entry is there, its register still here.
            assert_eq!(rig.get(key).await.unwrap(), Some(1));
            rig.set(key, 2).await.unwrap();
            assert_eq!(rig.get(key).await.unwrap(), Some(2));
        }
        let began = std::time::Instant::now();
        let refused = rig.increment("count").await;
        if !ready {
            let taken = began.elapsed();
            assert!(refused.is_err(), "{refused:?}");
            assert!(taken < Duration::from_secs(3), "{taken:?}");
            // The rest arrives while a call waits for it.
            let (sum, ()) = tokio::join!(rig.increment("count"), async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                now(|| half.end(&cluster));
            });
            assert_eq!(sum.unwrap(), 3, "one was made while the other slot moved");
        } else {
            now(|| half.end(&cluster));
        }
    }
    assert_eq!(rig.get("key").await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_to_which_a_slot_moves_learns_the_scripts() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let store = RedisStore::cluster(urls(&cluster)).connect().await.unwrap();
    let rig = Rig::new(store);
    rig.set("fresh", 1).await.unwrap();
    let entry = now(|| names(&cluster, "e:net:test:v1:fresh")).remove(0);
    let half = now(|| HalfMoved::begin(&cluster, &entry));
    // Nothing of the slot is left: every call is sent on.
    let tag = entry.split_once('}').unwrap().0.to_owned() + "}";
    for name in now(|| names(&cluster, &tag)) {
        now(|| half.migrate(&cluster, &name));
    }
    now(|| cluster.nodes()[half.to].call(&["SCRIPT", "FLUSH"])).unwrap();
    rig.clear().await.unwrap();
    let (added, ()) = tokio::join!(rig.add("fresh", 2), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        now(|| half.end(&cluster));
    });
    assert!(added.unwrap());
    assert_eq!(rig.get("fresh").await.unwrap(), Some(2));
}
