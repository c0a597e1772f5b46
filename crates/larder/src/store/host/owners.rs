//! Which processes are alive: each one that uses a store's locks keeps a file of its own locked for its life.
//!
//! The kernel drops a `flock` with the last descriptor of its open file, however a process dies, and at no other time: a
//! stopped process keeps it. Whoever wants to know tries to take the lock. A file that is not locked is a dead
//! process's. A file that is not there says nothing, since a directory can be reached by two names, be restored or be
//! tidied away: then a lease lasts until it ends by itself.
//!
//! Not for NFS, where a `flock` may be none. Processes in several containers must share the kernel and the directory.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

/// The length of an instance, in hexadecimal digits.
const INSTANCE_LEN: usize = 32;
/// For so long, a process that was alive is not asked again.
const ALIVE_FOR: Duration = Duration::from_millis(50);
/// Of so many processes it is remembered that they were alive.
const MAX_REMEMBERED: usize = 1024;
/// The most instances that a store keeps locked; a process has one.
const MAX_ENLISTED: usize = 256;
/// How often, a millisecond apart, a lock is tried that only somebody who looks can hold.
const MAX_ATTEMPTS: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);
/// How long the file of a dead process is kept: longer than the leases that it may have held.
const KEEP_DEAD: Duration = Duration::from_secs(24 * 3600);
/// How often the directory is tidied.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// What is written to a dead process's file, so that its time of change is that of its discovery.
const DEAD: &[u8] = b"dead\n";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The files of the processes that share a store.
#[derive(Debug)]
pub(super) struct Owners {
    dir: PathBuf,
    /// By instance, the files that this store keeps locked.
    enlisted: Mutex<HashMap<String, File>>,
    /// When others were last seen alive.
    alive: Mutex<HashMap<String, Instant>>,
    swept: Mutex<Option<Instant>>,
}

