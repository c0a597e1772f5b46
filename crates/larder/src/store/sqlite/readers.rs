//! Read connections, and the statements that only read.
//!
//! A read takes a connection from the pool, or opens one, and puts it back. Reads of a few keys run on the
//! caller's thread: they take about 10 us, less than the hop to another one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::database::{self, Database};
use super::store_error;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::store::{Entry, ScanPage, ScannedKey};

/// Idle connections kept; more are opened under load and closed after it.
const MAX_IDLE: usize = 16;
/// Rows one page of a listing may look at for each key it may return.
const ROWS_PER_KEY: usize = 16;
/// How long a read waits for a lock, which in WAL mode happens only around recovery.
const READ_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// The index finds the row, and the row itself must carry the key: when another file takes the place of ours
/// beneath its log, index and table need not belong together. The index alone answers the first join, so that this
/// costs no further page.
const GET: &str = "SELECT e.value, e.expires_at FROM namespaces n \
    CROSS JOIN entries i ON i.ns = n.id AND i.key = ?2 \
    CROSS JOIN entries e ON e.rowid = i.rowid AND e.ns = n.id AND e.key = ?2 WHERE n.name = ?1";
const SCAN: &str = "SELECT e.key, length(e.value), e.expires_at FROM namespaces n CROSS JOIN entries e \
    ON e.ns = n.id WHERE n.name = ?1 AND e.key >= ?2 AND (?3 IS NULL OR e.key < ?3) ORDER BY e.key LIMIT ?4";
const COUNT: &str =
    "SELECT count(*) FROM entries WHERE ns = (SELECT id FROM namespaces WHERE name = ?1)";
const KEYS: &str = "SELECT key FROM entries WHERE ns = (SELECT id FROM namespaces WHERE name = ?1) \
    AND key >= ?2 AND (?3 IS NULL OR key < ?3)";
const EXPIRED: &str = "SELECT key FROM entries WHERE expires_at <= ?2 \
    AND ns = (SELECT id FROM namespaces WHERE name = ?1)";

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<(u64, Database)>>,
    /// Counts how often the file was replaced; connections of older generations are closed.
    generation: AtomicU64,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// Closes connections to a file that was replaced.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Runs a read on a connection of the pool.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let generation = self.generation.load(Ordering::Acquire);
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some((opened, connection)) if opened == generation => connection,
            _ => {
                let connection = database::connect(&self.path)?;
                connection
                    .busy_timeout(READ_PATIENCE)
                    .map_err(store_error)?;
                connection
            }
        };
        let result = connection.watch(work(&connection)).map_err(store_error);
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() && pool.len() < MAX_IDLE {
            pool.push((generation, connection));
        }
        result
    }
}

/// Reads entries that are live at `now_ms`; several keys see one state of the database.
pub(super) fn get_many(
    connection: &Connection,
    namespace: &Namespace,
    keys: &[&[u8]],
    now_ms: u64,
) -> rusqlite::Result<Vec<Option<Entry>>> {
    let snapshot = if keys.len() > 1 {
        Some(connection.unchecked_transaction()?)
    } else {
        None
    };
    let mut statement = connection.prepare_cached(GET)?;
    let entries = keys
        .iter()
        .map(|key| Ok(get(&mut statement, namespace, key)?.filter(|entry| is_live(entry, now_ms))))
        .collect();
    drop(statement);
    if let Some(snapshot) = snapshot {
        snapshot.commit()?;
    }
    entries
}

pub(super) fn get(
    statement: &mut CachedStatement<'_>,
    namespace: &Namespace,
    key: &[u8],
) -> rusqlite::Result<Option<Entry>> {
    statement
        .query_row(params![namespace.as_bytes(), key], |row| {
            let value = Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?);
            let expires_at = row.get::<_, Option<i64>>(1)?;
            Ok(Entry::new(value, expires_at.map(|at| at as u64)))
        })
        .optional()
}

/// The statement that [`get`] runs, for the writer's connection.
pub(super) fn get_statement(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(GET)
}

pub(super) fn is_live(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|at| at > now_ms)
}

/// Lists one page in key order; the cursor is the lowest key of the next page.
pub(super) fn scan(
    connection: &Connection,
    namespace: &Namespace,
    pattern: &Glob,
    cursor: Option<&Bytes>,
    (limit, now_ms): (usize, u64),
) -> rusqlite::Result<ScanPage> {
    let (first, end) = key_range(pattern);
    let rows = limit.max(1).saturating_mul(ROWS_PER_KEY);
    let mut statement = connection.prepare_cached(SCAN)?;
    let from = cursor.map_or(first, |cursor| cursor.to_vec());
    let mut found = statement.query(params![namespace.as_bytes(), from, end, rows as i64])?;
    let mut page = ScanPage::default();
    let mut seen = 0;
    while let Some(row) = found.next()? {
        seen += 1;
        let key = row.get_ref(0)?.as_blob()?;
        let expires_at_ms = row.get::<_, Option<i64>>(2)?.map(|at| at as u64);
        if expires_at_ms.is_none_or(|at| at > now_ms) && pattern.matches(key) {
            let bytes = row.get::<_, i64>(1)? as u64;
            page.keys.push(ScannedKey {
                key: Key::from(key),
                bytes,
                expires_at_ms,
            });
        }
        if page.keys.len() >= limit.max(1) || seen >= rows {
            // The first key after this one: the same with a zero byte behind it.
            page.next = Some([key, &[0]].concat().into());
            break;
        }
    }
    Ok(page)
}

/// Returns the literal prefix and the first key after all keys with it, if there is one.
fn key_range(pattern: &Glob) -> (Vec<u8>, Option<Vec<u8>>) {
    let prefix = pattern.literal_prefix();
    let mut end = prefix.clone();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return (prefix, Some(end));
        }
    }
    (prefix, None)
}

/// Counts live keys: all of them from an index, minus those that are due but not yet swept.
pub(super) fn count(
    connection: &Connection,
    namespace: &Namespace,
    pattern: &Glob,
    now_ms: u64,
) -> rusqlite::Result<u64> {
    let snapshot = connection.unchecked_transaction()?;
    let name = namespace.as_bytes();
    let matching = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<u64> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += u64::from(pattern.matches(row.get_ref(0)?.as_blob()?));
        }
        Ok(count)
    };
    let total = if pattern.is_all() {
        connection
            .prepare_cached(COUNT)?
            .query_row([name], |row| row.get::<_, i64>(0))? as u64
    } else {
        let (first, end) = key_range(pattern);
        matching(KEYS, params![name, first, end])?
    };
    let expired = matching(EXPIRED, params![name, now_ms as i64])?;
    snapshot.commit()?;
    // In a damaged file, the two indexes may tell different stories.
    Ok(total.saturating_sub(expired))
}
