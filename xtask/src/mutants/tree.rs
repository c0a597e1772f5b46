//! A copy of the workspace that may be broken: what git tracks, and what is new but not ignored.
//!
//! The copy has fresh modification times, on which cargo decides what to build again. They must not be preserved:
//! the builds of the last run, whose sources were broken, would look newer than the sources of this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// A copy that is removed when dropped.
#[derive(Debug)]
pub(super) struct Tree {
    dir: TempDir,
}

impl Tree {
    /// Copies the workspace at `root`.
    pub(super) fn copy(root: &Path) -> Result<Self> {
        let dir = TempDir::with_prefix("larder-mutants-")
            .context("cannot create a temporary directory")?;
        for file in files(root)? {
            copy_file(root, dir.path(), &file)?;
        }
        Ok(Self { dir })
    }

    /// Returns where the copy is.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Reads a file of the copy.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.path().join(file)).with_context(|| format!("cannot read {file}"))
    }

    /// Writes a file of the copy.
    pub(super) fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.path().join(file), text)
            .with_context(|| format!("cannot write the copy of {file}"))
    }
}

/// Lists the files of the workspace, relative to its root.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command
        .args(["ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(root)
        .stdin(Stdio::null());
    let output = command.output().context("cannot run git")?;
    if !output.status.success() {
        bail!(
            "git cannot list the files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(names.split_terminator('\0').map(PathBuf::from).collect())
}

/// Copies one file; one that is tracked but has been deleted is left out.
fn copy_file(root: &Path, copy: &Path, file: &Path) -> Result<()> {
    let (from, to) = (root.join(file), copy.join(file));
    if !from.is_file() {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::copy(&from, &to).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let status = Command::new("git")
            .args(args)
            .current_dir(dir)
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn copy_has_tracked_and_new_files_but_no_ignored_ones() {
        let source = TempDir::new().unwrap();
        git(source.path(), &["init", "--quiet"]);
        fs::create_dir(source.path().join("src")).unwrap();
        for (name, text) in [
            (".gitignore", "/target\n"),
            ("src/a b.rs", "a"),
            ("gone.rs", "g"),
            ("new.rs", "n"),
            ("target", "t"),
        ] {
            fs::write(source.path().join(name), text).unwrap();
        }
        git(source.path(), &["add", ".gitignore", "src", "gone.rs"]);
        fs::remove_file(source.path().join("gone.rs")).unwrap();
        let tree = Tree::copy(source.path()).unwrap();
        assert_eq!(tree.read("src/a b.rs").unwrap(), "a");
        assert_eq!(tree.read("new.rs").unwrap(), "n");
        assert!(!tree.path().join("target").exists());
        tree.write("new.rs", "broken").unwrap();
        assert_eq!(
            fs::read_to_string(source.path().join("new.rs")).unwrap(),
            "n"
        );
    }
}
