//! Options of the file store, and the thread that sweeps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::File;
use super::disk::Disk;
use super::layout::MAX_DEPTH;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::store::janitor::Janitor;

const DEFAULT_DEPTH: u8 = 2;
const DEFAULT_SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_SWEEP_BUDGET: usize = 10_000;

/// Options of a [`File`] store.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    dir: PathBuf,
    depth: u8,
    clock: Clock,
    sweep_interval: Duration,
    sweep_budget: usize,
}

impl Builder {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            depth: DEFAULT_DEPTH,
            clock: Clock::system(),
            sweep_interval: DEFAULT_SWEEP_INTERVAL,
            sweep_budget: DEFAULT_SWEEP_BUDGET,
        }
    }

    /// How many levels of 256 hashed directories lie above the entries: 0 to 4; default 2.
    ///
    /// The directory keeps the depth it was created with. A listing holds the names of one lowest directory in
    /// memory, so choose 1 for up to some hundred thousand entries, 2 beyond that, 0 for a few thousand.
    pub fn depth(mut self, levels: u8) -> Self {
        self.depth = levels;
        self
    }

    /// The clock that expiry follows; default the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How often expired entries and leftovers are looked for; at least 1 ms, default 1 minute.
    ///
    /// Expired entries are misses at once; the sweep only frees their space.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// How many files and directories one sweep looks at; at least 1, default 10 000 (some 30 ms of work).
    ///
    /// The next sweep goes on where the last one stopped: by default 600 000 files an hour.
    pub fn sweep_budget(mut self, files: usize) -> Self {
        self.sweep_budget = files;
        self
    }

    /// Creates or adopts the directory and starts the sweeping thread.
    ///
    /// # Errors
    /// `InvalidArgument`: an option out of bounds. `InvalidConfig`: the directory is another user's, can be written
    /// by everybody, holds other files, or has another depth. `Unavailable`: it cannot be set up.
    /// `Internal`: no thread can be started.
    pub fn build(self) -> Result<File> {
        if self.depth > MAX_DEPTH {
            let message = format!("a depth of {} is over the limit of {MAX_DEPTH}", self.depth);
            return Err(Error::argument(message));
        }
        if self.sweep_interval < Duration::from_millis(1) || self.sweep_budget == 0 {
            let message = "a sweep needs an interval of at least 1 ms and a budget of at least 1";
            return Err(Error::argument(message));
        }
        let disk = Arc::new(Disk::open(&self.dir, self.depth, self.clock)?);
        let sweeper = Sweeper::start(&disk, self.sweep_interval, self.sweep_budget)?;
        Ok(File {
            disk,
            sweeper: Arc::new(sweeper),
        })
    }
}

/// The sweeping thread; dropping it ends a sweep that is under way.
#[derive(Debug)]
pub(super) struct Sweeper {
    disk: Arc<Disk>,
    janitor: Janitor,
}

impl Sweeper {
    fn start(disk: &Arc<Disk>, interval: Duration, budget: usize) -> Result<Self> {
        let swept = Arc::clone(disk);
        let mut position = None;
        let mut is_failing = false;
        let sweep = move || {
            let outcome = swept.sweep(&mut position, budget);
            match &outcome {
                Err(error) if !is_failing => {
                    tracing::warn!(store = "file", %error, "sweeping failed; trying on");
                }
                _ => {}
            }
            is_failing = outcome.is_err();
        };
        let janitor = Janitor::start("file", interval, sweep).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot start a thread").caused_by(error)
        })?;
        Ok(Self {
            disk: Arc::clone(disk),
            janitor,
        })
    }

    /// Asks for a sweep now.
    pub(super) fn wake(&self) {
        self.janitor.wake();
    }
}

impl Drop for Sweeper {
    /// Comes before the janitor's own drop, which waits for the thread.
    fn drop(&mut self) {
        self.disk.closing.store(true, Ordering::Relaxed);
    }
}
