//! Tells local copies what has changed: the last changes are rows, which triggers write.
//!
//! A trigger is part of the statement that it follows, so no change can be without its row, whoever makes it and
//! whenever it is killed. Triggers write only while somebody reads the namespace: a row in `readers` says so. What the
//! store removes by itself, since nobody can read it any more, is no news: so removals and invalidations are noted by the
//! jobs that make them, in the same transaction.
//!
//! ```text
//! poll: own row there, same namespace id, no id missing --> the rows after the last one seen
//!                                                      \--> else announce anew, and everything may have changed
//! ```
//! No clock decides what a reader may miss. Who has not been heard of for long is forgotten, and finds out.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::upkeep::Upkeep;
use super::{Inner, registers, run_aside};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, Namespace};
use crate::store::{Journal, Note, Register};

/// A reader that polls says so at least this often.
const RENEW_MS: u64 = 60_000;
/// A reader that was not heard of for so long is forgotten; the clock may be changed meanwhile.
const LAPSE_MS: u64 = 600_000;
/// Rows read at a time.
const PAGE_ROWS: i64 = 1000;
/// The most rows that are kept, as in `schema.sql`, the fewest, and one for each so many bytes of the store's bound.
const MAX_KEPT: u64 = 10_000;
const MIN_KEPT: u64 = 64;
const BYTES_PER_KEPT: u64 = 64 << 10;
/// Rows removed in one transaction.
const BATCH_ROWS: i64 = 1000;

const STATUS: &str = "SELECT n.id, EXISTS (SELECT 1 FROM readers WHERE ns = n.id AND id = ?2), \
    (SELECT min(id) FROM changes), (SELECT max(id) FROM changes) FROM namespaces n WHERE n.name = ?1";
const NEXT: &str =
    "SELECT id, ns, kind, name, write_id FROM changes WHERE id > ?1 ORDER BY id LIMIT ?2";
const IS_READER: &str = "SELECT EXISTS (SELECT 1 FROM readers WHERE ns = ?1 AND id = ?2)";
const ANNOUNCE: &str = "INSERT OR REPLACE INTO readers (ns, id, seen_at) VALUES (?1, ?2, ?3)";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM changes";
const NOTE_REGISTER: &str = "INSERT INTO changes (ns, kind, name, write_id) \
    SELECT ?1, 1, ?2, x'' WHERE EXISTS (SELECT 1 FROM readers WHERE ns = ?1)";
const NOTE_REMOVAL: &str = "INSERT INTO changes (ns, kind, name, write_id) \
    SELECT n.id, 0, ?2, x'' FROM namespaces n WHERE n.name = ?1 AND EXISTS (SELECT 1 FROM readers WHERE ns = n.id)";
const ANY_LAPSED: &str =
    "SELECT EXISTS (SELECT 1 FROM readers WHERE seen_at NOT BETWEEN ?1 AND ?2)";
const FORGET_LAPSED: &str = "DELETE FROM readers WHERE seen_at NOT BETWEEN ?1 AND ?2";
/// How many rows there are, and whether somebody reads them.
const EXTENT: &str = "SELECT coalesce((SELECT max(id) FROM changes) - (SELECT min(id) FROM changes) + 1, 0), \
    EXISTS (SELECT 1 FROM readers)";
const TRIM: &str = "DELETE FROM changes WHERE id IN (SELECT id FROM changes \
    WHERE id <= (SELECT max(id) FROM changes) - ?1 ORDER BY id LIMIT ?2)";

/// How far a reader has come.
#[derive(Debug, Clone, Copy)]
struct Place {
    ns: i64,
    /// The last row that it has seen.
    row: i64,
    /// When it said last that it is there, by the monotonic clock.
    renewed_ms: u64,
}

/// The changes of one namespace.
#[derive(Debug)]
pub(super) struct Changes {
    store: Weak<Inner>,
    namespace: Namespace,
    reader: i64,
    /// `None`: something may have been missed.
    place: Option<Place>,
}

impl Changes {
    pub(super) fn new(store: &Arc<Inner>, namespace: &Namespace) -> Self {
        Self {
            store: Arc::downgrade(store),
            namespace: namespace.clone(),
            reader: fastrand::i64(..),
            place: None,
        }
    }

