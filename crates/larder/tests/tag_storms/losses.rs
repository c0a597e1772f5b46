//! Registers that are lost behind the store's back, one at a time, at random.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xtask::servers::resp::Connection;

/// Registers of servers are looked up again after so many were deleted.
const LOOK_EVERY: usize = 100;

/// What loses them.
#[derive(Debug)]
pub(crate) enum Losses {
    Table(rusqlite::Connection),
    Files(PathBuf),
    Servers(Servers),
}

/// Servers with registers of this prefix.
#[derive(Debug)]
pub(crate) struct Servers {
    connections: Vec<Connection>,
    prefix: String,
    /// The registers that there were, and the connection of each.
    known: Vec<(usize, Vec<u8>)>,
    lost: usize,
}

impl Losses {
    pub(crate) fn in_table(database: &Path) -> Self {
        let table = rusqlite::Connection::open(database).unwrap();
        table.busy_timeout(Duration::from_secs(20)).unwrap();
        Self::Table(table)
    }

    pub(crate) fn among_files(root: &Path) -> Self {
        Self::Files(root.to_owned())
    }

    /// Takes addresses with commas between them.
    pub(crate) fn on_servers(addresses: &str, prefix: String) -> Self {
        let open = |address: &str| {
            let address = address.trim_end_matches('/').parse();
            Connection::open(address.expect("an address")).unwrap()
        };
        Self::Servers(Servers {
            connections: addresses.split(',').map(open).collect(),
            prefix,
            known: Vec::new(),
            lost: 0,
        })
    }

    /// Loses one; returns whether there was one.
    pub(crate) fn strike(&mut self) -> bool {
        match self {
            Self::Table(table) => {
                let delete = "DELETE FROM registers WHERE (ns, name) = \
                              (SELECT ns, name FROM registers ORDER BY random() LIMIT 1)";
                table.execute(delete, ()).unwrap() > 0
            }
            Self::Files(root) => delete_file(root),
            Self::Servers(servers) => servers.strike(),
        }
    }
}

/// Deletes `<root>/ns-<digest>/registers/aa/<digest>`; others move and delete these directories all the time.
fn delete_file(root: &Path) -> bool {
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = list(root.to_owned())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("ns-"))
        .flat_map(|namespace| list(namespace.path().join("registers")))
        .flat_map(|level| list(level.path()))
        .map(|file| file.path())
        .collect();
    let chosen = fastrand::usize(..files.len().max(1));
    chosen < files.len() && fs::remove_file(files.swap_remove(chosen)).is_ok()
}

impl Servers {
    fn strike(&mut self) -> bool {
        if self.lost.is_multiple_of(LOOK_EVERY) || self.known.is_empty() {
            self.look();
        }
        self.lost += 1;
        if self.known.is_empty() {
            return false;
        }
        let (server, name) = self.known[fastrand::usize(..self.known.len())].clone();
        let reply = self.connections[server].call(&[b"DEL".to_vec(), name]);
        reply.unwrap().text() == "1"
    }

    /// Finds the registers of namespaces, `{..}g:`, and of tags, `{..}r:`.
    fn look(&mut self) {
        self.known.clear();
        let pattern = format!("*:{}*", self.prefix);
        for (server, connection) in self.connections.iter_mut().enumerate() {
            if is_replica(connection) {
                continue;
            }
            let mut cursor = "0".to_owned();
            loop {
                let scan = ["SCAN", &cursor, "MATCH", &pattern, "COUNT", "1000"];
                let page = connection.call(&scan).unwrap();
                for name in page.items()[1].items() {
                    let name = name.text().into_bytes();
                    if is_register(&name) {
                        self.known.push((server, name));
                    }
                }
                cursor = page.items()[0].text();
                if cursor == "0" {
                    break;
                }
            }
        }
    }
}

fn is_replica(connection: &mut Connection) -> bool {
    connection.call(&["ROLE"]).unwrap().items()[0].text() != "master"
}

fn is_register(name: &[u8]) -> bool {
    let kind = name.split(|&byte| byte == b'}').nth(1);
    kind.is_some_and(|rest| rest.starts_with(b"g:") || rest.starts_with(b"r:"))
}
