//! A Memcached server.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::super::{Launch, Lifetime, Process, Program};
use super::Daemon;
use super::redis::owned;

/// What runs Memcached.
pub(crate) const MEMCACHED: Program = Program {
    package: "memcached",
    binary: "memcached",
};

/// A Memcached server, killed when dropped.
#[derive(Debug)]
pub struct MemcachedServer {
    daemon: Daemon,
}

impl MemcachedServer {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub fn start() -> Result<Self> {
        Self::with_args(&[])
    }

    /// Starts a server with more arguments, such as `["-m", "1"]`.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub fn with_args(args: &[&str]) -> Result<Self> {
        let daemon = Daemon::start(|_| Ok(launch("memcached", Lifetime::Program, owned(args))))?;
        Ok(Self::from(daemon))
    }

    pub(crate) fn start_in(
        dir: &Path,
        name: &str,
        lifetime: Lifetime,
        args: &[&str],
    ) -> Result<Self> {
        let launch = launch(name, lifetime, owned(args));
        Ok(Self::from(Daemon::start_in(dir, launch)?))
    }

    pub(crate) fn into_process(self) -> Process {
        self.daemon.into_process()
    }
}

impl From<Daemon> for MemcachedServer {
    fn from(daemon: Daemon) -> Self {
        Self { daemon }
    }
}

impl Deref for MemcachedServer {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

/// Returns how to run a server with `extra` arguments.
fn launch(name: &str, lifetime: Lifetime, extra: Vec<String>) -> Launch {
    Launch {
        name: name.to_owned(),
        binary: MEMCACHED.binary,
        args: Box::new(move |place| {
            let mut args = owned(&["-l", "127.0.0.1", "-U", "0", "-p"]);
            args.push(place.port.to_string());
            // Refuses to run as root unless told to.
            if rustix::process::geteuid().is_root() {
                args.extend(owned(&["-u", "root"]));
            }
            args.extend_from_slice(&extra);
            Ok(args)
        }),
        is_ready: |_| true,
        ready_within: Duration::from_secs(10),
        lifetime,
    }
}
