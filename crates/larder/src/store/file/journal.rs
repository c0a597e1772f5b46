//! Reading what has changed; how it is noted is told in [`noting`](super::noting).
//!
//! A poll looks which log is in place, reads the one it knows to its end, and goes on to the next if that took its place.
//! Any other log means that something may have been missed. A change that was begun and not done, as far as the log says, is
//! told at every poll, until it is done or the lock that it was begun under was free once: then its writer is gone.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;

use super::change_log::{self, HEAD_BYTES, SEEN_AT, Stage, Subject};
use super::disk::Disk;
use super::fault::{Attempt, Effort, Fault, failed};
use super::name::{Address, Digest};
use super::noting::{FileId, id_at, id_of, open_log, read_head};
use super::offload::{give_up, offload};
use super::registers;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::store::{Journal, Note};

/// A reader that polls says so at least this often.
const RENEW_MS: u64 = 60_000;
/// How many logs one poll goes on to, and how often a log is looked for that others replace meanwhile.
const MAX_LOGS: usize = 8;
/// How often the end of a log is looked at while a record is cut short there.
const MAX_LOOKS: usize = 16;

/// The changes of one namespace.
#[derive(Debug)]
pub(super) struct Changes {
    disk: Weak<Disk>,
    namespace: Digest,
    /// `None`: something may have been missed.
    place: Option<Place>,
}

/// How far a reader has come.
#[derive(Debug)]
struct Place {
    log: fs::File,
    id: FileId,
    generation: u64,
    offset: u64,
    /// When it said last that it is there, by the monotonic clock.
    renewed_ms: u64,
    /// Changes that were begun, by ticket.
    doubts: HashMap<u64, Doubt>,
}

/// A change that was begun and not done, as far as is known.
#[derive(Debug)]
struct Doubt {
    subject: Subject,
    /// It was told before.
    is_old: bool,
}

impl Changes {
    pub(super) fn new(disk: &Arc<Disk>, namespace: &Namespace) -> Self {
        Self {
            disk: Arc::downgrade(disk),
            namespace: Digest::of(namespace.as_bytes()),
            place: None,
        }
    }

