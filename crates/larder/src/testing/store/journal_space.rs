//! What laws of journals are written in: changes of each kind, and readers.

use std::time::Duration;

use bytes::Bytes;

use super::StoreUnderTest;
use super::space::Space;
use super::tag_space::{entry_of, tag, token};
use crate::envelope;
use crate::error::Result;
use crate::key::KeyRef;
use crate::store::{Capabilities, Condition, Expiry, Journal, Note, SortedSetOp, Stamp, Write};
use crate::testing::sealed;

/// A store may say that everything has changed at any time, but not always: so often laws begin anew.
const MAX_ROUNDS: u32 = 50;
/// What a store may need until it tells again what has changed.
const PAUSE: Duration = Duration::from_millis(20);

/// Each kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Add,
    Swap,
    Bulk,
    Delete,
    Touch,
    FirstIncrement,
    Increment,
    SortedSet,
    SortedSetEnd,
    PutStamped,
    Commit,
    CommitUntagged,
    Invalidate,
    Soften,
}

/// A change that is about to be made.
pub(super) struct Change<'a> {
    space: &'a Space,
    kind: Kind,
    key: &'a [u8],
    token: u64,
    /// What the change depends on.
    stamps: Vec<Stamp>,
    /// What there is before.
    before: Bytes,
}

impl Kind {
    pub(super) const ALL: [Self; 15] = [
        Self::Put,
        Self::Add,
        Self::Swap,
        Self::Bulk,
        Self::Delete,
        Self::Touch,
        Self::FirstIncrement,
        Self::Increment,
        Self::SortedSet,
        Self::SortedSetEnd,
        Self::PutStamped,
        Self::Commit,
        Self::CommitUntagged,
        Self::Invalidate,
        Self::Soften,
    ];

    /// Returns whether a store can do it.
    pub(super) fn is_in(self, can: Capabilities) -> bool {
        match self {
            Self::FirstIncrement | Self::Increment => can.counters,
            Self::SortedSet | Self::SortedSetEnd => can.sorted_sets,
            Self::PutStamped | Self::Commit | Self::Invalidate | Self::Soften => can.tags,
            _ => true,
        }
    }
}

impl<'a> Change<'a> {
    /// Makes everything ready.
    pub(super) async fn prepare(space: &'a Space, kind: Kind, key: &'a [u8]) -> Result<Self> {
        let mut change = Self {
            space,
            kind,
            key,
            token: token(),
            stamps: Vec::new(),
            before: sealed(b"before"),
        };
        match kind {
            Kind::Swap | Kind::Delete | Kind::Touch => {
                space.put(key, &change.before, Expiry::Never).await?;
            }
            Kind::Increment => {
                space.increment(key, 1, Expiry::Never).await?;
            }
            Kind::SortedSetEnd => {
                space.sorted_set(key, adding(b"m")).await?;
            }
            Kind::Commit => change.stamps = space.begun(key, &[tag("a")], change.token).await?,
            Kind::CommitUntagged => change.stamps = space.begun(key, &[], change.token).await?,
            Kind::Invalidate | Kind::Soften => {
                space.put_tagged(key, b"v", &[tag("a"), tag("b")]).await?;
            }
            _ => {}
        }
        Ok(change)
    }

    /// Makes the change; returns what is to be told of it.
    pub(super) async fn make(&self) -> Result<Vec<Note>> {
        let (space, key, value) = (self.space, self.key, sealed(b"after"));
        let put = Write::put(key, value.clone(), Expiry::Never);
        match self.kind {
            Kind::Put => space.put(key, &value, Expiry::Never).await?,
            Kind::Add => assert!(space.write(put.when(Condition::IfAbsent)).await?),
            Kind::Swap => {
                let same = Condition::IfUnchanged(envelope::write_id(&self.before));
                assert!(space.write(put.when(same)).await?);
            }
            Kind::Bulk => return self.bulk().await,
            Kind::Delete => assert!(space.delete(key).await?),
            Kind::Touch => {
                let touch = Write::touch(key, Expiry::After(3_600_000));
                assert!(space.write(touch).await?);
                // It has its write id as before.
                return Ok(vec![note(key, 0)]);
            }
            Kind::FirstIncrement | Kind::Increment => {
                space.increment(key, 1, Expiry::Never).await?;
            }
            Kind::SortedSet => {
                space.sorted_set(key, adding(b"m")).await?;
            }
            Kind::SortedSetEnd => {
                let member = Bytes::from_static(b"m");
                space
                    .sorted_set(key, SortedSetOp::Remove(vec![member]))
                    .await?;
            }
            Kind::PutStamped => space.put_tagged(key, b"v", &[tag("a")]).await?,
            Kind::Commit | Kind::CommitUntagged => {
                let entry = entry_of(b"v", &self.stamps);
                let commit = Write::put(key, entry, Expiry::Never);
                let own = Condition::IfUnchanged(self.token);
                assert!(space.write(commit.when(own)).await?);
            }
            Kind::Invalidate | Kind::Soften => return self.invalidation().await,
        }
        // Whatever it is now.
        let now = space.get(key).await?;
        let write_id = now.map_or(0, |entry| envelope::write_id(&entry));
        Ok(vec![note(key, write_id)])
    }

