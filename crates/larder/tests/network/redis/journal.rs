//! The journal: what another process is told, and when it is told that it has missed something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::store::{Condition, Expiry, Invalidation, Journal, LoadRequest, Note, StampedPut};
use larder::store::{Register, Write};
use larder::testing::store::{StoreUnderTest, journal};
use larder::testing::{sealed, stamped, write_id};
use larder::{Cache, Namespace, RedisStore, Result, Store as _};
use xtask::servers::private::{MASTER_NAME, RedisCluster, RedisSentinel, RedisServer};

use super::rig::{Rig, now, put, urls};
use crate::has_servers;

/// What servers and a busy machine may take to get over a fault.
pub(super) const RECOVERY: Duration = Duration::from_secs(30);
/// The key of the journal of the rig on one server.
pub(super) const STREAM: &str = "{0}j:net:test:v1";

/// Another process that reads.
pub(super) struct Reader(Box<dyn Journal>);

impl Reader {
    /// Begins to read; returns when it is told what changes, and not everything.
    pub(super) async fn new(store: &RedisStore, namespace: &Namespace) -> Self {
        let mut reader = Self(store.journal(namespace).unwrap());
        assert!(has_all(&reader.poll().await.unwrap()));
        reader.settle().await;
        reader
    }

    pub(super) async fn poll(&mut self) -> Result<Vec<Note>> {
        let parts: Result<Vec<_>> = self.0.poll().await.into_iter().collect();
        Ok(parts?.into_iter().flatten().collect())
    }

