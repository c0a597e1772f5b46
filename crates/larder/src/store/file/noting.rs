//! Noting changes in the log of their namespace, for those who keep local copies; see [`change_log`](super::change_log).
//!
//! ```text
//! <root>/journals/<digest of the namespace>       there only while somebody reads
//! ```
//! A change is noted twice under the lock of its subject: before it is made, so that a writer that is killed on the way
//! leaves a doubt that readers see, and when it is made, before it is acknowledged. Whoever finds no log notes nothing. A
//! reader that creates one waits until each lock was free once: all who found no log have finished then.
//!
//! A log that has become long is replaced by an empty one that names it; a writer that appended to a log looks whether it
//! is still in its place, and appends to the new one as well if it is not. A log that cannot be written is removed, which
//! readers notice.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::change_log::{HEAD_BYTES, LogHead, Record, Stage, Subject};
use super::disk::Disk;
use super::fault::{Attempt, Effort, failed};
use super::listing::settle;
use super::name::{Digest, is_temp};
use super::replace::{Over, Temp};
use super::sweep::remove_stale;
use super::walk;
use crate::error::Result;
use crate::key::Key;
use crate::store::Register;

/// A log that is longer is replaced.
const MAX_LOG_BYTES: u64 = 1 << 20;
/// How often a note follows logs that are replaced meanwhile.
const MAX_ATTEMPTS: usize = 8;
/// A log whose readers were not heard of for so long goes; the clock may be changed meanwhile.
const LAPSE_MS: u64 = 600_000;

/// Which file a path names: device and inode.
pub(super) type FileId = (u64, u64);

/// The logs that this process appends to.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<HashMap<Digest, Arc<OpenLog>>>);

#[derive(Debug)]
struct OpenLog {
    file: fs::File,
    id: FileId,
}

impl Logs {
    fn find(&self, namespace: Digest) -> Option<Arc<OpenLog>> {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(&namespace).map(Arc::clone)
    }

    fn keep(&self, namespace: Digest, log: Option<&Arc<OpenLog>>) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match log {
            Some(log) => logs.insert(namespace, Arc::clone(log)),
            None => logs.remove(&namespace),
        };
    }
}

