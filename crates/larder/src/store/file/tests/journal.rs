//! What is told of changes, whoever is killed, slow or forgotten.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::key::Key;
use crate::store::Note;
use crate::store::file::change_log::{Record, Stage, Subject};

struct Fixture {
    _dir: TempDir,
    time: ManualClock,
    store: File,
    other: File,
    journal: Box<dyn Journal>,
}

/// Two handles as of two processes, of which one reads.
fn fixture() -> Fixture {
    let (dir, time) = (TempDir::new().unwrap(), ManualClock::new());
    let open = || {
        let builder = File::builder(dir.path().join("cache"));
        builder.clock(time.clock()).build().unwrap()
    };
    let (store, other) = (open(), open());
    let mut journal = store.journal(&space()).unwrap();
    assert_eq!(news(&mut *journal), [Note::All]);
    assert_eq!(news(&mut *journal), []);
    Fixture {
        _dir: dir,
        time,
        store,
        other,
        journal,
    }
}

fn news(journal: &mut dyn Journal) -> Vec<Note> {
    block_on(journal.poll()).remove(0).unwrap()
}

fn put(store: &File, key: &[u8]) -> Note {
    let value = sealed("value");
    let write_id = envelope::write_id(&value);
    assert!(write(store, Write::put(key, value, Expiry::Never)));
    note(key, write_id)
}

fn note(key: &[u8], write_id: u64) -> Note {
    let key = Key::from(key);
    Note::Key { key, write_id }
}

fn log(store: &File) -> PathBuf {
    let namespace = Digest::of(space().as_bytes());
    store.disk.layout.journal_path(namespace)
}

fn append(store: &File, bytes: &[u8]) {
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(log(store))
        .unwrap();
    log.write_all(bytes).unwrap();
}

/// As a writer notes it that is killed before it is done.
fn begun(subject: Subject) -> Record {
    Record {
        subject,
        stage: Stage::Begun,
        ticket: fastrand::u64(..),
        write_id: 0,
    }
}

#[test]
fn another_handle_tells_in_order() {
    let mut on = fixture();
    let first = put(&on.other, b"a");
    let second = put(&on.store, b"b");
    assert!(write(&on.other, Write::delete(b"a")));
    assert_eq!(news(&mut *on.journal), [first, second, note(b"a", 0)]);
    assert!(!write(&on.other, Write::delete(b"a")));
    assert_eq!(news(&mut *on.journal), []);
}

#[test]
fn nothing_is_noted_that_nobody_reads() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    put(&store, b"k");
    assert!(write(&store, Write::delete(b"k")));
    assert!(tree(&store.disk.layout.journals()).is_empty());
}

#[test]
fn what_was_begun_is_told_until_its_writer_is_gone() {
    let mut on = fixture();
    let key = Key::from(&b"k"[..]);
    append(&on.other, &begun(Subject::Key(key)).encode());
    let stripe = address(b"k").stripe();
    let disk = &on.other.disk;
    let held = disk.locks.stripe(&disk.layout, stripe, Effort::FULL);
    for _ in 0..4 {
        assert_eq!(news(&mut *on.journal), [note(b"k", 0)]);
    }
    drop(held);
    assert_eq!(news(&mut *on.journal), [note(b"k", 0)]);
    assert_eq!(news(&mut *on.journal), []);
    for (subject, told) in [
        (Subject::Everything, Note::All),
        (
            Subject::Register(Register::any()),
            Note::Register(Register::any()),
        ),
    ] {
        append(&on.other, &begun(subject).encode());
        for _ in 0..2 {
            assert_eq!(news(&mut *on.journal), std::slice::from_ref(&told));
        }
        assert_eq!(news(&mut *on.journal), []);
    }
}

#[test]
fn a_new_reader_waits_for_those_who_found_none() {
    let dir = TempDir::new().unwrap();
    let (store, other) = (open(&dir), open(&dir));
    let (told, hear) = mpsc::channel();
    let held = other.disk.locks.stripe(&other.disk.layout, 7, Effort::FULL);
    let reader = std::thread::spawn(move || {
        let mut journal = store.journal(&space()).unwrap();
        told.send(news(&mut *journal)).unwrap();
    });
    let early = hear.recv_timeout(Duration::from_millis(200));
    assert!(early.is_err(), "somebody was still at work");
    drop(held);
    assert_eq!(hear.recv().unwrap(), [Note::All]);
    reader.join().unwrap();
}