    /// Polls until it is told nothing.
    pub(super) async fn settle(&mut self) {
        let began = Instant::now();
        while self.poll().await.ok().is_none_or(|notes| !notes.is_empty()) {
            assert!(began.elapsed() < RECOVERY, "no end of news");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Polls until it gets an answer.
    async fn answer(&mut self) -> Vec<Note> {
        let began = Instant::now();
        loop {
            match self.poll().await {
                Ok(notes) => return notes,
                Err(error) => assert!(began.elapsed() < RECOVERY, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(super) fn has_all(notes: &[Note]) -> bool {
    notes.contains(&Note::All)
}

pub(super) fn note(key: &str, write_id: u64) -> Note {
    let key = larder::KeyRef::from(key).to_key().unwrap();
    Note::Key { key, write_id }
}

pub(super) fn number(value: &xtask::servers::resp::Value) -> i64 {
    value.text().parse().unwrap()
}

fn tag(name: &str) -> Register {
    Register::exact(name).unwrap()
}

/// Two processes on one server.
pub(super) async fn pair(server: &RedisServer) -> (Rig, Reader) {
    let here = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    let there = RedisStore::connect(server.url()).await.unwrap();
    let reader = Reader::new(&there, &here.namespace).await;
    (here, reader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_told_to_another_process() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (rig, mut reader) = pair(&server).await;
    let value = sealed(b"v");
    let plain = |key: &'static str| Write::put(key.as_bytes(), value.clone(), Expiry::Never);
    let id = write_id(&value);
    // The first put of a process is a script, the second one is plain.
    for _ in 0..2 {
        assert!(rig.write(plain("a")).await.unwrap());
    }
    // The same entry once more may have other tags.
    let told = reader.poll().await.unwrap();
    assert_eq!(told, [note("a", id), note("a", id)]);
    rig.write(plain("b").when(Condition::IfAbsent))
        .await
        .unwrap();
    assert!(!rig.add("b", 2).await.unwrap());
    assert_eq!(reader.poll().await.unwrap(), [note("b", id)]);
    let keys: Vec<_> = (0..1_500).map(|n| format!("many:{n}")).collect();
    let writes = keys
        .iter()
        .map(|key| Write::put(key.as_bytes(), value.clone(), Expiry::Never));
    let writes: Vec<_> = writes.collect();
    rig.store.write_many(&rig.namespace, &writes).await.unwrap();
    let many: Vec<_> = keys.iter().map(|key| note(key, id)).collect();
    assert_eq!(reader.poll().await.unwrap(), many);
    // Also where there is nothing: copies outlive what is evicted.
    for is_there in [true, false] {
        assert_eq!(rig.delete("a").await.unwrap(), is_there);
        assert_eq!(reader.poll().await.unwrap(), [note("a", 0)]);
    }
    let touch = |expiry| Write::touch(b"b", expiry);
    rig.write(touch(Expiry::Keep)).await.unwrap();
    assert_eq!(reader.poll().await.unwrap(), []);
    rig.write(touch(Expiry::After(60_000))).await.unwrap();
    assert_eq!(reader.poll().await.unwrap(), [note("b", 0)]);
    for _ in 0..2 {
        rig.increment("n").await.unwrap();
        let entry = rig.store.get_many(&rig.namespace, &[b"n"]).await.unwrap();
        let id = write_id(&entry[0].as_ref().unwrap().value);
        assert_eq!(reader.poll().await.unwrap(), [note("n", id)]);
    }
    rig.clear().await.unwrap();
    assert_eq!(reader.poll().await.unwrap(), [Note::All]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_that_go_out_together_are_all_told() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let here = RedisStore::builder(server.url()).connections(3);
    let rig = Arc::new(Rig::new(here.connect().await.unwrap()));
    rig.set("warm", 0).await.unwrap();
    let there = RedisStore::connect(server.url()).await.unwrap();
    let mut reader = Reader::new(&there, &rig.namespace).await;
    let tasks = (0..2_000_u64).map(|n| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.set(&format!("key:{n}"), n).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let told = reader.poll().await.unwrap();
    for n in 0..2_000 {
        let key = format!("key:{n}");
        let is_about = |note: &Note| matches!(note, Note::Key { key: it, .. } if *it.as_bytes() == *key.as_bytes());
        assert!(told.iter().any(is_about), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_loads_are_told_and_marks_are_not() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (rig, mut reader) = pair(&server).await;
    let (store, space, tags) = (&rig.store, &rig.namespace, [tag("a"), tag("b")]);
    let value = sealed(b"v");
    let seal = |stamps| Ok(stamped(&value, stamps));
    let put = |registers| StampedPut {
        registers,
        expiry: Expiry::After(60_000),
        seal: &seal,
    };
    store
        .put_stamped(space, b"k", &put(&tags[..1]))
        .await
        .unwrap();
    let id = write_id(&value);
    assert_eq!(reader.poll().await.unwrap(), [note("k", id)]);
    // The same entry under other tags.
    store.put_stamped(space, b"k", &put(&tags)).await.unwrap();
    assert_eq!(reader.poll().await.unwrap(), [note("k", 0)]);
    let registers = tags.clone().map(Note::Register);
    for how in [Invalidation::Hard, Invalidation::Soft] {
        // The second time nothing is there.
        for _ in 0..2 {
            store.invalidate(space, &tags, how).await.unwrap();
            assert_eq!(reader.poll().await.unwrap(), registers, "{how:?}");
        }
    }
    store
        .invalidate(space, &[], Invalidation::Hard)
        .await
        .unwrap();
    let load = LoadRequest {
        registers: &tags,
        token: 7,
        lease_ms: 60_000,
    };
    let own = Condition::IfUnchanged(7);
    store.begin_load(space, b"k", &load).await.unwrap();
    rig.write(Write::touch(b"k", Expiry::After(90_000)).when(own))
        .await
        .unwrap();
    rig.write(Write::delete(b"k").when(own)).await.unwrap();
    let begun = store.begin_load(space, b"k", &load).await.unwrap();
    assert!(begun.is_granted);
    assert_eq!(reader.poll().await.unwrap(), []);
    let value = stamped(&sealed(b"loaded"), begun.stamps);
    let commit = Write::put(b"k", value.clone(), Expiry::Never).when(own);
    assert!(rig.write(commit).await.unwrap());
    assert_eq!(reader.poll().await.unwrap(), [note("k", write_id(&value))]);
    // Whoever deletes what somebody loads may mean a value that was evicted.
    store.begin_load(space, b"evicted", &load).await.unwrap();
    assert!(!rig.delete("evicted").await.unwrap());
    assert_eq!(reader.poll().await.unwrap(), [note("evicted", 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_are_told_name_by_name() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (here, there) = (
        RedisStore::connect(server.url()).await.unwrap(),
        RedisStore::connect(server.url()).await.unwrap(),
    );
    let cache = Cache::builder(here)
        .prefix("net")
        .name("test")
        .build()
        .unwrap();
    let mut reader = Reader::new(&there, &Namespace::new("net", "test", 1)).await;
    for n in 0..3 {
        let set = cache.set(format!("k:{n}"), "v").tags([format!("t:{n}")]);
        set.await.unwrap();
    }
    reader.settle().await;
    cache.invalidate_tags(["t:[01]"]).await.unwrap();
    let told = reader.poll().await.unwrap();
    for (name, is_told) in [("t:0", true), ("t:1", true), ("t:2", false)] {
        assert_eq!(
            told.contains(&Note::Register(tag(name))),
            is_told,
            "{name} in {told:?}"
        );
    }
    cache.delete_matching("k:*").await.unwrap();
    let told = reader.poll().await.unwrap();
    assert!(told.contains(&note("k:2", 0)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_noted_unless_somebody_reads() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = Rig::new(RedisStore::connect(server.url()).await.unwrap());
    let there = RedisStore::connect(server.url()).await.unwrap();
    let call = |words: &[&str]| now(|| server.call(words)).unwrap();
    let change = async || {
        rig.set("a", 1).await.unwrap();
        rig.set("a", 2).await.unwrap();
        rig.delete("a").await.unwrap();
        rig.increment("n").await.unwrap();
        let tags = [tag("a")];
        for how in [Invalidation::Hard, Invalidation::Soft] {
            rig.store
                .invalidate(&rig.namespace, &tags, how)
                .await
                .unwrap();
        }
        rig.clear().await.unwrap();
    };
    change().await;
    assert_eq!(number(&call(&["EXISTS", STREAM])), 0);
    let mut reader = Reader::new(&there, &rig.namespace).await;
    let left = number(&call(&["PTTL", STREAM]));
    assert!((500_000..=600_000).contains(&left), "{left}");
    change().await;
    assert_eq!(number(&call(&["XLEN", STREAM])), 8);
    // Its last reader has been gone for long.
    call(&["PEXPIRE", STREAM, "1"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    change().await;
    assert_eq!(number(&call(&["EXISTS", STREAM])), 0);
    assert_eq!(reader.poll().await.unwrap(), [Note::All]);
    change().await;
    assert_eq!(reader.poll().await.unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_may_be_missing_is_everything() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (rig, mut reader) = pair(&server).await;
    let losses: [&[&str]; 7] = [
        &["XTRIM", STREAM, "MAXLEN", "0"],
        &["XTRIM", STREAM, "MAXLEN", "1"],
        &["DEL", STREAM],
        &["FLUSHALL"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["XADD", STREAM, "*", "x", "of a later version"],
        &["XADD", STREAM, "*", "k", "short"],
    ];
    for loss in losses {
        rig.set_in_the_end("a", 1).await;
        reader.settle().await;
        rig.set("a", 2).await.unwrap();
        now(|| server.call(loss)).unwrap();
        let told = reader.answer().await;
        assert!(has_all(&told), "{loss:?}: {told:?}");
        // And after that it goes on.
        reader.settle().await;
        rig.set_in_the_end("b", 3).await;
        assert!(!reader.answer().await.is_empty(), "{loss:?}");
    }
    // More than a journal keeps.
    reader.settle().await;
    for n in 0..5_000 {
        rig.set("a", n).await.unwrap();
    }
    assert!(has_all(&reader.poll().await.unwrap()));
    let length = number(&now(|| server.call(&["XLEN", STREAM])).unwrap());
    assert!(length < 4_500, "{length} records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_takes_no_note_ends() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (rig, mut reader) = pair(&server).await;
    rig.set("a", 1).await.unwrap();
    reader.settle().await;
    // Full: what needs memory is refused, what frees it is not.
    let set = |value: &str| {
        now(|| server.call(&["CONFIG", "SET", "maxmemory", value])).unwrap();
    };
    set("1");
    let tags = [tag("a")];
    let space = &rig.namespace;
    let invalidated = rig.store.invalidate(space, &tags, Invalidation::Hard).await;
    assert_eq!(invalidated.unwrap().missing, 0);
    rig.clear().await.unwrap();
    set("0");
    assert!(has_all(&reader.answer().await));
    // Another program's key in its place.
    for change in 0..2 {
        now(|| server.call(&["SET", STREAM, "junk"])).unwrap();
        match change {
            0 => rig.set("a", 2).await.unwrap(),
            _ => drop(rig.delete("a").await.unwrap()),
        }
        assert!(has_all(&reader.answer().await));
        reader.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_hold_over_several_connections() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let cluster = now(RedisCluster::start).unwrap();
    for builder in [
        RedisStore::builder(server.url()),
        RedisStore::cluster(urls(&cluster)),
    ] {
        let store = builder.connections(3).connect().await.unwrap();
        let store = StoreUnderTest::new(store);
        journal::first_poll_says_everything(&store).await.unwrap();
        journal::changes_are_noted_before_they_are_acknowledged(&store)
            .await
            .unwrap();
        journal::own_changes_come_back(&store).await.unwrap();
        journal::marks_are_not_noted(&store).await.unwrap();
        journal::notes_of_other_namespaces_stay_there(&store)
            .await
            .unwrap();
        journal::a_restamped_entry_is_noted_as_another(&store)
            .await
            .unwrap();
        journal::order_is_kept(&store).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_of_the_documentation_may_write_and_read() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let documentation = include_str!("../../../../../docs/stores.md");
    let user = documentation
        .lines()
        .find(|line| line.starts_with("user shop"));
    let rules = user.unwrap().replace(">CHANGE-ME", ">open");
    let words = ["ACL", "SETUSER"].into_iter();
    let words: Vec<_> = words.chain(rules.split(' ').skip(1)).collect();
    now(|| server.call(&words)).unwrap();
    let url = format!("redis://shop:open@{}/", server.address());
    let store = RedisStore::connect(url).await.unwrap();
    let namespace = Namespace::new("shop", "main", 1);
    let mut reader = Reader::new(&store, &namespace).await;
    let cache = Cache::builder(store)
        .prefix("shop")
        .name("main")
        .build()
        .unwrap();
    for n in 0..2 {
        cache.set("k", &n).await.unwrap();
        cache.set("tagged", &n).tags(["t"]).await.unwrap();
        cache.increment("n", 1).await.unwrap();
    }
    cache.invalidate_tags(["t"]).await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    let told = reader.poll().await.unwrap();
    assert!(!has_all(&told), "{told:?}");
    assert!(told.contains(&note("k", 0)) && told.contains(&Note::Register(tag("t"))));
    cache.clear().await.unwrap();
    assert_eq!(reader.poll().await.unwrap(), [Note::All]);
    let denied = now(|| server.call(&["ACL", "LOG"])).unwrap();
    assert!(denied.items().is_empty(), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_may_have_lost_something() {
    if !has_servers() {
        return;
    }
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = now(|| RedisServer::with_args(&args)).unwrap();
    let (rig, mut reader) = pair(&server).await;
    for wipes in [false, true] {
        rig.set_in_the_end("a", 1).await;
        reader.settle().await;
        now(|| {
            server.kill();
            if wipes {
                server.wipe().unwrap();
            }
        });
        assert!(reader.poll().await.is_err());
        now(|| server.start_again()).unwrap();
        assert!(has_all(&reader.answer().await), "wiped: {wipes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_took_over_may_have_lost_something() {
    if !has_servers() {
        return;
    }
    let group = now(RedisSentinel::start).unwrap();
    let sentinels = || group.sentinels().iter().map(RedisServer::url);
    let here = RedisStore::sentinel(sentinels(), MASTER_NAME).connect();
    let there = RedisStore::sentinel(sentinels(), MASTER_NAME).connect();
    let (rig, there) = (Rig::new(here.await.unwrap()), there.await.unwrap());
    rig.set("a", 1).await.unwrap();
    let mut reader = Reader::new(&there, &rig.namespace).await;
    let first = now(|| group.master_address()).unwrap();
    now(|| group.master().unwrap().kill());
    now(|| group.wait_for_failover(first, RECOVERY)).unwrap();
    rig.set_in_the_end("a", 2).await;
    assert!(has_all(&reader.answer().await));
    reader.settle().await;
    rig.set_in_the_end("a", 3).await;
    assert!(!reader.answer().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_are_told_while_their_slots_move() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let here = RedisStore::cluster(urls(&cluster)).buckets(16).connect();
    let there = RedisStore::cluster(urls(&cluster)).buckets(16).connect();
    let (rig, there) = (
        Arc::new(Rig::new(here.await.unwrap())),
        there.await.unwrap(),
    );
    for n in 0..200 {
        rig.set(&format!("key:{n}"), 0).await.unwrap();
    }
    let mut reader = Reader::new(&there, &rig.namespace).await;
    let stop = Arc::new(AtomicBool::new(false));
    let moving = {
        let (stop, slots) = (Arc::clone(&stop), 0..=4_000);
        tokio::task::spawn_blocking(move || {
            let from = cluster.master_of(*slots.start()).unwrap();
            cluster.move_slots(from, (from + 1) % 3, slots).unwrap();
            stop.store(true, SeqCst);
            cluster
        })
    };
    // What the reader believes to be under each key: what he was told last, or anything.
    let (mut polls, mut gaps) = (0_u32, 0_u32);
    for version in 1.. {
        let key = format!("key:{}", version % 200);
        let write = put(&key, version);
        let id = match &write.change {
            larder::store::Change::Put(entry) => write_id(entry),
            _ => unreachable!("a put"),
        };
        let is_bulk = version % 2 == 0;
        let written = if is_bulk {
            let other = format!("key:{}", (version + 77) % 200);
            let writes = [write, put(&other, version)];
            rig.store
                .write_many(&rig.namespace, &writes)
                .await
                .map(|_| true)
        } else {
            rig.write(write).await
        };
        if written.is_ok()
            && let Ok(told) = reader.poll().await
        {
            let is_told = [note(&key, id), note(&key, 0)]
                .iter()
                .any(|it| told.contains(it));
            assert!(is_told || has_all(&told), "{key}: {told:?}");
            polls += 1;
            gaps += u32::from(has_all(&told));
        }
        if stop.load(SeqCst) {
            break;
        }
    }
    drop(moving.await.unwrap());
    println!("{polls} polls, {gaps} of them with gaps");
    assert!(polls > 10);
}
