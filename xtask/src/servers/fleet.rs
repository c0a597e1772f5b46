//! All running servers and their temporary directory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::session::{Entry, Session};
use super::{Group, Place, Process, Started};
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
    groups: Vec<Started>,
    dir: TempDir,
}

impl Fleet {
    /// Starts `groups`, all at once, and waits until each is ready.
    ///
    /// # Errors
    ///
    /// When one does not get ready, or the user interrupts; the others have then been stopped.
    pub fn start(groups: &[Group]) -> Result<Self> {
        let dir =
            TempDir::with_prefix(DIR_PREFIX).context("cannot create a temporary directory")?;
        fs::create_dir(dir.path().join(SCRATCH)).context("cannot create a temporary directory")?;
        let mut fleet = Self {
            groups: Vec::new(),
            dir,
        };
        // All results are kept until the last has come: what did start is then stopped as a fleet is.
        let mut failure = None;
        for result in start_all(groups, fleet.dir.path()) {
            match result {
                Ok(started) => fleet.groups.push(started),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(fleet), Err)
    }

    /// Returns the variables that tell tests where the servers are.
    #[must_use]
    pub fn exports(&self) -> Vec<Export> {
        let groups = self.groups.iter();
        groups.flat_map(|group| group.exports.clone()).collect()
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

    /// Returns where each process runs, group by group in the order they were given.
    #[must_use]
    pub fn places(&self) -> Vec<&Place> {
        self.processes().map(Process::place).collect()
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
        let entries = self.processes().filter_map(Entry::of).collect();
        let session = Session::create(state_file, self.dir.path(), self.exports(), entries)?;
        for group in &mut self.groups {
            group.processes.iter_mut().for_each(Process::release);
        }
        self.dir.disable_cleanup(true);
        Ok(session)
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.groups.iter().flat_map(|group| &group.processes)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.processes().for_each(Process::terminate);
    }
}

/// Starts each group on a thread of its own, in a directory of its own; the results come in order.
fn start_all(groups: &[Group], dir: &Path) -> Vec<Result<Started>> {
    thread::scope(|scope| {
        let starts: Vec<_> = groups
            .iter()
            .map(|group| scope.spawn(|| start(group, dir)))
            .collect();
        let results = starts.into_iter().map(|start| start.join());
        results
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn start(group: &Group, parent: &Path) -> Result<Started> {
    interrupt::check()?;
    let dir = parent.join(group.name);
    fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    (group.start)(&dir).with_context(|| format!("cannot start {}", group.name))
}
