//! What child processes do.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder::store::{Condition, Expiry, Store, Write};
use larder::testing::sealed;
use larder::{Namespace, Result};

use crate::Kind;
use crate::child::{DIR, MARK, NUMBER, ROLE, START, STORE};
use crate::kills::Step;
use crate::{journals, locks, sections};

pub(crate) const INCREMENTS: i64 = 10_000;
pub(crate) const CONTESTED_KEYS: u64 = 500;
/// A writer whose parent is gone ends after so many steps.
const MAX_STEPS: u64 = 50_000;

pub(crate) fn namespace() -> Namespace {
    Namespace::new("test", "processes", 1)
}

struct Role {
    kind: Kind,
    dir: PathBuf,
    number: usize,
    start: u64,
}

/// Plays the role that the environment names; does nothing in the parent.
pub(crate) fn play() {
    let Ok(name) = std::env::var(ROLE) else {
        return;
    };
    let role = Role {
        kind: Kind::by_name(&std::env::var(STORE).unwrap()),
        dir: std::env::var_os(DIR).unwrap().into(),
        number: std::env::var(NUMBER).unwrap().parse().unwrap(),
        start: std::env::var(START).unwrap().parse().unwrap(),
    };
    // The test framework has left an unfinished line.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async {
            match name.as_str() {
                "count" => role.count().await,
                "win" => role.win().await,
                "open" => role.open_each().await,
                "write" => role.write().await,
                "churn" => {
                    let store = role.store();
                    say("ready");
                    journals::churn(&*store, role.start).await
                }
                "sections" => sections::sections(role.kind, &role.dir).await,
                "crowd" => sections::crowd(role.kind, &role.dir).await,
                "hold" => locks::hold(&*role.store(), role.start).await,
                "wander" => locks::wander(role.kind, &role.dir).await,
                "queue" => locks::queue(&*role.store()).await,
                "contend" => {
                    let witness = locks::witness_of(&role.dir);
                    locks::contend(&*role.store(), &witness).await
                }
                other => panic!("no such role: {other}"),
            }
        })
        .unwrap();
}

pub(crate) fn say(word: impl std::fmt::Display) {
    println!("{MARK}{word}");
}

pub(crate) fn told() -> Option<String> {
    std::io::stdin().lock().lines().next().map(Result::unwrap)
}

impl Role {
    fn store(&self) -> Arc<dyn Store> {
        self.kind.open(&self.dir)
    }

    /// Opens the store, and waits until all others have.
    fn ready(&self) -> Arc<dyn Store> {
        let store = self.store();
        say("ready");
        told();
        store
    }

    async fn count(&self) -> Result<()> {
        let store = self.ready();
        for _ in 0..INCREMENTS {
            store
                .increment(&namespace(), b"counter", 1, Expiry::Never)
                .await?;
        }
        Ok(())
    }

    /// Tries to be the first with each key; says which ones it won.
    async fn win(&self) -> Result<()> {
        let store = self.ready();
        let mut keys: Vec<u64> = (0..CONTESTED_KEYS).collect();
        fastrand::shuffle(&mut keys);
        for key in keys {
            let name = format!("contested-{key}");
            let entry = sealed(self.number.to_string().as_bytes());
            let put = Write::put(name.as_bytes(), entry, Expiry::Never).when(Condition::IfAbsent);
            if store.write_many(&namespace(), &[put]).await? == [true] {
                say(key);
            }
        }
        Ok(())
    }

    /// Opens each directory it is told, writes its name there and reads it back.
    async fn open_each(&self) -> Result<()> {
        while let Some(dir) = told() {
            let store = self.kind.open(Path::new(&dir));
            let key = [self.number as u8];
            let put = Write::put(&key, sealed(&key), Expiry::Never);
            store.write_many(&namespace(), &[put]).await?;
            let read = store.get_many(&namespace(), &[&key]).await?;
            assert!(read[0].is_some(), "its own write");
            say("done");
        }
        Ok(())
    }

    /// Takes step after step; says the number of each before it takes the next.
    async fn write(&self) -> Result<()> {
        let store = self.store();
        for number in self.start..self.start + MAX_STEPS {
            Step {
                writer: self.number,
                number,
            }
            .take(&*store)
            .await?;
            say(number);
        }
        Ok(())
    }
}
