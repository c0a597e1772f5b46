//! One server process: started, waited for until it is ready, stopped when dropped.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::ports::free_port;
use super::{Place, find_binary, keeper};
use crate::interrupt;
use crate::pid::Pid;

/// What a server has between SIGTERM and SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How often a server that exits at once is tried again on other ports: someone may have taken the first.
const ATTEMPTS: u32 = 3;

/// How often readiness is probed, and how long one probe may take.
const PROBE_EVERY: Duration = Duration::from_millis(10);
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// Lines of a server's log that are shown when it does not start.
const LOG_TAIL: usize = 20;

/// Makes the arguments of a program for the place it shall run at; may also write files there.
pub type Arguments = Box<dyn Fn(&Place) -> Result<Vec<String>> + Send + Sync>;

/// How to run one server process.
///
/// The program must stay in the foreground, listen on `place.port` of 127.0.0.1 only, and write only below `place.dir`.
/// A program that refuses to run as root, or needs its files prepared, is started through `sh -c`, where `exec` keeps it
/// the process that gets stopped.
pub struct Launch {
    /// Its name in messages, and the name of its directory.
    pub name: String,
    /// The program: a name to look up in `PATH` and the system directories, or a path.
    pub binary: &'static str,
    /// The arguments of the program, asked for at each start.
    pub args: Arguments,
    /// Tells whether the server, which accepts connections already, also answers.
    pub is_ready: fn(&Place) -> bool,
    /// How long it may take until it is ready.
    pub ready_within: Duration,
    /// What becomes of the server when this program ends without stopping it.
    pub lifetime: Lifetime,
}

/// What becomes of a server when the program that started it ends without stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It dies, too, even when the program was killed.
    Program,
    /// It lives on until somebody stops it.
    Own,
}

/// A server that runs and is ready.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    place: Place,
    log: PathBuf,
    /// Gone once the process has ended, or has been given up to live on its own.
    child: Option<(Pid, Child)>,
}

/// How waiting for a server ended.
#[derive(Clone, Copy)]
enum Probe {
    Ready,
    Exited(ExitStatus),
    Late,
}

impl Launch {
    /// Starts the server with its files below `parent`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When the program is missing, ends at once, or is not ready in time; the error has the end of its log.
    pub fn start(self, parent: &Path) -> Result<Process> {
        let mut process = Process {
            place: Place {
                port: free_port()?,
                second_port: free_port()?,
                dir: parent.join(&self.name),
            },
            log: parent.join(format!("{}.log", self.name)),
            launch: self,
            child: None,
        };
        for _ in 1..ATTEMPTS {
            prepare_dir(&process.place.dir)?;
            match process.run()? {
                Probe::Exited(_) => {
                    process.place.port = free_port()?;
                    process.place.second_port = free_port()?;
                }
                ending => return process.expect_ready(ending).map(|()| process),
            }
        }
        prepare_dir(&process.place.dir)?;
        let ending = process.run()?;
        process.expect_ready(ending).map(|()| process)
    }
}

impl Process {
    /// Returns where the server runs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the name of the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Runs the program and waits for what becomes of it.
    fn run(&mut self) -> Result<Probe> {
        let child = self.spawn()?;
        self.child = Some((Pid::of(&child), child));
        self.probe()
    }

    fn spawn(&self) -> Result<Child> {
        let Launch {
            binary, lifetime, ..
        } = self.launch;
        let path = find_binary(binary).with_context(|| format!("{binary} is not installed"))?;
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.context("cannot open a log")?;
        let mut command = match lifetime {
            Lifetime::Own => Command::new(path),
            Lifetime::Program => keeper::bound(&path),
        };
        command
            .args((self.launch.args)(&self.place)?)
            .current_dir(&self.place.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            // Ctrl-C must not take the servers away from tests that are still being stopped.
            .process_group(0);
        let child = match lifetime {
            Lifetime::Own => command.spawn(),
            Lifetime::Program => keeper::spawn(command),
        };
        child.with_context(|| format!("cannot run {binary}"))
    }

    /// Waits until the server accepts a connection and answers while it is itself alive.
    fn probe(&mut self) -> Result<Probe> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.place.port));
        let deadline = Instant::now() + self.launch.ready_within;
        while Instant::now() < deadline {
            interrupt::check()?;
            let is_ready = TcpStream::connect_timeout(&address, PROBE_LIMIT).is_ok()
                && (self.launch.is_ready)(&self.place);
            // Asked after the connection: a stranger may hold the port that the server then failed to take.
            if let Some(status) = self.exit_status()? {
                return Ok(Probe::Exited(status));
            }
            if is_ready {
                return Ok(Probe::Ready);
            }
            thread::sleep(PROBE_EVERY);
        }
        Ok(Probe::Late)
    }

    fn expect_ready(&self, probe: Probe) -> Result<()> {
        let (name, log) = (self.name(), tail(&self.log));
        match probe {
            Probe::Ready => Ok(()),
            Probe::Exited(status) => bail!("{name} ended at once with {status}{log}"),
            Probe::Late => bail!(
                "{name} is not ready after {:?}{log}",
                self.launch.ready_within
            ),
        }
    }

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some((pid, child)) if !pid.is_alive() => {
                // Before the exit status is collected, while the number of the group cannot be anyone else's.
                pid.wait_or_kill(Duration::ZERO);
                let status = child.wait().context("cannot wait for a server")?;
                self.child = None;
                Ok(Some(status))
            }
            _ => Ok(None),
        }
    }

    /// Returns the process id while the server runs; a stopped one (SIGSTOP) counts as running.
    pub(super) fn pid(&self) -> Option<Pid> {
        let (pid, _) = self.child.as_ref()?;
        pid.is_alive().then_some(*pid)
    }

    /// Starts a server that has ended again, on the same ports with the same directory.
    pub(super) fn start_again(&mut self) -> Result<()> {
        if self.pid().is_some() {
            bail!("{} still runs", self.name());
        }
        self.exit_status()?;
        let ending = self.run()?;
        self.expect_ready(ending)
    }

    /// Removes the files of a server that has ended.
    pub(super) fn wipe(&mut self) -> Result<()> {
        if self.pid().is_some() {
            bail!("{} still runs", self.name());
        }
        prepare_dir(&self.place.dir)
    }

    /// Kills the server at once (SIGKILL) and waits until it is dead.
    pub(super) fn kill(&mut self) {
        self.end(Duration::ZERO);
    }

    /// Asks the server to end, without waiting: several servers then share the grace period.
    pub(super) fn terminate(&self) {
        if let Some((pid, _)) = &self.child {
            pid.terminate();
        }
    }

    /// Lets the server live on after this program.
    pub(super) fn release(&mut self) {
        self.child = None;
    }

    fn end(&mut self, grace: Duration) {
        let Some((pid, mut child)) = self.child.take() else {
            return;
        };
        pid.wait_or_kill(grace);
        // The process is dead, so this only collects the exit status; nothing is left to do when it cannot.
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What dies with this program has nothing to save, and may be stopped and deaf to a polite request.
        match self.launch.lifetime {
            Lifetime::Program => self.kill(),
            Lifetime::Own => {
                self.terminate();
                self.end(GRACE);
            }
        }
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("name", &self.name)
            .field("binary", &self.binary)
            .finish_non_exhaustive()
    }
}

/// Makes an empty directory that is closed to others, removing what was there.
fn prepare_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let created = DirBuilder::new().mode(0o700).create(dir);
    created.with_context(|| format!("cannot create {}", dir.display()))
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
