//! Several real processes on one store: they count exactly, win exactly once, open together, and may be killed.
//!
//! The test program starts itself again in another role ([`child`]); what a child does is in [`roles`].

#![cfg(any(feature = "sqlite", feature = "file"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod child;
mod kills;
mod locks;
mod roles;
mod together;

use std::path::Path;
use std::sync::Arc;

use larder::store::Store;

/// Which store the processes share.
#[derive(Debug, Clone, Copy)]
enum Kind {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "file")]
    File,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "sqlite",
            #[cfg(feature = "file")]
            Self::File => "file",
        }
    }

    fn by_name(name: &str) -> Self {
        match name {
            #[cfg(feature = "sqlite")]
            "sqlite" => Self::Sqlite,
            #[cfg(feature = "file")]
            "file" => Self::File,
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
        }
    }
}

macro_rules! suites {
    ($($(#[$cfg:meta])* $name:ident: $kind:ident,)*) => {$(
        $(#[$cfg])*
        mod $name {
            use crate::{Kind, kills, locks, together};

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
            fn the_killed_hold_up_nobody() {
                locks::the_killed_hold_up_nobody(Kind::$kind);
            }

            #[test]
            fn a_stopped_holder_keeps_its_lease() {
                locks::a_stopped_holder_keeps_its_lease(Kind::$kind);
            }

            #[test]
            fn killed_contenders_exclude_each_other() {
                locks::killed_contenders_exclude_each_other(Kind::$kind);
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

/// What a child process runs; see [`child::Child::start`]. Does nothing in any other.
#[test]
fn child_process() {
    if std::env::var_os(child::ROLE).is_some() {
        roles::play();
    }
}
