//! Writers are killed at any moment: what they were told is stored is there, whole, and nothing else.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use larder::Result;
use larder::store::{Expiry, Store, Write};
use larder::testing::{body, sealed};

use crate::Kind;
use crate::child::Child;
use crate::roles::namespace;

const WRITERS: usize = 4;
const KILLS: usize = 200;
/// A writer is killed this long after the last kill, in milliseconds.
const KILL_AFTER_MS: RangeInclusive<u64> = 0..=30;
/// The parent opens the store afresh after so many kills.
const REOPEN_EVERY: usize = 20;
const KEYS_PER_WRITER: u64 = 16;
/// Keys from this one on are written with a life so short that they may be gone when they are checked.
const FIRST_BRIEF_KEY: u64 = 14;
const BRIEF_MS: u64 = 20;

/// One step of a writer: what it does follows from its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) writer: usize,
    pub(crate) number: u64,
}

enum Action {
    Put,
    Delete,
    Increment,
}

impl Step {
    fn action(self) -> Action {
        match self.number % 11 {
            3 => Action::Delete,
            7 => Action::Increment,
            _ => Action::Put,
        }
    }

    fn key_number(self) -> u64 {
        self.number % KEYS_PER_WRITER
    }

    /// The body that this step stores: it names its key and version; its length varies, up to 200 KiB.
    fn body(self) -> Vec<u8> {
        let key = key(self.writer, self.key_number());
        let mut body = [&key[..], b"=", self.number.to_string().as_bytes(), b";"].concat();
        let padding = match self.number % 13 {
            0 => 200 << 10,
            rest => rest as usize * 700,
        };
        body.resize(body.len() + padding, self.number as u8);
        body
    }

    /// Takes the step; on return it is acknowledged.
    pub(crate) async fn take(self, store: &dyn Store) -> Result<()> {
        let key = key(self.writer, self.key_number());
        let expiry = if self.key_number() >= FIRST_BRIEF_KEY {
            Expiry::After(BRIEF_MS)
        } else {
            Expiry::Never
        };
        let namespace = namespace();
        let write = match self.action() {
            Action::Put => Write::put(&key, sealed(&self.body()), expiry),
            Action::Delete => Write::delete(&key),
            Action::Increment => {
                let counter = counter(self.writer);
                store
                    .increment(&namespace, &counter, 1, Expiry::Never)
                    .await?;
                return Ok(());
            }
        };
        store.write_many(&namespace, &[write]).await.map(drop)
    }
}

fn key(writer: usize, number: u64) -> Vec<u8> {
    format!("writer-{writer}-key-{number}").into()
}

fn counter(writer: usize) -> Vec<u8> {
    format!("writer-{writer}-counter").into()
}

/// What the store must hold of one writer.
#[derive(Debug, Default)]
struct Known {
    /// The step that last put each key; none after a delete.
    versions: HashMap<u64, u64>,
    increments: i64,
    next_step: u64,
}

impl Known {
    fn apply(&mut self, step: Step) {
        match step.action() {
            Action::Put => drop(self.versions.insert(step.key_number(), step.number)),
            Action::Delete => drop(self.versions.remove(&step.key_number())),
            Action::Increment => self.increments += 1,
        }
        self.next_step = step.number + 1;
    }