    /// Writes many keys, some of them under a condition.
    async fn bulk(&self) -> Result<Vec<Note>> {
        let keys: Vec<_> = (0..40_u8).map(|n| [self.key, &[n]].concat()).collect();
        let values: Vec<_> = keys.iter().map(|key| sealed(key)).collect();
        let writes = keys.iter().zip(&values).enumerate();
        let writes: Vec<_> = writes
            .map(|(at, (key, value))| {
                let put = Write::put(key, value.clone(), Expiry::Never);
                match at % 4 {
                    3 => put.when(Condition::IfAbsent),
                    _ => put,
                }
            })
            .collect();
        assert!(self.space.write_many(&writes).await?.iter().all(|it| *it));
        let notes = keys.iter().zip(&values);
        Ok(notes
            .map(|(key, value)| note(key, envelope::write_id(value)))
            .collect())
    }

    async fn invalidation(&self) -> Result<Vec<Note>> {
        let registers = [tag("a"), tag("b")];
        match self.kind {
            Kind::Soften => self.space.soften(&registers).await?,
            _ => self.space.invalidate(&registers).await?,
        };
        Ok(registers.map(Note::Register).into())
    }
}

fn adding(member: &'static [u8]) -> SortedSetOp {
    SortedSetOp::Add {
        members: vec![(1.0, Bytes::from_static(member))],
        expiry: Expiry::Never,
    }
}

/// Goes on to the next round, of which there are only so many.
pub(super) async fn next_round(round: &mut u32) {
    *round += 1;
    assert!(*round < MAX_ROUNDS, "a journal that always says everything");
    tokio::time::sleep(PAUSE).await;
}

pub(super) fn note(key: &[u8], write_id: u64) -> Note {
    let key = KeyRef::from(key).to_key().expect("laws use sound keys");
    Note::Key { key, write_id }
}

pub(super) fn is_about(wanted: &[u8]) -> impl Fn(&Note) -> bool {
    move |note| matches!(note, Note::Key { key, .. } if key.as_bytes() == wanted)
}

/// Returns whether whoever goes by a note knows of a change: without a write id, it takes every copy.
pub(super) fn covers(note: &Note, change: &Note) -> bool {
    match (note, change) {
        (Note::Key { key, write_id: 0 }, Note::Key { key: other, .. }) => key == other,
        _ => note == change,
    }
}

/// The reader of a journal.
pub(super) struct Reader(Box<dyn Journal>);

/// What a poll told, by part.
#[derive(Debug)]
pub(super) struct Told(pub(super) Vec<Vec<Note>>);

impl Reader {
    pub(super) fn of(space: &Space) -> Self {
        let journal = space.store.journal(&space.namespace);
        Self(journal.expect("the capability promises a journal"))
    }

    /// Returns the part of a key.
    pub(super) fn part_of(&self, key: &[u8]) -> usize {
        self.0.part_of(key)
    }

    /// Returns what has changed since the last time, in all parts.
    pub(super) async fn poll(&mut self) -> Result<Told> {
        let notes: Vec<Vec<Note>> = self.0.poll().await.into_iter().collect::<Result<_>>()?;
        assert_eq!(notes.len(), self.0.parts(), "one result per part");
        for (at, notes) in notes.iter().enumerate() {
            for note in notes {
                if let Note::Key { key, .. } = note {
                    assert_eq!(self.part_of(key.as_bytes()), at, "{key:?}");
                }
            }
        }
        Ok(Told(notes))
    }
}

impl Told {
    /// Returns whether anything may have changed in some part.
    pub(super) fn says_everything(&self) -> bool {
        self.0.iter().flatten().any(|note| *note == Note::All)
    }

    /// Returns whether whoever goes by this knows of the change.
    pub(super) fn tells(&self, change: &Note) -> bool {
        let of_part = |notes: &Vec<Note>| {
            let mut notes = notes.iter();
            notes.any(|note| *note == Note::All || covers(note, change))
        };
        match change {
            Note::Key { .. } => self.0.iter().any(of_part),
            // Entries of any part may depend on it.
            Note::Register(_) | Note::All => self.0.iter().all(of_part),
        }
    }
}

impl StoreUnderTest {
    /// Returns the store in a namespace that nothing else uses, and its reader, who has read everything, where there are
    /// journals.
    pub(super) async fn read_space(&self) -> Result<Option<(Space, Reader)>> {
        if !self.capabilities().coherent_local {
            return Ok(None);
        }
        let space = self.space();
        let mut reader = Reader::of(&space);
        assert!(reader.0.parts() > 0, "a store has a part");
        assert!(reader.poll().await?.says_everything());
        Ok(Some((space, reader)))
    }
}
