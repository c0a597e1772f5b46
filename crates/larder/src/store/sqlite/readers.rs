//! Read connections, and the statements that only read.
//!
//! A read takes a connection from the pool, or opens one, and puts it back. Reads of a few keys run on the
//! caller's thread: they take about 10 us, less than the hop to another one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::database::{self, Database};
use super::{registers, store_error};
use crate::envelope;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::store::{Entry, Examined, Read, Register, ScanPage, ScannedKey};
use crate::tag::Verdict;

/// Idle connections kept; more are opened under load and closed after it.
const MAX_IDLE: usize = 16;
/// Rows one page of a listing may look at for each key it may return.
const ROWS_PER_KEY: usize = 16;
/// How long a read waits for a lock, which in WAL mode happens only around recovery.
const READ_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// The index finds the row, and the row itself must carry the key: when another file takes the place of ours
/// beneath its log, index and table need not belong together. The index alone answers the first join, so that this
/// costs no further page.
const GET: &str = "SELECT e.value, e.expires_at, n.id FROM namespaces n \
    CROSS JOIN entries i ON i.ns = n.id AND i.key = ?2 \
    CROSS JOIN entries e ON e.rowid = i.rowid AND e.ns = n.id AND e.key = ?2 WHERE n.name = ?1";
const SCAN: &str = "SELECT e.key, length(e.value), e.expires_at, e.head, e.ns \
    FROM namespaces n CROSS JOIN entries e ON e.ns = n.id \
    WHERE n.name = ?1 AND e.key >= ?2 AND (?3 IS NULL OR e.key < ?3) ORDER BY e.key LIMIT ?4";
const SCAN_WITH_HEAD: &str = "SELECT e.key, length(e.value), e.expires_at, e.head, e.ns \
    FROM namespaces n CROSS JOIN entries e INDEXED BY entries_with_head ON e.ns = n.id \
    WHERE n.name = ?1 AND e.head IS NOT NULL AND e.key >= ?2 AND (?3 IS NULL OR e.key < ?3) ORDER BY e.key LIMIT ?4";
const COUNT: &str =
    "SELECT count(*) FROM entries WHERE ns = (SELECT id FROM namespaces WHERE name = ?1)";
const KEYS: &str = "SELECT key FROM entries WHERE ns = (SELECT id FROM namespaces WHERE name = ?1) \
    AND key >= ?2 AND (?3 IS NULL OR key < ?3)";
const EXPIRED: &str = "SELECT key FROM entries WHERE expires_at <= ?2 \
    AND ns = (SELECT id FROM namespaces WHERE name = ?1)";
const WITH_HEAD: &str = "SELECT key, head, ns FROM entries INDEXED BY entries_with_head WHERE head IS NOT NULL \
    AND ns = (SELECT id FROM namespaces WHERE name = ?1) AND (expires_at IS NULL OR expires_at > ?2)";

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
pub(super) fn read_many(
    connection: &Connection,
    namespace: &Namespace,
    keys: &[&[u8]],
    now_ms: u64,
) -> rusqlite::Result<Vec<Read>> {
    let snapshot = if keys.len() > 1 {
        Some(connection.unchecked_transaction()?)
    } else {
        None
    };
    let read = |key: &&[u8]| {
        let found = find(connection, namespace, key)?;
        let entry = found.filter(|(entry, _)| !envelope::is_load(&entry.value));
        judged(connection, entry, now_ms)
    };
    let entries = keys.iter().map(read).collect();
    if let Some(snapshot) = snapshot {
        snapshot.commit()?;
    }
    entries
}

/// Reads the entry of a key, or the mark of a load, if it is neither expired nor invalid.
pub(super) fn present(
    connection: &Connection,
    namespace: &Namespace,
    key: &[u8],
    now_ms: u64,
) -> rusqlite::Result<Option<Entry>> {
    let found = find(connection, namespace, key)?;
    judged(connection, found, now_ms).map(Read::entry)
}

/// Judges what was found under a key.
///
/// Without a snapshot, its registers may be read later than it: one that still has the number that the entry knows had
/// it all the time, since no number comes back.
fn judged(
    connection: &Connection,
    found: Option<(Entry, i64)>,
    now_ms: u64,
) -> rusqlite::Result<Read> {
    let Some((mut entry, ns)) = found.filter(|(entry, _)| is_live(entry, now_ms)) else {
        return Ok(Read::Absent);
    };
    match registers::judge(connection, ns, &entry.value)? {
        Verdict::Invalid => return Ok(Read::Invalid),
        Verdict::Stale => entry.is_stale = true,
        Verdict::Valid => {}
    }
    Ok(Read::Entry(entry))
}

