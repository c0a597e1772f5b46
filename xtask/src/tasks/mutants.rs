//! `cargo xtask mutants [name]`: see [`crate::mutants`].

use std::process::ExitCode;

use anyhow::Result;

use crate::{Usage, mutants};

/// Tries the named mutant, or all of them.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let name = match args {
        [] => None,
        [name] if !name.starts_with('-') => Some(name.as_str()),
        _ => return Err(Usage("expected at most one name".to_owned()).into()),
    };
    Ok(if mutants::hunt(name)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
