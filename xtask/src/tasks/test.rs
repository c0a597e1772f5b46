//! `cargo xtask test`: servers up, all tests, all doctests, servers down, one line that sums it up.
//!
//! Nothing may be skipped: tests run with `LARDER_TEST_STRICT=1`, under which a test without its server fails, and
//! an ignored test fails the run. The exception is the soak binary, whose tests have a task of their own. `--fast`
//! is for the time between two edits: no servers, no doctests, not strict, so that tests which need a server pass
//! over it.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;

use super::stage::{self, Runner};
use crate::counts::Counts;
use crate::interrupt::Interrupted;
use crate::servers::{self, Fleet};
use crate::{Usage, workspace};

/// How `cargo nextest list` begins the line of a soak test.
const SOAK_BINARY: &str = "larder::soak ";

/// What to test.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    fast: bool,
    /// Parts of test names, of which one must occur; empty means all tests.
    filters: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for arg in args {
            match arg.as_str() {
                "--" => {}
                "--fast" => options.fast = true,
                flag if flag.starts_with('-') => {
                    return Err(Usage(format!("unknown option {flag}")).into());
                }
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Runs the tests that `args` ask for.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let counts = measure(&Options::parse(args)?)?;
    Ok(conclude(counts))
}

/// Runs the tests and counts; whatever goes wrong on the way is printed and counts as a failure.
///
/// # Errors
///
/// Only when the user interrupts.
pub(super) fn measure(options: &Options) -> Result<Counts> {
    stages(options).or_else(|error| {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        println!("error: {error:#}");
        Ok(Counts {
            failed: 1,
            ..Counts::default()
        })
    })
}

/// Prints what is wrong, then the summary as the last line of all, and returns the exit code.
pub(super) fn conclude(counts: Counts) -> ExitCode {
    if let Some(complaint) = counts.complaint() {
        println!("error: {complaint}");
    }
    println!("{counts}");
    if counts.is_green() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the stages; the servers are down again when this returns.
fn stages(options: &Options) -> Result<Counts> {
    if options.fast {
        println!("==> fast: no servers, no doctests; stores behind a server are not tested");
        return tests(options, None);
    }
    let fleet = servers::provide(servers::registered())?;
    let mut counts = tests(options, Some(&fleet))?;
    counts += doctests(options, &fleet)?;
    Ok(counts)
}

fn tests(options: &Options, fleet: Option<&Fleet>) -> Result<Counts> {
    let has_nextest = has_nextest();
    let (mut command, runner) = if has_nextest {
        (
            workspace::cargo(&["nextest", "run", "--workspace", "--all-features"]),
            Runner::Nextest,
        )
    } else {
        (
            workspace::cargo(&["test", "--workspace", "--all-features"]),
            Runner::Libtest,
        )
    };
    if has_nextest {
        command
            .args(["--no-fail-fast", "--ignore-default-filter"])
            .args(&options.filters);
    } else {
        command
            .args([
                "--lib",
                "--bins",
                "--tests",
                "--examples",
                "--no-fail-fast",
                "--",
            ])
            .args(&options.filters);
    }
    if let Some(fleet) = fleet {
        fleet.equip(&mut command);
    }
    let mut counts = stage::run(command, runner)?;
    if has_nextest && counts.skipped > 0 {
        counts.skipped = ignored(&options.filters).unwrap_or(counts.skipped);
    }
    Ok(counts)
}

fn doctests(options: &Options, fleet: &Fleet) -> Result<Counts> {
    let mut command = workspace::cargo(&[
        "test",
        "--doc",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--",
    ]);
    fleet.equip(command.args(&options.filters));
    stage::run(command, Runner::Libtest)
}

fn has_nextest() -> bool {
    let mut command = workspace::cargo(&["nextest", "--version"]);
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Counts the tests that `filters` ask for and that are ignored: nextest reports as skipped also those that the
/// filters leave out. Returns `None` when nextest cannot tell.
fn ignored(filters: &[String]) -> Option<u64> {
    let mut command: Command =
        workspace::cargo(&["nextest", "list", "--workspace", "--all-features"]);
    command
        .args([
            "--run-ignored",
            "only",
            "--ignore-default-filter",
            "--message-format",
            "oneline",
        ])
        .args(filters);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let ignored = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(SOAK_BINARY))
        .inspect(|line| {
            println!("ignored: {line}");
        });
    let count = ignored.count();
    output
        .status
        .success()
        .then_some(u64::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_filters_and_one_flag() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
        let options = parse(&["a", "--fast", "--", "b"]).unwrap();
        assert_eq!(
            options,
            Options {
                fast: true,
                filters: vec!["a".to_owned(), "b".to_owned()]
            }
        );
        assert!(parse(&["--fats"]).unwrap_err().is::<Usage>());
    }
}
