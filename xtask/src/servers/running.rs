//! One server process: started, waited for until it accepts connections, stopped when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{Place, Server, find_binary};
use crate::interrupt;
use crate::pid::Pid;

/// What a server has between SIGTERM and SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How often a server that exits at once is tried again on another port: someone may have taken the first.
const ATTEMPTS: u32 = 3;

/// How often readiness is probed, and how long one probe may take.
const PROBE_EVERY: Duration = Duration::from_millis(20);
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// Lines of a server's log that are shown when it does not start.
const LOG_TAIL: usize = 20;

/// A server that runs and is ready.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) server: Server,
    pub(super) place: Place,
    pub(super) pid: Pid,
    /// Gone once the process has been given up to live on its own.
    child: Option<Child>,
}

/// How waiting for a server ended.
enum Probe {
    Ready,
    Exited(ExitStatus),
    Late,
}

impl Running {
    /// Starts `server` with its files below `parent`, and waits until it is ready.
    pub(super) fn start(server: &Server, parent: &Path) -> Result<Self> {
        let log = parent.join(format!("{}.log", server.name));
        let mut attempt = 1;
        loop {
            let mut running = Self::spawn(server, parent, &log)?;
            match running.probe()? {
                Probe::Ready => return Ok(running),
                Probe::Exited(_) if attempt < ATTEMPTS => attempt += 1,
                Probe::Exited(status) => {
                    bail!("{} ended at once with {status}{}", server.name, tail(&log))
                }
                Probe::Late => bail!(
                    "{} is not ready after {:?}{}",
                    server.name,
                    server.ready_within,
                    tail(&log)
                ),
            }
        }
    }

    fn spawn(server: &Server, parent: &Path, log: &Path) -> Result<Self> {
        let binary = find_binary(server.binary)
            .with_context(|| format!("{} is not installed", server.binary))?;
        let place = Place {
            port: free_port()?,
            dir: parent.join(server.name),
        };
        prepare_dir(&place.dir)?;
        let log = File::create(log).context("cannot create a log")?;
        let spawned = Command::new(binary)
            .args((server.args)(&place))
            .current_dir(&place.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            // Ctrl-C must not take the servers away from tests that are still being stopped.
            .process_group(0)
            .spawn();
        let child = spawned.with_context(|| format!("cannot run {}", server.binary))?;
        Ok(Self {
            server: *server,
            place,
            pid: Pid::of(&child),
            child: Some(child),
        })
    }

    /// Waits until the server accepts a connection while it is itself alive.
    fn probe(&mut self) -> Result<Probe> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.place.port));
        let deadline = Instant::now() + self.server.ready_within;
        while Instant::now() < deadline {
            interrupt::check()?;
            let accepts = TcpStream::connect_timeout(&address, PROBE_LIMIT).is_ok();
            // Asked after the connection: a stranger may hold the port that the server then failed to take.
            if let Some(status) = self.exit_status()? {
                return Ok(Probe::Exited(status));
            }
            if accepts {
                return Ok(Probe::Ready);
            }
            thread::sleep(PROBE_EVERY);
        }
        Ok(Probe::Late)
    }

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) if !self.pid.is_alive() => {
                // Before the exit status is collected, while the number of the group cannot be anyone else's.
                self.pid.wait_or_kill(Duration::ZERO);
                let status = child.wait().context("cannot wait for a server")?;
                self.child = None;
                Ok(Some(status))
            }
            _ => Ok(None),
        }
    }

    /// Asks the server to end, without waiting: several servers then share the grace period.
    pub(super) fn terminate(&self) {
        if self.child.is_some() {
            self.pid.terminate();
        }
    }

    /// Lets the server live on after this program.
    pub(super) fn release(&mut self) {
        self.child = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        self.pid.terminate();
        self.pid.wait_or_kill(GRACE);
        // The process is dead, so this only collects the exit status; nothing is left to do when it cannot.
        let _ = child.wait();
    }
}

/// Returns a port that nobody uses at this moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr().context("no free port")?.port())
}

/// Makes an empty directory, removing what an earlier attempt wrote.
fn prepare_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// Returns the end of a log, ready to be appended to a message.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_TAIL)..];
    if shown.is_empty() {
        " (it wrote nothing)".to_owned()
    } else {
        format!(":\n{}", shown.join("\n"))
    }
}
