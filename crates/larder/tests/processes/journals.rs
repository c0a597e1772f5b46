//! Copies that follow the journal are never older than what was stored when it was read, whoever is killed.

use std::collections::HashMap;
use std::time::Duration;

use larder::Result;
use larder::store::{Expiry, Invalidation, Journal, Note, Register, StampedPut, Store, Write};
use larder::testing::{sealed, stamped, write_id};

use crate::Kind;
use crate::child::Child;
use crate::roles::namespace;

const KILLS: usize = 40;
const KEYS: u64 = 8;
/// A writer is killed this long after it began, in milliseconds, at least.
const KILL_AFTER_MS: u64 = 20;

/// What a local tier would hold: the write ids of entries, by key.
#[derive(Default)]
struct Copies(HashMap<Vec<u8>, u64>);

fn key(number: u64) -> Vec<u8> {
    format!("key-{}", number % KEYS).into()
}

fn tag() -> Register {
    Register::exact("tag").unwrap()
}

/// Only even keys have the tag.
fn has_tag(key: &[u8]) -> bool {
    key.last().unwrap().is_multiple_of(2)
}

/// Changes entries until it is killed.
pub(crate) async fn churn(store: &dyn Store, from: u64) -> Result<()> {
    let space = namespace();
    for step in from.. {
        let key = key(fastrand::u64(..));
        match step % 16 {
            3 => {
                store.write_many(&space, &[Write::delete(&key)]).await?;
            }
            5 | 12 => {
                let how = [Invalidation::Hard, Invalidation::Soft][fastrand::usize(..2)];
                store.invalidate(&space, &[tag()], how).await?;
            }
            7 if step % 7 == 0 => store.clear(&space).await?,
            _ if has_tag(&key) => {
                let seal = |stamps| Ok(stamped(&sealed(b"value"), stamps));
                let put = StampedPut {
                    registers: &[tag()],
                    expiry: Expiry::Never,
                    seal: &seal,
                };
                store.put_stamped(&space, &key, &put).await?;
            }
            _ => {
                let put = Write::put(&key, sealed(b"value"), Expiry::Never);
                store.write_many(&space, &[put]).await?;
            }
        }
    }
    Ok(())
}

impl Copies {
    async fn fill(&mut self, store: &dyn Store) {
        for number in 0..KEYS {
            let key = key(number);
            let read = store.get_many(&namespace(), &[&key]).await.unwrap();
            if let [Some(entry)] = &read[..]
                && !entry.is_stale
            {
                self.0.insert(key, write_id(&entry.value));
            }
        }
    }

    /// Applies what the journal says; returns how many copies went.
    async fn follow(&mut self, journal: &mut dyn Journal) -> usize {
        let before = self.0.len();
        for note in journal.poll().await.remove(0).unwrap() {
            match note {
                Note::All => self.0.clear(),
                Note::Register(_) => self.0.retain(|key, _| !has_tag(key)),
                Note::Key { key, write_id } => {
                    let key = key.as_bytes();
                    if write_id == 0 || self.0.get(key) != Some(&write_id) {
                        self.0.remove(key);
                    }
                }
            }
        }
        before - self.0.len()
    }

    async fn check(&self, store: &dyn Store) {
        for (key, copied) in &self.0 {
            let read = store.get_many(&namespace(), &[key]).await.unwrap();
            let stored = read[0].as_ref().filter(|entry| !entry.is_stale);
            let stored = stored.map(|entry| write_id(&entry.value));
            assert_eq!(stored, Some(*copied), "{}", String::from_utf8_lossy(key));
        }
    }
}

pub(crate) fn copies_follow_killed_writers(kind: Kind) {
    let (_kept, dir) = crate::store_dir();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = kind.open(&dir);
        let mut journal = store.journal(&namespace()).unwrap();
        let (mut copies, mut removed, mut kept) = (Copies::default(), 0, 0);
        for round in 0..KILLS {
            let child = Child::start("churn", kind, &dir, (0, round as u64));
            assert_eq!(child.hear(), "ready");
            let until = std::time::Instant::now() + Duration::from_millis(KILL_AFTER_MS);
            while std::time::Instant::now() < until {
                copies.fill(&*store).await;
                removed += copies.follow(&mut *journal).await;
            }
            copies.fill(&*store).await;
            child.kill_running();
            // What the dead one had begun is told now, and once more after a look.
            for _ in 0..2 {
                copies.follow(&mut *journal).await;
                copies.check(&*store).await;
                copies.fill(&*store).await;
            }
            kept += copies.0.len();
            copies.check(&*store).await;
        }
        assert!(removed > 0 && kept > 0, "{removed} removed, {kept} kept");
    });
    kind.check_files(&dir);
}
