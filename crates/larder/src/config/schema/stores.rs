//! `[stores.*]`: drivers, connections, the local tier, sharding.

use std::time::Duration;

use super::{Field, INTERVAL, PORT, RATIO, TIMEOUT, choice};
use crate::config::kind::Kind;

const DISK: &[&str] = &["sqlite", "file"];
const SERVERS: &[&str] = &["redis-sentinel", "redis-cluster", "memcached"];
const NETWORK: &[&str] = &[
    "redis",
    "redis-sentinel",
    "redis-cluster",
    "memcached",
    "sharded",
];
const LOGIN: &[&str] = &["redis", "redis-sentinel", "redis-cluster", "sharded"];
const CLUSTER: &[&str] = &["redis-cluster"];
const SENTINEL: &[&str] = &["redis-sentinel"];
const SHARDED: &[&str] = &["sharded"];

pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "stores.*.driver",
        choice(&[
            "memory",
            "sqlite",
            "file",
            "redis",
            "redis-sentinel",
            "redis-cluster",
            "memcached",
            "sharded",
            "null",
        ]),
        "What the store is. `sqlite` and `file` are embedded and shared by all processes of a host; `memory` is this process alone; `sharded` spreads keys over `nodes`; `null` keeps nothing.",
    )
    .required()
    .example("sqlite"),
    Field::new("stores.*.path", Kind::Path, "The database file (`sqlite`) or directory (`file`).")
        .derived("in `dir`: `cache.db` and `cache` for the stores `main`, `sqlite` and `file`, else with the store's name")
        .example("/var/lib/larder/cache.db")
        .only(DISK),
    Field::new(
        "stores.*.max_size",
        Kind::Size { min: 4096 },
        "The most bytes the store holds before it evicts. Unset: 256 MiB for `memory`, 1 GiB for `sqlite`.",
    )
    .example("1GiB")
    .only(&["memory", "sqlite", "file"]),
    Field::new(
        "stores.*.depth",
        Kind::Integer { min: 0, max: 4 },
        "How many levels of directories the entries are spread over.",
    )
    .or("2")
    .only(&["file"]),
    Field::new(
        "stores.*.sweep_interval",
        INTERVAL,
        "How often expired entries are removed; they are never returned, swept or not.",
    )
    .or("1m")
    .only(DISK),
    Field::new(
        "stores.*.url",
        Kind::Url,
        "Where the server is: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, `unix:///path` for a socket. Instead of `host` and `port`.",
    )
    .example("redis://127.0.0.1:6379/0")
    .only(&["redis", "redis-cluster"]),
    Field::new("stores.*.host", Kind::Text, "The server's name or address. Instead of `url`.")
        .example("127.0.0.1")
        .only(&["redis", "memcached"]),
    Field::new("stores.*.port", PORT, "The server's port.")
        .derived("6379 for Redis, 11211 for Memcached")
        .example("6379")
        .only(&["redis", "memcached"]),
    Field::new(
        "stores.*.servers",
        Kind::List,
        "The servers as `host:port`: of the cluster, the sentinels, or Memcached. Ports default to 6379, 26379 and 11211.",
    )
    .example("127.0.0.1:11211,127.0.0.1:11212")
    .only(SERVERS),
    Field::new(
        "stores.*.service",
        Kind::Text,
        "The name that the sentinels know the primary by.",
    )
    .or("mymaster")
    .only(SENTINEL),
    Field::new(
        "stores.*.buckets",
        Kind::Integer { min: 16, max: 1024 },
        "In how many slots the cluster keeps each cache, a power of two. More spread the load over more servers, and make `clear` dearer. The number is kept in the cluster: everything that uses the cluster must agree on it, and it must stay.",
    )
    .or("64")
    .only(CLUSTER),
    Field::new(
        "stores.*.database",
        Kind::Integer { min: 0, max: 65535 },
        "The Redis database; replaces the one of `url`. A cluster has only 0.",
    )
    .derived("that of `url`, else 0")
    .example("0")
    .only(&["redis", "redis-sentinel"]),
    Field::new("stores.*.user", Kind::Text, "The user to log in as; replaces the one of `url`.")
        .example("larder")
        .only(LOGIN),
    Field::new(
        "stores.*.password",
        Kind::Secret,
        "The password; replaces the one of `url`. Better `\"${REDIS_PASSWORD}\"` or `password_file` than the text itself.",
    )
    .example("${REDIS_PASSWORD}")
    .only(LOGIN),
    Field::new(
        "stores.*.password_file",
        Kind::Path,
        "A file that holds the password; a final line break is not part of it.",
    )
    .example("/run/secrets/redis")
    .only(LOGIN),
    Field::new("stores.*.sentinel_user", Kind::Text, "The user of the sentinels themselves.")
        .example("sentinel")
        .only(SENTINEL),
    Field::new("stores.*.sentinel_password", Kind::Secret, "The password of the sentinels themselves.")
        .example("${SENTINEL_PASSWORD}")
        .only(SENTINEL),
    Field::new("stores.*.connect_timeout", TIMEOUT, "How long connecting may take.")
        .or("250ms")
        .only(NETWORK),
    Field::new("stores.*.response_timeout", TIMEOUT, "How long one reply may take.")
        .or("500ms")
        .only(NETWORK),
    Field::new(
        "stores.*.connections",
        Kind::Integer { min: 1, max: 64 },
        "Connections to each server. Each carries any number of operations at once, so more than one only helps very busy processes.",
    )
    .or("1")
    .only(NETWORK),
    Field::new(
        "stores.*.tcp_keepalive",
        Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_hours(2),
        },
        "The idle time before the system probes a connection; 0 turns it off.",
    )
    .or("1m")
    .only(NETWORK),
    Field::new("stores.*.tls", Kind::Bool, "Encrypts the connection.")
        .derived("whether the URL is `rediss://`")
        .example("true")
        .only(LOGIN),
    Field::new(
        "stores.*.ca",
        Kind::Path,
        "Certificates (PEM) to trust instead of the system's.",
    )
    .example("/etc/larder/ca.pem")
    .only(LOGIN),
    Field::new("stores.*.cert", Kind::Path, "This client's certificate (PEM); needs `key`.")
        .example("/etc/larder/client.pem")
        .only(LOGIN),
    Field::new("stores.*.key", Kind::Path, "The private key (PEM) of `cert`.")
        .example("/etc/larder/client.key")
        .only(LOGIN),
    Field::new(
        "stores.*.local.enabled",
        Kind::Bool,
        "Keeps values in this process in front of the store. The table `local` being there turns it on.",
    )
    .or("true"),
    Field::new(
        "stores.*.local.capacity",
        Kind::Size { min: 4096 },
        "The most bytes of values kept in this process.",
    )
    .or("64MiB"),
    Field::new(
        "stores.*.local.ttl_fraction",
        RATIO,
        "The part of an entry's TTL that its local copy lives, promoted ones too.",
    )
    .or("0.25"),
    Field::new(
        "stores.*.local.write_through",
        Kind::Bool,
        "Writes put the value into the local tier as well; off, they only remove the copy there.",
    )
    .or("true"),
    Field::new(
        "stores.*.local.promote",
        Kind::Bool,
        "Values read from the store are copied into the local tier.",
    )
    .or("true"),
    Field::new(
        "stores.*.local.max_staleness",
        Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_hours(1),
        },
        "How long a local copy may differ from the store after another process changed it.",
    )
    .or("1s"),
];

