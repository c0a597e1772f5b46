//! `cargo xtask bench [args...]`: the comparison with other caches, which is a workspace of its own because of all
//! the clients it needs. Prints the conditions first: a figure without its machine means nothing.

use std::fs;
use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Result, bail};

use crate::{process, servers, workspace};

const MANIFEST: &str = "benches-peers/Cargo.toml";

/// Builds the release program and hands it, with `args`, to the benches.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if !workspace::root().join(MANIFEST).is_file() {
        bail!("there are no benches: {MANIFEST} is missing");
    }
    if !process::run(&mut workspace::cargo(&[
        "build",
        "--release",
        "-p",
        "larder-cli",
    ]))?
    .success()
    {
        bail!("the release program does not build");
    }
    // The benches start their own, but install nothing.
    servers::install(servers::registered())?;
    for (name, value) in conditions() {
        println!("{name:6} {value}");
    }
    let mut benches = workspace::cargo(&["run", "--release", "--manifest-path", MANIFEST, "--"]);
    benches.args(args).env(
        "LARDER_BIN",
        workspace::target_dir().join("release").join("larder"),
    );
    Ok(if process::run(&mut benches)?.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Describes the machine and the moment, one line each.
fn conditions() -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism()
        .map_or_else(|_| "unknown".to_owned(), |cores| cores.to_string());
    vec![
        ("cpu", cpu_model().unwrap_or_else(|| "unknown".to_owned())),
        ("cores", cores),
        ("kernel", output("uname", &["-srm"])),
        ("rustc", output("rustc", &["--version"])),
        (
            "load",
            fs::read_to_string("/proc/loadavg").map_or_else(unknown, |load| load.trim().to_owned()),
        ),
        ("date", output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])),
    ]
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns what a command prints, or `unknown`.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .output();
    output.map_or_else(unknown, |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

fn unknown(_: io::Error) -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_known_here() {
        for (name, value) in conditions() {
            assert!(!value.is_empty(), "{name}");
        }
    }
}