#[test]
fn a_long_log_is_replaced_and_nothing_is_missed() {
    let mut on = fixture();
    let filler = begun(Subject::Key(Key::from(&[1; 1000][..])));
    let filler = Record {
        stage: Stage::Done,
        ..filler
    };
    let fill = |bytes: usize| append(&on.other, &filler.encode().repeat(bytes / 1024 + 1));
    fill(1 << 20);
    let note = put(&on.other, b"k");
    assert!(
        fs::metadata(log(&on.store)).unwrap().len() < 1024,
        "it was not replaced"
    );
    let after = put(&on.other, b"after");
    let told = news(&mut *on.journal);
    assert_eq!(&told[told.len() - 2..], [note, after]);
    for _ in 0..2 {
        fill(1 << 20);
        put(&on.other, b"k");
    }
    assert_eq!(news(&mut *on.journal), [Note::All], "one log too many");
    let note = put(&on.other, b"k");
    assert_eq!(news(&mut *on.journal), [note]);
    assert_eq!(tree(&on.store.disk.layout.journals()).len(), 1);
}

#[test]
fn a_log_that_is_damaged_cut_short_or_gone_counts_as_everything() {
    let mut on = fixture();
    let whole = begun(Subject::Everything).encode();
    for torn in [&whole[..9], &[7; 40]] {
        append(&on.other, torn);
        put(&on.other, b"k");
        assert_eq!(news(&mut *on.journal), [Note::All]);
        let note = put(&on.other, b"k");
        assert_eq!(news(&mut *on.journal), [note]);
    }
    fs::remove_file(log(&on.store)).unwrap();
    put(&on.other, b"k");
    assert_eq!(news(&mut *on.journal), [Note::All]);
    fs::remove_dir_all(on.store.disk.layout.root()).unwrap();
    assert_eq!(news(&mut *on.journal), [Note::All]);
    let note = put(&on.other, b"k");
    assert_eq!(news(&mut *on.journal), [note]);
}

#[test]
fn a_log_that_cannot_be_written_is_removed() {
    let mut on = fixture();
    fs::remove_file(log(&on.store)).unwrap();
    fs::create_dir(log(&on.store)).unwrap();
    let value = Write::put(b"k", sealed("value"), Expiry::Never);
    let refused = block_on(on.other.write_many(&space(), &[value]));
    assert!(refused.is_err(), "a directory is no log to remove");
    fs::remove_dir(log(&on.store)).unwrap();
    std::os::unix::fs::symlink("/dev/full", log(&on.store)).unwrap();
    put(&on.other, b"k");
    assert!(!log(&on.store).exists());
    assert_eq!(news(&mut *on.journal), [Note::All]);
}

#[test]
fn a_reader_that_was_forgotten_misses_everything() {
    let mut on = fixture();
    on.time.advance(Duration::from_secs(600));
    on.other.disk.sweep_logs().unwrap();
    assert!(log(&on.store).exists());
    on.time.advance(Duration::from_millis(1));
    on.other.disk.sweep_logs().unwrap();
    assert!(!log(&on.store).exists());
    put(&on.other, b"unread");
    assert_eq!(news(&mut *on.journal), [Note::All]);
    for _ in 0..3 {
        on.time.advance(Duration::from_secs(400));
        let note = put(&on.other, b"k");
        assert_eq!(news(&mut *on.journal), [note]);
        on.other.disk.sweep_logs().unwrap();
    }
}

#[test]
fn clear_is_everything() {
    let mut on = fixture();
    put(&on.other, b"k");
    block_on(on.other.clear(&space())).unwrap();
    assert_eq!(news(&mut *on.journal).last(), Some(&Note::All));
    let note = put(&on.other, b"k");
    let mut told = news(&mut *on.journal);
    assert_eq!(told.pop(), Some(note));
    // Attempts that meet a directory on its way out are repeated, and noted each time.
    assert!(told.iter().all(|it| *it == self::note(b"k", 0)), "{told:?}");
}
