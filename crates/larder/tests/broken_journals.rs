//! The laws of journals catch what they are for: each of these stores tells wrongly what has changed, and a law must say so.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::panic;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use larder::lock::LockStore;
use larder::store::{
    Capabilities, Change, Condition, Entry, Journal, Memory, Note, Store, StoreStats, Write,
};
use larder::testing::store::{StoreUnderTest, check, health, journal};
use larder::testing::write_id;
use larder::{Clock, KeyRef, ManualClock, Namespace, Result};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Nothing: the store is sound.
    None,
    /// Deletes are not told.
    LosesDeletes,
    /// A touch is told as if nothing but the write id counted.
    LosesTouches,
    /// Of a bulk write only the first is told.
    LosesBulks,
    /// Clearing is not told.
    LosesClears,
    /// The first poll says that nothing has changed.
    BeginsSilently,
    /// What has changed is told one poll later.
    IsLate,
    /// What one reader was told no other one is.
    SharesNews,
    /// Marks of loads are told.
    NotesMarks,
    /// Other namespaces are told as well.
    MixesNamespaces,
    /// The latest is told first.
    Reverses,
    /// Anything may always have changed.
    SaysEverything,
    /// There is no journal.
    Promises,
}

/// What has changed, in order.
type Log = Arc<Mutex<Vec<(Namespace, Note)>>>;

/// A store without tags that tells what has changed.
#[derive(Debug)]
struct Broken {
    inner: Memory,
    flaw: Flaw,
    log: Log,
    /// How far all readers have read together.
    shared: Arc<Mutex<usize>>,
}

#[derive(Debug)]
struct Reader {
    log: Log,
    namespace: Namespace,
    flaw: Flaw,
    seen: Option<usize>,
    shared: Arc<Mutex<usize>>,
}

#[async_trait]
impl Journal for Reader {
    fn parts(&self) -> usize {
        1
    }

    fn part_of(&self, _key: &[u8]) -> usize {
        0
    }

    async fn poll(&mut self) -> Vec<Result<Vec<Note>>> {
        let log = self.log.lock().unwrap();
        let begins = self.seen.is_none();
        let mut from = self.seen.unwrap_or(log.len());
        if self.flaw == Flaw::SharesNews {
            from = std::mem::replace(&mut *self.shared.lock().unwrap(), log.len());
        }
        let until = match self.flaw {
            Flaw::IsLate => log.len().saturating_sub(1).max(from),
            _ => log.len(),
        };
        self.seen = Some(until);
        let is_ours = |namespace: &Namespace| {
            *namespace == self.namespace || self.flaw == Flaw::MixesNamespaces
        };
        let news = log[from..until].iter();
        let news = news.filter(|(namespace, _)| is_ours(namespace));
        let mut notes: Vec<_> = news.map(|(_, note)| note.clone()).collect();
        if self.flaw == Flaw::Reverses {
            notes.reverse();
        }
        if self.flaw == Flaw::SaysEverything || (begins && self.flaw != Flaw::BeginsSilently) {
            notes.insert(0, Note::All);
        }
        vec![Ok(notes)]
    }
}

impl Broken {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn note(&self, namespace: &Namespace, note: Note) {
        self.log.lock().unwrap().push((namespace.clone(), note));
    }

    async fn write(&self, namespace: &Namespace, write: &Write<'_>) -> Result<bool> {
        let before = self.inner.get_many(namespace, &[write.key]).await?;
        let write_alone = std::slice::from_ref(write);
        let applied = self.inner.write_many(namespace, write_alone).await?[0];
        // Who loads puts his mark where nothing is, and nobody reads it.
        let (is_mark, id) = match &write.change {
            Change::Put(entry) => (write.condition == Condition::IfVacant, write_id(entry)),
            Change::Delete | Change::Touch => (before[0].is_none(), 0),
        };
        let is_lost = match write.change {
            Change::Put(_) => false,
            Change::Delete => self.is(Flaw::LosesDeletes),
            Change::Touch => self.is(Flaw::LosesTouches),
        };
        if applied && !is_lost && (!is_mark || self.is(Flaw::NotesMarks)) {
            let key = KeyRef::from(write.key).to_key()?;
            self.note(namespace, Note::Key { key, write_id: id });
        }
        Ok(applied)
    }
}

#[async_trait]
impl Store for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        can.coherent_local = true;
        (can.tags, can.tag_listing, can.enumeration) = (false, false, false);
        can
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn Journal>> {
        let reader = Reader {
            log: Arc::clone(&self.log),
            namespace: namespace.clone(),
            flaw: self.flaw,
            seen: None,
            shared: Arc::clone(&self.shared),
        };
        (!self.is(Flaw::Promises)).then(|| Box::new(reader) as Box<dyn Journal>)
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        self.inner.lock_store()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.inner.get_many(namespace, keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let mut applied = Vec::with_capacity(writes.len());
        for write in writes {
            if self.is(Flaw::LosesBulks) && !applied.is_empty() {
                let rest = self.inner.write_many(namespace, &writes[1..]).await?;
                applied.extend(rest);
                break;
            }
            applied.push(self.write(namespace, write).await?);
        }
        Ok(applied)
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.inner.clear(namespace).await?;
        if !self.is(Flaw::LosesClears) {
            self.note(namespace, Note::All);
        }
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await
    }
}

fn broken(flaw: Flaw) -> StoreUnderTest {
    let time = ManualClock::new();
    let inner = Memory::builder().clock(time.clock()).build().unwrap();
    let (log, shared) = Default::default();
    StoreUnderTest::new(Broken {
        inner,
        flaw,
        log,
        shared,
    })
    .time(time)
}

/// Makes a test that the law fails on the store with the flaw, and holds without it.
macro_rules! caught {
    ($($name:ident: $flaw:ident by $theme:ident::$law:ident,)*) => {
        $(
            #[test]
            fn $name() {
                check(|| async { $theme::$law(&broken(Flaw::None)).await });
                let law = || check(|| async { $theme::$law(&broken(Flaw::$flaw)).await });
                assert!(panic::catch_unwind(law).is_err(), "the law holds for a broken store");
            }
        )*
    };
}

caught! {
    lost_deletes: LosesDeletes by journal::changes_are_noted_before_they_are_acknowledged,
    lost_touches: LosesTouches by journal::changes_are_noted_before_they_are_acknowledged,
    lost_bulks: LosesBulks by journal::changes_are_noted_before_they_are_acknowledged,
    lost_clears: LosesClears by journal::changes_are_noted_before_they_are_acknowledged,
    late_notes: IsLate by journal::changes_are_noted_before_they_are_acknowledged,
    no_news_ever: SaysEverything by journal::changes_are_noted_before_they_are_acknowledged,
    silent_beginnings: BeginsSilently by journal::first_poll_says_everything,
    news_for_one: SharesNews by journal::own_changes_come_back,
    noted_marks: NotesMarks by journal::marks_are_not_noted,
    mixed_namespaces: MixesNamespaces by journal::notes_of_other_namespaces_stay_there,
    reversed_order: Reverses by journal::order_is_kept,
    broken_promises: Promises by health::capabilities_are_honest,
}