    async fn read(&mut self) -> Result<Vec<Note>> {
        let Some(store) = self.store.upgrade() else {
            return Err(Error::new(ErrorKind::Unavailable, "the store is closed").store("sqlite"));
        };
        self.renew(&store.upkeep).await?;
        let mut notes = Vec::new();
        while let Some(place) = self.place {
            let page = |connection: &_| self.page(connection, place);
            match store.upkeep.readers.read(page)? {
                Page::Missed => self.place = None,
                Page::Read { row, is_last, news } => {
                    self.place = Some(Place { row, ..place });
                    notes.extend(news);
                    if is_last {
                        return Ok(notes);
                    }
                }
            }
        }
        let (announced, _) = self.announce(&store.upkeep).await?;
        self.place = Some(announced);
        Ok(vec![Note::All])
    }

    /// Says that it is still there, if it is time. Whoever was forgotten meanwhile may have missed something, and so may one
    /// whose future was dropped before the answer.
    async fn renew(&mut self, upkeep: &Arc<Upkeep>) -> Result<()> {
        let now_ms = upkeep.clock.monotonic_ms();
        let is_due = |place: &Place| now_ms.saturating_sub(place.renewed_ms) >= RENEW_MS;
        let Some(place) = self.place.filter(is_due) else {
            return Ok(());
        };
        self.place = None;
        let (announced, was_known) = self.announce(upkeep).await?;
        if was_known && announced.ns == place.ns {
            let row = place.row;
            self.place = Some(Place { row, ..announced });
        }
        Ok(())
    }

    /// Reads the rows after a place, in one state of the database.
    fn page(&self, connection: &Connection, place: Place) -> rusqlite::Result<Page> {
        let snapshot = connection.unchecked_transaction()?;
        let status = connection
            .prepare_cached(STATUS)?
            .query_row(params![self.namespace.as_bytes(), self.reader], |row| {
                let is_ours = row.get::<_, i64>(0)? == place.ns && row.get(1)?;
                let first: i64 = row.get::<_, Option<i64>>(2)?.unwrap_or(0);
                let last: i64 = row.get::<_, Option<i64>>(3)?.unwrap_or(0);
                Ok((is_ours && first <= place.row + 1 && last >= place.row).then_some(last))
            })
            .optional()?
            .flatten();
        let Some(last) = status else {
            return Ok(Page::Missed);
        };
        let (mut row_id, mut news) = (place.row, Vec::new());
        if last > place.row {
            let mut statement = connection.prepare_cached(NEXT)?;
            let mut rows = statement.query(params![place.row, PAGE_ROWS])?;
            while let Some(row) = rows.next()? {
                row_id = row.get(0)?;
                if row.get::<_, i64>(1)? == place.ns {
                    news.extend(note(row.get(2)?, row.get(3)?, row.get(4)?));
                }
            }
        }
        snapshot.commit()?;
        Ok(Page::Read {
            row: row_id,
            is_last: row_id >= last,
            news,
        })
    }

    /// Says that somebody reads; returns the place of whoever has seen everything, and whether it was known already.
    async fn announce(&self, upkeep: &Arc<Upkeep>) -> Result<(Place, bool)> {
        let (upkeep, namespace, reader) = (Arc::clone(upkeep), self.namespace.clone(), self.reader);
        run_aside(move || {
            let renewed_ms = upkeep.clock.monotonic_ms();
            let now_ms = upkeep.clock.now_ms().cast_signed();
            upkeep.writer.maintain(|connection| {
                connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                let ns = registers::ensure_namespace(connection, &namespace)?;
                let was_known = connection
                    .prepare_cached(IS_READER)?
                    .query_row(params![ns, reader], |row| row.get(0))?;
                connection
                    .prepare_cached(ANNOUNCE)?
                    .execute(params![ns, reader, now_ms])?;
                let row = connection
                    .prepare_cached(LAST)?
                    .query_row([], |row| row.get(0))?;
                connection.prepare_cached("COMMIT")?.execute([])?;
                let place = Place {
                    ns,
                    row,
                    renewed_ms,
                };
                Ok((place, was_known))
            })
        })
        .await
    }
}

/// What was found after a place.
enum Page {
    /// It cannot be told what has changed.
    Missed,
    Read {
        row: i64,
        is_last: bool,
        news: Vec<Note>,
    },
}