pub(super) const SHARDED_FIELDS: &[Field] = &[
    Field::new(
        "stores.*.strategy",
        Kind::Choice {
            words: &["rendezvous", "ring", "ketama", "round-robin"],
            aliases: &[("consistent-hashing", "ring")],
        },
        "How keys find their node. `rendezvous`: best balance, least movement; `ring`: consistent hashing with `virtual_nodes` and `hash`; `ketama`: as libmemcached does; `round-robin`: every node holds everything.",
    )
    .or("rendezvous")
    .only(SHARDED),
    Field::new(
        "stores.*.virtual_nodes",
        Kind::Integer { min: 1, max: 10_000 },
        "Points on the ring for a node of weight 100; only for `ring`.",
    )
    .or("150")
    .only(SHARDED),
    Field::new("stores.*.hash", choice(&["xxh3", "md5"]), "The hash of the `ring`.")
        .or("xxh3")
        .only(SHARDED),
    Field::new(
        "stores.*.sticky_sessions",
        Kind::Bool,
        "A client of `round-robin` keeps reading from one node.",
    )
    .or("false")
    .only(SHARDED),
    Field::new(
        "stores.*.replicas",
        Kind::Integer { min: 1, max: 8 },
        "On how many nodes each entry is kept.",
    )
    .or("1")
    .only(SHARDED),
    Field::new(
        "stores.*.failover",
        Kind::Bool,
        "Keys of a node that is down go to the next node; off, they are misses.",
    )
    .or("true")
    .only(SHARDED),
    Field::new(
        "stores.*.nodes.*.name",
        Kind::Name,
        "The node's identity, which decides its keys: keep it when the address changes.",
    )
    .required()
    .example("a")
    .only(SHARDED),
    Field::new(
        "stores.*.nodes.*.url",
        Kind::Url,
        "Where the node is: `redis://`, `rediss://` or `memcached://`. Instead of `host` and `port`.",
    )
    .example("redis://10.0.0.1:6379")
    .only(SHARDED),
    Field::new("stores.*.nodes.*.host", Kind::Text, "The name or address of a Redis node.")
        .example("10.0.0.1")
        .only(SHARDED),
    Field::new("stores.*.nodes.*.port", PORT, "The port of a Redis node.")
        .derived("6379")
        .example("6379")
        .only(SHARDED),
    Field::new(
        "stores.*.nodes.*.weight",
        Kind::Integer { min: 1, max: 10_000 },
        "The node's share of the keys, against the other nodes' weights.",
    )
    .or("100")
    .only(SHARDED),
    Field::new(
        "stores.*.nodes.*.role",
        choice(&["primary", "replica"]),
        "A `replica` only holds further copies; at least one node is a `primary`.",
    )
    .or("primary")
    .only(SHARDED),
    Field::new(
        "stores.*.health.enabled",
        Kind::Bool,
        "Watches the nodes; off, every operation tries its node however often that failed.",
    )
    .or("true")
    .only(SHARDED),
    Field::new("stores.*.health.check_interval", INTERVAL, "How often an idle node is asked whether it lives.")
        .or("30s")
        .only(SHARDED),
    Field::new("stores.*.health.timeout", TIMEOUT, "How long a node may take to answer that.")
        .or("250ms")
        .only(SHARDED),
    Field::new(
        "stores.*.health.max_failures",
        Kind::Integer { min: 1, max: 1000 },
        "Failures in a row after which a node counts as down.",
    )
    .or("3")
    .only(SHARDED),
    Field::new(
        "stores.*.health.recovery_time",
        INTERVAL,
        "The longest time between two attempts to return to a node that is down.",
    )
    .or("300s")
    .only(SHARDED),
];
