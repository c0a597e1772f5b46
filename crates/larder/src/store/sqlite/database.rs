//! Opens the database file: creates it, checks that it is ours, moves what is not aside.
//!
//! Opening is serialised between processes by a lock on `<file>.lock`, so exactly one of them creates or
//! replaces the file. A file that is damaged or belongs to something else is renamed to
//! `<file>.aside-<time>` and never deleted; one that a killed process left without tables is completed. A connection that meets damage later leaves the mark
//! `<file>.damaged` with the file's identity, which makes the next opening, or the upkeep of an open store, move the file aside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::store_error;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// Marks the file as ours: "LARD".
const APPLICATION_ID: i32 = 0x4C41_5244;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const SCHEMA_VERSION: i32 = 4;
const SCHEMA: &str = include_str!("schema.sql");
/// Fails unless all tables are there.
const PROBE: &str = "SELECT ns, key, expires_at, head, value FROM entries LIMIT 1; \
    SELECT ns, name, hard, soft, keep_until FROM registers LIMIT 1; \
    SELECT id, name FROM namespaces LIMIT 1; SELECT id FROM dead_namespaces LIMIT 1; \
    SELECT kind, space, name, keep_until, record FROM leases LIMIT 1; \
    SELECT ns, id, seen_at FROM readers LIMIT 1; SELECT id, ns, kind, name, write_id FROM changes LIMIT 1;";
const IS_UNUSED: &str = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
/// How long opening waits for another process.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// The page cache of one connection.
const PAGE_CACHE_KIB: i32 = 8 << 10;
/// The part of the file that reads map into memory.
const MMAP_BYTES: i64 = 256 << 20;
/// Backstop for the case that background checkpoints fall behind: pages in the write-ahead log.
const AUTO_CHECKPOINT_PAGES: i32 = 16 << 10;
/// Statements kept prepared per connection.
const STATEMENTS: usize = 64;

/// Which file a path named when it was opened: device and inode.
pub(super) type FileId = (u64, u64);

/// Returns the path from the root: connections are opened at any time, and the process may change its directory. SQLite
/// reads some relative names, such as `:memory:`, as no file at all.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| io_error(path, error))
}

/// Creates or opens the file and returns its identity and where an unusable one was moved, if any.
pub(super) fn prepare(path: &Path) -> Result<(FileId, Option<PathBuf>)> {
    create_parent(path).map_err(|error| io_error(path, error))?;
    let _lock = lock_opening(path).map_err(|error| io_error(path, error))?;
    let usable = !is_marked_damaged(path) && is_usable(path)?;
    let moved = if usable { None } else { move_aside(path)? };
    create_file(path).map_err(|error| io_error(path, error))?;
    let connection = open_raw(path)?;
    create_schema(&connection).map_err(|error| store_error(error).operation("open"))?;
    let id = file_id(path).map_err(|error| io_error(path, error))?;
    Ok((id, moved))
}

/// A connection that knows which file it has open, and marks it when it meets damage.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    file: FileId,
}

impl Database {
    /// Leaves the mark if the outcome is damage.
    pub(super) fn watch<T>(&self, outcome: rusqlite::Result<T>) -> rusqlite::Result<T> {
        outcome.inspect_err(|error| {
            if is_damage(error) {
                mark_damaged(&self.path, self.file);
            }
        })
    }
}

impl Deref for Database {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Opens one more connection to a prepared file.
pub(super) fn connect(path: &Path) -> Result<Database> {
    let file = file_id(path).map_err(|error| io_error(path, error))?;
    let connection = open_raw(path)?;
    let set_up = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
        connection.pragma_update(None, "mmap_size", MMAP_BYTES)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "wal_autocheckpoint", AUTO_CHECKPOINT_PAGES)
    };
    set_up().map_err(|error| store_error(error).operation("open"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let path = path.to_owned();
    Ok(Database {
        connection,
        path,
        file,
    })
}

/// Returns the identity of the file that the path names now.
pub(super) fn file_id(path: &Path) -> io::Result<FileId> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns the size of the write-ahead log in bytes.
pub(super) fn log_bytes(path: &Path) -> u64 {
    fs::metadata(sibling(path, "-wal")).map_or(0, |metadata| metadata.len())
}

/// Returns whether a connection met damage in the file that the path names now.
///
/// A connection may still have a former file open when that was moved aside already; its mark says nothing about
/// the new one.
pub(super) fn is_marked_damaged(path: &Path) -> bool {
    let marked = fs::read_to_string(damage_mark(path));
    marked.is_ok_and(|marked| file_id(path).is_ok_and(|file| marked == mark_of(file)))
}

/// Asks the next opening to move the file aside, which the upkeep of each open store soon does.
fn mark_damaged(path: &Path, file: FileId) {
    if let Err(error) = fs::write(damage_mark(path), mark_of(file)) {
        tracing::warn!(path = %path.display(), %error, "cannot mark the cache database as damaged");
    }
}

fn mark_of((device, inode): FileId) -> String {
    format!("{device}:{inode}")
}

/// Returns whether the database's content is broken.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn open_raw(path: &Path) -> Result<Connection> {
    open_quiet(path).map_err(|error| store_error(error).operation("open"))
}

