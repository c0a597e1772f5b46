//! Removes entries that were invalidated, some at a time, after registers were.
//!
//! Nobody can read them, so this only gives their room back; those that another process invalidated are its own to
//! remove, and what is missed expires, is evicted or is met by the next walk. For a while they are left, unless the room
//! is needed, so that whoever asks why a read missed can be told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::readers::Readers;
use super::registers;
use super::upkeep::Upkeep;
use super::writer::Writer;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::TidyPage;
use crate::tag::Verdict;

/// Rows judged at a time, and so the most that one transaction removes.
const BATCH_ROWS: i64 = 256;
/// Batches in one run of the upkeep.
const MAX_BATCHES: usize = 4;
/// How long entries are left after they were invalidated.
pub(super) const REST_MS: u64 = 60_000;

const NEXT: &str = "SELECT ns, key, head FROM entries INDEXED BY entries_with_head \
    WHERE head IS NOT NULL AND (ns, key) > (?1, ?2) ORDER BY ns, key LIMIT ?3";
/// An entry that was written anew has another head.
const REMOVE: &str = "DELETE FROM entries WHERE ns = ?1 AND key = ?2 AND head = ?3";

const NEXT_OF: &str = "SELECT key, head, expires_at FROM entries INDEXED BY entries_with_head \
    WHERE head IS NOT NULL AND ns = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
/// As above; one that expired may have been given more time.
const REMOVE_DUE: &str =
    "DELETE FROM entries WHERE ns = ?1 AND key = ?2 AND head = ?3 AND expires_at <= ?4";

/// The place of an entry, with its head.
type Place = (i64, Vec<u8>, Vec<u8>);

/// The entry that was judged last.
type Position = (i64, Vec<u8>);

/// A walk over all entries that depend on something.
#[derive(Debug, Default)]
pub(super) struct Purge {
    /// When the next walk begins, by the monotonic clock; 0: nobody has asked for one.
    due_ms: AtomicU64,
    /// The last entry that was judged, while a walk is under way.
    position: Mutex<Option<Position>>,
}

impl Purge {
    /// Asks for a walk some time from now, or for another one after that which is under way.
    pub(super) fn request(&self, now_ms: u64) {
        let due_ms = now_ms.saturating_add(REST_MS);
        // Whoever asked first decides, so that constant invalidations do not put it off for ever.
        let _ = self
            .due_ms
            .compare_exchange(0, due_ms.max(1), Ordering::AcqRel, Ordering::Acquire);
    }

    /// Begins a walk if it is due, or asked for and `is_urgent`; then walks on for a bounded time.
    pub(super) fn run(
        &self,
        readers: &Readers,
        writer: &Writer,
        now_ms: u64,
        is_urgent: impl FnOnce() -> Result<bool>,
    ) -> Result<()> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        if position.is_none() {
            let due_ms = self.due_ms.load(Ordering::Acquire);
            if due_ms == 0 || (due_ms > now_ms && !is_urgent()?) {
                return Ok(());
            }
            // Before the walk, so that whoever invalidates meanwhile asks for another.
            self.due_ms.store(0, Ordering::Release);
            *position = Some((i64::MIN, Vec::new()));
        }
        for _ in 0..MAX_BATCHES {
            let Some(after) = position.as_ref() else {
                break;
            };
            let (invalid, next) = readers.read(|connection| judge_batch(connection, after))?;
            if !invalid.is_empty() {
                writer.maintain(|connection| remove(connection, &invalid))?;
            }
            *position = next;
        }
        Ok(())
    }
}

/// Looks at the next entries of a namespace that have heads, removes those that are invalid or expired if it `removes`,
/// and tells what the others carry.
pub(super) fn tidy(
    upkeep: &Upkeep,
    namespace: &Namespace,
    cursor: Option<&Bytes>,
    (limit, removes): (usize, bool),
) -> Result<TidyPage> {
    let now_ms = upkeep.clock.now_ms() as i64;
    let look = |connection: &Connection| look(connection, namespace, cursor, (limit, now_ms));
    let (mut page, gone) = upkeep.readers.read(look)?;
    if removes && !gone.is_empty() {
        page.removed = upkeep.writer.maintain(|connection| {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut removed = 0;
            for ((ns, key, head), is_due) in &gone {
                let count = match is_due {
                    true => connection
                        .prepare_cached(REMOVE_DUE)?
                        .execute(params![ns, key, head, now_ms])?,
                    false => connection
                        .prepare_cached(REMOVE)?
                        .execute(params![ns, key, head])?,
                };
                removed += u64::from(count > 0 && !envelope::is_load(head));
            }
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(removed)
        })?;
    }
    Ok(page)
}

/// Returns what is to go, with whether it is expired, and what the others carry.
fn look(
    connection: &Connection,
    namespace: &Namespace,
    cursor: Option<&Bytes>,
    (limit, now_ms): (usize, i64),
) -> rusqlite::Result<(TidyPage, Vec<(Place, bool)>)> {
    let (mut page, mut gone) = (TidyPage::default(), Vec::new());
    let Some(ns) = registers::namespace_id(connection, namespace)? else {
        return Ok((page, gone));
    };
    let (after, limit) = (cursor.map_or(&[][..], |cursor| cursor), limit.max(1));
    let mut statement = connection.prepare_cached(NEXT_OF)?;
    let mut rows = statement.query(params![ns, after, limit as i64])?;
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        seen += 1;
        let (key, head): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if seen == limit {
            page.next = Some(Bytes::copy_from_slice(&key));
        }
        let expires_at: Option<i64> = row.get(2)?;
        let is_due = expires_at.is_some_and(|at| at <= now_ms);
        let bytes = Bytes::copy_from_slice(&head);
        if is_due || registers::judge(connection, ns, &bytes)? == Verdict::Invalid {
            page.removed += u64::from(!envelope::is_load(&bytes));
            gone.push(((ns, key, head), is_due));
        } else {
            page.carried.extend(envelope::registers(&bytes));
        }
    }
    Ok((page, gone))
}

/// Returns the invalid ones of the next entries, and where to go on.
fn judge_batch(
    connection: &Connection,
    (ns, key): &Position,
) -> rusqlite::Result<(Vec<Place>, Option<Position>)> {
    let mut statement = connection.prepare_cached(NEXT)?;
    let mut rows = statement.query(params![ns, key, BATCH_ROWS])?;
    let (mut invalid, mut last, mut seen) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        seen += 1;
        let place: Place = (row.get(0)?, row.get(1)?, row.get(2)?);
        last = Some((place.0, place.1.clone()));
        let head = Bytes::copy_from_slice(&place.2);
        if registers::judge(connection, place.0, &head)? == Verdict::Invalid {
            invalid.push(place);
        }
    }
    Ok((invalid, last.filter(|_| seen == BATCH_ROWS)))
}

/// Removes entries that were found invalid, which they stay.
fn remove(connection: &Connection, invalid: &[Place]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut statement = connection.prepare_cached(REMOVE)?;
    for (ns, key, head) in invalid {
        statement.execute(params![ns, key, head])?;
    }
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}
