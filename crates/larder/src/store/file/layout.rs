//! Where everything lies below the root, and whether the root may be used at all.
//!
//! ```text
//! <root>/larder-file.v1           the marker; records the depth
//! <root>/ns-<digest>/aa/bb/<digest of the key>
//! <root>/ns-<digest>/registers/aa/<digest of the name>
//! <root>/locks/                   never deleted, outside of what `clear` takes away
//! <root>/leases/                  locks, semaphores and rate limiters
//! <root>/owners/                  a file for each process that uses them
//! <root>/journals/                what changes, while somebody reads it
//! <root>/quarantine/              damaged files
//! <root>/trash/                   cleared namespaces, until they are reclaimed
//! ```
//!
//! Nothing outside this layout is ever deleted. Set-up runs under a lock on the root itself, so
//! that processes that start at the same time agree.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::fault::{Attempt, failed, fault};
use super::name::{Address, Digest, HEX_LEN, NAMESPACE_PREFIX, parse_namespace};
use crate::error::{Error, ErrorKind, Result};

/// The most hashed directory levels.
pub(super) const MAX_DEPTH: u8 = 4;
/// The hashed directory levels of leases.
const LEASE_DEPTH: u8 = 1;
/// The hashed directory levels of registers.
const REGISTER_DEPTH: u8 = 1;

const MARKER: &str = "larder-file.v1";
/// The marker while it is written.
const MARKER_DRAFT: &str = "larder-file.v1.draft";
const LOCKS: &str = "locks";
const LEASES: &str = "leases";
const OWNERS: &str = "owners";
const JOURNALS: &str = "journals";
const REGISTERS: &str = "registers";
const QUARANTINE: &str = "quarantine";
const TRASH: &str = "trash";
/// Directories that are there from the start.
const DIRS: [&str; 6] = [LOCKS, LEASES, OWNERS, JOURNALS, QUARANTINE, TRASH];
/// What an otherwise empty mounted file system holds.
const LOST_AND_FOUND: &str = "lost+found";
const MAX_MARKER_BYTES: u64 = 256;
const DIR_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;
const WORLD_WRITABLE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The paths of a store, which belong to this process's user.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    depth: u8,
    uid: u32,
}

