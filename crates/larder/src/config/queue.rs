//! `[queues.*]` as types.

use std::path::PathBuf;

use super::connection::Connection;
use super::typed::Table;

/// Where jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueDriver {
    /// This process alone; jobs end with it.
    Memory,
    /// One SQLite file.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
    /// One Redis server.
    Redis,
    /// A Redis Cluster.
    RedisCluster,
}

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// When it is on disk.
    Full,
    /// When the system has it: power loss may lose the last commits, a crash does not.
    Relaxed,
}

/// One connection to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Where the jobs are kept.
    pub driver: QueueDriver,
    /// The database file; always there for `sqlite`.
    pub path: Option<PathBuf>,
    /// When a commit counts as done, for `sqlite` and `postgres`. Default full.
    pub durability: Durability,
    /// The server; always there for `postgres`, `redis` and `redis-cluster`.
    pub connection: Option<Connection>,
}

impl QueueConfig {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let name = table.text("driver").unwrap_or_default();
        let driver = match name.as_str() {
            "sqlite" => QueueDriver::Sqlite,
            "postgres" => QueueDriver::Postgres,
            "redis" => QueueDriver::Redis,
            "redis-cluster" => QueueDriver::RedisCluster,
            _ => QueueDriver::Memory,
        };
        let networked = !matches!(driver, QueueDriver::Memory | QueueDriver::Sqlite);
        let durability = match table.text("durability").as_deref() {
            Some("relaxed") => Durability::Relaxed,
            _ => Durability::Full,
        };
        Self {
            driver,
            path: table.path("path"),
            durability,
            connection: networked.then(|| Connection::read(table, &name)),
        }
    }
}
