//! The embedded store through `Cache`, against bare rusqlite with the same pragmas on a table of key, value and expiry.

use bytes::Bytes;
use larder::{Cache, SqliteStore};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::runtime::Runtime;

use crate::measure::{self, Peer, nanos_per_op, rounds, target};
use crate::workload::{keys, noise, zipf};

const COUNT: usize = 20_000;
const OPS: usize = 20_000;
const ROUNDS: usize = 5;

fn bare(dir: &std::path::Path) -> Connection {
    let connection = Connection::open(dir.join("bare.db")).expect("the database opens");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA mmap_size = 268435456; \
             CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB NOT NULL, expires_at INTEGER);",
        )
        .expect("the table is created");
    connection
}

fn bare_set(connection: &Connection, key: &str, value: &[u8]) {
    let mut set = connection.prepare_cached("INSERT OR REPLACE INTO kv VALUES (?1, ?2, ?3)").expect("it compiles");
    set.execute(params![key.as_bytes(), value, 4_000_000_000_000_i64]).expect("it is written");
}

fn bare_get(connection: &Connection, key: &str) -> Option<Vec<u8>> {
    let mut get = connection.prepare_cached("SELECT v, expires_at FROM kv WHERE k = ?1").expect("it compiles");
    get.query_row([key.as_bytes()], |row| row.get(0)).optional().expect("it is read")
}

pub fn run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = Runtime::new().expect("a runtime");
    let connection = bare(dir.path());
    let store = SqliteStore::open(dir.path().join("cache.db")).expect("the store opens");
    let cache = Cache::builder(store).build().expect("the options are valid");
    let (keys, value) = (keys(COUNT), noise());
    let hour = std::time::Duration::from_secs(3600);
    connection.execute_batch("BEGIN").expect("it begins");
    keys.iter().for_each(|key| bare_set(&connection, key, &value));
    connection.execute_batch("COMMIT").expect("it commits");
    for chunk in keys.chunks(1000) {
        let pairs: Vec<_> = chunk.iter().map(|key| (key.clone(), value.clone())).collect();
        runtime.block_on(async { cache.set_many(&pairs).ttl(hour).await }).expect("they are written");
    }
    let order = zipf(COUNT, 0.99, OPS, 1);
    let pick = |index: &usize| keys[*index].as_str();
    let mut gets: Vec<Peer<'_>> = vec![
        ("bare rusqlite (limit)", Box::new(|| {
            nanos_per_op(OPS, || order.iter().for_each(|index| drop(bare_get(&connection, pick(index))))) / 1e3
        })),
        ("larder get::<Bytes>", Box::new(|| {
            nanos_per_op(OPS, || {
                runtime.block_on(async {
                    for index in &order {
                        cache.get::<Bytes>(pick(index)).await.expect("it is read").expect("it is there");
                    }
                });
            }) / 1e3
        })),
    ];
    let rows = rounds(ROUNDS, &mut gets);
    measure::print("get hit, 1000 B", "us", &rows);
    target("get, ratio", rows[1].median() / rows[0].median(), 1.5, true);
    target("get, us", rows[1].median(), 15.0, true);
    drop(gets);
    let mut sets: Vec<Peer<'_>> = vec![
        ("bare rusqlite (limit)", Box::new(|| {
            nanos_per_op(OPS, || order.iter().for_each(|index| bare_set(&connection, pick(index), &value))) / 1e3
        })),
        ("larder set", Box::new(|| {
            nanos_per_op(OPS, || {
                runtime.block_on(async {
                    for index in &order {
                        cache.set(pick(index), &value).ttl(hour).await.expect("it is written");
                    }
                });
            }) / 1e3
        })),
    ];
    let rows = rounds(ROUNDS, &mut sets);
    measure::print("set, one transaction each, 1000 B", "us", &rows);
    target("set, ratio", rows[1].median() / rows[0].median(), 1.5, true);
    target("set, us", rows[1].median(), 25.0, true);
    drop(sets);
    concurrent(&runtime, &cache, &keys, &value);
}

/// 64 tasks that write at once share transactions.
fn concurrent(runtime: &Runtime, cache: &Cache, keys: &[String], value: &Bytes) {
    let mut peers: Vec<Peer<'_>> = vec![("larder set, 64 tasks", Box::new(|| {
        nanos_per_op(OPS, || {
            runtime.block_on(async {
                let task = |part: &[String]| {
                    let (cache, part, value) = (cache.clone(), part.to_vec(), value.clone());
                    tokio::spawn(async move {
                        for key in &part {
                            cache.set(key, &value).await.expect("it is written");
                        }
                    })
                };
                let tasks: Vec<_> = keys.chunks(COUNT / 64 + 1).map(task).collect();
                for task in tasks {
                    task.await.expect("the task ends");
                }
            });
        }) / 1e3
    }))];
    measure::print("set, concurrent, 1000 B", "us per set", &rounds(ROUNDS, &mut peers));
}
