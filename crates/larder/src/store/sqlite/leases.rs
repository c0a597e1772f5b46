//! Locks, semaphores and rate limiters: one row for each, changed in the writer's transactions.
//!
//! Rows are no entries: neither `clear` nor the size bound touches them.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::jobs::{Job, Reply};
use super::{Sqlite, unexpected};
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::{LockStatus, Owner};
use crate::store::host::{Id, Kind, Ledger, Outcome, Records, Rule, Use, Written};

const READ: &str = "SELECT record FROM leases WHERE kind = ?1 AND space = ?2 AND name = ?3";
const WRITE: &str = "INSERT OR REPLACE INTO leases (kind, space, name, keep_until, record) \
    VALUES (?1, ?2, ?3, ?4, ?5)";
const LIST: &str = "SELECT name, record FROM leases WHERE kind = ?1 AND space = ?2";
const ANY_DUE: &str = "SELECT EXISTS (SELECT 1 FROM leases WHERE keep_until <= ?1)";
const DUE: &str = "SELECT kind, space, name, record FROM leases WHERE keep_until <= ?1 \
    ORDER BY keep_until LIMIT ?2";
const KEEP: &str = "UPDATE leases SET keep_until = ?4 WHERE kind = ?1 AND space = ?2 AND name = ?3";
const REMOVE: &str = "DELETE FROM leases WHERE kind = ?1 AND space = ?2 AND name = ?3";

/// The store as a keeper of leases.
#[derive(Debug)]
pub(super) struct Leases(pub(super) Sqlite);

/// Reads, changes and writes a row. The caller has begun a transaction.
pub(super) fn apply(
    connection: &Connection,
    ledger: &Ledger,
    id: &Id,
    rule: &Rule,
) -> rusqlite::Result<Result<Reply>> {
    let present = read(connection, id)?;
    let effect = match ledger.apply(id, rule, present.as_deref()) {
        Ok(effect) => effect,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Some(written) = &effect.written {
        write(connection, id, written)?;
    }
    Ok(Ok(Reply::Lease(effect.outcome, effect.next)))
}

fn read(connection: &Connection, id: &Id) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached(READ)?
        .query_row(params![kind(id), &id.space[..], &id.name[..]], |row| {
            // A value of another type is damage, which the record's decoder judges.
            Ok(row.get_ref(0)?.as_bytes().unwrap_or_default().to_vec())
        })
        .optional()
}

fn write(connection: &Connection, id: &Id, written: &Written) -> rusqlite::Result<()> {
    let row = params![
        kind(id),
        &id.space[..],
        &id.name[..],
        signed(written.keep_until_ms),
        written.bytes
    ];
    connection.prepare_cached(WRITE)?.execute(row).map(drop)
}

/// Returns whether there are rows whose time to be kept is over.
pub(super) fn any_due(connection: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(ANY_DUE)?
        .query_row([signed(now_ms)], |row| row.get(0))
}

/// Removes rows whose time to be kept is over, unless their records disagree, since the date may have been moved; returns
/// how many it looked at.
pub(super) fn prune(
    connection: &Connection,
    ledger: &Ledger,
    now_ms: u64,
    limit: i64,
) -> rusqlite::Result<i64> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut due = connection.prepare_cached(DUE)?;
    let mut rows = due.query(params![signed(now_ms), limit])?;
    let mut verdicts = Vec::new();
    while let Some(row) = rows.next()? {
        let place: (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let record = row.get_ref(3)?.as_bytes().unwrap_or_default();
        verdicts.push((place, ledger.use_of(record)));
    }
    drop(rows);
    for ((kind, space, name), verdict) in &verdicts {
        match verdict {
            Use::Over => connection
                .prepare_cached(REMOVE)?
                .execute(params![kind, space, name])?,
            Use::Until(at_ms) => connection.prepare_cached(KEEP)?.execute(params![
                kind,
                space,
                name,
                signed(*at_ms)
            ])?,
        };
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(verdicts.len() as i64)
}

fn list(
    connection: &Connection,
    ledger: &Ledger,
    (space, pattern, limit): (&Namespace, &Glob, usize),
) -> rusqlite::Result<Vec<LockStatus>> {
    let mut statement = connection.prepare_cached(LIST)?;
    let mut rows = statement.query(params![Kind::Lease as i64, space.as_bytes()])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let id = Id::new(Kind::Lease, space, row.get_ref(0)?.as_blob()?);
        let record = row.get_ref(1)?.as_bytes().unwrap_or_default();
        found.extend(ledger.status(&id, record, pattern));
    }
    Ok(found)
}

fn kind(id: &Id) -> i64 {
    id.kind as i64
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[async_trait]
impl Records for Leases {
    fn ledger(&self) -> &Arc<Ledger> {
        &self.0.inner.upkeep.ledger
    }

    async fn apply(&self, id: Id, rule: Rule) -> Result<(Outcome, Option<Owner>)> {
        let ledger = self.ledger();
        ledger.prepare(&rule).map_err(|error| {
            let message = "cannot lock a file beside the database";
            Error::new(ErrorKind::Unavailable, message)
                .retryable(error.kind() != std::io::ErrorKind::PermissionDenied)
                .store("sqlite")
                .caused_by(error)
        })?;
        let job = Job::Lease {
            ledger,
            id: &id,
            rule: &rule,
        };
        match self.0.submit(job).await? {
            Reply::Lease(outcome, next) => Ok((outcome, next)),
            other => Err(unexpected(&other)),
        }
    }

    async fn read(&self, id: Id) -> Result<Option<Vec<u8>>> {
        let read = |connection: &Connection| read(connection, &id);
        self.0.inner.upkeep.readers.read(read)
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let ledger = Arc::clone(self.ledger());
        let (space, pattern) = (space.clone(), pattern.clone());
        self.0
            .read_aside(move |connection, _| list(connection, &ledger, (&space, &pattern, limit)))
            .await
    }
}