/// Finds what is under a key, however it may be judged, and the id of its namespace.
fn find(
    connection: &Connection,
    namespace: &Namespace,
    key: &[u8],
) -> rusqlite::Result<Option<(Entry, i64)>> {
    connection
        .prepare_cached(GET)?
        .query_row(params![namespace.as_bytes(), key], |row| {
            let value = Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?);
            let expires_at = row.get::<_, Option<i64>>(1)?;
            let entry = Entry::new(value, expires_at.map(|at| at as u64));
            Ok((entry, row.get::<_, i64>(2)?))
        })
        .optional()
}

/// Looks at what is under a key, valid or not.
pub(super) fn examine(
    connection: &Connection,
    namespace: &Namespace,
    key: &[u8],
) -> rusqlite::Result<Option<Examined>> {
    let Some((entry, ns)) = find(connection, namespace, key)? else {
        return Ok(None);
    };
    let found = Examined::new(entry.value, entry.expires_at_ms);
    registers::examine(connection, ns, found).map(Some)
}

fn is_live(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|at| at > now_ms)
}

/// Which keys to list.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) namespace: Namespace,
    pub(super) pattern: Glob,
    /// Only entries that carry a stamp of this one.
    pub(super) register: Option<Register>,
    pub(super) cursor: Option<Bytes>,
    pub(super) limit: usize,
}

/// Lists one page in key order; the cursor is the lowest key of the next page.
pub(super) fn scan(
    connection: &Connection,
    listing: &Listing,
    now_ms: u64,
) -> rusqlite::Result<ScanPage> {
    let (first, end) = key_range(&listing.pattern);
    let limit = listing.limit.max(1);
    let rows = limit.saturating_mul(ROWS_PER_KEY);
    let sql = if listing.register.is_some() {
        SCAN_WITH_HEAD
    } else {
        SCAN
    };
    let mut statement = connection.prepare_cached(sql)?;
    let from = listing.cursor.as_ref().map_or(first, |from| from.to_vec());
    let name = listing.namespace.as_bytes();
    let mut found = statement.query(params![name, from, end, rows as i64])?;
    let mut page = ScanPage::default();
    let mut seen = 0;
    while let Some(row) = found.next()? {
        seen += 1;
        let key = row.get_ref(0)?.as_blob()?;
        let expires_at_ms = row.get::<_, Option<i64>>(2)?.map(|at| at as u64);
        if expires_at_ms.is_none_or(|at| at > now_ms)
            && listing.pattern.matches(key)
            && is_listed(connection, row, listing.register.as_ref())?
        {
            let bytes = row.get::<_, i64>(1)? as u64;
            page.keys.push(ScannedKey {
                key: Key::from(key),
                bytes,
                expires_at_ms,
            });
        }
        if page.keys.len() >= limit || seen >= rows {
            // The first key after this one: the same with a zero byte behind it.
            page.next = Some([key, &[0]].concat().into());
            break;
        }
    }
    Ok(page)
}

/// Judges a row of a listing by its head, in the fourth column.
fn is_listed(
    connection: &Connection,
    row: &Row<'_>,
    register: Option<&Register>,
) -> rusqlite::Result<bool> {
    let Some(head) = row.get_ref(3)?.as_blob_or_null()? else {
        return Ok(register.is_none());
    };
    let head = Bytes::copy_from_slice(head);
    let is_wanted = register.is_none_or(|register| envelope::carries(&head, register));
    Ok(is_wanted && is_visible(connection, row.get(4)?, &head)?)
}

/// Returns whether the entry with this head is there for those who list.
fn is_visible(connection: &Connection, ns: i64, head: &Bytes) -> rusqlite::Result<bool> {
    Ok(!envelope::is_load(head) && registers::judge(connection, ns, head)? != Verdict::Invalid)
}

/// Returns the literal prefix and the first key after all keys with it, if there is one.
pub(super) fn key_range(pattern: &Glob) -> (Vec<u8>, Option<Vec<u8>>) {
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

/// Counts live keys: all of them from an index, minus those that are due but not yet swept, and those of the others that
/// are invalid or marks. Only keys whose entries depend on something cost more than the step in the index.
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
    let mut hidden = 0;
    let mut with_head = connection.prepare_cached(WITH_HEAD)?;
    let mut rows = with_head.query(params![name, now_ms as i64])?;
    while let Some(row) = rows.next()? {
        if pattern.matches(row.get_ref(0)?.as_blob()?) {
            let head = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
            hidden += u64::from(!is_visible(connection, row.get(2)?, &head)?);
        }
    }
    drop(rows);
    snapshot.commit()?;
    // In a damaged file, the two indexes may tell different stories.
    Ok(total.saturating_sub(expired + hidden))
}
