//! A directory of its own for each test, and the program run in it.

use std::ffi::OsStr;
use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use larder::Larder;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A home of its own.
pub(crate) struct Home(TempDir);

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the program, to be run in this home with no environment but the path to it.
    pub(crate) fn command(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program with the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_with(line.split_whitespace())
    }

    pub(crate) fn run_with(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        let output = self.command(arguments).output();
        output.expect("the program runs").into()
    }

    /// Runs the program with this standard input.
    pub(crate) fn feed(&self, line: &str, input: &[u8]) -> Ran {
        let mut command = self.command(line.split_whitespace());
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let input = input.to_vec();
        // A program that refuses its input closes the pipe early.
        let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("the program ends");
        feeder.join().expect("the feeder ends");
        output.into()
    }

    /// Does what an application of this home would do through the library.
    pub(crate) fn apply<F: Future<Output = larder::Result<T>>, T>(
        &self,
        work: impl FnOnce(Larder) -> F,
    ) -> T {
        let dir = self.path().join(".local/share/larder");
        block_on(async { work(Larder::embedded(dir).await?).await })
    }

    /// Does what an application with the `larder.toml` of this home would do through the library.
    pub(crate) fn apply_configured<F: Future<Output = larder::Result<T>>, T>(
        &self,
        work: impl FnOnce(Larder) -> F,
    ) -> T {
        let file = self.path().join("larder.toml");
        block_on(async { work(Larder::open(file).await?).await })
    }
}

fn block_on<T>(work: impl Future<Output = larder::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(work).expect("the library works")
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            code: output.status.code().or(signal).expect("it ended"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Returns standard output, after checking the exit code.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard output of a run that succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        self.exits(0)
    }

    /// Returns standard output of a run that succeeded, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.ok()).expect("standard output is JSON")
    }

    /// Returns the kind of the error that was printed as JSON.
    #[track_caller]
    pub(crate) fn error_kind(&self) -> String {
        let error: Value = serde_json::from_str(&self.stderr).expect("standard error is JSON");
        error["error"]["kind"]
            .as_str()
            .expect("an error has a kind")
            .to_owned()
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the end of a process and says how long that took.
#[track_caller]
pub(crate) fn ended(mut child: Child) -> (Ran, Duration) {
    let start = Instant::now();
    let is_over = |child: &mut Child| -> io::Result<bool> { Ok(child.try_wait()?.is_some()) };
    eventually("the end of the process", || {
        is_over(&mut child).expect("the process can be asked")
    });
    let took = start.elapsed();
    let output = child.wait_with_output().expect("its output is there");
    (output.into(), took)
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("the process is there");
}
