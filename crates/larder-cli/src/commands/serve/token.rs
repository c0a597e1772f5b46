//! The token that requests must bring.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// Reads the token; white space around it does not count.
pub(super) fn read(file: &Path) -> Outcome<String> {
    let shown = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read the token in {shown}: {error}")))?;
    let token = text.trim();
    if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "the token in {shown} must be {MIN_TOKEN_BYTES} or more printable characters, \
             as `openssl rand -hex 24` makes them"
        )));
    }
    let mode = fs::metadata(file).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        tracing::warn!("everybody on this machine can read {shown}: chmod 600 it");
    }
    Ok(token.to_owned())
}
