//! All running servers and their temporary directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::running::Running;
use super::session::{Entry, Session};
use super::{Place, Server};
use crate::interrupt;

/// How every temporary directory of servers is called; `servers down` removes no other.
pub(super) const DIR_PREFIX: &str = "larder-servers-";

/// The directory below it that tests use as theirs.
const SCRATCH: &str = "tmp";

/// One variable for tests: its name and its value.
pub type Export = (String, String);

/// Servers that run until this is dropped, also by a panic or an early return.
#[derive(Debug)]
pub struct Fleet {
    // Dropped in this order: the processes first, then the files they write to.
    running: Vec<Running>,
    dir: TempDir,
}

impl Fleet {
    /// Starts `servers`, in order, and waits until each is ready.
    ///
    /// # Errors
    ///
    /// When one does not get ready, or the user interrupts; those already started have then been stopped.
    pub fn start(servers: &[Server]) -> Result<Self> {
        let dir =
            TempDir::with_prefix(DIR_PREFIX).context("cannot create a temporary directory")?;
        fs::create_dir(dir.path().join(SCRATCH)).context("cannot create a temporary directory")?;
        let mut fleet = Self {
            running: Vec::new(),
            dir,
        };
        for server in servers {
            interrupt::check()?;
            fleet
                .running
                .push(Running::start(server, fleet.dir.path())?);
        }
        Ok(fleet)
    }

    /// Returns the variables that tell tests where the servers are.
    #[must_use]
    pub fn exports(&self) -> Vec<Export> {
        self.running.iter().flat_map(exports_of).collect()
    }

    /// Tells a test command where its servers are, and that a test without its server must fail.
    ///
    /// Temporary files of the tests go below the directory of this fleet, so that even tests that are killed half-way
    /// leave none behind.
    pub fn equip(&self, command: &mut Command) {
        let scratch = self.dir().join(SCRATCH);
        command
            .envs(self.exports())
            .env("LARDER_TEST_STRICT", "1")
            .env("TMPDIR", scratch);
    }

    /// Returns where each server runs, in the order they were given.
    #[must_use]
    pub fn places(&self) -> Vec<&Place> {
        self.running.iter().map(|running| &running.place).collect()
    }

    /// Returns the directory that everything is below.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the state file and lets the servers live on; they are stopped when it cannot be written.
    ///
    /// # Errors
    ///
    /// When the state file cannot be written.
    pub fn leave_running(mut self, state_file: &Path) -> Result<Session> {
        let entries = self.running.iter().map(entry_of).collect();
        let session = Session::create(state_file, self.dir.path(), entries)?;
        self.running.iter_mut().for_each(Running::release);
        self.dir.disable_cleanup(true);
        Ok(session)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.running.iter().for_each(Running::terminate);
    }
}

fn exports_of(running: &Running) -> Vec<Export> {
    let exports = (running.server.exports)(&running.place);
    exports
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn entry_of(running: &Running) -> Entry {
    Entry {
        name: running.server.name.to_owned(),
        port: running.place.port,
        pid: running.pid,
        exports: exports_of(running).into_iter().collect(),
    }
}