pub(super) fn id_of(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

/// Returns which file the path names, if there is one.
pub(super) fn id_at(path: &Path) -> io::Result<Option<FileId>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(id_of(&found))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the head of a log; `None` if it has none.
pub(super) fn read_head(file: &fs::File) -> io::Result<Option<LogHead>> {
    let mut head = [0; HEAD_BYTES];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(LogHead::decode(&head)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a log for reading its records and writing its head.
pub(super) fn open_log(path: &Path) -> io::Result<fs::File> {
    open(path, OpenOptions::new().read(true).write(true))
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<fs::File> {
    options
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits() as i32)
        .open(path)
}

impl Disk {
    /// Makes a change of a key and notes it, with the write id that the entry has then.
    pub(super) fn noted_key<T>(
        &self,
        namespace: Digest,
        (key, write_id): (&[u8], u64),
        change: impl FnOnce() -> Attempt<T>,
    ) -> Attempt<T> {
        let subject = || Subject::Key(Key::from(key));
        self.noted(namespace, (subject, write_id), change)
    }

    /// Makes a change of a register and notes it.
    pub(super) fn noted_register<T>(
        &self,
        namespace: Digest,
        register: &Register,
        change: impl FnOnce() -> Attempt<T>,
    ) -> Attempt<T> {
        let subject = || Subject::Register(register.clone());
        self.noted(namespace, (subject, 0), change)
    }

    /// Makes a change and notes it, if somebody reads. The caller holds the lock of the subject.
    pub(super) fn noted<T>(
        &self,
        namespace: Digest,
        (subject, write_id): (impl FnOnce() -> Subject, u64),
        change: impl FnOnce() -> Attempt<T>,
    ) -> Attempt<T> {
        let Some(log) = self.log(namespace)? else {
            return change();
        };
        let mut record = Record {
            subject: subject(),
            stage: Stage::Begun,
            ticket: fastrand::u64(..),
            write_id: 0,
        };
        self.append(namespace, log, &record)?;
        let changed = change();
        record.stage = Stage::Done;
        record.write_id = if changed.is_ok() { write_id } else { 0 };
        let noted = match self.log(namespace)? {
            Some(log) => self.append(namespace, log, &record),
            None => Ok(()),
        };
        let changed = changed?;
        noted.map(|()| changed)
    }

    /// Returns the log of a namespace, if somebody reads.
    fn log(&self, namespace: Digest) -> Attempt<Option<Arc<OpenLog>>> {
        if let Some(log) = self.logs.find(namespace) {
            return Ok(Some(log));
        }
        let path = self.layout.journal_path(namespace);
        let open = || -> io::Result<Arc<OpenLog>> {
            let file = open(&path, OpenOptions::new().append(true))?;
            let id = id_of(&file.metadata()?);
            Ok(Arc::new(OpenLog { file, id }))
        };
        match open() {
            Ok(log) => {
                self.logs.keep(namespace, Some(&log));
                Ok(Some(log))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => self.give_up_log(namespace, &error).map(|()| None),
        }
    }

    /// Appends a record to the log that is in place when this returns, or to none if there is none.
    fn append(&self, namespace: Digest, log: Arc<OpenLog>, record: &Record) -> Attempt<()> {
        let path = self.layout.journal_path(namespace);
        let record = record.encode();
        let mut log = Some(log);
        for _ in 0..MAX_ATTEMPTS {
            let Some(open) = log else {
                return Ok(());
            };
            let append = || {
                let mut file = &open.file;
                file.write_all(&record)?;
                Ok((file.stream_position()?, id_at(&path)?))
            };
            match append() {
                Ok((len, Some(id))) if id == open.id => {
                    if len > MAX_LOG_BYTES {
                        self.replace_log(namespace, id);
                    }
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return self.give_up_log(namespace, &error),
            }
            self.logs.keep(namespace, None);
            log = self.log(namespace)?;
        }
        let moving = io::Error::other("the log is replaced all the time");
        self.give_up_log(namespace, &moving)
    }

    /// Removes a log that cannot be used, so that readers notice; writing goes on without.
    fn give_up_log(&self, namespace: Digest, error: &io::Error) -> Attempt<()> {
        tracing::warn!(store = "file", %error, "changes cannot be noted; local copies of all processes are dropped");
        self.logs.keep(namespace, None);
        // Not while somebody puts another log in its place, which would seem to hold everything.
        let _held = self.locks.journal(&self.layout, Effort::FULL)?;
        self.remove_log(&self.layout.journal_path(namespace))?;
        Ok(())
    }

    /// Removes a log, if there is one.
    pub(super) fn remove_log(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove a journal", self.layout.root(), error))
            }
            _ => Ok(()),
        }
    }

    /// Puts an empty log in the place of a long one, unless somebody else does; a failure is met again by the next note.
    fn replace_log(&self, namespace: Digest, id: FileId) {
        let Ok(_held) = self.locks.journal(&self.layout, Effort::BRIEF) else {
            return;
        };
        let path = self.layout.journal_path(namespace);
        let replace = || -> io::Result<()> {
            let file = open(&path, OpenOptions::new().read(true))?;
            let head = read_head(&file)?;
            let Some(head) = head.filter(|_| file.metadata().is_ok_and(|it| id_of(&it) == id))
            else {
                return Ok(());
            };
            let next = LogHead {
                generation: fastrand::u64(1..),
                before: head.generation,
                ..head
            };
            let (temp, mut file) = Temp::create(&self.layout.journals())?;
            file.write_all(&next.encode())?;
            temp.publish(&path, Over::Anything)
        };
        if let Err(error) = replace() {
            tracing::debug!(store = "file", %error, "a journal stays as long as it is");
        }
    }

    /// Creates the log of a namespace unless there is one.
    pub(super) fn ensure_log(&self, namespace: Digest, now_ms: u64) -> io::Result<()> {
        let path = self.layout.journal_path(namespace);
        if id_at(&path)?.is_some() {
            return Ok(());
        }
        let head = LogHead {
            generation: fastrand::u64(1..),
            before: 0,
            seen_ms: now_ms,
        };
        let (temp, mut file) = Temp::create(&self.layout.journals())?;
        file.write_all(&head.encode())?;
        drop(file);
        match temp.publish_new(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes logs that nobody reads any more.
    pub(super) fn sweep_logs(&self) -> Result<()> {
        let Some(_held) = settle(self.locks.journal(&self.layout, Effort::BRIEF))? else {
            return Ok(());
        };
        let now_ms = self.clock.now_ms();
        let dir = self.layout.journals();
        for name in walk::list(&self.layout, &dir)? {
            let path = dir.join(&name);
            if is_temp(&name) {
                remove_stale(&path);
            } else if Digest::parse(name.as_bytes()).is_some() {
                let head = open_log(&path).and_then(|file| read_head(&file));
                let is_read = |head: LogHead| head.seen_ms.abs_diff(now_ms) <= LAPSE_MS;
                if head.is_ok_and(|head| !head.is_some_and(is_read)) {
                    self.remove_log(&path)?;
                }
            }
        }
        Ok(())
    }
}
