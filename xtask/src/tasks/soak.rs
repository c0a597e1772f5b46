//! `cargo xtask soak [name]`: the long tests, on a release build, with the servers up.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::stage::{self, Runner};
use super::test;
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

/// Runs the soak tests whose name contains the argument, or all of them.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if args.len() > 1 || args.iter().any(|arg| arg.starts_with('-')) {
        return Err(Usage("expected at most one name".to_owned()).into());
    }
    if !workspace::root().join(SOURCE).is_file() {
        bail!("there are no soak tests: {SOURCE} is missing");
    }
    let fleet = servers::provide(servers::registered())?;
    let mut command = workspace::cargo(CARGO_TEST);
    fleet.equip(command.args(["--", "--ignored", "--nocapture"]).args(args));
    let counts = stage::run(command, Runner::Libtest)?;
    drop(fleet);
    Ok(test::conclude(counts))
}
