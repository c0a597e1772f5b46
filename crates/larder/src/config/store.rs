//! `[stores.*]` as types.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::connection::{Connection, address};
use super::secret::Secret;
use super::typed::Table;
use super::url;

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// This process alone.
    Memory,
    /// One SQLite file, shared by the processes of a host.
    Sqlite,
    /// One file per entry, shared by the processes of a host.
    File,
    /// One Redis server.
    Redis,
    /// A Redis primary that sentinels know.
    RedisSentinel,
    /// A Redis Cluster.
    RedisCluster,
    /// Memcached servers.
    Memcached,
    /// Keys spread over nodes.
    Sharded,
    /// Keeps nothing.
    Null,
}

impl Driver {
    /// All drivers with their names.
    const NAMES: [(Self, &'static str); 9] = [
        (Self::Memory, "memory"),
        (Self::Sqlite, "sqlite"),
        (Self::File, "file"),
        (Self::Redis, "redis"),
        (Self::RedisSentinel, "redis-sentinel"),
        (Self::RedisCluster, "redis-cluster"),
        (Self::Memcached, "memcached"),
        (Self::Sharded, "sharded"),
        (Self::Null, "null"),
    ];

    /// Returns the driver of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name)?;
        Some(found.0)
    }

    /// Returns the name as configuration writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(driver, _)| *driver == self)
            .map_or("", |(_, name)| name)
    }
}

impl Driver {
    /// Returns whether the store is in this process or on this host's disks; else it is on servers.
    #[must_use]
    pub fn is_embedded(self) -> bool {
        matches!(self, Self::Memory | Self::Sqlite | Self::File | Self::Null)
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One store.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// What the store is.
    pub driver: Driver,
    /// The database file or directory; always there for `sqlite` and `file`.
    pub path: Option<PathBuf>,
    /// The most bytes held; `None`: the driver's default (256 MiB for `memory`, 1 GiB for `sqlite`).
    pub max_size: Option<u64>,
    /// Levels of directories, 0 to 4, of `file`. Default 2.
    pub depth: u8,
    /// How often expired entries are removed by `sqlite` and `file`. Default 1 min.
    pub sweep_interval: Duration,
    /// In how many slots a `redis-cluster` keeps each cache: a power of two from 16 to 1024. Default 64.
    pub buckets: u16,
    /// The servers; always there for `redis`, `redis-sentinel`, `redis-cluster` and `memcached`.
    pub connection: Option<Connection>,
    /// The nodes; always there for `sharded`.
    pub sharding: Option<Sharding>,
    /// The tier in this process in front of the store; `None` when it is not configured.
    pub local: Option<LocalConfig>,
}

/// `[stores.*.local]`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LocalConfig {
    /// Whether it is used. Default `true`.
    pub enabled: bool,
    /// The most bytes of values kept. Default 64 MiB.
    pub capacity: u64,
    /// The part of an entry's TTL, 0 to 1, that its local copy lives. Default 0.25.
    pub ttl_fraction: f64,
    /// Whether a write also fills the local tier; off, it only removes the copy. Default `true`.
    pub write_through: bool,
    /// Whether values read from the store are copied into the local tier. Default `true`.
    pub promote: bool,
    /// How long a copy may differ from a store that does not tell of changes. Default 1 s.
    pub max_staleness: Duration,
}

/// How a `sharded` store spreads its keys.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sharding {
    /// How keys find their node. Default rendezvous.
    pub strategy: Strategy,
    /// Whether a client of [`Strategy::RoundRobin`] stays with one node. Default `false`.
    pub sticky_sessions: bool,
    /// On how many nodes an entry is kept, 1 to 8. Default 1.
    pub replicas: u8,
    /// Whether keys of a node that is down go to the next one. Default `true`.
    pub failover: bool,
    /// 1 to 64 nodes, with distinct names.
    pub nodes: Vec<NodeConfig>,
    /// How nodes are watched; `None` when that is turned off.
    pub health: Option<HealthConfig>,
    /// Timeouts, TLS and the login for nodes whose URL has none. Without addresses of its own.
    pub connection: Connection,
}

/// How keys find their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Weighted rendezvous hashing: the best balance, the least movement.
    Rendezvous,
    /// A hash ring.
    Ring {
        /// Points of a node of weight 100. Default 150.
        virtual_nodes: u32,
        /// The hash of the ring. Default xxh3.
        hash: RingHash,
    },
    /// As libmemcached's weighted ketama.
    Ketama,
    /// Every node holds everything; reads take turns.
    RoundRobin,
}

/// The hash of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingHash {
    /// xxh3: fast.
    Xxh3,
    /// MD5: as other systems' rings.
    Md5,
}

/// A node of a `sharded` store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Its identity, which decides its keys whatever its address.
    pub name: String,
    /// Where it is: `redis://`, `rediss://` or `memcached://`.
    pub url: Secret,
    /// Its share of the keys. Default 100.
    pub weight: u32,
    /// Whether it only holds further copies. Default `false`.
    pub is_replica: bool,
}

