//! `cargo xtask ci`: everything that a change must pass, cheapest first, ending at the first step that fails.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::test;
use crate::counts::Counts;
use crate::interrupt::Interrupted;
use crate::{Usage, mutants, process, workspace};

const CLIPPY_ALL: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--all-features",
    "--",
    "-D",
    "warnings",
];
const CLIPPY_NONE: &[&str] = &[
    "clippy",
    "-p",
    "larder",
    "--no-default-features",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

/// Runs the steps; `--full` adds the slow ones.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let full = match args {
        [] => false,
        [flag] if flag == "--full" => true,
        _ => return Err(Usage("expected nothing or --full".to_owned()).into()),
    };
    for (name, mut command) in checks(full)? {
        if !step(&name, || Ok(process::run(&mut command)?.success()))? {
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut counts = Counts::default();
    let mut green = step("test", || {
        counts = test::measure(&test::Options::default())?;
        Ok(counts.is_green())
    })?;
    if green && full {
        green = step("mutants", || mutants::hunt(None))?;
    }
    // The summary is the last line of all, so every step has reported before.
    let code = test::conclude(counts);
    Ok(if green { code } else { ExitCode::FAILURE })
}

/// Returns the steps that only run one command: what they are called, and the command.
fn checks(full: bool) -> Result<Vec<(String, Command)>> {
    let mut checks = vec![
        (
            "fmt".to_owned(),
            workspace::cargo(&["fmt", "--all", "--check"]),
        ),
        (
            "clippy, all features".to_owned(),
            workspace::cargo(CLIPPY_ALL),
        ),
        (
            "clippy, no default features".to_owned(),
            workspace::cargo(CLIPPY_NONE),
        ),
    ];
    if full {
        let manifest = workspace::root().join("crates/larder/Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let features = features(&text)?;
        checks.extend(
            features
                .iter()
                .map(|feature| (format!("clippy, {feature} alone"), clippy_alone(feature))),
        );
    }
    checks.push(("doc".to_owned(), doc()));
    Ok(checks)
}

fn clippy_alone(feature: &str) -> Command {
    let mut command = workspace::cargo(&[
        "clippy",
        "-p",
        "larder",
        "--no-default-features",
        "--all-targets",
    ]);
    command.args(["--features", feature, "--", "-D", "warnings"]);
    command
}

fn doc() -> Command {
    let mut command = workspace::cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    command.env("RUSTDOCFLAGS", format!("{flags} -D warnings").trim());
    command
}

/// Returns the features that a manifest declares, without the default set.
fn features(manifest: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse().context("cannot read a manifest")?;
    let features = manifest
        .get("features")
        .and_then(|features| features.as_table());
    let names = features.into_iter().flat_map(|features| features.keys());
    Ok(names.filter(|name| *name != "default").cloned().collect())
}

/// Runs one step and prints its name and how long it took; an error is a failed step, except an interruption.
fn step(name: &str, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
    println!("==> {name}");
    let begun = Instant::now();
    let green = work().or_else(|error| {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        println!("error: {error:#}");
        Ok(false)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    if green {
        println!("==> {name}: ok, {seconds:.1} s");
    } else {
        println!("==> ci FAILED at step `{name}`, after {seconds:.1} s");
    }
    Ok(green)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_a_manifest() {
        let manifest = "[package]\nname = 'x'\n[features]\ndefault = ['file']\nfile = ['dep:a', 'b/c']\ntesting = []\n";
        assert_eq!(features(manifest).unwrap(), ["file", "testing"]);
        assert!(features("[package]\nname = 'x'").unwrap().is_empty());
    }

    #[test]
    fn step_that_errs_has_failed_but_an_interruption_ends_everything() {
        assert!(!step("sample", || anyhow::bail!("broken")).unwrap());
        assert!(
            step("sample", || Err(Interrupted.into()))
                .unwrap_err()
                .is::<Interrupted>()
        );
    }
}
