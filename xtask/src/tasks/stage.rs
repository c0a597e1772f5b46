//! One run of a test runner: its output goes through to the user, its results are added up.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::Command;

use anyhow::Result;

use crate::counts::{self, Counts};
use crate::process;

/// Whose output is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Runner {
    /// `cargo nextest run`: one summary for everything.
    Nextest,
    /// `cargo test`: one result per test binary.
    Libtest,
}

/// What nextest exits with when no test matched; whether that is wrong is decided over all stages.
const NEXTEST_NO_TESTS: i32 = 4;

/// Runs one stage and returns its results.
///
/// A stage that ends badly without having reported a failed test (it did not build, it crashed) counts as one
/// failure: the sum of all stages must not look green.
pub(super) fn run(mut command: Command, runner: Runner) -> Result<Counts> {
    let call = describe(&command);
    println!("==> {call}");
    if io::stdout().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut tally = Tally::new(runner);
    let ending = process::watch(command, None, |line| {
        show(line);
        tally.read(line);
    })?;
    let mut counts = tally.counts;
    let no_tests = runner == Runner::Nextest && ending.code() == Some(NEXTEST_NO_TESTS);
    if !ending.is_success() && !no_tests && counts.failed == 0 {
        println!(
            "error: `{call}` ended with {ending} without reporting a failed test; that counts as one failure"
        );
        counts.failed = 1;
    }
    Ok(counts)
}

/// Prints one line; a reader that has gone away is no reason to stop the tests half-way.
fn show(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Writes a command the way a user would type it.
fn describe(command: &Command) -> String {
    let mut call = "cargo".to_owned();
    for arg in command.get_args() {
        let _ = write!(call, " {}", arg.display());
    }
    call
}

/// The results so far.
struct Tally {
    runner: Runner,
    counts: Counts,
    in_soak: bool,
}

impl Tally {
    fn new(runner: Runner) -> Self {
        Self {
            runner,
            counts: Counts::default(),
            in_soak: false,
        }
    }

    fn read(&mut self, line: &str) {
        match self.runner {
            // The summary comes last: a test that prints one of its own does not count.
            Runner::Nextest => self.counts = counts::of_nextest(line).unwrap_or(self.counts),
            Runner::Libtest => self.read_libtest(line),
        }
    }

    fn read_libtest(&mut self, line: &str) {
        if line.trim_start().starts_with("Running ") {
            self.in_soak = line.contains(" tests/soak.rs ");
        }
        let Some(mut counts) = counts::of_libtest(line) else {
            return;
        };
        if self.in_soak {
            // Soak tests are ignored on purpose: they have a task of their own.
            counts.skipped = 0;
        }
        self.counts += counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(runner: Runner, lines: &[&str]) -> Counts {
        let mut tally = Tally::new(runner);
        lines.iter().for_each(|line| tally.read(line));
        tally.counts
    }

    #[test]
    fn libtest_results_add_up_and_soak_tests_may_be_ignored() {
        let lines = [
            "     Running unittests src/lib.rs (target/debug/deps/larder-1)",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "     Running tests/soak.rs (target/debug/deps/soak-1)",
            "test result: ok. 0 passed; 0 failed; 7 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "     Running tests/store.rs (target/debug/deps/store-1)",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];
        assert_eq!(
            tally(Runner::Libtest, &lines),
            Counts {
                passed: 4,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn last_nextest_summary_counts() {
        let lines = [
            "    Summary [   0.1s] 9 tests run: 9 passed, 9 skipped",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "     Summary [   0.2s] 2 tests run: 1 passed, 1 failed, 0 skipped",
            "error: test run failed",
        ];
        assert_eq!(
            tally(Runner::Nextest, &lines),
            Counts {
                passed: 1,
                failed: 1,
                skipped: 0
            }
        );
    }
}