/// Returns what a row says; `None`: it is of a later version of the program.
fn note(kind: i64, name: Vec<u8>, write_id: Vec<u8>) -> Option<Note> {
    match kind {
        0 => Some(Note::Key {
            key: Key::from(name),
            write_id: write_id.try_into().map_or(0, u64::from_le_bytes),
        }),
        1 => Register::from_bytes(&name).map(Note::Register),
        _ => Some(Note::All),
    }
}

#[async_trait]
impl Journal for Changes {
    fn parts(&self) -> usize {
        1
    }

    fn part_of(&self, _key: &[u8]) -> usize {
        0
    }

    async fn poll(&mut self) -> Vec<Result<Vec<Note>>> {
        vec![self.read().await]
    }
}

/// Notes that an entry was removed, if somebody reads. The caller has begun a transaction.
pub(super) fn note_removal(
    connection: &Connection,
    namespace: &Namespace,
    key: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(NOTE_REMOVAL)?
        .execute(params![namespace.as_bytes(), key])
        .map(drop)
}

/// Notes that a register was invalidated, whether it was there or not, if somebody reads. The caller has begun a transaction.
pub(super) fn note_invalidation(
    connection: &Connection,
    ns: i64,
    register: &Register,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(NOTE_REGISTER)?
        .execute(params![ns, register.as_bytes()])
        .map(drop)
}

