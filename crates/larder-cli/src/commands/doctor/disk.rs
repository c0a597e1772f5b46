//! The directories of embedded stores: there, ours, with room.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use larder::config::{Config, Driver};
use rustix::fs::{Access, access, statvfs};

use super::{Check, Status};
use crate::table;

/// Less free space than this is a warning, and than this a failure.
const LITTLE_BYTES: u64 = 1 << 30;
const NOTHING_BYTES: u64 = 16 << 20;

/// Where a store keeps its files.
#[derive(Debug)]
pub(super) struct Place {
    store: String,
    directory: PathBuf,
}

/// Returns the directories of the stores that have any.
pub(super) fn places(config: &Config) -> Vec<Place> {
    let place = |(name, store): (&String, &larder::config::StoreConfig)| {
        let path = store.path.as_deref()?;
        let directory = match store.driver {
            Driver::Sqlite => path.parent()?,
            Driver::File => path,
            _ => return None,
        };
        Some(Place {
            store: name.clone(),
            directory: directory.to_owned(),
        })
    };
    config.stores.iter().filter_map(place).collect()
}

/// Checks one directory.
pub(super) fn check(place: &Place) -> Vec<Check> {
    let directory = &place.directory;
    let name = |what: &str| format!("{what} of store {}", place.store);
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let detail = format!("{} is no directory", directory.display());
            return vec![Check::new(name("directory"), Status::Fail, detail)];
        }
        Err(error) => {
            let detail = format!("{}: {error}", directory.display());
            return vec![Check::new(name("directory"), Status::Fail, detail)];
        }
    };
    let mut checks = vec![
        permissions(directory, &metadata, name("directory")),
        free_space(directory, name("free space")),
    ];
    let aside = moved_aside(directory).unwrap_or_default();
    if !aside.is_empty() {
        let detail = format!(
            "damaged files were moved aside; look at them, then remove them: {}",
            aside.join(", ")
        );
        checks.push(Check::new(name("files"), Status::Warn, detail));
    }
    checks
}

fn permissions(directory: &Path, metadata: &fs::Metadata, name: String) -> Check {
    let mode = metadata.permissions().mode() & 0o777;
    let shown = format!("{} (mode {mode:03o})", directory.display());
    let usable = access(
        directory,
        Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
    );
    if let Err(error) = usable {
        let detail = format!("{shown} cannot be used: {error}");
        return Check::new(name, Status::Fail, detail);
    }
    let owner = rustix::process::geteuid().as_raw();
    if metadata.uid() != owner && owner != 0 {
        let detail = format!("{shown} belongs to user {}", metadata.uid());
        return Check::new(name, Status::Warn, detail);
    }
    if mode & 0o022 != 0 {
        let detail = format!("{shown} can be written by others: chmod 700 it");
        return Check::new(name, Status::Warn, detail);
    }
    Check::new(name, Status::Ok, shown)
}

fn free_space(directory: &Path, name: String) -> Check {
    let free = match statvfs(directory) {
        Ok(stats) => stats.f_bavail.saturating_mul(stats.f_frsize),
        Err(error) => return Check::new(name, Status::Warn, format!("unknown: {error}")),
    };
    let status = match free {
        ..NOTHING_BYTES => Status::Fail,
        NOTHING_BYTES..LITTLE_BYTES => Status::Warn,
        _ => Status::Ok,
    };
    Check::new(name, status, table::bytes(free))
}

/// Returns the names of files that a store refused to use.
fn moved_aside(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.contains(".aside-") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
