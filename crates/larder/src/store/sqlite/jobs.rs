//! The changes a writer can make, as jobs that run inside a transaction.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, params};

use super::tagging::Tagging;
use super::{journal, leases, readers, registers};
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::lease::Owner;
use crate::store::host::{Id, Ledger, Outcome, Rule};
use crate::store::{Change, Condition, Expiry, LoadBegun, Stamp, Write};

/// Not from a SELECT, which a table with triggers makes SQLite copy to a temporary table first.
const PUT: &str = "INSERT OR REPLACE INTO entries (ns, key, expires_at, head, value) \
    VALUES ((SELECT id FROM namespaces WHERE name = ?1), ?2, ?3, ?4, ?5)";
const DELETE: &str =
    "DELETE FROM entries WHERE ns = (SELECT id FROM namespaces WHERE name = ?1) AND key = ?2";
const TOUCH: &str = "UPDATE entries SET expires_at = ?3 \
    WHERE ns = (SELECT id FROM namespaces WHERE name = ?1) AND key = ?2";
const CREATE_NAMESPACE: &str = "INSERT OR IGNORE INTO namespaces (name) VALUES (?1)";
const BURY_NAMESPACE: &str =
    "INSERT INTO dead_namespaces (id) SELECT id FROM namespaces WHERE name = ?1";
const DROP_NAMESPACE: &str = "DELETE FROM namespaces WHERE name = ?1";

/// A change, borrowed from the caller while it runs on the caller's thread.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job<'a> {
    Write {
        namespace: &'a Namespace,
        writes: &'a [Write<'a>],
    },
    Increment {
        namespace: &'a Namespace,
        key: &'a [u8],
        by: i64,
        expiry: Expiry,
    },
    Clear {
        namespace: &'a Namespace,
    },
    Lease {
        ledger: &'a Arc<Ledger>,
        id: &'a Id,
        rule: &'a Rule,
    },
    Tagging {
        namespace: &'a Namespace,
        work: &'a Tagging,
    },
}

/// A change that waits in the queue of another thread.
#[derive(Debug)]
pub(super) enum OwnedJob {
    Write {
        namespace: Namespace,
        writes: Vec<OwnedWrite>,
    },
    Increment {
        namespace: Namespace,
        key: Vec<u8>,
        by: i64,
        expiry: Expiry,
    },
    Clear {
        namespace: Namespace,
    },
    Lease {
        ledger: Arc<Ledger>,
        id: Id,
        rule: Rule,
    },
    Tagging {
        namespace: Namespace,
        work: Tagging,
    },
}

#[derive(Debug)]
pub(super) struct OwnedWrite {
    key: Vec<u8>,
    change: Change,
    expiry: Expiry,
    condition: Condition,
}

/// What a job answers.
#[derive(Debug)]
pub(super) enum Reply {
    Applied(Vec<bool>),
    Sum(i64),
    Cleared,
    /// The outcome, and whose turn it may be now.
    Lease(Outcome, Option<Owner>),
    Stamps(Vec<Stamp>),
    Begun(LoadBegun),
}

