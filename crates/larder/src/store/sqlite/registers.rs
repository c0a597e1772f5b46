//! Registers: rows that say which entries are valid.
//!
//! Whoever judges an entry reads its registers on the same connection. What is invalid stays so for good, and what is
//! valid has been so since it was written: the numbers are random and none is ever used again.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::journal;
use super::readers::key_range;
use crate::envelope;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::store::tidy::outliving;
use crate::store::{
    Examined, Invalidation, MIN_REGISTER_MS, REGISTER_GRACE_MS, Register, RegisterPage, Retirement,
    Stamp, verdict,
};
use crate::tag::{Nonces, Verdict};

/// Registers are kept so much longer than they need be, so that not every use writes.
const KEEP_SLACK_MS: u64 = 60_000;
/// Rows one page of a listing may look at for each register it may return.
const ROWS_PER_REGISTER: usize = 16;

const NAMESPACE: &str = "SELECT id FROM namespaces WHERE name = ?1";
const CREATE_NAMESPACE: &str = "INSERT INTO namespaces (name) VALUES (?1)";
const FIND: &str = "SELECT hard, soft, keep_until FROM registers WHERE ns = ?1 AND name = ?2";
const CREATE: &str =
    "INSERT INTO registers (ns, name, hard, soft, keep_until) VALUES (?1, ?2, ?3, ?4, ?5)";
const KEEP: &str = "UPDATE registers SET keep_until = ?3 WHERE ns = ?1 AND name = ?2";
const CHANGE: &str = "UPDATE registers SET hard = ?3, soft = ?4 WHERE ns = ?1 AND name = ?2";
const SOFTEN: &str = "UPDATE registers SET soft = ?3 WHERE ns = ?1 AND name = ?2";
const REMOVE: &str = "DELETE FROM registers WHERE ns = ?1 AND name = ?2";
const LIST: &str = "SELECT name FROM registers WHERE ns = (SELECT id FROM namespaces WHERE name = ?1) \
    AND name >= ?2 AND (?3 IS NULL OR name < ?3) ORDER BY name LIMIT ?4";
const ANY_DUE: &str = "SELECT EXISTS (SELECT 1 FROM registers WHERE keep_until <= ?1)";
const PRUNE: &str = "DELETE FROM registers WHERE (ns, name) IN \
    (SELECT ns, name FROM registers WHERE keep_until <= ?1 ORDER BY keep_until LIMIT ?2)";
const RECLAIM: &str = "DELETE FROM registers WHERE (ns, name) IN \
    (SELECT r.ns, r.name FROM dead_namespaces d CROSS JOIN registers r ON r.ns = d.id LIMIT ?1)";

/// A register as it is.
struct Kept {
    nonces: Nonces,
    until_ms: u64,
}

fn find(
    statement: &mut CachedStatement<'_>,
    ns: i64,
    register: &Register,
) -> rusqlite::Result<Option<Kept>> {
    statement
        .query_row(params![ns, register.as_bytes()], |row| {
            let nonces = Nonces {
                hard: row.get::<_, i64>(0)?.cast_unsigned(),
                soft: row.get::<_, i64>(1)?.cast_unsigned(),
            };
            let until_ms = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(Kept { nonces, until_ms })
        })
        .optional()
}

pub(super) fn namespace_id(
    connection: &Connection,
    namespace: &Namespace,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(NAMESPACE)?
        .query_row([namespace.as_bytes()], |row| row.get(0))
        .optional()
}

/// Returns the id of a namespace, which may be new. The caller has begun a transaction.
pub(super) fn ensure_namespace(
    connection: &Connection,
    namespace: &Namespace,
) -> rusqlite::Result<i64> {
    match namespace_id(connection, namespace)? {
        Some(ns) => Ok(ns),
        None => {
            let name = [namespace.as_bytes()];
            connection.prepare_cached(CREATE_NAMESPACE)?.execute(name)?;
            Ok(connection.last_insert_rowid())
        }
    }
}

