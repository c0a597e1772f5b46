//! What holds for registers in this store in particular. What holds for every store is a law in `testing`.

use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::codec::Encoding;
use crate::envelope::{self, Header};
use crate::store::{Condition, MIN_REGISTER_MS, REGISTER_GRACE_MS};

fn space() -> Namespace {
    Namespace::new("test", "registers", 1)
}

fn tag(name: &str) -> Register {
    Register::exact(name).unwrap()
}

fn sealed(stamps: Vec<Stamp>) -> Bytes {
    let header = Header {
        stamps,
        ..Header::new(Encoding::Raw, 0, None)
    };
    envelope::seal(&header, b"value", 5).unwrap()
}

async fn put(store: &Sqlite, key: &[u8], tags: &[Register], expiry: Expiry) {
    let seal = |stamps| Ok(sealed(stamps));
    store
        .put_stamped(
            &space(),
            key,
            &crate::store::StampedPut {
                registers: tags,
                expiry,
                seal: &seal,
            },
        )
        .await
        .unwrap();
}

async fn get(store: &Sqlite, key: &[u8]) -> Option<Entry> {
    store.get_many(&space(), &[key]).await.unwrap().remove(0)
}

async fn invalidate(store: &Sqlite, name: &str, how: Invalidation) -> bool {
    let done = store.invalidate(&space(), &[tag(name)], how).await.unwrap();
    done.had[0]
}

fn rows(store: &Sqlite, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    let count = |connection: &rusqlite::Connection| connection.query_row(&sql, [], |r| r.get(0));
    store.inner.upkeep.readers.read(count).unwrap()
}

fn open(dir: &TempDir) -> Sqlite {
    Sqlite::open(dir.path().join("cache.db")).unwrap()
}

fn open_at(dir: &TempDir, time: &ManualClock) -> Sqlite {
    let builder = Sqlite::builder(dir.path().join("cache.db"));
    builder.clock(time.clock()).build().unwrap()
}

#[tokio::test]
async fn handles_on_one_file_see_each_others_registers() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (open(&dir), open(&dir));
    put(&a, b"hard", &[tag("hard")], Expiry::Never).await;
    put(&a, b"soft", &[tag("soft")], Expiry::Never).await;
    assert!(!get(&b, b"soft").await.unwrap().is_stale);
    assert!(invalidate(&b, "hard", Invalidation::Hard).await);
    assert!(invalidate(&b, "soft", Invalidation::Soft).await);
    assert!(get(&a, b"hard").await.is_none());
    assert!(get(&a, b"soft").await.unwrap().is_stale);
    drop((a, b));
    let again = open(&dir);
    assert!(get(&again, b"hard").await.is_none());
    assert!(get(&again, b"soft").await.unwrap().is_stale);
    assert!(!invalidate(&again, "hard", Invalidation::Hard).await);
}

#[tokio::test]
async fn clear_makes_registers_unreachable_and_they_are_reclaimed() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    // Registers alone must be found as well.
    let before = store.capture(&space(), b"k", &[tag("t")]).await.unwrap();
    store.clear(&space()).await.unwrap();
    assert!(!invalidate(&store, "t", Invalidation::Hard).await);
    let page = store.scan_registers(&space(), &Glob::all(), None, 10).await;
    assert_eq!(page.unwrap().registers, []);
    store.inner.upkeep.run();
    assert_eq!(
        (rows(&store, "registers"), rows(&store, "dead_namespaces")),
        (0, 0)
    );
    let after = store.capture(&space(), b"k", &[tag("t")]).await.unwrap();
    assert_ne!(before, after);
}

#[tokio::test]
async fn registers_past_their_time_go_and_those_in_use_stay() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let store = open_at(&dir, &time);
    let day = 24 * 3600 * 1000;
    put(&store, b"brief", &[tag("brief")], Expiry::After(1)).await;
    put(&store, b"day", &[tag("day")], Expiry::After(day)).await;
    put(&store, b"good", &[tag("good")], Expiry::Never).await;
    put(&store, b"touched", &[tag("touched")], Expiry::After(1000)).await;
    let touch = Write::touch(b"touched", Expiry::After(day));
    assert_eq!(store.write_many(&space(), &[touch]).await.unwrap(), [true]);
    time.advance(Duration::from_millis(MIN_REGISTER_MS - 1));
    store.prune(100).await.unwrap();
    assert_eq!(rows(&store, "registers"), 4);
    time.advance(Duration::from_millis(day - MIN_REGISTER_MS));
    store.prune(100).await.unwrap();
    assert_eq!(rows(&store, "registers"), 3);
    assert!(get(&store, b"day").await.is_some() && get(&store, b"touched").await.is_some());
    time.advance(Duration::from_millis(3 * REGISTER_GRACE_MS));
    store.prune(100).await.unwrap();
    assert_eq!(rows(&store, "registers"), 1);
    assert!(get(&store, b"good").await.is_some());
}