/// Opens a connection that waits for others and does not move the log into the file when it is the last to close:
/// that flushes the disk several times, and the store decides itself when it is worth it.
fn open_quiet(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(OPEN_PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn create_schema(connection: &Connection) -> rusqlite::Result<()> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; \
         PRAGMA user_version = {SCHEMA_VERSION}; {SCHEMA} COMMIT;"
    ))
}

/// Returns whether the path is free, empty, or a readable database: ours, or one that nobody has put anything in.
fn is_usable(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(io_error(path, error)),
        Ok(metadata) if !metadata.is_file() => {
            let message = format!("{} is not a file", path.display());
            return Err(Error::new(ErrorKind::InvalidConfig, message).store("sqlite"));
        }
        Ok(metadata) if metadata.len() == 0 => return Ok(true),
        Ok(_) => {}
    }
    // A file we may not read must be an error: only content decides about moving it aside.
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let check = || -> rusqlite::Result<bool> {
        let connection = open_quiet(path)?;
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        match (pragma("application_id")?, pragma("user_version")?) {
            (APPLICATION_ID, SCHEMA_VERSION) => connection.execute_batch(PROBE).map(|()| true),
            // Perhaps a process was killed between setting up the log and creating the tables.
            (0, 0) if has_magic(&file) => connection.query_row(IS_UNUSED, [], |row| row.get(0)),
            _ => Ok(false),
        }
    };
    match check() {
        Ok(ours) => Ok(ours),
        Err(error) if is_transient(&error) => Err(store_error(error).operation("open")),
        Err(_) => Ok(false),
    }
}

/// Returns whether the file begins as every database does that SQLite has begun to write: to SQLite, a short file of
/// anything else is an empty database.
fn has_magic(file: &File) -> bool {
    let mut start = [0; MAGIC.len()];
    file.read_exact_at(&mut start, 0).is_ok() && start == *MAGIC
}

/// Returns whether the failure says nothing about the file's content.
fn is_transient(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
        )
    )
}

/// Renames the file, its log and its index; returns the new name of the file.
fn move_aside(path: &Path) -> Result<Option<PathBuf>> {
    let stamp = Clock::system().now_ms();
    let aside = sibling(path, &format!(".aside-{stamp}"));
    let mut moved = false;
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(sibling(path, suffix), sibling(&aside, suffix)) {
            Ok(()) => moved = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(path, error)),
        }
    }
    match fs::remove_file(damage_mark(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(path, error)),
        _ => {}
    }
    if moved {
        tracing::warn!(
            file = %path.display(), aside = %aside.display(),
            "the cache database was damaged or not ours; it was moved aside and a new one is used"
        );
    }
    Ok(moved.then_some(aside))
}

fn create_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent),
        _ => Ok(()),
    }
}

fn create_file(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn lock_opening(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(sibling(path, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Returns the directory in which processes tell each other that they are alive, the same by every name of the file.
pub(super) fn owners_dir(path: &Path) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or_else(|_unresolved| path.to_owned());
    sibling(&path, ".owners")
}

fn damage_mark(path: &Path) -> PathBuf {
    sibling(path, ".damaged")
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(path: &Path, error: io::Error) -> Error {
    let message = format!("cannot open {}: {error}", path.display());
    Error::new(ErrorKind::Unavailable, message)
        .store("sqlite")
        .caused_by(error)
}
