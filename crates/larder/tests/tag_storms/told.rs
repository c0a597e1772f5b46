//! A store in memory that tells local copies what has changed, and two that tell it wrongly, which must be noticed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use larder::store::{
    Capabilities, Entry, Expiry, Invalidated, Invalidation, Journal, LoadBegun, LoadRequest,
    Memory, Note, Read, Register, RegisterPage, ScanPage, Stamp, StampedPut, Store, StoreStats,
    Write,
};
use larder::{Glob, Key, Namespace, Result};

/// How a store tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Each change is noted before it is acknowledged.
    Rightly,
    /// One change of four is not noted.
    Forgetting,
    /// Changes are noted before they are made.
    Early,
}

/// One change of so many is told of much too early.
const EARLY_EVERY: u8 = 3;
/// The longest time between such a note and its change: a reading of the journal falls into it.
const EARLY_MS: u64 = 40;

/// A store whose copies are handles of one.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    inner: Memory,
    telling: Telling,
    notes: Arc<Mutex<Vec<Note>>>,
}

#[derive(Debug)]
struct Reader {
    notes: Arc<Mutex<Vec<Note>>>,
    /// How many notes were read; `None` before the first reading.
    read: Option<usize>,
}

impl Told {
    pub(crate) fn new(telling: Telling) -> Self {
        Self {
            inner: Memory::new(),
            telling,
            notes: Arc::default(),
        }
    }

    /// Makes a change and notes it.
    async fn telling<T>(&self, notes: Vec<Note>, change: impl Future<Output = T>) -> T {
        if self.telling == Telling::Early {
            self.note(notes);
            if fastrand::u8(..EARLY_EVERY) == 0 {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..EARLY_MS))).await;
            }
            return change.await;
        }
        let made = change.await;
        if self.telling == Telling::Rightly || fastrand::u8(..4) > 0 {
            self.note(notes);
        }
        made
    }

    fn note(&self, notes: Vec<Note>) {
        let mut all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(notes);
    }
}

fn of_key(key: &[u8]) -> Note {
    let key = Key::from(key);
    Note::Key { key, write_id: 0 }
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
        let all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match self.read {
            None => vec![Note::All],
            Some(read) => all[read..].to_vec(),
        };
        self.read = Some(all.len());
        vec![Ok(news)]
    }
}

#[async_trait]
impl Store for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        (can.shared, can.coherent_local) = (true, true);
        can
    }

    fn journal(&self, _namespace: &Namespace) -> Option<Box<dyn Journal>> {
        Some(Box::new(Reader {
            notes: Arc::clone(&self.notes),
            read: None,
        }))
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.inner.get_many(namespace, keys).await
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        self.inner.read_many(namespace, keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let notes = writes.iter().map(|write| of_key(write.key)).collect();
        let write = self.inner.write_many(namespace, writes);
        self.telling(notes, write).await
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        let clear = self.inner.clear(namespace);
        self.telling(vec![Note::All], clear).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.inner.stats().await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        let increment = self.inner.increment(namespace, key, by, expiry);
        self.telling(vec![of_key(key)], increment).await
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        self.inner.capture(namespace, key, registers).await
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &StampedPut<'_>,
    ) -> Result<()> {
        let put = self.inner.put_stamped(namespace, key, put);
        self.telling(vec![of_key(key)], put).await
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        self.inner.begin_load(namespace, key, load).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let notes = registers.iter().cloned().map(Note::Register).collect();
        let invalidate = self.inner.invalidate(namespace, registers, how);
        self.telling(notes, invalidate).await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.inner.scan(namespace, pattern, cursor, limit).await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        let scan = self.inner.scan_registers(namespace, pattern, cursor, limit);
        scan.await
    }
}
