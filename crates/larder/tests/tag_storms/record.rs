//! What one process did in a storm: kept while it rages, and handed over as lines of text.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use larder::testing::ReadHistory;

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A change of this subject, and when it began and ended.
    Changed(u64, u64, u64),
    /// This value depends on this subject as of a moment.
    Depends(u64, u64, u64),
    /// As `Depends`, but only since a tag was added to what was there, which copies may not know yet.
    Tagged(u64, u64, u64),
    /// This value was read; when that began.
    Read(u64, u64),
    /// This value was returned by a call that loads if need be; when that began.
    Remembered(u64, u64),
}

/// Counts of what was done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    pub(crate) invalidations: u64,
    /// Registers that were lost.
    pub(crate) lost: u64,
    /// Reads that the local tier answered.
    pub(crate) local_hits: u64,
}

/// Everything that one process did.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) events: Vec<Event>,
    pub(crate) counts: Counts,
}

/// A record that many tasks write.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Record>);

impl Recorder {
    pub(crate) fn note(&self, event: Event) {
        self.with(|record| record.events.push(event));
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        self.with(|record| count(&mut record.counts));
    }

    pub(crate) fn take(&self) -> Record {
        self.with(std::mem::take)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Record) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.reads += other.reads;
        self.hits += other.hits;
        self.invalidations += other.invalidations;
        self.lost += other.lost;
        self.local_hits += other.local_hits;
    }

    fn from_words(words: &[u64]) -> Self {
        Self {
            operations: words[0],
            reads: words[1],
            hits: words[2],
            invalidations: words[3],
            lost: words[4],
            local_hits: words[5],
        }
    }
}

impl Record {
    pub(crate) fn save(&self, file: &Path) {
        let mut text = String::new();
        let counts = &self.counts;
        writeln!(
            text,
            "n {} {} {} {} {} {}",
            counts.operations,
            counts.reads,
            counts.hits,
            counts.invalidations,
            counts.lost,
            counts.local_hits
        )
        .unwrap();
        for event in &self.events {
            match event {
                Event::Changed(subject, began, ended) => {
                    writeln!(text, "c {subject} {began} {ended}")
                }
                Event::Depends(value, subject, since) => {
                    writeln!(text, "d {value} {subject} {since}")
                }
                Event::Tagged(value, subject, since) => {
                    writeln!(text, "t {value} {subject} {since}")
                }
                Event::Read(value, began) => writeln!(text, "r {value} {began}"),
                Event::Remembered(value, began) => writeln!(text, "m {value} {began}"),
            }
            .unwrap();
        }
        std::fs::write(file, text).unwrap();
    }

    pub(crate) fn load(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let mut record = Self::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap();
            let words = rest.split(' ').map(|word| word.parse().unwrap());
            let words: Vec<u64> = words.collect();
            match kind {
                "n" => record.counts = Counts::from_words(&words),
                "c" => record
                    .events
                    .push(Event::Changed(words[0], words[1], words[2])),
                "d" => record
                    .events
                    .push(Event::Depends(words[0], words[1], words[2])),
                "t" => record
                    .events
                    .push(Event::Tagged(words[0], words[1], words[2])),
                "r" => record.events.push(Event::Read(words[0], words[1])),
                _ => record.events.push(Event::Remembered(words[0], words[1])),
            }
        }
        record
    }
}

/// Which reads a history has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Those from the store.
    Reads,
    /// Those by calls that load if need be, and may have waited for a load that somebody else had begun.
    Remembered,
}

/// Whose changes count for whose reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// Those of all processes for all reads that began so much later, in ns.
    All(u64),
    /// Those of one process for its own reads. Of a tag that another one has added it may not know.
    Own(usize),
}

/// Returns the history of all processes, with these reads.
pub(crate) fn history(records: &[Record], judged: Judged, scope: Scope) -> ReadHistory {
    let mut history = ReadHistory::default();
    for (process, record) in records.iter().enumerate() {
        let (is_meant, lag) = match scope {
            Scope::All(lag) => (true, lag),
            Scope::Own(own) => (process == own, 0),
        };
        for event in &record.events {
            match (*event, judged) {
                (Event::Depends(value, subject, since), _) => {
                    history.depends(value, subject, since);
                }
                _ if !is_meant => {}
                (Event::Changed(subject, began, ended), _) => {
                    history.changed(subject, began, ended);
                }
                (Event::Tagged(value, subject, since), _) => {
                    history.depends(value, subject, since);
                }
                (Event::Read(value, began), Judged::Reads)
                | (Event::Remembered(value, began), Judged::Remembered) => {
                    history.read(value, began.saturating_sub(lag));
                }
                _ => {}
            }
        }
    }
    history
}
