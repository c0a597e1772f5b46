//! `cargo xtask soak [name]`: the long tests, on a release build, with the servers up.
//!
//! How long they are can be set by the variables below, for less time or more.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use super::stage::{self, Runner};
use super::test;
use crate::counts::Counts;
use crate::servers::{self, Fleet};
use crate::{Usage, workspace};

/// Where the soak tests are; each is `#[ignore]`d, so that no other task runs it.
const SOURCE: &str = "crates/larder/tests/soak.rs";

/// The test targets that are long in any case, each test `#[ignore]`d.
const SOAK: &[&str] = &["soak"];

/// The tests of tags, which the suite has in a short form.
const TAGS: &[&str] = &["tag_storms"];
/// Those of them that are about local tiers.
const TIERS: &str = "tiers";
const TAG_OPERATIONS: (&str, &str) = ("LARDER_TEST_STORM_OPERATIONS", "1000000");
/// Names the file to which each storm adds its row.
const ROWS: &str = "LARDER_TEST_STORM_ROWS";
/// What is in the columns of these rows, which are as wide.
const TAG_COLUMNS: [&str; 8] = [
    "store",
    "operations",
    "hits",
    "local",
    "invalidations",
    "lost",
    "violations",
    "joined",
];

/// The models of the protocol, which the suite has in a narrower form; one at a time, for their states need memory.
const MODELS: &[&str] = &["load_model", "l1_model"];
const WIDE_MODELS: (&str, &str) = ("LARDER_TEST_WIDE_MODELS", "1");

/// The storms of local tiers and shared loads, which the suite has in a short form.
const COHERENCE: &[&str] = &["coherence_storms"];
const COHERENCE_TRIALS: (&str, &str) = ("LARDER_TEST_COHERENCE_TRIALS", "10000");

/// Tests of the suite that last for as long as the variable says.
const STORMS: &[&str] = &["processes"];
const STOPPED: &str = "stopped_holders";
const STORM_S: (&str, &str) = ("LARDER_TEST_STORM_S", "120");

/// Runs the soak tests whose name contains the argument, or all of them; `storms` are the long forms of tests that stop
/// processes, `tags` those of the tests of tags, `coherence` those of local tiers and shared loads, and of the models of both.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if args.len() > 1 || args.iter().any(|arg| arg.starts_with('-')) {
        return Err(Usage("expected at most one name".to_owned()).into());
    }
    if !workspace::root().join(SOURCE).is_file() {
        bail!("there are no soak tests: {SOURCE} is missing");
    }
    let fleet = servers::provide(servers::registered())?;
    let mut counts = Counts::default();
    let is_wanted = |name: &str| args.is_empty() || args == [name];
    let storms = ["storms", "tags", "coherence"];
    if !args.iter().any(|name| storms.contains(&name.as_str())) {
        let mut command = release_tests(SOAK);
        fleet.equip(command.args(["--ignored", "--nocapture"]).args(args));
        counts += stage::run(command, Runner::Libtest)?;
    }
    if is_wanted("storms") {
        let mut command = one_by_one(STORMS);
        command.arg(STOPPED);
        fleet.equip(amount(&mut command, STORM_S));
        counts += stage::run(command, Runner::Libtest)?;
    }
    if is_wanted("tags") {
        counts += tags(&fleet)?;
    }
    if is_wanted("coherence") {
        counts += coherence(&fleet)?;
    }
    drop(fleet);
    if is_wanted("coherence") {
        let mut command = one_by_one(MODELS);
        command.env(WIDE_MODELS.0, WIDE_MODELS.1);
        counts += stage::run(command, Runner::Libtest)?;
    }
    Ok(test::conclude(counts))
}

/// Returns the run of test targets on a release build; what is added are arguments of the tests.
fn release_tests(targets: &[&str]) -> Command {
    let mut command = workspace::cargo(&["test", "--release", "-p", "larder", "--all-features"]);
    for target in targets {
        command.args(["--test", target]);
    }
    command.arg("--");
    command
}

/// As [`release_tests`], a test at a time, with what each prints.
fn one_by_one(targets: &[&str]) -> Command {
    let mut command = release_tests(targets);
    command.args(["--nocapture", "--test-threads=1"]);
    command
}

/// Says how long tests are, unless the environment does.
fn amount<'a>(command: &'a mut Command, (name, usual): (&str, &str)) -> &'a mut Command {
    if std::env::var_os(name).is_none() {
        command.env(name, usual);
    }
    command
}

/// Runs the long form of the tests of tags, and prints a table of what each came to.
fn tags(fleet: &Fleet) -> Result<Counts> {
    tag_storms(fleet, &["--skip", TIERS])
}

/// Runs the storms of tags that these arguments choose.
fn tag_storms(fleet: &Fleet, chosen: &[&str]) -> Result<Counts> {
    let rows = tempfile::NamedTempFile::new()?;
    let mut command = one_by_one(TAGS);
    fleet.equip(amount(command.args(chosen), TAG_OPERATIONS));
    command.env(ROWS, rows.path());
    let counts = stage::run(command, Runner::Libtest)?;
    let [
        store,
        operations,
        hits,
        local,
        invalidations,
        lost,
        violations,
        joined,
    ] = TAG_COLUMNS;
    println!(
        "{store:<28} {operations:>10} {hits:>10} {local:>10} {invalidations:>13} {lost:>9} {violations:>10} {joined:>9}"
    );
    print!("{}", std::fs::read_to_string(rows.path())?);
    Ok(counts)
}

/// Runs the long form of the storms of local tiers and shared loads, and prints a row for each.
fn coherence(fleet: &Fleet) -> Result<Counts> {
    let mut counts = tag_storms(fleet, &[TIERS])?;
    let rows = tempfile::NamedTempFile::new()?;
    let mut command = one_by_one(COHERENCE);
    fleet.equip(amount(&mut command, COHERENCE_TRIALS));
    command.env(ROWS, rows.path());
    counts += stage::run(command, Runner::Libtest)?;
    print!("{}", std::fs::read_to_string(rows.path())?);
    Ok(counts)
}