    /// Compares the store with what was acknowledged; the one step in flight may have been taken or not.
    async fn check(&mut self, writer: usize, store: &dyn Store) -> Result<()> {
        let in_flight = Step {
            writer,
            number: self.next_step,
        };
        for number in 0..KEYS_PER_WRITER {
            let key = key(writer, number);
            let read = store.get_many(&namespace(), &[&key]).await?.remove(0);
            let read = read.map(|entry| body(&entry.value).expect("the entry is whole"));
            let stored = |number| Step { writer, number }.body();
            let acknowledged = self.versions.get(&number).copied();
            let concerned = in_flight.key_number() == number;
            let found = match (&read, in_flight.action()) {
                (None, _) if number >= FIRST_BRIEF_KEY || acknowledged.is_none() => None,
                (None, Action::Delete) if concerned => None,
                (Some(read), Action::Put) if concerned && *read == in_flight.body() => {
                    Some(in_flight.number)
                }
                (Some(read), _) if acknowledged.is_some_and(|at| *read == stored(at)) => {
                    acknowledged
                }
                _ => panic!(
                    "writer {writer} key {number}: acknowledged {acknowledged:?}, in flight {in_flight:?}, read {:?}",
                    read.map(
                        |read| String::from_utf8_lossy(&read[..40.min(read.len())]).into_owned()
                    )
                ),
            };
            match found {
                Some(version) => self.versions.insert(number, version),
                None => self.versions.remove(&number),
            };
        }
        let sum = store
            .increment(&namespace(), &counter(writer), 0, Expiry::Never)
            .await?;
        let in_flight_adds = i64::from(matches!(in_flight.action(), Action::Increment));
        let expected = self.increments..=self.increments + in_flight_adds;
        assert!(
            expected.contains(&sum),
            "writer {writer}: counted {sum}, expected {expected:?}"
        );
        self.increments = sum;
        self.next_step += 1;
        Ok(())
    }
}

/// The writers that live now, and what is known of each.
struct Writers<'a> {
    kind: Kind,
    dir: &'a Path,
    living: Vec<Option<Child>>,
    known: Vec<Known>,
    acknowledged: usize,
}

impl<'a> Writers<'a> {
    fn start(kind: Kind, dir: &'a Path) -> Self {
        let mut writers = Self {
            kind,
            dir,
            living: (0..WRITERS).map(|_| None).collect(),
            known: (0..WRITERS).map(|_| Known::default()).collect(),
            acknowledged: 0,
        };
        (0..WRITERS).for_each(|writer| writers.revive(writer));
        writers
    }

    fn revive(&mut self, writer: usize) {
        let next_step = self.known[writer].next_step;
        let child = Child::start("write", self.kind, self.dir, (writer, next_step));
        self.living[writer] = Some(child);
    }

    /// Kills a writer and notes what it had acknowledged.
    fn kill(&mut self, writer: usize) {
        let Some(child) = self.living[writer].take() else {
            return;
        };
        for number in child.kill() {
            let number = number.parse().unwrap();
            assert_eq!(
                number, self.known[writer].next_step,
                "steps are taken in order"
            );
            self.known[writer].apply(Step { writer, number });
            self.acknowledged += 1;
        }
    }
}

/// Four writers, one of which is killed every 0 to 30 ms, 200 times: each acknowledged write is there, whole.
pub(crate) fn killed_writers_leave_whole_entries(kind: Kind) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut store = kind.open(dir.path());
    let mut writers = Writers::start(kind, dir.path());
    for kill in 1..=KILLS {
        std::thread::sleep(Duration::from_millis(fastrand::u64(KILL_AFTER_MS)));
        let writer = fastrand::usize(..WRITERS);
        writers.kill(writer);
        if kill % REOPEN_EVERY == 0 {
            store = kind.open(dir.path());
        }
        runtime
            .block_on(writers.known[writer].check(writer, &*store))
            .unwrap();
        writers.revive(writer);
    }
    for writer in 0..WRITERS {
        writers.kill(writer);
        runtime
            .block_on(writers.known[writer].check(writer, &*store))
            .unwrap();
    }
    println!(
        "{KILLS} kills, {} acknowledged writes",
        writers.acknowledged
    );
    assert!(
        writers.acknowledged > 10 * KILLS,
        "the writers hardly wrote"
    );
    let stats = runtime.block_on(store.stats()).unwrap();
    assert_eq!((stats.quarantined, stats.evicted), (0, 0));
    drop(store);
    kind.check_files(dir.path());
}
