//! `cargo xtask servers up|down|status`: the servers of the tests, for as long as somebody works with them.
//!
//! `up` prints shell code and nothing else on standard output: `eval "$(cargo xtask servers up)"`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::servers::{self, Export, Session};
use crate::{Usage, workspace};

/// Runs the one verb that `args` name.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["up"] => up(),
        ["down"] => down(),
        ["status"] => status(),
        _ => Err(Usage("expected one of up, down, status".to_owned()).into()),
    }
}

fn up() -> Result<ExitCode> {
    if servers::registered().is_empty() {
        eprintln!("no servers are registered, so there is nothing to start");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(session) = Session::load(&state_file())? {
        if session.is_alive() {
            eprintln!("the servers are already up; `cargo xtask servers down` stops them");
            print_exports(&session.exports());
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("of the servers started earlier, some are dead: starting all of them again");
        session.stop()?;
    }
    let session = servers::provide(servers::registered())?.leave_running(&state_file())?;
    eprintln!(
        "the servers are up; their files are in {}",
        session.dir().display()
    );
    print_exports(&session.exports());
    Ok(ExitCode::SUCCESS)
}

fn down() -> Result<ExitCode> {
    match Session::load(&state_file())? {
        Some(session) => {
            session.stop()?;
            eprintln!("the servers are down");
        }
        None => eprintln!("the servers are not up"),
    }
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    let Some(session) = Session::load(&state_file())? else {
        println!("the servers are not up");
        return Ok(ExitCode::SUCCESS);
    };
    for line in session.status() {
        println!("{line}");
    }
    print_exports(&session.exports());
    println!("files: {}", session.dir().display());
    Ok(if session.is_alive() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn state_file() -> PathBuf {
    workspace::target_dir().join("xtask").join("servers.toml")
}

fn print_exports(exports: &[Export]) {
    for (name, value) in exports {
        println!("export {name}={}", quoted(value));
    }
}

/// Quotes a value for the shell, where it needs that.
fn quoted(value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+=,".contains(letter);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_need_quotes_get_them() {
        assert_eq!(quoted("redis://127.0.0.1:7000/"), "redis://127.0.0.1:7000/");
        assert_eq!(quoted("a&b"), "'a&b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
