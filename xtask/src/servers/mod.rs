//! The servers that tests talk to: which there are, and how to have them.
//!
//! [`provide`] installs what is missing and starts every registered group on free ports of the loopback interface, with
//! its files in a temporary directory; dropping the [`Fleet`] stops them and removes the directory. A test that breaks
//! its server starts one for itself instead, see [`private`]. The shape:
//!
//! ```text
//! REGISTERED -> install -> Fleet { temporary directory, Started { Process ..., exports } ... } -> exports -> tests
//!                            \-> Session (state file)     servers up ... servers down
//! ```

mod fleet;
mod install;
mod keeper;
mod ports;
pub mod private;
mod process;
mod registered;
pub mod resp;
mod session;
pub mod tls;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use fleet::{Export, Fleet};
pub use install::{find_binary, install};
pub use process::{Arguments, Launch, Lifetime, Process};
pub use registered::{REGISTERED, registered};
pub use session::Session;

/// How to have one group: a server, or several that work together and are started and stopped as one.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name in messages, and the name of its directory.
    pub name: &'static str,
    /// The programs it needs.
    pub programs: &'static [Program],
    /// Starts all processes with their files below a directory and returns once the group works as a whole.
    pub start: fn(&Path) -> Result<Started>,
}

/// A program and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The Debian package that has it.
    pub package: &'static str,
    /// A name to look up in `PATH` and the system directories, or a path.
    pub binary: &'static str,
}

/// A group that runs and is ready.
#[derive(Debug)]
pub struct Started {
    /// Its processes; each is stopped when dropped.
    pub processes: Vec<Process>,
    /// The variables that tell tests where it is.
    pub exports: Vec<Export>,
}

/// Where a process runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The port of 127.0.0.1 it listens on, free a moment ago.
    pub port: u16,
    /// Another free port, for servers that need a second: TLS, or the bus of a cluster.
    pub second_port: u16,
    /// A directory of its own, closed to others, and its working directory.
    pub dir: PathBuf,
}

/// Installs what is missing and starts `groups`; one that does not start ends the others.
///
/// # Errors
///
/// When a package cannot be installed, a group does not get ready, or the user interrupts.
pub fn provide(groups: &[Group]) -> Result<Fleet> {
    install(groups)?;
    Fleet::start(groups)
}
