//! Servers that outlive the program that started them: what it takes to find and stop them again.
//!
//! The state file belongs to one target directory, so each checkout has its own servers. It is written before the
//! servers are let go and removed after they are dead: whatever dies in between, `servers down` can still clean up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::Process;
use super::fleet::{DIR_PREFIX, Export};
use super::process::GRACE;
use crate::pid::Pid;

/// Servers left running, as the state file has them.
#[derive(Debug)]
pub struct Session {
    file: PathBuf,
    record: Record,
}

/// The contents of the state file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    dir: PathBuf,
    #[serde(default)]
    exports: BTreeMap<String, String>,
    #[serde(default, rename = "process")]
    processes: Vec<Entry>,
}

/// One process left running.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    name: String,
    port: u16,
    pid: Pid,
}

impl Session {
    /// Writes the state file; the directory it is in is created.
    pub(super) fn create(
        file: &Path,
        dir: &Path,
        exports: Vec<Export>,
        processes: Vec<Entry>,
    ) -> Result<Self> {
        let record = Record {
            dir: dir.to_path_buf(),
            exports: exports.into_iter().collect(),
            processes,
        };
        let text = toml::to_string(&record).context("cannot write down the servers")?;
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self {
            file: file.to_path_buf(),
            record,
        })
    }

    /// Reads the state file; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not a state file.
    pub fn load(file: &Path) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let record =
            toml::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        Ok(Some(Self {
            file: file.to_path_buf(),
            record,
        }))
    }

    /// Tells whether every process still lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut processes = self.record.processes.iter();
        processes.all(|entry| entry.pid.is_alive())
    }

    /// Returns the variables that tell tests where the servers are.
    #[must_use]
    pub fn exports(&self) -> Vec<Export> {
        let exports = self.record.exports.iter();
        exports
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Describes each process in one line: name, alive or dead, process id, port.
    #[must_use]
    pub fn status(&self) -> Vec<String> {
        self.record.processes.iter().map(Entry::status).collect()
    }

    /// Returns the directory that the servers write to.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.record.dir
    }

    /// Stops the servers that still live, and removes their directory and the state file.
    ///
    /// # Errors
    ///
    /// When the directory or the state file cannot be removed, or the directory is none of ours.
    pub fn stop(self) -> Result<()> {
        let living: Vec<_> = self
            .record
            .processes
            .iter()
            .map(|entry| entry.pid)
            .filter(|pid| pid.is_alive())
            .collect();
        living.iter().for_each(|pid| pid.terminate());
        living.iter().for_each(|pid| pid.wait_or_kill(GRACE));
        remove_dir(&self.record.dir)?;
        fs::remove_file(&self.file)
            .with_context(|| format!("cannot remove {}", self.file.display()))
    }
}

impl Entry {
    /// Returns what to remember of a process, unless it has ended.
    pub(super) fn of(process: &Process) -> Option<Self> {
        Some(Self {
            name: process.name().to_owned(),
            port: process.place().port,
            pid: process.pid()?,
        })
    }

    fn status(&self) -> String {
        let life = if self.pid.is_alive() { "alive" } else { "dead" };
        format!(
            "{:18} {life:5} pid {:7} port {}",
            self.name, self.pid, self.port
        )
    }
}

/// Removes the directory of the servers, but never another: the state file is only a file.
fn remove_dir(dir: &Path) -> Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with(DIR_PREFIX) {
        bail!(
            "{} is no directory of test servers, so it stays",
            dir.display()
        );
    }
    if !dir.exists() {
        return Ok(());
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}
