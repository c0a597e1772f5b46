//! Debian packages for servers whose programs are missing.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Group, Program};
use crate::process;

/// Where Debian puts servers, which is not in the `PATH` of every user.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Returns the path of a program, if it is installed.
#[must_use]
pub fn find_binary(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Installs the packages of `groups` whose program is missing; does nothing, not even look for `apt-get`, when none is.
///
/// # Errors
///
/// When `apt-get` is missing or fails, or when a package does not bring the program it should.
pub fn install(groups: &[Group]) -> Result<()> {
    let missing = missing_packages(groups);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if find_binary("apt-get").is_none() {
        bail!(
            "the tests need servers that are not installed, and there is no apt-get to install: {packages}"
        );
    }
    eprintln!("installing {packages}");
    apt_get(&["update"])?;
    apt_get(
        &[
            &["install", "-y", "--no-install-recommends"],
            missing.as_slice(),
        ]
        .concat(),
    )?;
    match missing_programs(groups).next() {
        Some(Program { package, binary }) => {
            bail!("package {package} does not bring {binary}")
        }
        None => Ok(()),
    }
}

fn missing_programs(groups: &[Group]) -> impl Iterator<Item = &'static Program> {
    let programs = groups.iter().flat_map(|group| group.programs);
    programs.filter(|program| find_binary(program.binary).is_none())
}

fn missing_packages(groups: &[Group]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing_programs(groups)
        .map(|program| program.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Runs `apt-get` as root; its output goes to standard error, because `servers up` prints shell code on the other.
fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        // Commands get no terminal, so a password could not be typed.
        sudo.args(["-n", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    };
    let status = process::run(
        command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(io::stderr()),
    )?;
    if !status.success() {
        bail!("`apt-get {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn group(programs: &'static [Program]) -> Group {
        Group {
            name: "sample",
            programs,
            start: |_| bail!("only to be installed"),
        }
    }

    const fn program(package: &'static str, binary: &'static str) -> Program {
        Program { package, binary }
    }

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        let shell = find_binary("sh").unwrap();
        assert_eq!(find_binary(&shell.to_string_lossy()), Some(shell));
        assert_eq!(find_binary("no-such-program-anywhere"), None);
        assert_eq!(find_binary("/no/such/program"), None);
    }

    #[test]
    fn only_missing_packages_are_wanted_each_once() {
        const FIRST: &[Program] = &[program("b", "/no/b"), program("dash", "sh")];
        const SECOND: &[Program] = &[program("a", "/no/a"), program("b", "/no/bb")];
        assert_eq!(missing_packages(&[group(FIRST), group(SECOND)]), ["a", "b"]);
    }

    #[test]
    fn nothing_missing_installs_nothing() {
        const PRESENT: &[Program] = &[program("no-such-package", "sh")];
        install(&[group(PRESENT)]).unwrap();
    }
}
