//! Commands that this program runs and waits for, with nothing left behind when the wait ends early.
//!
//! Each command leads a process group of its own: Ctrl-C in a terminal reaches this program alone, which then ends
//! the whole group, including what a SIGTERM to `cargo` alone would orphan. Commands get no standard input, because
//! a background group that reads the terminal would be stopped for good.

use std::io::{self, BufRead as _, BufReader, PipeReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::pid::Pid;

/// How often a waiting loop looks at the child and at the interrupt flag.
const GLANCE: Duration = Duration::from_millis(25);

/// What a command has after SIGTERM: longer than the 10 s that nextest grants its tests in turn.
const GRACE: Duration = Duration::from_secs(12);

/// How long output may keep coming after the command itself ended: a process it left behind may hold the pipe open.
const TRAILING_OUTPUT: Duration = Duration::from_secs(1);

/// Lines read ahead of the consumer; beyond, the command waits.
const LINES_AHEAD: usize = 1024;

/// How a watched command ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// It exited by itself, or was killed by someone else.
    Exited(ExitStatus),
    /// It was still running at the deadline, and has been killed.
    OutOfTime,
}

impl Ending {
    /// Tells whether the command exited with code 0.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }

    /// Returns the exit code, if the command exited by itself.
    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Self::Exited(status) => status.code(),
            Self::OutOfTime => None,
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => status.fmt(f),
            Self::OutOfTime => f.write_str("no end within its time"),
        }
    }
}

/// Runs a command that writes straight to the terminal, and returns its exit status.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let mut group = Group::spawn(command)?;
    loop {
        if let Some(status) = group.poll()? {
            return Ok(status);
        }
        thread::sleep(GLANCE);
    }
}

/// Runs a command and hands over each line of its output, standard output and error in the order they were written.
pub(crate) fn watch(
    mut command: Command,
    limit: Option<Duration>,
    mut on_line: impl FnMut(&str),
) -> Result<Ending> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command
        .stdout(writer.try_clone().context("cannot share a pipe")?)
        .stderr(writer);
    let mut group = Group::spawn(&mut command)?;
    // The command keeps the writing ends open; the reader sees the end of the output only once they are closed here.
    drop(command);
    let lines = read_lines(reader);
    loop {
        match lines.recv_timeout(GLANCE) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(GLANCE),
        }
        if let Some(status) = group.poll()? {
            drain(&lines, &mut on_line);
            return Ok(Ending::Exited(status));
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Ok(Ending::OutOfTime);
        }
    }
}

/// Hands over what is left in the pipe once the command has ended.
fn drain(lines: &Receiver<String>, on_line: &mut impl FnMut(&str)) {
    let deadline = Instant::now() + TRAILING_OUTPUT;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let Ok(line) = lines.recv_timeout(left) else {
            return;
        };
        on_line(&line);
    }
}

/// Reads lines on a thread that ends with the pipe, or when nobody listens any more.
fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES_AHEAD);
    thread::spawn(move || forward_lines(BufReader::new(reader), &sender));
    receiver
}

fn forward_lines(mut reader: BufReader<PipeReader>, sender: &SyncSender<String>) {
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line);
        if sender
            .send(text.trim_end_matches(['\n', '\r']).to_owned())
            .is_err()
        {
            return;
        }
        line.clear();
    }
}

/// A running command and all it started; ended when dropped.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn spawn(command: &mut Command) -> Result<Self> {
        interrupt::check()?;
        let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
        let child =
            spawned.with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self {
            child,
            ended: false,
        })
    }

    /// Returns the exit status once the command has ended.
    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().context("cannot wait for a command")?;
        self.ended = status.is_some();
        if !self.ended {
            interrupt::check()?;
        }
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let pid = Pid::of(&self.child);
        pid.terminate_group();
        pid.wait_or_kill(GRACE);
        // The group is dead, so this only collects the exit status; nothing is left to do when it cannot.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn watched_output_keeps_its_order_and_its_last_line_needs_no_newline() {
        let mut seen = Vec::new();
        let ending = watch(
            shell("echo one; echo two >&2; printf three; exit 3"),
            None,
            |line| seen.push(line.to_owned()),
        );
        assert_eq!(ending.unwrap().code(), Some(3));
        assert_eq!(seen, ["one", "two", "three"]);
    }

    #[test]
    fn command_beyond_its_time_is_killed_with_its_children() {
        let mut seen = Vec::new();
        let limit = Duration::from_millis(300);
        let ending = watch(shell("sleep 60 & echo $!; wait"), Some(limit), |line| {
            seen.push(line.to_owned());
        });
        assert_eq!(ending.unwrap(), Ending::OutOfTime);
        let sleeper = seen[0].parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Pid::find(sleeper).is_some() && Instant::now() < deadline {
            thread::sleep(GLANCE);
        }
        assert_eq!(Pid::find(sleeper), None);
    }

    #[test]
    fn process_left_behind_does_not_hold_up_the_end() {
        let begun = Instant::now();
        let mut sleeper = String::new();
        let ending = watch(shell("sleep 10 & echo $!"), None, |line| {
            line.clone_into(&mut sleeper);
        });
        assert!(ending.unwrap().is_success());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(
            shell(&format!("kill {sleeper}"))
                .status()
                .unwrap()
                .success()
        );
    }
}
