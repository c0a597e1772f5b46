//! `cargo xtask soak [name]`: the long tests, on a release build, with the servers up.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::stage::{self, Runner};
use super::test;
use crate::counts::Counts;
use crate::servers;
use crate::{Usage, workspace};

/// Where the soak tests are; each is `#[ignore]`d, so that no other task runs it.
const SOURCE: &str = "crates/larder/tests/soak.rs";

const CARGO_TEST: &[&str] = &[
    "test",
    "--release",
    "-p",
    "larder",
    "--all-features",
    "--test",
    "soak",
];

/// Tests of the suite that last for as long as the variable says.
const STORMS: &[&str] = &[
    "test",
    "--release",
    "-p",
    "larder",
    "--all-features",
    "--test",
    "processes",
    "--",
    "--nocapture",
    "--test-threads=1",
    "stopped_holders",
];
const STORM_S: (&str, &str) = ("LARDER_TEST_STORM_S", "120");

/// Runs the soak tests whose name contains the argument, or all of them; `storms` are the long forms of tests that stop
/// processes.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if args.len() > 1 || args.iter().any(|arg| arg.starts_with('-')) {
        return Err(Usage("expected at most one name".to_owned()).into());
    }
    if !workspace::root().join(SOURCE).is_file() {
        bail!("there are no soak tests: {SOURCE} is missing");
    }
    let fleet = servers::provide(servers::registered())?;
    let mut counts = Counts::default();
    if args != ["storms"] {
        let mut command = workspace::cargo(CARGO_TEST);
        fleet.equip(command.args(["--", "--ignored", "--nocapture"]).args(args));
        counts += stage::run(command, Runner::Libtest)?;
    }
    if args.is_empty() || args == ["storms"] {
        let mut command = workspace::cargo(STORMS);
        fleet.equip(command.env(STORM_S.0, STORM_S.1));
        counts += stage::run(command, Runner::Libtest)?;
    }
    drop(fleet);
    Ok(test::conclude(counts))
}