/// Judges an entry of this namespace, given itself or its head. One without stamps costs nothing.
pub(super) fn judge(connection: &Connection, ns: i64, entry: &Bytes) -> rusqlite::Result<Verdict> {
    if !envelope::has_stamps(entry) {
        return Ok(Verdict::Valid);
    }
    let mut statement = connection.prepare_cached(FIND)?;
    let mut failed = None;
    let verdict = verdict(entry, |register| {
        let found = find(&mut statement, ns, register).unwrap_or_else(|error| {
            failed = Some(error);
            None
        });
        found.map(|kept| kept.nonces)
    });
    failed.map_or(Ok(verdict), Err)
}

/// Compares the stamps of what is under a key of this namespace with the registers.
pub(super) fn examine(
    connection: &Connection,
    ns: i64,
    found: Examined,
) -> rusqlite::Result<Examined> {
    let mut statement = connection.prepare_cached(FIND)?;
    let mut failed = None;
    let examined = found.judged(|register| {
        let kept = find(&mut statement, ns, register).unwrap_or_else(|error| {
            failed = Some(error);
            None
        });
        kept.map(|kept| kept.nonces)
    });
    failed.map_or(Ok(examined), Err)
}

/// Returns the stamps of registers if all of them are there and kept for long enough; for readers.
pub(super) fn peek(
    connection: &Connection,
    namespace: &Namespace,
    registers: &[Register],
    now_ms: u64,
) -> rusqlite::Result<Option<Vec<Stamp>>> {
    let Some(ns) = namespace_id(connection, namespace)? else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(FIND)?;
    let mut stamps = Vec::with_capacity(registers.len());
    for register in registers {
        match find(&mut statement, ns, register)? {
            Some(kept) if kept.until_ms >= now_ms.saturating_add(MIN_REGISTER_MS) => {
                stamps.push(kept.nonces.stamp(register));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(stamps))
}

/// Returns the stamps of registers and creates what is not there. The caller has begun a transaction.
pub(super) fn capture(
    connection: &Connection,
    namespace: &Namespace,
    registers: &[Register],
    now_ms: u64,
) -> rusqlite::Result<Vec<Stamp>> {
    let ns = ensure_namespace(connection, namespace)?;
    let until_ms = now_ms.saturating_add(MIN_REGISTER_MS);
    let mut statement = connection.prepare_cached(FIND)?;
    let mut stamp = |register: &Register| -> rusqlite::Result<Stamp> {
        let nonces = match find(&mut statement, ns, register)? {
            Some(kept) => {
                if kept.until_ms < until_ms {
                    keep_one(connection, ns, register, with_slack(until_ms))?;
                }
                kept.nonces
            }
            None => create(connection, ns, register, until_ms)?,
        };
        Ok(nonces.stamp(register))
    };
    registers.iter().map(&mut stamp).collect()
}

fn create(
    connection: &Connection,
    ns: i64,
    register: &Register,
    until_ms: u64,
) -> rusqlite::Result<Nonces> {
    let nonces = Nonces::fresh();
    connection.prepare_cached(CREATE)?.execute(params![
        ns,
        register.as_bytes(),
        nonces.hard.cast_signed(),
        nonces.soft.cast_signed(),
        with_slack(until_ms)
    ])?;
    Ok(nonces)
}

fn keep_one(
    connection: &Connection,
    ns: i64,
    register: &Register,
    keep_until: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(KEEP)?
        .execute(params![ns, register.as_bytes(), keep_until])
        .map(drop)
}

/// Keeps the registers of an entry that is being written for longer than the entry.
pub(super) fn keep(
    connection: &Connection,
    namespace: &Namespace,
    entry: &Bytes,
    expires_at_ms: Option<u64>,
) -> rusqlite::Result<()> {
    if !envelope::has_stamps(entry) {
        return Ok(());
    }
    let Some(ns) = namespace_id(connection, namespace)? else {
        return Ok(());
    };
    let until_ms = expires_at_ms.map_or(u64::MAX, |at| at.saturating_add(REGISTER_GRACE_MS));
    let mut statement = connection.prepare_cached(FIND)?;
    for register in envelope::registers(entry) {
        let Some(kept) = find(&mut statement, ns, &register)? else {
            continue;
        };
        if outliving(kept.until_ms, until_ms) > kept.until_ms && !is_for_good(kept.until_ms) {
            let keep_until = with_slack(outliving(kept.until_ms, until_ms));
            keep_one(connection, ns, &register, keep_until)?;
        }
    }
    Ok(())
}

/// Takes a step towards the end of registers; returns to which it applied. The caller has begun a transaction.
pub(super) fn retire(
    connection: &Connection,
    namespace: &Namespace,
    registers: &[Register],
    (step, now_ms): (Retirement, u64),
) -> rusqlite::Result<Vec<bool>> {
    let Some(ns) = namespace_id(connection, namespace)? else {
        return Ok(vec![false; registers.len()]);
    };
    let mut statement = connection.prepare_cached(FIND)?;
    let mut retire = |register: &Register| -> rusqlite::Result<bool> {
        let kept = find(&mut statement, ns, register)?;
        let until_ms = kept.as_ref().map(|kept| kept.until_ms);
        let retired = until_ms.and_then(|until_ms| step.apply(until_ms, now_ms));
        if let Some(until_ms) = retired
            && step != Retirement::Look
        {
            keep_one(connection, ns, register, signed(until_ms))?;
        }
        Ok(retired.is_some())
    };
    registers.iter().map(&mut retire).collect()
}

/// Invalidates registers; returns which were there. The caller has begun a transaction.
pub(super) fn invalidate(
    connection: &Connection,
    namespace: &Namespace,
    registers: &[Register],
    how: Invalidation,
) -> rusqlite::Result<Vec<bool>> {
    let Some(ns) = namespace_id(connection, namespace)? else {
        return Ok(vec![false; registers.len()]);
    };
    let fresh = Nonces::fresh();
    let numbers = (fresh.hard.cast_signed(), fresh.soft.cast_signed());
    let any = Register::any();
    let row = params![ns, any.as_bytes(), numbers.0, numbers.1];
    connection.prepare_cached(CHANGE)?.execute(row)?;
    let invalidate = |register: &Register| -> rusqlite::Result<bool> {
        let name = register.as_bytes();
        let changed = match how {
            Invalidation::Hard => connection
                .prepare_cached(REMOVE)?
                .execute(params![ns, name])?,
            Invalidation::Soft => {
                let soft = Nonces::fresh().soft.cast_signed();
                connection
                    .prepare_cached(SOFTEN)?
                    .execute(params![ns, name, soft])?
            }
        };
        journal::note_invalidation(connection, ns, register)?;
        Ok(changed > 0)
    };
    registers.iter().map(invalidate).collect()
}

/// Lists one page in order of names; the cursor is the lowest name of the next page.
pub(super) fn scan(
    connection: &Connection,
    namespace: &Namespace,
    pattern: &Glob,
    cursor: Option<&Bytes>,
    limit: usize,
) -> rusqlite::Result<RegisterPage> {
    let (first, end) = key_range(pattern);
    let from = cursor.map_or(first, |cursor| cursor.to_vec());
    let rows = limit.max(1).saturating_mul(ROWS_PER_REGISTER);
    let mut statement = connection.prepare_cached(LIST)?;
    let mut found = statement.query(params![namespace.as_bytes(), from, end, rows as i64])?;
    let any = Register::any();
    let mut page = RegisterPage::default();
    let mut seen = 0;
    while let Some(row) = found.next()? {
        seen += 1;
        let name = row.get_ref(0)?.as_blob()?;
        if name != any.as_bytes() && pattern.matches(name) {
            page.registers.extend(Register::from_bytes(name));
        }
        if page.registers.len() >= limit.max(1) || seen >= rows {
            page.next = Some([name, &[0]].concat().into());
            break;
        }
    }
    Ok(page)
}

/// Returns whether there are registers whose time to be kept is over.
pub(super) fn any_due(connection: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(ANY_DUE)?
        .query_row([signed(now_ms)], |row| row.get(0))
}

/// Removes registers whose time to be kept is over, which no entry carries any more.
pub(super) fn prune(connection: &Connection, now_ms: u64, limit: i64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(PRUNE)?
        .execute(params![signed(now_ms), limit])
}

/// Removes registers of cleared namespaces.
pub(super) fn reclaim(connection: &Connection, limit: i64) -> rusqlite::Result<usize> {
    connection.prepare_cached(RECLAIM)?.execute([limit])
}

fn is_for_good(until_ms: u64) -> bool {
    until_ms >= i64::MAX.cast_unsigned()
}

fn with_slack(until_ms: u64) -> i64 {
    signed(until_ms.saturating_add(KEEP_SLACK_MS))
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