impl Owners {
    /// Names the directory, which is created when it is first needed.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            enlisted: Mutex::default(),
            alive: Mutex::default(),
            swept: Mutex::default(),
        }
    }

    /// Lets others know that the process of this instance is alive, for as long as this store is open.
    ///
    /// # Errors
    /// `NotFound`: the parent directory is gone. Whatever else the system says.
    pub(super) fn enlist(&self, instance: &str) -> io::Result<()> {
        if !is_instance(instance) {
            return Ok(());
        }
        let path = self.dir.join(instance);
        let mut enlisted = lock(&self.enlisted);
        if enlisted
            .get(instance)
            .is_some_and(|file| is_at(&path, file))
        {
            return Ok(());
        }
        if enlisted.len() >= MAX_ENLISTED {
            return Err(io::Error::other("too many processes use this store as one"));
        }
        self.own_dir()?;
        enlisted.insert(instance.to_owned(), lock_shared(&path)?);
        Ok(())
    }

    /// Returns whether the process of this instance is known to be dead.
    pub(super) fn is_dead(&self, instance: &str) -> bool {
        if !is_instance(instance) || self.was_just_alive(instance) {
            return false;
        }
        let is_dead = self.probe(instance);
        if !is_dead {
            let mut alive = lock(&self.alive);
            if alive.len() >= MAX_REMEMBERED {
                alive.clear();
            }
            alive.insert(instance.to_owned(), Instant::now());
        }
        is_dead
    }

    /// Returns whether the process of this instance keeps its file locked, as far as anybody can tell.
    pub(super) fn is_alive(&self, instance: &str) -> bool {
        is_instance(instance)
            && match open(&self.dir.join(instance), false) {
                Ok(file) => file.try_lock().is_err(),
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            }
    }

    fn was_just_alive(&self, instance: &str) -> bool {
        let alive = lock(&self.alive);
        let seen = alive.get(instance);
        seen.is_some_and(|seen| seen.elapsed() < ALIVE_FOR)
    }

    /// Returns whether the file is there and nobody keeps it locked.
    fn probe(&self, instance: &str) -> bool {
        let Some(mut file) = open_dead(&self.dir.join(instance)) else {
            return false;
        };
        mark(&mut file);
        true
    }

    /// Removes the files of those who have been dead for long, now and then.
    pub(super) fn sweep(&self) {
        let mut swept = lock(&self.swept);
        if swept.is_some_and(|swept| swept.elapsed() < SWEEP_INTERVAL) {
            return;
        }
        *swept = Some(Instant::now());
        drop(swept);
        let Ok(files) = fs::read_dir(&self.dir) else {
            return;
        };
        for file in files.flatten() {
            let name = file.file_name();
            if name.to_str().is_some_and(is_instance) {
                remove_long_dead(&file.path());
            }
        }
    }

    /// Creates the directory, or checks that nobody else can put files there.
    fn own_dir(&self) -> io::Result<()> {
        let created = DirBuilder::new().mode(DIR_MODE).create(&self.dir);
        match created {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let found = fs::symlink_metadata(&self.dir)?;
        if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        let message = format!("{} is no directory of this user", self.dir.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}

/// Locks the file of a living process, which is created if need be.
fn lock_shared(path: &Path) -> io::Result<File> {
    for _ in 0..MAX_ATTEMPTS {
        let file = match open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create_locked(path)? {
                Some(file) => return Ok(file),
                None => continue,
            },
            file => file?,
        };
        match file.try_lock_shared() {
            Ok(()) if is_at(path, &file) => return Ok(file),
            // It was removed before it was locked: others would look at another one.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Creates the file of a living process; `None`: there is one already.
///
/// It is locked before it has its name: the process may hold leases, since its former file was removed, and must not
/// be taken for dead meanwhile.
fn create_locked(path: &Path) -> io::Result<Option<File>> {
    // A name as of an instance: if this process is killed here, the file is tidied away as one of the dead.
    let draft = path.with_file_name(format!("{:032x}", fastrand::u128(..)));
    let file = open(&draft, true)?;
    file.try_lock_shared()?;
    let linked = fs::hard_link(&draft, path);
    // What cannot be removed now is tidied away, too.
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        // The file system has no links: for a moment, the file is there and not locked.
        Err(_) => open(path, true).map(|_unlocked| None),
    }
}

/// Opens and locks the file of a dead process; `None`: it is not there, or the process lives, or nobody can tell.
fn open_dead(path: &Path) -> Option<File> {
    let file = open(path, false).ok()?;
    file.try_lock().ok()?;
    // If another one has the name by now, the process has left this one behind and lives.
    is_at(path, &file).then_some(file)
}

/// Notes when the process was found dead.
fn mark(file: &mut File) {
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        // Without the mark, the file is only kept longer.
        let _ = file.write_all(DEAD);
    }
}

fn remove_long_dead(path: &Path) {
    // A young file may belong to a process that has not yet locked it.
    if !fs::symlink_metadata(path).is_ok_and(|file| is_old(&file)) {
        return;
    }
    let Some(mut file) = open_dead(path) else {
        return;
    };
    mark(&mut file);
    let is_old = file.metadata().is_ok_and(|metadata| is_old(&metadata));
    if is_old {
        // What cannot be removed now is met again.
        let _ = fs::remove_file(path);
    }
}

fn is_old(metadata: &fs::Metadata) -> bool {
    let age = metadata
        .modified()
        .map(|modified| SystemTime::now().duration_since(modified));
    matches!(age, Ok(Ok(age)) if age >= KEEP_DEAD)
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits() as i32)
        .open(path)
}

/// Returns whether the path still names this file.
fn is_at(path: &Path, file: &File) -> bool {
    let (Ok(found), Ok(ours)) = (fs::symlink_metadata(path), file.metadata()) else {
        return false;
    };
    (found.dev(), found.ino()) == (ours.dev(), ours.ino())
}

/// Returns whether this is an instance as owners have them, which is safe as the name of a file.
fn is_instance(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == INSTANCE_LEN && text.bytes().all(is_digit)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef";

    fn forget_alive(owners: &Owners) {
        lock(&owners.alive).clear();
    }

    #[test]
    fn a_process_is_dead_once_nobody_keeps_its_file_locked() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Owners::new(dir.path().join("owners"));
        let (one, two, watcher) = (open(), open(), open());
        assert!(!watcher.is_dead(A), "nothing is known of it");
        one.enlist(A).unwrap();
        two.enlist(A).unwrap();
        forget_alive(&watcher);
        assert!(!watcher.is_dead(A));
        drop(one);
        forget_alive(&watcher);
        assert!(!watcher.is_dead(A), "another store of it is open");
        drop(two);
        assert!(!watcher.is_dead(A), "it was alive a moment ago");
        forget_alive(&watcher);
        assert!(watcher.is_dead(A));
        assert!(watcher.is_dead(A), "and stays so");
        let again = open();
        again.enlist(A).unwrap();
        assert!(!watcher.is_dead(A));
    }

    #[test]
    fn a_file_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path().join("owners"));
        owners.enlist(A).unwrap();
        fs::remove_dir_all(dir.path().join("owners")).unwrap();
        let watcher = Owners::new(dir.path().join("owners"));
        assert!(!watcher.is_dead(A), "what is missing is not dead");
        owners.enlist(A).unwrap();
        drop(owners);
        forget_alive(&watcher);
        assert!(watcher.is_dead(A));
    }

    #[test]
    fn a_process_whose_file_is_removed_again_and_again_is_never_dead() {
        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path().join("owners"));
        owners.enlist(A).unwrap();
        let path = dir.path().join("owners").join(A);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let watcher = Owners::new(dir.path().join("owners"));
                while !is_over.load(Ordering::Relaxed) {
                    forget_alive(&watcher);
                    assert!(!watcher.is_dead(A));
                }
            });
            for _ in 0..2000 {
                let _ = fs::remove_file(&path);
                owners.enlist(A).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            watcher.join().unwrap();
        });
        let left = fs::read_dir(dir.path().join("owners")).unwrap();
        assert_eq!(left.count(), 1, "no drafts are left");
    }

    #[test]
    fn only_the_long_dead_are_tidied_away() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Owners::new(dir.path().to_owned());
        let (dead, living) = (open(), open());
        dead.enlist(A).unwrap();
        let b = A.replace('0', "f");
        living.enlist(&b).unwrap();
        fs::write(dir.path().join("notes"), "by hand").unwrap();
        drop(dead);
        let path = dir.path().join(A);
        let age = |path: &Path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let old = SystemTime::now() - 2 * KEEP_DEAD;
            file.set_modified(old).unwrap();
        };
        age(&dir.path().join(&b));
        age(&dir.path().join("notes"));
        open().sweep();
        assert!(path.exists(), "young");
        age(&path);
        open().sweep();
        assert!(path.exists(), "found dead just now");
        age(&path);
        open().sweep();
        assert!(!path.exists());
        assert!(dir.path().join(&b).exists(), "alive");
        assert!(dir.path().join("notes").exists(), "not ours");
    }

    #[test]
    fn names_that_are_no_instance_reach_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path().join("owners"));
        for name in ["", "..", "../../etc/passwd", &A[1..], &A.to_uppercase()] {
            owners.enlist(name).unwrap();
            assert!(!owners.is_dead(name), "{name}");
        }
        assert!(!dir.path().join("owners").exists());
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("owners");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let refused = Owners::new(link).enlist(A).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
