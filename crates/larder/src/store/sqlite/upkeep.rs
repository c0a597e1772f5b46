//! What the store does by itself: sweep what is expired, reclaim cleared namespaces, keep the size bound,
//! move the write-ahead log into the file, and notice that the file was replaced.
//!
//! Runs on the store's own thread, in short transactions, so that writers wait a few milliseconds at most.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::database::{self, FileId};
use super::purge::Purge;
use super::readers::Readers;
use super::writer::Writer;
use super::{journal, leases, registers};
use crate::clock::Clock;
use crate::error::Result;
use crate::store::host::Ledger;

/// Rows removed in one transaction.
const BATCH_ROWS: i64 = 256;
/// Transactions of one kind in one run.
const MAX_BATCHES: usize = 64;
/// After an eviction the store is this part of its bound, so that not every write evicts.
const EVICT_TO_PERCENT: u64 = 95;
/// From this part of its bound on, what was invalidated gives its room back at once.
const TIGHT_PERCENT: u64 = 75;
/// The log is moved into the file after so many bytes of writes.
pub(super) const CHECKPOINT_BYTES: u64 = 4 << 20;

/// A store open for less than this flushes nothing when it closes.
const BRIEF: Duration = Duration::from_secs(1);
/// A log this long is emptied on closing in any case, so that the next process opens quickly.
const CLOSE_CHECKPOINT_BYTES: u64 = 1 << 20;

const SWEEP: &str = "DELETE FROM entries WHERE rowid IN \
    (SELECT rowid FROM entries WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
/// Of the next rows, those that begin within the bytes to evict: one row too many at most.
const EVICT_EXPIRING: &str = "DELETE FROM entries WHERE rowid IN (SELECT id FROM \
    (SELECT rowid AS id, sum(size) OVER (ORDER BY expires_at, rowid) - size AS before FROM \
    (SELECT rowid, expires_at, length(key) + length(value) AS size FROM entries \
    WHERE expires_at IS NOT NULL ORDER BY expires_at, rowid LIMIT ?1)) WHERE before < ?2)";
const EVICT_OLDEST: &str = "DELETE FROM entries WHERE rowid IN (SELECT id FROM \
    (SELECT rowid AS id, sum(size) OVER (ORDER BY rowid) - size AS before FROM \
    (SELECT rowid, length(key) + length(value) AS size FROM entries ORDER BY rowid LIMIT ?1)) WHERE before < ?2)";
const RECLAIM: &str = "DELETE FROM entries WHERE rowid IN \
    (SELECT e.rowid FROM dead_namespaces d CROSS JOIN entries e ON e.ns = d.id LIMIT ?1)";
const FORGET_RECLAIMED: &str = "DELETE FROM dead_namespaces WHERE NOT EXISTS \
    (SELECT 1 FROM entries e WHERE e.ns = dead_namespaces.id) AND NOT EXISTS \
    (SELECT 1 FROM registers r WHERE r.ns = dead_namespaces.id)";
const ANY_DEAD: &str = "SELECT EXISTS (SELECT 1 FROM dead_namespaces)";
const ANY_EXPIRED: &str = "SELECT EXISTS (SELECT 1 FROM entries WHERE expires_at <= ?1)";
const USED_BYTES: &str = "SELECT (c.page_count - f.freelist_count) * s.page_size \
    FROM pragma_page_count c, pragma_freelist_count f, pragma_page_size s";

/// The state of the upkeep.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) purge: Purge,
    pub(super) max_bytes: u64,
    pub(super) opened: Instant,
    pub(super) file: Mutex<FileId>,
    pub(super) expired: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) moved_aside: AtomicU64,
}

impl Upkeep {
    /// Does everything that is due; failures are logged and tried again next time.
    pub(super) fn run(&self) {
        let work = || -> Result<()> {
            self.follow_file()?;
            self.reclaim()?;
            self.sweep(BATCH_ROWS as usize * MAX_BATCHES)?;
            self.prune_registers()?;
            self.purge()?;
            self.evict()?;
            journal::tidy(self)?;
            self.checkpoint()?;
            self.ledger.sweep_owners();
            self.prune_leases()
        };
        if let Err(error) = work() {
            tracing::warn!(%error, "upkeep of the cache database failed; it is tried again");
        }
    }

    /// Reopens when the path no longer names the open file: it was deleted or moved aside. A file in which any
    /// process met damage is moved aside here.
    fn follow_file(&self) -> Result<()> {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = database::file_id(&self.path).is_ok_and(|present| present == *open);
        if is_open && !database::is_marked_damaged(&self.path) {
            return Ok(());
        }
        tracing::warn!(path = %self.path.display(), "the cache database was replaced or damaged; reopening it");
        let (file, moved) = database::prepare(&self.path)?;
        self.writer.renew(|| self.readers.renew())?;
        self.moved_aside
            .fetch_add(u64::from(moved.is_some()), Ordering::Relaxed);
        *open = file;
        Ok(())
    }

