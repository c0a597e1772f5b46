//! Damaged files, moved aside for people to look at.

use std::fs;
use std::io;

use super::disk::Disk;
use super::fault::{Attempt, fault};
use super::lock::Held;
use super::name::Address;

/// How many damaged files are kept; further ones are removed.
pub(super) const MAX_KEPT: usize = 100;

impl Disk {
    /// Moves the file of an entry out of the way. The caller found it damaged under this lock.
    ///
    /// # Errors
    /// `Vanished`: it is gone already. `Failed`: it can be neither moved nor removed.
    pub(super) fn quarantine(&self, _held: &Held<'_>, address: &Address) -> Attempt<()> {
        let path = self.layout.entry_path(address);
        let moved = if self.kept_in_quarantine() < MAX_KEPT {
            let name = format!("{}-{:08x}", address.key.hex(), fastrand::u32(..));
            fs::rename(&path, self.layout.quarantine().join(name))
        } else {
            fs::remove_file(&path)
        };
        moved.map_err(|error| fault("move a damaged entry", self.layout.root(), error))?;
        self.count_quarantined();
        let file = address.key.hex();
        tracing::warn!(store = "file", %file, "a damaged entry was moved aside");
        Ok(())
    }

    /// Returns how many files there are; a directory that cannot be read counts as full.
    pub(super) fn kept_in_quarantine(&self) -> usize {
        match fs::read_dir(self.layout.quarantine()) {
            Ok(entries) => entries.count(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(_) => MAX_KEPT,
        }
    }
}
