//! Random sequences of operations: every store answers as a simple map does ([`map::Map`]).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod map;
mod ops;

use std::sync::Arc;
use std::time::Duration;

use larder::store::{Entry, Memory, Store, Write};
use larder::testing::{body, write_id};
use larder::{ErrorKind, Glob, ManualClock, Namespace, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::map::Map;
use self::ops::{KEYS, Op, WriteOp};

const CASES: u32 = 512;

type Outcome = std::result::Result<(), TestCaseError>;

/// A store, its clock, and what the map says it must hold.
struct Pair {
    store: Arc<dyn Store>,
    namespace: Namespace,
    time: ManualClock,
    map: Map,
}

/// Runs random operations on one store, each case in a namespace of its own.
fn agrees_with_the_map(time: &ManualClock, store: impl Store) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let case = |ops: Vec<Op>| {
        let mut pair = Pair {
            store: Arc::clone(&store),
            namespace: Namespace::new(&format!("case-{:x}", fastrand::u64(..)), "model", 1),
            time: time.clone(),
            map: Map::new(time.clock().now_ms()),
        };
        runtime.block_on(async {
            for op in ops {
                pair.run(op).await?;
            }
            pair.compare(&KEYS).await?;
            pair.list(2).await
        })
    };
    if let Err(failure) = TestRunner::new(config).run(&ops::sequences(), case) {
        panic!("{failure}");
    }
}

fn kind_of<T>(outcome: Result<T>) -> Result<T, ErrorKind> {
    outcome.map_err(|error| error.kind())
}

impl Pair {
    /// Runs one operation on both and compares the answers, and the keys concerned.
    async fn run(&mut self, op: Op) -> Outcome {
        let (store, namespace) = (&self.store, &self.namespace);
        match op {
            Op::Write(ops) => self.write(&ops).await?,
            Op::Get(keys) => self.compare(&keys).await?,
            Op::Increment(key, by, expiry) => {
                let sum = kind_of(store.increment(namespace, &[key], by, expiry).await);
                prop_assert_eq!(sum, self.map.increment(key, by, expiry));
                self.compare(&[key]).await?;
            }
            Op::SortedSet(key, op) => {
                let reply = kind_of(store.sorted_set(namespace, &[key], &op).await);
                prop_assert_eq!(reply, self.map.sorted_set(key, &op));
                self.compare(&[key]).await?;
            }
            Op::List(limit) => self.list(limit).await?,
            Op::Clear => {
                prop_assert_eq!(kind_of(store.clear(namespace).await), Ok(()));
                self.map.clear();
            }
            Op::Prune(limit) => prop_assert!(store.prune(limit).await.unwrap() <= limit as u64),
            Op::Advance(ms) => {
                self.time.advance(Duration::from_millis(ms));
                self.map.now_ms += ms;
            }
        }
        Ok(())
    }

    async fn write(&mut self, ops: &[WriteOp]) -> Outcome {
        let keys: Vec<_> = ops.iter().map(|op| op.key).collect();
        // Write ids are those seen before the call, as a caller sees them.
        let seen = self.read(&keys).await;
        let writes: Vec<_> = ops
            .iter()
            .zip(seen)
            .map(|(op, present)| {
                let seen = present.map_or(0, |entry| write_id(&entry.value));
                Write {
                    key: std::slice::from_ref(&op.key),
                    change: op.change.build(),
                    expiry: op.expiry,
                    condition: op.condition.against(seen),
                }
            })
            .collect();
        let applied = kind_of(self.store.write_many(&self.namespace, &writes).await);
        let expected: Vec<_> = writes.iter().map(|write| self.map.write(write)).collect();
        prop_assert_eq!(applied, Ok(expected));
        self.compare(&keys).await
    }

    async fn read(&self, keys: &[u8]) -> Vec<Option<Entry>> {
        let keys: Vec<_> = keys.iter().map(std::slice::from_ref).collect();
        self.store.get_many(&self.namespace, &keys).await.unwrap()
    }

    async fn compare(&mut self, keys: &[u8]) -> Outcome {
        for (key, read) in keys.iter().zip(self.read(keys).await) {
            let expected = self.map.live(*key);
            prop_assert_eq!(read.is_some(), expected.is_some(), "key {}", key);
            let (Some(read), Some(expected)) = (read, expected) else {
                continue;
            };
            prop_assert_eq!(read.expires_at_ms, expected.expires_at_ms, "key {}", key);
            let read_body = body(&read.value);
            prop_assert!(read_body.is_some(), "key {}", key);
            if let Some(expected_body) = expected.value.body() {
                prop_assert_eq!(read_body, Some(expected_body), "key {}", key);
            }
            let read_id = write_id(&read.value);
            prop_assert_eq!(
                *expected.write_id.get_or_insert(read_id),
                read_id,
                "key {}",
                key
            );
        }
        Ok(())
    }

    async fn list(&mut self, limit: usize) -> Outcome {
        let all = Glob::all();
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = self
                .store
                .scan(&self.namespace, &all, cursor.as_ref(), limit)
                .await
                .unwrap();
            prop_assert!(page.keys.len() <= limit);
            keys.extend(page.keys.iter().map(|scanned| scanned.key.as_bytes()[0]));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        keys.sort_unstable();
        let expected = self.map.live_keys();
        prop_assert_eq!(&keys, &expected);
        let count = kind_of(self.store.count(&self.namespace, &all).await);
        prop_assert_eq!(count, Ok(expected.len() as u64));
        Ok(())
    }
}

#[test]
fn memory_agrees_with_the_map() {
    let time = ManualClock::new();
    agrees_with_the_map(
        &time,
        Memory::builder().clock(time.clock()).build().unwrap(),
    );
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_agrees_with_the_map() {
    let (time, dir) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let builder = larder::store::Sqlite::builder(dir.path().join("cache.db"));
    agrees_with_the_map(&time, builder.clock(time.clock()).build().unwrap());
}

#[cfg(feature = "file")]
#[test]
fn file_agrees_with_the_map() {
    let (time, dir) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let builder = larder::store::File::builder(dir.path());
    agrees_with_the_map(&time, builder.clock(time.clock()).build().unwrap());
}
