//! One build and one test run of the copied tree, and what follows from them.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::counts::{self, Counts};
use crate::process::{self, Ending};
use crate::servers::Fleet;
use crate::workspace;

/// How long the laws of one mutant may run: a fault may make them wait for ever.
const TEST_LIMIT: Duration = Duration::from_secs(300);

const CARGO_TEST: &[&str] = &["test", "-p", "larder", "--all-features", "--tests"];

/// What a trial says about a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A law ran and failed, which is what should happen.
    Killed,
    /// The laws ran and passed.
    Survived,
    /// The fault does not compile, so it says nothing about the laws.
    DoesNotBuild,
    /// No law has the name.
    NoLawRan,
    /// The laws did not end in time; a law that notices must fail by itself.
    OutOfTime,
    /// The tests ended badly without a law that failed.
    Crashed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed",
            Self::Survived => "SURVIVED",
            Self::DoesNotBuild => "DOES NOT BUILD",
            Self::NoLawRan => "NO LAW RAN",
            Self::OutOfTime => "OUT OF TIME",
            Self::Crashed => "CRASHED",
        })
    }
}

/// Where trials are held.
#[derive(Debug)]
pub(super) struct Court<'a> {
    tree: &'a Path,
    target: &'a Path,
    fleet: &'a Fleet,
}

/// How one trial went.
#[derive(Debug)]
pub(super) struct Trial {
    /// How the test run ended; `None` when the build failed before.
    tests: Option<Ending>,
    counts: Counts,
    /// Everything that was printed.
    pub(super) log: Vec<String>,
}

impl<'a> Court<'a> {
    /// Makes a court for the sources in `tree`, with builds in `target`, and tests that use the servers of `fleet`.
    pub(super) fn new(tree: &'a Path, target: &'a Path, fleet: &'a Fleet) -> Self {
        Self {
            tree,
            target,
            fleet,
        }
    }

    /// Builds the tree and runs the tests that one of `laws` is a part of.
    pub(super) fn hold(&self, laws: &[&str]) -> Result<Trial> {
        let mut trial = Trial {
            tests: None,
            counts: Counts::default(),
            log: Vec::new(),
        };
        let mut build = self.cargo_test();
        build.arg("--no-run");
        if !process::watch(build, None, |line| trial.log.push(line.to_owned()))?.is_success() {
            return Ok(trial);
        }
        let mut tests = self.cargo_test();
        tests.arg("--").args(laws);
        trial.tests = Some(process::watch(tests, Some(TEST_LIMIT), |line| {
            trial.log.push(line.to_owned());
            trial.counts += counts::of_libtest(line).unwrap_or_default();
        })?);
        Ok(trial)
    }

    fn cargo_test(&self) -> Command {
        let mut command = workspace::cargo(CARGO_TEST);
        command
            .current_dir(self.tree)
            .env("CARGO_TARGET_DIR", self.target);
        self.fleet.equip(&mut command);
        command
    }
}

impl Trial {
    /// Returns what the trial says.
    pub(super) fn verdict(&self) -> Verdict {
        match self.tests {
            None => Verdict::DoesNotBuild,
            Some(Ending::OutOfTime) => Verdict::OutOfTime,
            Some(_) if self.counts.failed > 0 => Verdict::Killed,
            Some(ending) if !ending.is_success() => Verdict::Crashed,
            Some(_) if self.counts.passed == 0 => Verdict::NoLawRan,
            Some(_) => Verdict::Survived,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn verdict(code: Option<i32>, passed: u64, failed: u64) -> Verdict {
        let tests = code.map(|code| Ending::Exited(ExitStatus::from_raw(code << 8)));
        Trial {
            tests,
            counts: Counts {
                passed,
                failed,
                skipped: 0,
            },
            log: Vec::new(),
        }
        .verdict()
    }

    #[test]
    fn only_a_law_that_ran_and_failed_kills() {
        assert_eq!(verdict(Some(101), 3, 1), Verdict::Killed);
        assert_eq!(verdict(Some(0), 3, 0), Verdict::Survived);
        assert_eq!(verdict(Some(0), 0, 0), Verdict::NoLawRan);
        assert_eq!(verdict(Some(101), 0, 0), Verdict::Crashed);
        assert_eq!(verdict(None, 0, 0), Verdict::DoesNotBuild);
    }

    #[test]
    fn running_out_of_time_is_no_kill() {
        let counts = Counts {
            passed: 0,
            failed: 1,
            skipped: 0,
        };
        let trial = Trial {
            tests: Some(Ending::OutOfTime),
            counts,
            log: Vec::new(),
        };
        assert_eq!(trial.verdict(), Verdict::OutOfTime);
    }
}
