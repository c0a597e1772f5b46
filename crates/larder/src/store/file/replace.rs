//! Putting a file in place: written under a temporary name beside its target, then swapped in.
//!
//! The module doc of the store tells why the names are exchanged instead of renamed over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::fault::{Attempt, fault};
use super::layout::{FILE_MODE, Layout};
use super::name::{Address, TEMP_PREFIX};
use crate::store::Entry;

/// How many random names are tried for a temporary file.
const MAX_NAMES: usize = 16;
/// Values up to this size are copied behind their head, which is cheaper than another system call.
const MAX_JOINED_BYTES: usize = 64 << 10;
const WRITE: &str = "write an entry";

/// What a new file takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Whatever is there, or nothing.
    Anything,
    /// The entry that the new one was made from.
    Present,
}

impl Over {
    pub(super) fn of(present: Option<&Entry>) -> Self {
        present.map_or(Self::Anything, |_| Self::Present)
    }
}

/// Writes the parts as the file of an entry. The caller holds the entry's lock.
///
/// Readers see the old file or the new one, and so does whoever comes after a kill at any moment.
///
/// With [`Over::Present`], the entry must still be there: only a `clear` can have taken it, and what was made
/// from it must not appear after that. The temporary file is older than the check, so it was taken along.
///
/// # Errors
/// `Vanished`: a directory or the entry went away. `Failed`: nothing was changed and nothing is left behind.
pub(super) fn replace(
    layout: &Layout,
    address: &Address,
    parts: [&[u8]; 2],
    over: Over,
) -> Attempt<()> {
    let cannot = |error| fault(WRITE, layout.root(), error);
    let dir = layout.leaf_dir(address);
    let (temp, mut file) = match Temp::create(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            layout.make_leaf(address)?;
            Temp::create(&dir)
        }
        other => other,
    }
    .map_err(cannot)?;
    write_parts(&mut file, parts).map_err(cannot)?;
    drop(file);
    temp.publish(&layout.entry_path(address), over)
        .map_err(cannot)
}

/// Writes the file of a lease. The caller holds the lock of its stripe.
///
/// # Errors
/// As [`replace`].
pub(super) fn replace_lease(layout: &Layout, address: &Address, record: &[u8]) -> Attempt<()> {
    let cannot = |error| fault("write a lease", layout.root(), error);
    let dir = layout.lease_dir(address);
    let (temp, mut file) = match Temp::create(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            layout.make_lease_dir(address)?;
            Temp::create(&dir)
        }
        other => other,
    }
    .map_err(cannot)?;
    file.write_all(record).map_err(cannot)?;
    drop(file);
    temp.publish(&layout.lease_path(address), Over::Anything)
        .map_err(cannot)
}

fn write_parts(file: &mut fs::File, parts: [&[u8]; 2]) -> io::Result<()> {
    let [head, value] = parts;
    if value.len() <= MAX_JOINED_BYTES {
        return file.write_all(&parts.concat());
    }
    file.write_all(head)?;
    file.write_all(value)
}

/// A temporary file; removed when dropped, unless it has become the target.
#[derive(Debug)]
pub(super) struct Temp {
    path: Option<PathBuf>,
}

impl Temp {
    /// Creates an empty file under a fresh name.
    pub(super) fn create(dir: &Path) -> io::Result<(Self, fs::File)> {
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..MAX_NAMES {
            let path = dir.join(format!("{TEMP_PREFIX}{:016x}", fastrand::u64(..)));
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32)
                .open(&path);
            match created {
                Ok(file) => return Ok((Self { path: Some(path) }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// Gives the file its name; the one that had it before goes away.
    pub(super) fn publish(mut self, target: &Path, over: Over) -> io::Result<()> {
        let Some(temp) = self.path.as_deref() else {
            return Ok(());
        };
        match exchange(temp, target) {
            // The old file has the temporary name now, and is removed by the drop.
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if over == Over::Present {
                    return Err(error);
                }
            }
            // The file system cannot exchange: atomic as well, only slower.
            Err(_) => {
                if over == Over::Present {
                    fs::symlink_metadata(target)?;
                }
            }
        }
        fs::rename(temp, target)?;
        self.path = None;
        Ok(())
    }
}

impl Temp {
    /// Gives the file its name, which nothing may have.
    ///
    /// # Errors
    /// `AlreadyExists`: something has it.
    pub(super) fn publish_new(mut self, target: &Path) -> io::Result<()> {
        let Some(temp) = self.path.as_deref() else {
            return Ok(());
        };
        match rename_new(temp, target) {
            Ok(()) => self.path = None,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) =>
            {
                return Err(error);
            }
            // The file system cannot: as exclusive, and the temporary name is removed by the drop.
            Err(_) => fs::hard_link(temp, target)?,
        }
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now is stale, and the sweep's.
            let _ = fs::remove_file(path);
        }
    }
}

/// Swaps two names in one step.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Renames to a name that nothing has.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