impl Job<'_> {
    pub(super) fn to_owned(self) -> OwnedJob {
        match self {
            Self::Write { namespace, writes } => OwnedJob::Write {
                namespace: namespace.clone(),
                writes: writes.iter().map(OwnedWrite::from).collect(),
            },
            Self::Increment {
                namespace,
                key,
                by,
                expiry,
            } => OwnedJob::Increment {
                namespace: namespace.clone(),
                key: key.to_vec(),
                by,
                expiry,
            },
            Self::Clear { namespace } => OwnedJob::Clear {
                namespace: namespace.clone(),
            },
            Self::Lease { ledger, id, rule } => OwnedJob::Lease {
                ledger: Arc::clone(ledger),
                id: id.clone(),
                rule: rule.clone(),
            },
            Self::Tagging { namespace, work } => OwnedJob::Tagging {
                namespace: namespace.clone(),
                work: work.clone(),
            },
        }
    }

    /// Returns whether the job is one statement, which is a transaction by itself.
    fn is_single_statement(&self) -> bool {
        matches!(self, Self::Write { writes: [write], .. } if write.condition == Condition::Always
            && matches!(&write.change, Change::Put(value) if !envelope::has_stamps(value))
            && matches!(write.expiry, Expiry::After(_) | Expiry::Never))
    }

    /// Returns about how many bytes the job writes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Write { writes, .. } => writes.iter().map(written_bytes).sum(),
            Self::Increment { .. } | Self::Clear { .. } => 128,
            Self::Lease { .. } => 512,
            Self::Tagging { work, .. } => work.bytes(),
        }
    }

    /// Makes the change. A logical refusal (wrong type, overflow) is the inner error and has changed nothing.
    pub(super) fn run(
        &self,
        connection: &Connection,
        now_ms: u64,
    ) -> rusqlite::Result<Result<Reply>> {
        match self {
            Self::Write { namespace, writes } => {
                let apply = |write| apply(connection, namespace, write, now_ms);
                let applied = writes.iter().map(apply).collect::<rusqlite::Result<_>>()?;
                Ok(Ok(Reply::Applied(applied)))
            }
            Self::Increment {
                namespace,
                key,
                by,
                expiry,
            } => increment(connection, namespace, key, *by, (*expiry, now_ms)),
            Self::Clear { namespace } => {
                let name = [namespace.as_bytes()];
                connection.prepare_cached(BURY_NAMESPACE)?.execute(name)?;
                connection.prepare_cached(DROP_NAMESPACE)?.execute(name)?;
                Ok(Ok(Reply::Cleared))
            }
            Self::Lease { ledger, id, rule } => leases::apply(connection, ledger, id, rule),
            Self::Tagging { namespace, work } => work.run(connection, namespace, now_ms),
        }
    }
}

impl OwnedJob {
    /// Returns the writes of the job in borrowed form, to be lent to [`OwnedJob::borrow`].
    pub(super) fn writes(&self) -> Vec<Write<'_>> {
        match self {
            Self::Write { writes, .. } => writes.iter().map(OwnedWrite::borrow).collect(),
            Self::Increment { .. }
            | Self::Clear { .. }
            | Self::Lease { .. }
            | Self::Tagging { .. } => Vec::new(),
        }
    }

    pub(super) fn borrow<'a>(&'a self, writes: &'a [Write<'a>]) -> Job<'a> {
        match self {
            Self::Write { namespace, .. } => Job::Write { namespace, writes },
            Self::Increment {
                namespace,
                key,
                by,
                expiry,
            } => Job::Increment {
                namespace,
                key,
                by: *by,
                expiry: *expiry,
            },
            Self::Clear { namespace } => Job::Clear { namespace },
            Self::Lease { ledger, id, rule } => Job::Lease { ledger, id, rule },
            Self::Tagging { namespace, work } => Job::Tagging { namespace, work },
        }
    }
}

impl From<&Write<'_>> for OwnedWrite {
    fn from(write: &Write<'_>) -> Self {
        Self {
            key: write.key.to_vec(),
            change: write.change.clone(),
            expiry: write.expiry,
            condition: write.condition,
        }
    }
}

impl OwnedWrite {
    fn borrow(&self) -> Write<'_> {
        let change = self.change.clone();
        Write {
            key: &self.key,
            change,
            expiry: self.expiry,
            condition: self.condition,
        }
    }
}

fn written_bytes(write: &Write<'_>) -> u64 {
    let value = match &write.change {
        Change::Put(value) => value.len(),
        Change::Delete | Change::Touch => 0,
    };
    (write.key.len() + value + 128) as u64
}