    async fn read(&mut self) -> Result<Vec<Note>> {
        let Some(disk) = self.disk.upgrade() else {
            return Err(Error::new(ErrorKind::Unavailable, "the store is closed").store("file"));
        };
        let namespace = self.namespace;
        if let Some(mut place) = self.place.take()
            && let Some(notes) = place.news(&disk, namespace).or_else(give_up)?
        {
            self.place = Some(place);
            return Ok(notes);
        }
        let place = offload(&disk, move |disk, effort| {
            Place::announce(disk, namespace, effort)
        });
        self.place = Some(place.await?);
        Ok(vec![Note::All])
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

impl Place {
    /// Makes sure that changes are noted from now on; returns the end of the log.
    fn announce(disk: &Disk, namespace: Digest, effort: Effort<'_>) -> Attempt<Self> {
        let cannot =
            |error| -> Fault { failed("open a journal", disk.layout.root(), error).into() };
        let path = disk.layout.journal_path(namespace);
        disk.layout.restore()?;
        for _ in 0..MAX_LOGS {
            let now_ms = disk.clock.now_ms();
            disk.ensure_log(namespace, now_ms).map_err(cannot)?;
            let log = match open_log(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(cannot)?,
            };
            let found = log.metadata().map_err(cannot)?;
            let Some(head) = read_head(&log).map_err(cannot)? else {
                disk.remove_log(&path)?;
                continue;
            };
            let place = Self {
                id: id_of(&found),
                log,
                generation: head.generation,
                offset: found.len(),
                renewed_ms: disk.clock.monotonic_ms(),
                doubts: HashMap::new(),
            };
            place.renew(now_ms).map_err(cannot)?;
            disk.locks.await_writers(&disk.layout, effort)?;
            if id_at(&path).map_err(cannot)? == Some(place.id) {
                return Ok(place);
            }
        }
        Err(cannot(io::Error::other("it is replaced all the time")))
    }

    fn renew(&self, now_ms: u64) -> io::Result<()> {
        self.log.write_all_at(&now_ms.to_le_bytes(), SEEN_AT)
    }

    /// Returns what has changed; `None`: that cannot be told.
    fn news(&mut self, disk: &Disk, namespace: Digest) -> Attempt<Option<Vec<Note>>> {
        let cannot =
            |error| -> Fault { failed("read a journal", disk.layout.root(), error).into() };
        let path = disk.layout.journal_path(namespace);
        let mut notes = Vec::new();
        for _ in 0..MAX_LOGS {
            // Before reading, so that whoever found this log in place has appended already.
            let current = id_at(&path).map_err(cannot)?;
            if !self.read_on(&mut notes).map_err(cannot)? {
                disk.remove_log(&path)?;
                return Ok(None);
            }
            if current == Some(self.id) {
                let now_ms = disk.clock.monotonic_ms();
                if now_ms.saturating_sub(self.renewed_ms) >= RENEW_MS {
                    self.renew(disk.clock.now_ms()).map_err(cannot)?;
                    self.renewed_ms = now_ms;
                }
                self.tell_doubts(disk, namespace, &mut notes)?;
                return Ok(Some(notes));
            }
            if current.is_none() || !self.go_on(&path).map_err(cannot)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Reads to the end of the log; returns `false` if it is damaged.
    ///
    /// A record that is cut short is being written, or its writer was killed there; then others may have written behind it.
    fn read_on(&mut self, notes: &mut Vec<Note>) -> io::Result<bool> {
        for _ in 0..MAX_LOOKS {
            let len = self.log.metadata()?.len();
            if len <= self.offset {
                return Ok(len == self.offset);
            }
            if !self.read_to(len, notes)? {
                return Ok(false);
            }
            if self.offset == len {
                return Ok(true);
            }
            std::thread::yield_now();
        }
        Ok(false)
    }

    /// Reads the records up to there that are whole; returns `false` if one is damaged.
    fn read_to(&mut self, len: u64, notes: &mut Vec<Note>) -> io::Result<bool> {
        let mut bytes = vec![0; (len - self.offset) as usize];
        self.log.read_exact_at(&mut bytes, self.offset)?;
        let Some((records, read)) = change_log::records(&Bytes::from(bytes)) else {
            return Ok(false);
        };
        self.offset += read as u64;
        for record in records {
            let subject = record.subject;
            match record.stage {
                Stage::Begun => {
                    let is_old = false;
                    let doubt = Doubt { subject, is_old };
                    self.doubts.insert(record.ticket, doubt);
                }
                Stage::Done => {
                    self.doubts.remove(&record.ticket);
                    notes.push(subject.note(record.write_id));
                }
            }
        }
        Ok(true)
    }

    /// Goes on to the log that took the place of this one; returns `false` if it is another.
    fn go_on(&mut self, path: &std::path::Path) -> io::Result<bool> {
        let log = match open_log(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let head = read_head(&log)?;
        let Some(head) = head.filter(|head| head.before == self.generation) else {
            return Ok(false);
        };
        self.id = id_of(&log.metadata()?);
        self.log = log;
        self.generation = head.generation;
        self.offset = HEAD_BYTES as u64;
        Ok(true)
    }

    /// Tells of changes that were begun, and forgets those whose writers are gone.
    fn tell_doubts(
        &mut self,
        disk: &Disk,
        namespace: Digest,
        notes: &mut Vec<Note>,
    ) -> Attempt<()> {
        let mut ended = Vec::new();
        for (ticket, doubt) in &mut self.doubts {
            // Its writer gets a moment, so that locks are not taken from those who work.
            if doubt.is_old && disk.is_free(namespace, &doubt.subject)? {
                ended.push(*ticket);
            }
            doubt.is_old = true;
            notes.push(doubt.subject.clone().note(0));
        }
        for ticket in ended {
            self.doubts.remove(&ticket);
        }
        Ok(())
    }
}

impl Disk {
    /// Returns whether the lock that the subject is changed under is free.
    fn is_free(&self, namespace: Digest, subject: &Subject) -> Attempt<bool> {
        let held = match subject {
            Subject::Key(key) => {
                let stripe = Address::new(namespace, key.as_bytes()).stripe();
                self.locks.stripe(&self.layout, stripe, Effort::BRIEF)
            }
            Subject::Register(register) => {
                let stripe = registers::address(namespace, register).stripe();
                self.locks.register(&self.layout, stripe, Effort::BRIEF)
            }
            Subject::Everything => self.locks.removal(&self.layout, Effort::BRIEF),
        };
        match held {
            Ok(_) => Ok(true),
            Err(Fault::Busy) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}
