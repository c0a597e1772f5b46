//! `[queue]` and `[queues.*]`.

use super::{Field, PORT, TIMEOUT, choice};
use crate::config::kind::Kind;

const SERVER: &[&str] = &["postgres", "redis", "redis-cluster"];
const REDIS: &[&str] = &["redis", "redis-cluster"];

pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "queue.default",
        Kind::Name,
        "The default queue connection: one of `[queues]`.",
    )
    .derived("`main`, or the only one")
    .example("main"),
    Field::new(
        "queues.*.driver",
        choice(&["memory", "sqlite", "postgres", "redis", "redis-cluster"]),
        "Where the jobs are kept. `memory` loses them with the process.",
    )
    .required()
    .example("sqlite"),
    Field::new("queues.*.path", Kind::Path, "The database file.")
        .derived("in `dir`: `queue.db` for `main`, else with the queue's name")
        .example("/var/lib/larder/queue.db")
        .only(&["sqlite"]),
    Field::new(
        "queues.*.durability",
        choice(&["full", "relaxed"]),
        "`relaxed` is faster and may lose the last commits on power loss, never on a crash.",
    )
    .or("full")
    .only(&["sqlite", "postgres"]),
    Field::new(
        "queues.*.url",
        Kind::Url,
        "Where the server is: `postgres://` or `redis://`.",
    )
    .example("postgres://localhost/app")
    .only(SERVER),
    Field::new(
        "queues.*.host",
        Kind::Text,
        "The Redis server's name or address. Instead of `url`.",
    )
    .example("127.0.0.1")
    .only(&["redis"]),
    Field::new("queues.*.port", PORT, "The Redis server's port.")
        .derived("6379")
        .example("6379")
        .only(&["redis"]),
    Field::new(
        "queues.*.servers",
        Kind::List,
        "The servers of the cluster as `host:port`.",
    )
    .example("10.0.0.1:6379,10.0.0.2:6379")
    .only(&["redis-cluster"]),
    Field::new(
        "queues.*.database",
        Kind::Integer { min: 0, max: 65535 },
        "The Redis database; replaces the one of `url`.",
    )
    .derived("that of `url`, else 0")
    .example("0")
    .only(&["redis"]),
    Field::new(
        "queues.*.user",
        Kind::Text,
        "The user to log in as; replaces the one of `url`.",
    )
    .example("larder")
    .only(SERVER),
    Field::new(
        "queues.*.password",
        Kind::Secret,
        "The password; replaces the one of `url`.",
    )
    .example("${QUEUE_PASSWORD}")
    .only(SERVER),
    Field::new(
        "queues.*.password_file",
        Kind::Path,
        "A file that holds the password.",
    )
    .example("/run/secrets/queue")
    .only(SERVER),
    Field::new(
        "queues.*.connect_timeout",
        TIMEOUT,
        "How long connecting may take.",
    )
    .or("2500ms")
    .only(SERVER),
    Field::new(
        "queues.*.response_timeout",
        TIMEOUT,
        "How long one reply may take.",
    )
    .or("5s")
    .only(SERVER),
    Field::new(
        "queues.*.connections",
        Kind::Integer { min: 1, max: 64 },
        "Connections to the server.",
    )
    .or("4")
    .only(SERVER),
    Field::new("queues.*.tls", Kind::Bool, "Encrypts the connection.")
        .derived("whether the URL is `rediss://`")
        .example("true")
        .only(REDIS),
    Field::new(
        "queues.*.ca",
        Kind::Path,
        "Certificates (PEM) to trust instead of the system's.",
    )
    .example("/etc/larder/ca.pem")
    .only(SERVER),
    Field::new(
        "queues.*.cert",
        Kind::Path,
        "This client's certificate (PEM); needs `key`.",
    )
    .example("/etc/larder/client.pem")
    .only(SERVER),
    Field::new(
        "queues.*.key",
        Kind::Path,
        "The private key (PEM) of `cert`.",
    )
    .example("/etc/larder/client.key")
    .only(SERVER),
];