/// How nodes are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthConfig {
    /// How often an idle node is asked. Default 30 s.
    pub check_interval: Duration,
    /// How long it may take to answer. Default 250 ms.
    pub timeout: Duration,
    /// Failures in a row after which it counts as down. Default 3.
    pub max_failures: u32,
    /// The longest time between attempts to return to it. Default 300 s.
    pub recovery_time: Duration,
}

impl StoreConfig {
    /// Names the servers and the database, without credentials: the same for all processes that use them.
    pub(crate) fn servers_label(&self) -> String {
        let mut parts = vec![self.driver.name().to_owned()];
        if let Some(connection) = &self.connection {
            let url = connection.url.iter();
            parts.extend(url.map(|url| url::without_credentials(url.expose())));
            parts.extend(connection.servers.iter().cloned());
            parts.extend(connection.service.clone());
            parts.extend(connection.database.map(|number| number.to_string()));
        }
        for node in self.sharding.iter().flat_map(|sharding| &sharding.nodes) {
            parts.push(url::without_credentials(node.url.expose()));
        }
        parts.join(" ")
    }

    pub(super) fn read(table: &Table<'_>) -> Self {
        let driver = table
            .text("driver")
            .and_then(|name| Driver::by_name(&name))
            .unwrap_or(Driver::Null);
        let networked = matches!(
            driver,
            Driver::Redis | Driver::RedisSentinel | Driver::RedisCluster | Driver::Memcached
        );
        let local = table.table("local");
        Self {
            driver,
            path: table.path("path"),
            max_size: table.size("max_size"),
            depth: table.integer("depth"),
            sweep_interval: table.duration("sweep_interval"),
            buckets: table.integer("buckets"),
            connection: networked.then(|| Connection::read(table, driver.name())),
            sharding: (driver == Driver::Sharded).then(|| Sharding::read(table)),
            local: local.exists().then(|| LocalConfig::read(&local)),
        }
    }
}

impl LocalConfig {
    fn read(table: &Table<'_>) -> Self {
        Self {
            enabled: table.flag("enabled"),
            capacity: table.size("capacity").unwrap_or_default(),
            ttl_fraction: table.float("ttl_fraction"),
            write_through: table.flag("write_through"),
            promote: table.flag("promote"),
            max_staleness: table.duration("max_staleness"),
        }
    }
}

impl Sharding {
    /// Returns the complete URL of a node: its own login, else that of the store.
    ///
    /// `password` is used instead of the configured one of the store: pass the content of
    /// [`Connection::password_file`], when there is one.
    #[must_use]
    pub fn node_url(&self, node: &NodeConfig, password: Option<&str>) -> Secret {
        let parts = url::split(node.url.expose());
        let takes_login = parts
            .is_some_and(|parts| parts.userinfo.is_none() && parts.scheme.starts_with("redis"));
        if !takes_login {
            return node.url.clone();
        }
        let own_password = self.connection.password.as_ref().map(Secret::expose);
        let user = self.connection.user.as_deref();
        let password = password.or(own_password);
        Secret::new(url::with_credentials(node.url.expose(), user, password))
    }

    fn read(table: &Table<'_>) -> Self {
        let hash = match table.text("hash").as_deref() {
            Some("md5") => RingHash::Md5,
            _ => RingHash::Xxh3,
        };
        let strategy = match table.text("strategy").as_deref() {
            Some("ring") => Strategy::Ring {
                virtual_nodes: table.integer("virtual_nodes"),
                hash,
            },
            Some("ketama") => Strategy::Ketama,
            Some("round-robin") => Strategy::RoundRobin,
            _ => Strategy::Rendezvous,
        };
        let nodes = table.table("nodes");
        let health = table.table("health");
        Self {
            strategy,
            sticky_sessions: table.flag("sticky_sessions"),
            replicas: table.integer("replicas"),
            failover: table.flag("failover"),
            nodes: nodes
                .names()
                .iter()
                .map(|index| NodeConfig::read(&nodes.table(index)))
                .collect(),
            health: health.flag("enabled").then(|| HealthConfig {
                check_interval: health.duration("check_interval"),
                timeout: health.duration("timeout"),
                max_failures: health.integer("max_failures"),
                recovery_time: health.duration("recovery_time"),
            }),
            connection: Connection::read(table, "sharded"),
        }
    }
}

impl NodeConfig {
    fn read(table: &Table<'_>) -> Self {
        let url = table.text("url").unwrap_or_else(|| {
            let host = table.text("host").unwrap_or_default();
            let port = table.optional_integer("port").unwrap_or(6379);
            format!("redis://{}", address(&host, port))
        });
        Self {
            name: table.text("name").unwrap_or_default(),
            url: Secret::new(url),
            weight: table.integer("weight"),
            is_replica: table.text("role").as_deref() == Some("replica"),
        }
    }
}
