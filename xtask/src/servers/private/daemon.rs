//! One server process in the hands of a test: paused, killed, started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::super::{Launch, Process};
use super::new_home;

/// A server process that a test controls; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    state: Mutex<State>,
    address: SocketAddr,
    second_address: SocketAddr,
    dir: PathBuf,
    // Dropped last: the process writes to it.
    _home: Option<TempDir>,
}

#[derive(Debug)]
struct State {
    process: Process,
    is_paused: bool,
}

impl Daemon {
    /// Starts a server in a temporary directory of its own, where `prepare` may put files first.
    pub(super) fn start(prepare: impl FnOnce(&Path) -> Result<Launch>) -> Result<Self> {
        let home = new_home()?;
        let launch = prepare(home.path())?;
        let mut daemon = Self::start_in(home.path(), launch)?;
        daemon._home = Some(home);
        Ok(daemon)
    }

    /// Starts a server with its files below a directory of the caller's.
    pub(super) fn start_in(dir: &Path, launch: Launch) -> Result<Self> {
        let process = launch.start(dir)?;
        let place = process.place();
        Ok(Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, place.port)),
            second_address: SocketAddr::from((Ipv4Addr::LOCALHOST, place.second_port)),
            dir: place.dir.clone(),
            state: Mutex::new(State {
                process,
                is_paused: false,
            }),
            _home: None,
        })
    }

    /// Returns where the server listens; the same after it was started again.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the second address that belongs to the server, for TLS or the bus of a cluster.
    pub(super) fn second_address(&self) -> SocketAddr {
        self.second_address
    }

    /// Returns the directory of the server's files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Tells whether the server can answer: it is neither paused nor dead.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let state = self.state();
        !state.is_paused && state.process.pid().is_some()
    }

    /// Stops the server in its tracks (SIGSTOP): connections stay open and are accepted, and nothing answers.
    ///
    /// # Errors
    ///
    /// When the server is dead.
    pub fn pause(&self) -> Result<()> {
        let mut state = self.state();
        let pid = state.process.pid().context("a dead server cannot pause")?;
        pid.pause()?;
        state.is_paused = true;
        Ok(())
    }

    /// Lets a paused server go on (SIGCONT), with all it had in memory.
    ///
    /// # Errors
    ///
    /// When the server is dead.
    pub fn resume(&self) -> Result<()> {
        let mut state = self.state();
        let pid = state.process.pid().context("a dead server cannot resume")?;
        pid.resume()?;
        state.is_paused = false;
        Ok(())
    }

    /// Kills the server (SIGKILL); it is dead when this returns. Does nothing to a dead one.
    pub fn kill(&self) {
        let mut state = self.state();
        state.process.kill();
        state.is_paused = false;
    }

    /// Starts a dead server on the same port with the files it left, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When the server still runs, or does not get ready.
    pub fn start_again(&self) -> Result<()> {
        self.state().process.start_again()
    }

    /// Removes the files of a dead server, so that it starts again with nothing.
    ///
    /// # Errors
    ///
    /// When the server still runs, or the files cannot be removed.
    pub fn wipe(&self) -> Result<()> {
        self.state().process.wipe()
    }

    /// Gives up control, and the directory if it has one of its own.
    pub(super) fn into_process(self) -> Process {
        let state = self.state.into_inner();
        state.unwrap_or_else(PoisonError::into_inner).process
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
