//! What the program prints: data on standard output, messages on standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use serde::Serialize;
use serde_json::json;

use crate::cli::GlobalArgs;
use crate::failure::Failure;

/// Standard output, buffered, and the rules of `--json` and `-q`.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    is_terminal: bool,
    is_json: bool,
    is_quiet: bool,
    is_colored: bool,
}

impl Output {
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        Self {
            stdout: BufWriter::with_capacity(64 << 10, io::stdout()),
            is_terminal: io::stdout().is_terminal(),
            is_json: global.json,
            is_quiet: global.quiet,
            is_colored: global.color.for_stderr(),
        }
    }

    /// Returns whether a person reads the data.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// Prints a line of text.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.stdout, "{line}")
    }

    /// Prints a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, value)?;
        self.bytes(b"\n")
    }

    /// Prints the result of a command: as JSON if that was asked for, else as a line of text.
    pub(crate) fn result(&mut self, text: impl Display, value: &impl Serialize) -> io::Result<()> {
        if self.is_json {
            self.json(value)
        } else {
            self.line(text)
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Tells the person something that is no data.
    pub(crate) fn note(&self, message: impl Display) {
        if !self.is_quiet {
            print_stderr(&format!("{message}\n"));
        }
    }

    /// Reports why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_broken_pipe() {
            return;
        }
        if self.is_json {
            print_json_error(failure);
        } else if self.is_colored {
            print_stderr(&format!("\x1b[1;31merror\x1b[0m: {}\n", failure.message()));
        } else {
            print_stderr(&format!("error: {}\n", failure.message()));
        }
    }
}

/// Prints `{"error":{"kind","message"}}` on standard error.
pub(crate) fn print_json_error(failure: &Failure) {
    let error = json!({"error": {"kind": failure.kind(), "message": failure.message()}});
    print_stderr(&format!("{error}\n"));
}

fn print_stderr(text: &str) {
    // A message that nobody can read must not fail the command.
    let _ = io::stderr().write_all(text.as_bytes());
}
