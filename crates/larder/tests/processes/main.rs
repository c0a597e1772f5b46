//! Several real processes on one store: they count exactly, win exactly once, open together, and may be killed.
//!
//! The test program starts itself again in another role ([`child`]); what a child does is in [`roles`].

#![cfg(any(feature = "sqlite", feature = "file"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod child;
mod journals;
mod kills;
mod locks;
mod roles;
mod sections;
#[cfg(feature = "redis")]
mod servers;
mod together;

use std::path::Path;
use std::sync::Arc;

use larder::store::Store;

/// Where the address of a server is, in the directory of the store.
#[cfg(feature = "redis")]
const ADDRESS: &str = "address";

/// Which store the processes share.
#[derive(Debug, Clone, Copy)]
enum Kind {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "file")]
    File,
    /// The server whose address is in a file of the directory.
    #[cfg(feature = "redis")]
    Redis,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "sqlite",
            #[cfg(feature = "file")]
            Self::File => "file",
            #[cfg(feature = "redis")]
            Self::Redis => "redis",
        }
    }

    fn by_name(name: &str) -> Self {
        match name {
            #[cfg(feature = "sqlite")]
            "sqlite" => Self::Sqlite,
            #[cfg(feature = "file")]
            "file" => Self::File,
            #[cfg(feature = "redis")]
            "redis" => Self::Redis,
            _ => panic!("no such store: {name}"),
        }
    }

    /// Opens the store of this directory.
    fn open(self, dir: &Path) -> Arc<dyn Store> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => {
                let store = larder::store::Sqlite::open(dir.join("cache.db")).unwrap();
                assert_eq!(store.moved_aside(), None, "a sound file was moved aside");
                Arc::new(store)
            }
            #[cfg(feature = "file")]
            Self::File => Arc::new(larder::store::File::open(dir).unwrap()),
            #[cfg(feature = "redis")]
            Self::Redis => {
                let url = std::fs::read_to_string(dir.join(ADDRESS)).unwrap();
                let limit = std::time::Duration::from_secs(1);
                let builder = larder::RedisStore::builder(url).response_timeout(limit);
                Arc::new(builder.build_lazy().unwrap())
            }
        }
    }

    /// Checks what can be checked of the files themselves, once no process uses them.
    fn check_files(self, dir: &Path) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => {
                let database = rusqlite::Connection::open(dir.join("cache.db")).unwrap();
                let verdict: String = database
                    .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(verdict, "ok");
            }
            #[cfg(feature = "file")]
            Self::File => assert!(dir.is_dir()),
            #[cfg(feature = "redis")]
            Self::Redis => assert!(dir.is_dir()),
        }
    }
}

macro_rules! suites {
    ($($(#[$cfg:meta])* $name:ident: $kind:ident,)*) => {$(
        $(#[$cfg])*
        mod $name {
            use crate::{Kind, journals, kills, locks, sections, together};

            #[test]
            fn eight_processes_count_exactly() {
                together::eight_processes_count_exactly(Kind::$kind);
            }

            #[test]
            fn eight_processes_win_each_key_once() {
                together::eight_processes_win_each_key_once(Kind::$kind);
            }

            #[test]
            fn two_processes_open_a_fresh_directory() {
                together::two_processes_open_a_fresh_directory(Kind::$kind);
            }

            #[test]
            fn killed_writers_leave_whole_entries() {
                kills::killed_writers_leave_whole_entries(Kind::$kind);
            }

            #[test]
            fn copies_follow_killed_writers() {
                journals::copies_follow_killed_writers(Kind::$kind);
            }

            #[test]
            fn the_killed_hold_up_nobody() {
                locks::the_killed_hold_up_nobody(Kind::$kind);
            }

            #[test]
            fn a_stopped_holder_keeps_its_lease() {
                locks::a_stopped_holder_keeps_its_lease(Kind::$kind);
            }

            #[test]
            fn a_holder_that_wanders_keeps_its_lease() {
                locks::a_holder_that_wanders_keeps_its_lease(Kind::$kind);
            }

            #[test]
            fn killed_contenders_exclude_each_other() {
                locks::killed_contenders_exclude_each_other(Kind::$kind);
            }

            #[test]
            fn stopped_holders_harm_nobody() {
                let dir = crate::store_dir();
                let storm = sections::Storm::new();
                sections::stopped_holders_harm_nobody(Kind::$kind, &dir.1, storm, || ());
            }

            #[test]
            fn dead_waiters_cost_one_heartbeat() {
                let dir = crate::store_dir();
                sections::dead_waiters_cost_one_heartbeat(Kind::$kind, &dir.1);
            }
        }
    )*};
}

suites! {
    #[cfg(feature = "sqlite")]
    sqlite: Sqlite,
    #[cfg(feature = "file")]
    file: File,
}

/// Returns a directory for a store, and what keeps it; its parent is for what the store guards.
fn store_dir() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    std::fs::create_dir(&store_dir).unwrap();
    (dir, store_dir)
}

/// What a child process runs; see [`child::Child::start`]. Does nothing in any other.
#[test]
fn child_process() {
    if std::env::var_os(child::ROLE).is_some() {
        roles::play();
    }
}
