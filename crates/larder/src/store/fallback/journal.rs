//! The journal of an outage: which keys changed, on record before the change is acknowledged, for all processes of a host.
//!
//! ```text
//! ..:generation     one record: the present generation
//! ..:index          a record per (generation, keys | everything, namespace)
//! ..:keys:g:ns      a record per key of the namespace that changed in generation g
//! ..:entries:g:ns   in the standby: what was written in generation g
//! ```
//! A *generation* is a number that grows. Whoever begins to trust the primary makes a new one first and then
//! reads what older ones left; whoever works on the standby looks, after each operation and before it is
//! acknowledged, whether its generation is still the present one. So either the record is found by the one who returns,
//! or the writer learns that somebody returned. As records and entries are kept by generation, nobody removes what
//! another one adds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::changes::{Changed, Changes, Missing};
use crate::codec::Encoding;
use crate::envelope::{self, Envelope, Header};
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::store::{Expiry, MAX_CAS_ATTEMPTS, Store, Write, conflict, swap};

const GENERATION: &[u8] = b"generation";
/// Records read or removed in one call.
const PAGE: usize = 256;

/// Why a generation was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A process began to use the standby and must not find what others left there.
    Away,
    /// A process is about to trust the primary.
    Back,
}

/// A generation as it is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) turn: Turn,
    /// The latest generation whose maker changed the primary after an outage.
    pub(super) replayed: u64,
}

/// What older generations left of a namespace.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) generations: BTreeSet<u64>,
    pub(super) is_everything: bool,
    /// What this process itself remembers; the journal may hold more.
    pub(super) keys: Vec<Bytes>,
}

/// The journal of one primary.
#[derive(Debug)]
pub(super) struct Journal {
    store: Arc<dyn Store>,
    scope: String,
    changes: Mutex<Changes>,
    /// The latest generation in which this process replayed.
    own_replay: AtomicU64,
    empty: Bytes,
}

impl Journal {
    pub(super) fn new(store: Arc<dyn Store>, scope: String) -> Result<Self> {
        Ok(Self {
            empty: seal(b"")?,
            store,
            scope,
            changes: Mutex::default(),
            own_replay: AtomicU64::new(0),
        })
    }

    fn space(&self, parts: &[&[u8]]) -> Namespace {
        let own: [&[u8]; 2] = [b"fallback", self.scope.as_bytes()];
        Namespace::reserved(&[&own, parts].concat())
    }

    fn keys_space(&self, generation: u64, namespace: &Namespace) -> Namespace {
        let number = generation.to_string();
        self.space(&[b"keys", number.as_bytes(), namespace.as_bytes()])
    }

    /// Returns the namespace in the standby that holds a namespace's entries of one generation.
    pub(super) fn entries_space(&self, generation: u64, namespace: &Namespace) -> Namespace {
        let number = generation.to_string();
        self.space(&[b"entries", number.as_bytes(), namespace.as_bytes()])
    }

    /// Returns the present generation; makes one where there is none.
    pub(super) async fn generation(&self) -> Result<Generation> {
        match self.read().await? {
            (Some(present), _) => Ok(present),
            (None, _) => self.advance().await,
        }
    }

    async fn read(&self) -> Result<(Option<Generation>, Option<Bytes>)> {
        let space = self.space(&[GENERATION]);
        let entry = self.store.get_many(&space, &[GENERATION]).await?.pop();
        let entry = entry.flatten().map(|entry| entry.value);
        Ok((entry.as_ref().and_then(decode), entry))
    }

    /// Makes a generation in which the primary will be trusted, later than all before.
    pub(super) async fn advance(&self) -> Result<Generation> {
        self.advance_to(false).await
    }

    /// Makes a generation in which this process changes the primary; on record before it does.
    pub(super) async fn advance_to_replay(&self) -> Result<Generation> {
        let made = self.advance_to(true).await?;
        self.own_replay.store(made.number, Ordering::Relaxed);
        Ok(made)
    }