/// Forgets readers that are gone, and rows that are too many for the store's bound or that nobody reads.
pub(super) fn tidy(upkeep: &Upkeep) -> Result<()> {
    let now_ms = upkeep.clock.now_ms();
    let alive = [
        now_ms.saturating_sub(LAPSE_MS).cast_signed(),
        now_ms.saturating_add(LAPSE_MS).cast_signed(),
    ];
    let any_lapsed = |connection: &Connection| {
        connection
            .prepare_cached(ANY_LAPSED)?
            .query_row(alive, |row| row.get(0))
    };
    if upkeep.readers.read(any_lapsed)? {
        let forget = |connection: &Connection| connection.execute(FORGET_LAPSED, alive);
        upkeep.writer.maintain(forget)?;
    }
    let extent = |connection: &Connection| {
        connection
            .prepare_cached(EXTENT)?
            .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
    };
    let (rows, is_read) = upkeep.readers.read(extent)?;
    let kept = match is_read {
        true => (upkeep.max_bytes / BYTES_PER_KEPT).clamp(MIN_KEPT, MAX_KEPT),
        // Ids must go on where they are.
        false => 1,
    };
    let excess = rows.cast_unsigned().saturating_sub(kept);
    for _ in 0..excess.div_ceil(BATCH_ROWS.cast_unsigned()) {
        let trim = |connection: &Connection| {
            connection
                .prepare_cached(TRIM)?
                .execute([kept.cast_signed(), BATCH_ROWS])
        };
        upkeep.writer.maintain(trim)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::clock::ManualClock;
    use crate::codec::Encoding;
    use crate::envelope::{self, Header};
    use crate::store::{Expiry, Sqlite, Store, Write};

    struct Fixture {
        _dir: TempDir,
        time: ManualClock,
        store: Sqlite,
        other: Sqlite,
        journal: Box<dyn Journal>,
    }

    fn space() -> Namespace {
        Namespace::new("test", "journal", 1)
    }

    /// Two handles as of two processes, of which one reads.
    async fn fixture() -> Fixture {
        let (dir, time) = (TempDir::new().unwrap(), ManualClock::new());
        let open = || {
            let builder = Sqlite::builder(dir.path().join("cache.db"));
            builder.clock(time.clock()).build().unwrap()
        };
        let (store, other) = (open(), open());
        let mut journal = store.journal(&space()).unwrap();
        assert_eq!(news(&mut *journal).await, [Note::All]);
        assert_eq!(news(&mut *journal).await, []);
        Fixture {
            _dir: dir,
            time,
            store,
            other,
            journal,
        }
    }

    async fn news(journal: &mut dyn Journal) -> Vec<Note> {
        journal.poll().await.remove(0).unwrap()
    }

    async fn put(store: &Sqlite, key: &[u8]) -> Note {
        let value = envelope::seal(&Header::new(Encoding::Raw, 0, None), b"v", 1).unwrap();
        let write_id = envelope::write_id(&value);
        let put = Write::put(key, value, Expiry::Never);
        store.write_many(&space(), &[put]).await.unwrap();
        let key = Key::from(key);
        Note::Key { key, write_id }
    }

    fn count(store: &Sqlite, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = |connection: &Connection| connection.query_row(&sql, [], |row| row.get(0));
        store.inner.upkeep.readers.read(count).unwrap()
    }

    #[tokio::test]
    async fn another_handle_tells_in_order() {
        let mut on = fixture().await;
        let first = put(&on.other, b"a").await;
        let second = put(&on.store, b"b").await;
        assert_eq!(news(&mut *on.journal).await, [first, second]);
        let delete = Write::delete(b"a");
        on.other.write_many(&space(), &[delete]).await.unwrap();
        let gone = Note::Key {
            key: Key::from(&b"a"[..]),
            write_id: 0,
        };
        assert_eq!(news(&mut *on.journal).await, [gone]);
    }

    #[tokio::test]
    async fn nothing_is_noted_that_nobody_reads() {
        let dir = TempDir::new().unwrap();
        let store = Sqlite::open(dir.path().join("cache.db")).unwrap();
        put(&store, b"k").await;
        let delete = Write::delete(b"k");
        store.write_many(&space(), &[delete]).await.unwrap();
        assert_eq!(count(&store, "changes"), 0);
    }

    #[tokio::test]
    async fn clear_is_everything_and_the_reader_goes_on() {
        let mut on = fixture().await;
        on.other.clear(&space()).await.unwrap();
        put(&on.other, b"unread").await;
        assert_eq!(news(&mut *on.journal).await, [Note::All]);
        let note = put(&on.other, b"k").await;
        assert_eq!(news(&mut *on.journal).await, [note]);
        assert_eq!(count(&on.store, "readers"), 1);
    }

    #[tokio::test]
    async fn a_reader_that_was_forgotten_misses_everything() {
        let mut on = fixture().await;
        on.time.advance(Duration::from_millis(LAPSE_MS));
        on.other.inner.upkeep.run();
        assert_eq!(count(&on.store, "readers"), 1);
        on.time.advance(Duration::from_millis(1));
        on.other.inner.upkeep.run();
        assert_eq!(count(&on.store, "readers"), 0);
        put(&on.other, b"unread").await;
        assert_eq!(news(&mut *on.journal).await, [Note::All]);
        let note = put(&on.other, b"k").await;
        assert_eq!(news(&mut *on.journal).await, [note]);
    }

    #[tokio::test]
    async fn a_reader_that_polls_is_not_forgotten() {
        let mut on = fixture().await;
        for _ in 0..3 {
            let note = put(&on.other, b"k").await;
            on.time.advance(Duration::from_millis(LAPSE_MS / 2));
            assert_eq!(news(&mut *on.journal).await, [note]);
            on.other.inner.upkeep.run();
        }
        assert_eq!(count(&on.store, "readers"), 1);
    }

    #[tokio::test]
    async fn what_was_trimmed_counts_as_everything() {
        let mut on = fixture().await;
        let many = |from: i64| {
            let sql = format!(
                "WITH RECURSIVE n(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM n WHERE n < {from} + {MAX_KEPT} - 1) \
                 INSERT INTO entries (ns, key, value) SELECT (SELECT ns FROM readers), CAST(n AS BLOB), x'00' FROM n"
            );
            let insert = |connection: &Connection| connection.execute_batch(&sql);
            on.other.inner.upkeep.writer.maintain(insert).unwrap();
        };
        many(0);
        assert_eq!(news(&mut *on.journal).await.len() as u64, MAX_KEPT);
        many(MAX_KEPT.cast_signed());
        put(&on.other, b"one more").await;
        assert_eq!(count(&on.store, "changes").cast_unsigned(), MAX_KEPT);
        assert_eq!(news(&mut *on.journal).await, [Note::All]);
        let note = put(&on.other, b"k").await;
        assert_eq!(news(&mut *on.journal).await, [note]);
        drop(on.journal);
        on.time.advance(Duration::from_millis(LAPSE_MS + 1));
        on.store.inner.upkeep.run();
        assert_eq!(count(&on.store, "changes"), 1, "nobody reads them");
    }
}