impl Layout {
    /// Creates or adopts the directory.
    ///
    /// # Errors
    /// `InvalidConfig`: the directory is not ours, not safe, or has another depth. `Unavailable`.
    pub(super) fn open(dir: &Path, depth: u8) -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let cannot = |error| failed("open a store", dir, error);
        let root = std::path::absolute(dir).map_err(cannot)?;
        if fs::symlink_metadata(&root).is_ok_and(|link| link.is_symlink() && link.uid() != uid) {
            let why = "is a symbolic link of another user; name the directory itself";
            return Err(refused(&root, why));
        }
        create_dir(&root, true).map_err(cannot)?;
        let root = fs::canonicalize(&root).map_err(cannot)?;
        let layout = Self { root, depth, uid };
        layout.claim(|name| name == MARKER_DRAFT || name == LOST_AND_FOUND)?;
        Ok(layout)
    }

    /// Creates again what was removed while the store is open.
    ///
    /// Parts of our own may be left by a removal that is under way.
    ///
    /// # Errors
    /// As [`Layout::open`].
    pub(super) fn restore(&self) -> Result<()> {
        self.claim(|name| {
            name == MARKER_DRAFT
                || name == LOST_AND_FOUND
                || DIRS.iter().any(|ours| name == *ours)
                || name.to_str().and_then(parse_namespace).is_some()
        })
    }

    /// Checks the root, and marks it unless it is marked or holds names that are not `expected`.
    fn claim(&self, expected: impl Fn(&OsStr) -> bool) -> Result<()> {
        let cannot = |error| failed("set up a store", &self.root, error);
        create_dir(&self.root, true).map_err(cannot)?;
        let root = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits() as i32)
            .open(&self.root)
            .map_err(cannot)?;
        root.lock().map_err(cannot)?;
        self.check_root(&root.metadata().map_err(cannot)?)?;
        match self.read_marker().map_err(cannot)? {
            Some(marker) => self.check_marker(&marker)?,
            None => {
                self.check_unused(expected)?;
                self.write_marker().map_err(cannot)?;
            }
        }
        DIRS.iter().try_for_each(|name| self.own_dir(name))
    }

    fn check_root(&self, metadata: &fs::Metadata) -> Result<()> {
        let mode = metadata.mode();
        if metadata.uid() != self.uid {
            let why = "belongs to another user; run as that user or choose another directory";
            return Err(refused(&self.root, why));
        }
        if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 {
            let why = "can be written by every user; run `chmod o-w` on it";
            return Err(refused(&self.root, why));
        }
        Ok(())
    }

    fn read_marker(&self) -> io::Result<Option<String>> {
        let marker = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(self.root.join(MARKER));
        match marker {
            Ok(marker) => {
                let mut text = String::new();
                marker.take(MAX_MARKER_BYTES).read_to_string(&mut text)?;
                Ok(Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_marker(&self, marker: &str) -> Result<()> {
        let depth = marker
            .lines()
            .find_map(|line| line.strip_prefix("depth ")?.parse::<u8>().ok());
        match depth {
            Some(depth) if depth == self.depth => Ok(()),
            Some(depth) => {
                let why = format!(
                    "has depth {depth}, not {}: open it with `depth({depth})`, or remove it to start anew",
                    self.depth
                );
                Err(refused(&self.root, &why))
            }
            None => Err(refused(
                &self.root,
                "has a damaged marker; remove it to start anew",
            )),
        }
    }

    fn check_unused(&self, expected: impl Fn(&OsStr) -> bool) -> Result<()> {
        let cannot = |error| failed("set up a store", &self.root, error);
        for entry in fs::read_dir(&self.root).map_err(cannot)? {
            if !expected(&entry.map_err(cannot)?.file_name()) {
                let why = "holds files that are not a store's; choose an empty directory";
                return Err(refused(&self.root, why));
            }
        }
        Ok(())
    }

    /// Writes the marker so that it is never seen in part. The caller holds the root's lock.
    fn write_marker(&self) -> io::Result<()> {
        let draft = self.root.join(MARKER_DRAFT);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&draft)?;
        let text = format!(
            "This directory is a cache kept by Larder. It can be removed whenever none of its locks is held.\nlayout 1\ndepth {}\n",
            self.depth
        );
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, self.root.join(MARKER))
    }

    /// Creates a directory of the layout, or checks that it is no other user's.
    fn own_dir(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let created = create_dir(&path, false);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() && found.uid() == self.uid => Ok(()),
            Ok(_) => Err(refused(&path, "is no directory of this user; remove it")),
            Err(missing) => Err(failed(
                "create a directory",
                &self.root,
                created.err().unwrap_or(missing),
            )),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.root.join(LOCKS)
    }

    pub(super) fn leases(&self) -> PathBuf {
        self.root.join(LEASES)
    }

    pub(super) fn owners(&self) -> PathBuf {
        self.root.join(OWNERS)
    }

    pub(super) fn journals(&self) -> PathBuf {
        self.root.join(JOURNALS)
    }

    /// Outside of what `clear` takes away.
    pub(super) fn journal_path(&self, namespace: Digest) -> PathBuf {
        self.below_root(|path| {
            path.push('/');
            path.push_str(JOURNALS);
            path.push('/');
            namespace.push_hex(path);
        })
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join(QUARANTINE)
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join(TRASH)
    }

    pub(super) fn namespace_dir(&self, namespace: Digest) -> PathBuf {
        self.below_root(|path| push_namespace(path, namespace))
    }

    pub(super) fn leaf_dir(&self, address: &Address) -> PathBuf {
        self.below_root(|path| {
            push_namespace(path, address.namespace);
            push_levels(path, &address.key.hex(), self.depth);
        })
    }

    pub(super) fn entry_path(&self, address: &Address) -> PathBuf {
        self.below_root(|path| {
            let name = address.key.hex();
            push_namespace(path, address.namespace);
            push_levels(path, &name, self.depth);
            path.push('/');
            path.push_str(&name);
        })
    }

    pub(super) fn lease_dir(&self, address: &Address) -> PathBuf {
        self.below_root(|path| push_lease_dir(path, address))
    }

    pub(super) fn lease_path(&self, address: &Address) -> PathBuf {
        self.below_root(|path| {
            push_lease_dir(path, address);
            path.push('/');
            address.key.push_hex(path);
        })
    }

    pub(super) fn registers_dir(&self, namespace: Digest) -> PathBuf {
        self.below_root(|path| push_registers(path, namespace))
    }

    pub(super) fn register_dir(&self, address: &Address) -> PathBuf {
        self.below_root(|path| {
            push_registers(path, address.namespace);
            push_levels(path, &address.key.hex(), REGISTER_DEPTH);
        })
    }

    pub(super) fn register_path(&self, address: &Address) -> PathBuf {
        self.below_root(|path| {
            let name = address.key.hex();
            push_registers(path, address.namespace);
            push_levels(path, &name, REGISTER_DEPTH);
            path.push('/');
            path.push_str(&name);
        })
    }

    fn below_root(&self, push: impl FnOnce(&mut String)) -> PathBuf {
        let mut below = String::with_capacity(16 + 2 * HEX_LEN + 4 * usize::from(MAX_DEPTH));
        push(&mut below);
        let mut path = OsString::with_capacity(self.root.as_os_str().len() + below.len());
        path.push(&self.root);
        path.push(&below);
        PathBuf::from(path)
    }

    /// Creates the directories of an entry below the root.
    ///
    /// # Errors
    /// `Vanished`: the root is gone, or a sweep took an empty level away meanwhile.
    pub(super) fn make_leaf(&self, address: &Address) -> Attempt<()> {
        self.make_dirs(&self.leaf_dir(address), 1 + self.depth)
    }

    /// Creates the directories of a lease below the root.
    ///
    /// # Errors
    /// `Vanished`: the root is gone.
    pub(super) fn make_lease_dir(&self, address: &Address) -> Attempt<()> {
        self.make_dirs(&self.lease_dir(address), 2 + LEASE_DEPTH)
    }

    /// Creates the directories of a register below the root.
    ///
    /// # Errors
    /// `Vanished`: the root is gone, or a sweep took an empty level away meanwhile.
    pub(super) fn make_register_dir(&self, address: &Address) -> Attempt<()> {
        self.make_dirs(&self.register_dir(address), 2 + REGISTER_DEPTH)
    }

    /// Creates a directory and the lowest of those that it lies in, so many in all.
    fn make_dirs(&self, lowest: &Path, count: u8) -> Attempt<()> {
        let below: Vec<_> = lowest.ancestors().take(usize::from(count)).collect();
        for dir in below.into_iter().rev() {
            create_dir(dir, false)
                .map_err(|error| fault("create a directory", &self.root, error))?;
        }
        Ok(())
    }
}

/// The directory of a lease's file, whatever the depth of entries: they are few.
fn push_lease_dir(path: &mut String, address: &Address) {
    path.push('/');
    path.push_str(LEASES);
    path.push('/');
    address.namespace.push_hex(path);
    push_levels(path, &address.key.hex(), LEASE_DEPTH);
}

fn push_namespace(path: &mut String, namespace: Digest) {
    path.push('/');
    path.push_str(NAMESPACE_PREFIX);
    namespace.push_hex(path);
}

/// Among the levels of entries, whose names are two digits.
fn push_registers(path: &mut String, namespace: Digest) {
    push_namespace(path, namespace);
    path.push('/');
    path.push_str(REGISTERS);
}

fn push_levels(path: &mut String, name: &str, depth: u8) {
    for level in 0..usize::from(depth) {
        path.push('/');
        path.push_str(&name[2 * level..2 * level + 2]);
    }
}

/// Creates a directory for this user only; there may be one already.
fn create_dir(path: &Path, parents: bool) -> io::Result<()> {
    let created = DirBuilder::new()
        .recursive(parents)
        .mode(DIR_MODE)
        .create(path);
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn refused(path: &Path, why: &str) -> Error {
    let message = format!("the directory {} {why}", path.display());
    Error::new(ErrorKind::InvalidConfig, message).store("file")
}