fn apply(
    connection: &Connection,
    namespace: &Namespace,
    write: &Write<'_>,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let unconditional = write.condition == Condition::Always;
    if let (Change::Put(value), true, Expiry::After(_) | Expiry::Never) =
        (&write.change, unconditional, write.expiry)
    {
        put(
            connection,
            namespace,
            write.key,
            value,
            write.expiry.at(now_ms, None),
        )?;
        return Ok(true);
    }
    let present = readers::present(connection, namespace, write.key, now_ms)?;
    if !write
        .condition
        .holds(present.as_ref().map(|entry| &entry.value))
    {
        return Ok(false);
    }
    let is_entry = present
        .as_ref()
        .is_some_and(|present| !envelope::is_load(&present.value));
    // A load under way has no expiry to keep, and only its loader may touch it.
    let is_loaders_touch = matches!(
        (&write.change, write.condition),
        (Change::Touch, Condition::IfUnchanged(_))
    );
    let kept = present.filter(|_| is_entry || is_loaders_touch);
    let kept_expiry = kept.as_ref().and_then(|kept| kept.expires_at_ms);
    let expires_at = write.expiry.at(now_ms, kept_expiry);
    let name = namespace.as_bytes();
    match (&write.change, kept) {
        (Change::Put(value), _) => {
            put(connection, namespace, write.key, value, expires_at)?;
            Ok(true)
        }
        (Change::Delete, _) => {
            // Also what is expired, invalid or a mark.
            connection
                .prepare_cached(DELETE)?
                .execute(params![name, write.key])?;
            if is_entry {
                journal::note_removal(connection, namespace, write.key)?;
            }
            Ok(is_entry)
        }
        (Change::Touch, Some(kept)) => {
            let at = expires_at.map(|at| at as i64);
            connection
                .prepare_cached(TOUCH)?
                .execute(params![name, write.key, at])?;
            registers::keep(connection, namespace, &kept.value, expires_at)?;
            Ok(true)
        }
        (Change::Touch, None) => Ok(false),
    }
}

/// Stores an entry and keeps its registers; creates the namespace's row when it is the first.
pub(super) fn put(
    connection: &Connection,
    namespace: &Namespace,
    key: &[u8],
    value: &Bytes,
    expires_at: Option<u64>,
) -> rusqlite::Result<()> {
    let at = expires_at.map(|at| at as i64);
    let head = envelope::head(value);
    let mut insert = connection.prepare_cached(PUT)?;
    let row = params![namespace.as_bytes(), key, at, head.as_deref(), &value[..]];
    // Without the namespace, its id is null, which is refused.
    let is_refused =
        |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation);
    while let Err(error) = insert.execute(row) {
        if !is_refused(&error) {
            return Err(error);
        }
        connection
            .prepare_cached(CREATE_NAMESPACE)?
            .execute([namespace.as_bytes()])?;
    }
    registers::keep(connection, namespace, value, expires_at)
}

fn increment(
    connection: &Connection,
    namespace: &Namespace,
    key: &[u8],
    by: i64,
    (expiry, now_ms): (Expiry, u64),
) -> rusqlite::Result<Result<Reply>> {
    let is_entry = |value: &Bytes| envelope::is_readable(value) && !envelope::is_load(value);
    let present = readers::present(connection, namespace, key, now_ms)?
        .filter(|entry| is_entry(&entry.value));
    let created = expiry.at(now_ms, None);
    let ttl_ms = created.map(|at| at - now_ms);
    let old = present.as_ref().map(|entry| &entry.value);
    match envelope::increment(old, by, now_ms, ttl_ms) {
        Ok((value, sum)) => {
            let expires_at = present.map_or(created, |entry| entry.expires_at_ms);
            put(connection, namespace, key, &value, expires_at)?;
            Ok(Ok(Reply::Sum(sum)))
        }
        Err(refused) => Ok(Err(refused)),
    }
}

/// Runs the jobs in one transaction; on an error nothing of them is done.
///
/// One unconditional put needs no explicit transaction: its statement is one. A delete reads first, to tell whether
/// there was an entry.
pub(super) fn run_all(
    connection: &Connection,
    jobs: &[Job<'_>],
    now_ms: u64,
) -> rusqlite::Result<Vec<Result<Reply>>> {
    if let [job] = jobs
        && job.is_single_statement()
    {
        return Ok(vec![job.run(connection, now_ms)?]);
    }
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let run = || -> rusqlite::Result<Vec<Result<Reply>>> {
        let replies = jobs
            .iter()
            .map(|job| job.run(connection, now_ms))
            .collect::<rusqlite::Result<_>>()?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(replies)
    };
    run().inspect_err(|_| {
        // A full disk may have ended the transaction already; then there is nothing to roll back.
        let _ = connection.execute_batch("ROLLBACK");
    })
}