    async fn advance_to(&self, replays: bool) -> Result<Generation> {
        for _ in 0..MAX_CAS_ATTEMPTS {
            let (present, entry) = self.read().await?;
            let made = self.swap(present, entry.as_ref(), Turn::Back, replays);
            if let Some(made) = made.await? {
                return Ok(made);
            }
        }
        Err(conflict(self.store.name(), GENERATION))
    }

    /// Makes a generation on the standby after `present`, unless another one was made.
    pub(super) async fn leave_from(&self, present: Generation) -> Result<Option<Generation>> {
        let (found, entry) = self.read().await?;
        if found != Some(present) {
            return Ok(None);
        }
        self.swap(found, entry.as_ref(), Turn::Away, false).await
    }

    async fn swap(
        &self,
        present: Option<Generation>,
        entry: Option<&Bytes>,
        turn: Turn,
        replays: bool,
    ) -> Result<Option<Generation>> {
        // The time, so that numbers grow even where the record was lost.
        let next = present.map_or(0, |present| present.number + 1);
        let number = next.max(self.store.clock().now_ms());
        let before = present.map_or(0, |present| present.replayed);
        let made = Generation {
            number,
            turn,
            replayed: if replays { number } else { before },
        };
        let write = swap(GENERATION, encode(made)?, entry, Expiry::Never);
        let space = self.space(&[GENERATION]);
        let applied = self.store.write_many(&space, &[write]).await? == [true];
        Ok(applied.then_some(made))
    }

    /// Puts keys on record as changed.
    pub(super) async fn record(
        &self,
        generation: u64,
        namespace: &Namespace,
        keys: impl Iterator<Item = &[u8]> + Send,
    ) -> Result<()> {
        let missing = self.changes().missing(generation, namespace, keys);
        match &missing {
            Missing::Nothing => return Ok(()),
            Missing::Everything => self.index(generation, true, namespace).await?,
            Missing::Keys { keys, is_first } => {
                if *is_first {
                    self.index(generation, false, namespace).await?;
                }
                let put = |key: &'_ Bytes| self.put(key.clone());
                let records: Vec<_> = keys.iter().map(put).collect();
                let writes: Vec<_> = records.iter().map(Record::write).collect();
                let space = self.keys_space(generation, namespace);
                self.store.write_many(&space, &writes).await?;
            }
        }
        self.changes().note(generation, namespace, missing);
        Ok(())
    }

    /// Puts on record that everything in the namespace may have changed.
    pub(super) async fn record_everything(
        &self,
        generation: u64,
        namespace: &Namespace,
    ) -> Result<()> {
        self.index(generation, true, namespace).await?;
        let mut changes = self.changes();
        changes.note(generation, namespace, Missing::Everything);
        Ok(())
    }

    async fn index(
        &self,
        generation: u64,
        is_everything: bool,
        namespace: &Namespace,
    ) -> Result<()> {
        let record = self.put(index_key(generation, is_everything, namespace).into());
        let space = self.space(&[b"index"]);
        let applied = self.store.write_many(&space, &[record.write()]).await;
        applied.map(drop)
    }

    fn put(&self, key: Bytes) -> Record {
        Record {
            key,
            value: self.empty.clone(),
        }
    }

