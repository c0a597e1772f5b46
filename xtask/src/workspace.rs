//! Where things are: the root of the workspace, the target directory, and `cargo` itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the root of the workspace.
///
/// `cargo run` tells where the package is; a program started by hand falls back on where it was built.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package
        .parent()
        .map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Returns the directory that cargo builds into, honouring `CARGO_TARGET_DIR`.
pub(crate) fn target_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(target)
}

/// Returns the same `cargo` that runs this program, with `args`, at the root of the workspace.
pub(crate) fn cargo<S: AsRef<str>>(args: &[S]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(args.iter().map(AsRef::as_ref))
        .current_dir(root());
    command
}
