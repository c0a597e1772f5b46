//! A child process: this program again, in a role, told what to do and heard through pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::Kind;

pub(crate) const ROLE: &str = "LARDER_TEST_ROLE";
pub(crate) const STORE: &str = "LARDER_TEST_STORE";
pub(crate) const DIR: &str = "LARDER_TEST_DIR";
pub(crate) const NUMBER: &str = "LARDER_TEST_NUMBER";
pub(crate) const START: &str = "LARDER_TEST_START";
/// What a child says is marked, since the test framework writes to the same pipe.
pub(crate) const MARK: &str = "child: ";

/// No child is silent for longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running child process, killed when dropped.
pub(crate) struct Child {
    process: process::Child,
    pub(crate) heard: Receiver<String>,
}

impl Child {
    /// Starts a process in this role; `number` tells siblings apart, `start` is up to the role.
    pub(crate) fn start(role: &str, kind: Kind, dir: &Path, (number, start): (usize, u64)) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env(STORE, kind.name())
            .env(DIR, dir)
            .env(NUMBER, number.to_string())
            .env(START, start.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (said, heard) = mpsc::channel();
        // Ends with the pipe, that is with the process.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(word) = line.strip_prefix(MARK) {
                    let _ = said.send(word.to_owned());
                }
            }
        });
        Self { process, heard }
    }

    /// Sends a line.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Waits for a line.
    pub(crate) fn hear(&self) -> String {
        self.heard
            .recv_timeout(PATIENCE)
            .expect("the child answers")
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end and returns what was said and not yet heard.
    pub(crate) fn finish(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let said = self.rest();
        assert!(self.process.wait().unwrap().success(), "the child failed");
        said
    }

    /// Kills the process without a warning and returns what it said and was not yet heard.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.rest()
    }

    /// As [`Child::kill`]; panics if it has ended by itself.
    pub(crate) fn kill_running(mut self) -> Vec<String> {
        let ended = self.process.try_wait().unwrap();
        assert_eq!(ended, None, "the child failed");
        self.kill()
    }

    fn rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return rest,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the child hangs"),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