#[tokio::test]
async fn invalid_entries_are_removed_by_the_upkeep() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let store = open_at(&dir, &time);
    for n in 0..600_u32 {
        let tags = [tag(["gone", "kept"][n as usize % 2])];
        put(&store, &n.to_be_bytes(), &tags, Expiry::Never).await;
    }
    put(&store, b"untagged", &[], Expiry::Never).await;
    assert!(invalidate(&store, "gone", Invalidation::Hard).await);
    assert_eq!(store.count(&space(), &Glob::all()).await.unwrap(), 301);
    time.advance(Duration::from_millis(purge::REST_MS - 1));
    assert!(!invalidate(&store, "never", Invalidation::Hard).await);
    store.inner.upkeep.run();
    assert_eq!(rows(&store, "entries"), 601, "whoever asks can be told");
    time.advance(Duration::from_millis(1));
    store.inner.upkeep.run();
    assert_eq!(rows(&store, "entries"), 301);
    assert_eq!(store.count(&space(), &Glob::all()).await.unwrap(), 301);
}

#[tokio::test]
async fn invalid_entries_are_removed_at_once_when_room_is_short() {
    let dir = TempDir::new().unwrap();
    let builder = Sqlite::builder(dir.path().join("cache.db")).max_bytes(MIN_MAX_BYTES);
    let store = builder.clock(ManualClock::new().clock()).build().unwrap();
    let mut n = 0_u32;
    while store.inner.upkeep.used_bytes().unwrap() <= MIN_MAX_BYTES / 100 * 76 {
        put(&store, &n.to_be_bytes(), &[tag("gone")], Expiry::Never).await;
        n += 1;
    }
    assert!(invalidate(&store, "gone", Invalidation::Hard).await);
    store.inner.upkeep.run();
    assert_eq!(rows(&store, "entries"), 0);
}

#[tokio::test]
async fn entries_without_stamps_need_no_registers() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    put(&store, b"k", &[], Expiry::Never).await;
    put(&store, b"tagged", &[tag("t")], Expiry::Never).await;
    let drop = |connection: &rusqlite::Connection| connection.execute_batch("DROP TABLE registers");
    store.inner.upkeep.writer.maintain(drop).unwrap();
    assert!(get(&store, b"k").await.is_some());
    put(&store, b"k", &[], Expiry::After(1000)).await;
    let touch = Write::touch(b"k", Expiry::Never);
    assert_eq!(store.write_many(&space(), &[touch]).await.unwrap(), [true]);
    assert!(store.get_many(&space(), &[b"tagged"]).await.is_err());
}

#[test]
fn those_who_capture_at_once_agree() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    let barrier = Barrier::new(2);
    let capture = |store: &Sqlite| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let one = |round: u32| {
            barrier.wait();
            let tags = [tag(&format!("t{round}")), tag("all")];
            runtime
                .block_on(store.capture(&space(), b"k", &tags))
                .unwrap()
        };
        (0..1000).map(one).collect::<Vec<_>>()
    };
    let [a, b] = std::thread::scope(|scope| {
        let threads = [0, 1].map(|n| {
            scope.spawn({
                let (capture, store) = (&capture, &stores[n]);
                move || capture(store)
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(a, b);
}

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
async fn loads_until_it_is_killed() {
    let Some(dir) = std::env::var_os("LARDER_TEST_SQLITE_REGISTERS") else {
        return;
    };
    let store = Sqlite::open(PathBuf::from(dir).join("cache.db")).unwrap();
    for n in 1_u64.. {
        let registers = [tag(&format!("t{}", n % 5)), tag("all")];
        let load = LoadRequest {
            registers: &registers,
            token: n,
            lease_ms: 5,
        };
        let key = [(n % 3) as u8];
        let begun = store.begin_load(&space(), &key, &load).await.unwrap();
        let put = Write::put(&key, sealed(begun.stamps), Expiry::Never);
        let put = put.when(Condition::IfUnchanged(n));
        store.write_many(&space(), &[put]).await.unwrap();
        invalidate(&store, &format!("t{}", n % 7), Invalidation::Hard).await;
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_nothing_wrong() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut worked = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--exact")
            .arg("store::sqlite::tests::loads_until_it_is_killed")
            .env("LARDER_TEST_SQLITE_REGISTERS", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(60 + 7 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        worked += usize::from(invalidate(&store, "t3", Invalidation::Hard).await);
        invalidate(&store, "all", Invalidation::Hard).await;
        for key in 0..3_u8 {
            assert!(get(&store, &[key]).await.is_none());
            let tags = [tag("all"), tag("t1")];
            put(&store, &[key], &tags, Expiry::Never).await;
            assert!(get(&store, &[key]).await.is_some());
        }
        assert!(invalidate(&store, "t1", Invalidation::Hard).await);
        assert!(get(&store, &[0]).await.is_none());
    }
    assert!(worked > 0, "every process was killed before it began");
    assert!(store.moved_aside().is_none());
}
