//! The servers that tests talk to: which there are, and how to have them.
//!
//! [`provide`] installs what is missing and starts every registered server on a free port of the loopback interface,
//! with its files in a temporary directory; dropping the [`Fleet`] stops them and removes the directory. The shape:
//!
//! ```text
//! REGISTERED -> install -> Fleet { temporary directory, Running { process, Place } ... } -> exports -> tests
//!                            \-> Session (state file)     servers up ... servers down
//! ```

mod fleet;
mod install;
mod running;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

pub use fleet::{Export, Fleet};
pub use install::{find_binary, install};
pub use session::Session;

/// All servers that the tests of the workspace need.
///
/// A store that talks to a server registers it here, together with the variable that its tests read:
///
/// ```text
/// Server {
///     name: "redis",
///     package: "redis-server",
///     binary: "redis-server",
///     args: |place| vec!["--port".into(), place.port.to_string(), "--dir".into(), place.dir.display().to_string()],
///     exports: |place| vec![("LARDER_TEST_REDIS_URL", format!("redis://127.0.0.1:{}/", place.port))],
///     ready_within: Duration::from_secs(10),
/// }
/// ```
pub const REGISTERED: &[Server] = &[];

/// How to have one server.
///
/// The server must stay in the foreground, listen on `place.port` of 127.0.0.1 only, and write only below
/// `place.dir`. That directory belongs to the current user and is closed to others; a server that refuses to run as
/// root, or needs its files prepared, is started through `sh -c`, where `exec` keeps it the process that gets stopped.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its name in messages, and the name of its directory.
    pub name: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// The program to run: a name to look up in `PATH` and the system directories, or a path.
    pub binary: &'static str,
    /// The arguments of the program.
    pub args: fn(&Place) -> Vec<String>,
    /// The variables that tell tests where it is.
    pub exports: fn(&Place) -> Vec<(&'static str, String)>,
    /// How long it may take until it accepts TCP connections.
    pub ready_within: Duration,
}

/// Where a server runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// A port of 127.0.0.1 that was free a moment ago.
    pub port: u16,
    /// An empty directory of its own.
    pub dir: PathBuf,
}

/// Installs what is missing and starts `servers`; the first that does not start ends the others.
///
/// # Errors
///
/// When a package cannot be installed, a server does not get ready, or the user interrupts.
pub fn provide(servers: &[Server]) -> Result<Fleet> {
    install(servers)?;
    Fleet::start(servers)
}