    /// Removes up to `limit` expired entries in short transactions.
    pub(super) fn sweep(&self, limit: usize) -> Result<u64> {
        let now_ms = self.clock.now_ms() as i64;
        if !self.readers.read(|connection| {
            connection
                .prepare_cached(ANY_EXPIRED)?
                .query_row([now_ms], |row| row.get(0))
        })? {
            return Ok(0);
        }
        let mut removed = 0;
        while removed < limit as u64 {
            let batch = (limit as u64 - removed).min(BATCH_ROWS as u64) as i64;
            let gone = self.writer.maintain(|connection| {
                connection
                    .prepare_cached(SWEEP)?
                    .execute(params![now_ms, batch])
            })?;
            removed += gone as u64;
            if (gone as i64) < batch {
                break;
            }
        }
        self.expired.fetch_add(removed, Ordering::Relaxed);
        Ok(removed)
    }

    /// Removes the rows of leases that nobody has used for long, in short transactions.
    pub(super) fn prune_leases(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for _ in 0..MAX_BATCHES {
            if !self
                .readers
                .read(|connection| leases::any_due(connection, now_ms))?
            {
                break;
            }
            self.writer.maintain(|connection| {
                leases::prune(connection, &self.ledger, now_ms, BATCH_ROWS)
            })?;
        }
        Ok(())
    }

    /// Removes the registers whose time to be kept is over, in short transactions.
    pub(super) fn prune_registers(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for _ in 0..MAX_BATCHES {
            let any_due = |connection: &_| registers::any_due(connection, now_ms);
            if !self.readers.read(any_due)? {
                break;
            }
            let prune = |connection: &_| registers::prune(connection, now_ms, BATCH_ROWS);
            self.writer.maintain(prune)?;
        }
        Ok(())
    }

    /// Removes what was invalidated a while ago; at once, if the file is nearly full.
    fn purge(&self) -> Result<()> {
        let is_tight = || Ok(self.used_bytes()? > self.max_bytes / 100 * TIGHT_PERCENT);
        let now_ms = self.clock.monotonic_ms();
        self.purge
            .run(&self.readers, &self.writer, now_ms, is_tight)
    }

    fn reclaim(&self) -> Result<()> {
        if !self.readers.read(|connection| {
            connection
                .prepare_cached(ANY_DEAD)?
                .query_row([], |row| row.get(0))
        })? {
            return Ok(());
        }
        for _ in 0..MAX_BATCHES {
            let step = |connection: &Connection| match reclaim_batch(connection)? {
                0 => connection
                    .prepare_cached(FORGET_RECLAIMED)?
                    .execute([])
                    .map(|_| true),
                _ => Ok(false),
            };
            if self.writer.maintain(step)? {
                break;
            }
        }
        Ok(())
    }

    /// Evicts until the bound holds: what was cleared, then what expires soonest, then what was written longest ago.
    fn evict(&self) -> Result<()> {
        let mut used = self.used_bytes()?;
        if used <= self.max_bytes {
            return Ok(());
        }
        let target = self.max_bytes / 100 * EVICT_TO_PERCENT;
        for _ in 0..MAX_BATCHES * 16 {
            let batch = [BATCH_ROWS, (used - target) as i64];
            let evict = |connection: &Connection| match connection
                .prepare_cached(EVICT_EXPIRING)?
                .execute(batch)?
            {
                0 => connection.prepare_cached(EVICT_OLDEST)?.execute(batch),
                some => Ok(some),
            };
            let mut gone = self.writer.maintain(reclaim_batch)?;
            if gone == 0 {
                gone = self.writer.maintain(evict)?;
                self.evicted.fetch_add(gone as u64, Ordering::Relaxed);
            }
            if gone == 0 {
                // No entry is left that could need them.
                gone = self
                    .writer
                    .maintain(|connection| registers::prune(connection, u64::MAX, BATCH_ROWS))?;
            }
            used = self.used_bytes()?;
            if gone == 0 || used <= target {
                break;
            }
        }
        Ok(())
    }

    /// Returns the size of the pages in use.
    pub(super) fn used_bytes(&self) -> Result<u64> {
        self.readers
            .read(|connection| {
                connection
                    .prepare_cached(USED_BYTES)?
                    .query_row([], |row| row.get::<_, i64>(0))
            })
            .map(|bytes| bytes as u64)
    }

    /// Empties the log when the store closes, so that the file is complete by itself, unless another process uses it.
    ///
    /// A store that was open for a moment only, as by a command of the program, leaves a short log to the next.
    pub(super) fn close(&self) {
        let brief = self.opened.elapsed() < BRIEF;
        if brief && database::log_bytes(&self.path) < CLOSE_CHECKPOINT_BYTES {
            return;
        }
        let empty = |connection: &Connection| {
            connection.busy_timeout(Duration::ZERO)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        if let Err(error) = self.readers.read(empty) {
            tracing::debug!(%error, "the log of the cache database stays as it is");
        }
    }

    /// Copies the log into the file once enough was written, so that no writer has to.
    fn checkpoint(&self) -> Result<()> {
        if self.writer.written() < CHECKPOINT_BYTES {
            return Ok(());
        }
        self.writer.take_written();
        self.readers.read(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        })
    }
}

/// Removes some of what cleared namespaces left behind; returns how much.
fn reclaim_batch(connection: &Connection) -> rusqlite::Result<usize> {
    match connection.prepare_cached(RECLAIM)?.execute([BATCH_ROWS])? {
        0 => registers::reclaim(connection, BATCH_ROWS),
        some => Ok(some),
    }
}