    /// Returns what is on record from before a generation, by this process and by others.
    ///
    /// This process also remembers what it put on record, for a store may drop records to keep its bound. What others may
    /// have replayed and removed since is not remembered: replayed twice, it would delete what came after.
    pub(super) async fn before(
        &self,
        generation: Generation,
    ) -> Result<BTreeMap<Namespace, Trace>> {
        let mut traces: BTreeMap<Namespace, Trace> = BTreeMap::new();
        let (space, mut cursor) = (self.space(&[b"index"]), None);
        loop {
            let page = self.scan(&space, cursor.as_ref()).await?;
            for scanned in &page.keys {
                let Some((number, is_everything, namespace)) = parse_index(&scanned.key) else {
                    continue;
                };
                if number < generation.number {
                    let trace = traces.entry(namespace).or_default();
                    trace.generations.insert(number);
                    trace.is_everything |= is_everything;
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut changes = self.changes();
        if generation.replayed != self.own_replay.load(Ordering::Relaxed) {
            changes.forget_before(generation.replayed);
        }
        for (number, namespace, changed) in changes.before(generation.number) {
            let trace = traces.entry(namespace.clone()).or_default();
            trace.generations.insert(number);
            match changed {
                Changed::Keys(keys) => trace.keys.extend(keys.iter().cloned()),
                Changed::Everything => trace.is_everything = true,
            }
        }
        drop(changes);
        Ok(traces)
    }

    /// Lists a page of the keys that changed in a generation, and where the next one starts.
    pub(super) async fn keys(
        &self,
        generation: u64,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
    ) -> Result<(Vec<Key>, Option<Bytes>)> {
        let space = self.keys_space(generation, namespace);
        let page = self.scan(&space, cursor).await?;
        let keys = page.keys.into_iter().map(|scanned| scanned.key);
        Ok((keys.collect(), page.next))
    }

    async fn scan(
        &self,
        space: &Namespace,
        cursor: Option<&Bytes>,
    ) -> Result<crate::store::ScanPage> {
        self.store.scan(space, &Glob::all(), cursor, PAGE).await
    }

    /// Removes the records of a namespace that were replayed; the index last, so that what is left is found again.
    pub(super) async fn forget(&self, namespace: &Namespace, trace: &Trace) -> Result<()> {
        let mut records = Vec::new();
        for &number in &trace.generations {
            self.store
                .clear(&self.keys_space(number, namespace))
                .await?;
            for is_everything in [false, true] {
                records.push(index_key(number, is_everything, namespace));
            }
        }
        let deletes: Vec<_> = records.iter().map(|key| Write::delete(key)).collect();
        let space = self.space(&[b"index"]);
        self.store.write_many(&space, &deletes).await.map(drop)
    }

    /// Forgets what this process remembers from before a generation, which was replayed.
    pub(super) fn forget_before(&self, generation: u64) {
        self.changes().forget_before(generation);
    }

    /// Returns how many changes of this process wait for their replay.
    pub(super) fn len(&self) -> usize {
        self.changes().len()
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record about to be written.
struct Record {
    key: Bytes,
    value: Bytes,
}

impl Record {
    fn write(&self) -> Write<'_> {
        Write::put(&self.key, self.value.clone(), Expiry::Never)
    }
}

fn index_key(generation: u64, is_everything: bool, namespace: &Namespace) -> Vec<u8> {
    let mut key = generation.to_be_bytes().to_vec();
    key.push(u8::from(is_everything));
    key.extend_from_slice(namespace.as_bytes());
    key
}

fn parse_index(key: &Key) -> Option<(u64, bool, Namespace)> {
    let (number, rest) = key.as_bytes().split_first_chunk::<8>()?;
    let (is_everything, name) = rest.split_first()?;
    let namespace = Namespace::from_name(name);
    Some((u64::from_be_bytes(*number), *is_everything != 0, namespace))
}

fn encode(generation: Generation) -> Result<Bytes> {
    let mut body = [0; 17];
    body[..8].copy_from_slice(&generation.number.to_le_bytes());
    body[8..16].copy_from_slice(&generation.replayed.to_le_bytes());
    body[16] = u8::from(generation.turn == Turn::Back);
    seal(&body)
}

fn decode(entry: &Bytes) -> Option<Generation> {
    let body = Envelope::open(entry).ok()?.plain_body().ok()?;
    let body: [u8; 17] = body[..].try_into().ok()?;
    let number = |at: usize| {
        let bytes = body[at..].first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let turn = if body[16] == 0 {
        Turn::Away
    } else {
        Turn::Back
    };
    Some(Generation {
        number: number(0)?,
        replayed: number(8)?,
        turn,
    })
}

fn seal(body: &[u8]) -> Result<Bytes, Error> {
    let now_ms = crate::clock::Clock::system().now_ms();
    let header = Header::new(Encoding::Raw, now_ms, None);
    envelope::seal(&header, body, body.len())
}
