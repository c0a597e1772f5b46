//! Places that cannot be written, and disks that are full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder::ErrorKind;
use larder::store::{Expiry, Sqlite};

use super::{assert_works, eventually, get, put};

/// Leaves out what needs a file system to be mounted; see [`Tmpfs::mount`].
const NO_MOUNT: &str = "LARDER_TEST_NO_MOUNT";

/// A small file system in memory, unmounted when dropped.
struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts it, or returns `None` if the environment says not to.
    fn mount(options: &str) -> Option<Self> {
        if std::env::var_os(NO_MOUNT).is_some() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        assert!(
            mounted,
            "mounting needs root; {NO_MOUNT}=1 leaves this test out"
        );
        Some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn refused(path: impl Into<PathBuf>) -> ErrorKind {
    Sqlite::open(path.into())
        .expect_err("there is no place for a file")
        .kind()
}

#[test]
fn a_path_that_cannot_be_a_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"mine").unwrap();
    assert_eq!(refused(file.join("cache.db")), ErrorKind::Unavailable);
    assert_eq!(refused(file.join("deep/cache.db")), ErrorKind::Unavailable);
    assert_eq!(refused("/proc/larder/cache.db"), ErrorKind::Unavailable);
    assert_eq!(
        refused(dir.path().join("x".repeat(300))),
        ErrorKind::Unavailable
    );
    assert_eq!(
        refused(dir.path().join("nul\0byte")),
        ErrorKind::Unavailable
    );
    assert_eq!(refused(dir.path()), ErrorKind::InvalidConfig);
    assert_eq!(fs::read(file).unwrap(), b"mine");
}

#[test]
fn a_read_only_directory_is_an_error() {
    let Some(mount) = Tmpfs::mount("size=1m,ro") else {
        return;
    };
    assert_eq!(
        refused(mount.path().join("cache.db")),
        ErrorKind::Unavailable
    );
    assert_eq!(
        refused(mount.path().join("deep/cache.db")),
        ErrorKind::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_still_reads() {
    let Some(mount) = Tmpfs::mount("size=3m") else {
        return;
    };
    let ballast = mount.path().join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = Sqlite::open(mount.path().join("cache.db")).unwrap();
    let value = |n: u64| vec![n as u8; 20_000];
    let mut stored = 0_u64;
    let error = loop {
        match put(&store, &stored.to_be_bytes(), &value(stored), Expiry::Never).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk is never full");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(stored > 10, "only {stored} entries fitted");
    for n in 0..stored {
        assert_eq!(
            get(&store, &n.to_be_bytes()).await.unwrap(),
            Some(value(n)),
            "entry {n}"
        );
    }
    let again = put(&store, b"small", b"x", Expiry::Never).await;
    assert!(again.is_ok() || again.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    fs::remove_file(ballast).unwrap();
    eventually("writes work again once there is room", || async {
        put(&store, b"room", b"x", Expiry::Never).await.is_ok()
    })
    .await;
    assert_works(&store).await;
    assert_eq!(
        get(&store, &0_u64.to_be_bytes()).await.unwrap(),
        Some(value(0))
    );
}
