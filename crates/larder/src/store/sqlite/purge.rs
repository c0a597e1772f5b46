//! Removes entries that were invalidated, some at a time, after registers were.
//!
//! Nobody can read them, so this only gives their room back; those that another process invalidated are its own to
//! remove, and what is missed expires, is evicted or is met by the next walk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::readers::Readers;
use super::registers;
use super::writer::Writer;
use crate::error::Result;
use crate::tag::Verdict;

/// Rows judged at a time, and so the most that one transaction removes.
const BATCH_ROWS: i64 = 256;
/// Batches in one run of the upkeep.
const MAX_BATCHES: usize = 4;

const NEXT: &str = "SELECT ns, key, head FROM entries INDEXED BY entries_with_head \
    WHERE head IS NOT NULL AND (ns, key) > (?1, ?2) ORDER BY ns, key LIMIT ?3";
/// An entry that was written anew has another head.
const REMOVE: &str = "DELETE FROM entries WHERE ns = ?1 AND key = ?2 AND head = ?3";

/// The place of an entry, with its head.
type Place = (i64, Vec<u8>, Vec<u8>);

/// The entry that was judged last.
type Position = (i64, Vec<u8>);

/// A walk over all entries that depend on something.
#[derive(Debug, Default)]
pub(super) struct Purge {
    is_requested: AtomicBool,
    /// The last entry that was judged, while a walk is under way.
    position: Mutex<Option<Position>>,
}

impl Purge {
    /// Asks for a walk, or for another one after that which is under way.
    pub(super) fn request(&self) {
        self.is_requested.store(true, Ordering::Release);
    }

    /// Walks on for a bounded time.
    pub(super) fn run(&self, readers: &Readers, writer: &Writer) -> Result<()> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        if position.is_none() {
            if !self.is_requested.swap(false, Ordering::AcqRel) {
                return Ok(());
            }
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
