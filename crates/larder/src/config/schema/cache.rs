//! `dir`, `[cache]`, `[caches.*]`, `[stampede]`, `[tags]` and `[alerts]`.

use super::{Field, INTERVAL_OR_OFF, RATIO, TIMEOUT, choice};
use crate::config::kind::Kind;

const CODEC: Kind = Kind::Choice {
    words: &["messagepack", "json", "postcard"],
    aliases: &[("msgpack", "messagepack")],
};
const COMPRESSION: Kind = choice(&["none", "lz4", "zstd", "gzip"]);
const AT_START: Kind = choice(&["fail", "fall-back"]);
const VERSION: Kind = Kind::Integer {
    min: 0,
    max: u32::MAX as u64,
};

pub(super) const FIELDS: &[Field] = &[
    Field::new("dir", Kind::Path, "The directory of the embedded stores and queues.")
        .derived("`$XDG_DATA_HOME/larder`, else `$HOME/.local/share/larder`")
        .example("/var/lib/larder"),
    Field::new(
        "cache.default",
        Kind::Name,
        "The default cache: a store, or a cache of `[caches]`. The name of a driver (`memory`, `sqlite`, `file`, `redis`, `memcached`, `null`) stands for a store of that driver and name, which need not be configured.",
    )
    .derived("`main`, or the only store")
    .example("main"),
    Field::new(
        "cache.prefix",
        Kind::Text,
        "The application's name in every key, lock and tag; applications that share a server must differ in it. At most 128 bytes.",
    )
    .or("larder"),
    Field::new(
        "cache.fallback",
        Kind::Name,
        "The store that stands in while a Redis, Memcached or sharded store is down: `none`, `sqlite`, `file`, or an embedded store of `[stores]`. It is shared with the caches on that store without meeting them; beside `sqlite`, the journal of the outage is a file of its own. Locks, `add`, counters and leases never fall back.",
    )
    .or("none"),
    Field::new(
        "cache.fallback_at_start",
        AT_START,
        "What opening does when such a store cannot be reached: `fail`, so that a wrong address is noticed, or `fall-back` and go on without it. Without `cache.fallback`, it fails.",
    )
    .or("fail"),
    Field::new(
        "cache.version",
        VERSION,
        "Part of every key: raise it to abandon all entries at once.",
    )
    .or("1"),
    Field::new(
        "cache.ttl",
        Kind::Ttl,
        "How long an entry lives that is written without a TTL; `forever`: until deleted or evicted.",
    )
    .or("forever"),
    Field::new(
        "cache.codec",
        CODEC,
        "How typed values become bytes. `messagepack` survives added fields, `json` is for readers in other languages, `postcard` is the smallest but breaks with any change of a type. Entries are read whatever wrote them.",
    )
    .or("messagepack"),
    Field::new(
        "cache.compression",
        COMPRESSION,
        "How values are compressed; `zstd` is smaller and slower than `lz4`.",
    )
    .or("lz4"),
    Field::new(
        "cache.compress_above",
        Kind::Size { min: 0 },
        "Smaller values are stored as they are.",
    )
    .or("1KiB"),
    Field::new(
        "cache.jitter",
        RATIO,
        "Shortens each TTL by a random part of up to this, so that entries written together do not expire together; 0 turns it off.",
    )
    .or("0"),
    Field::new(
        "cache.strict",
        Kind::Bool,
        "Reads report a store that is down, or an entry that is damaged, instead of treating it as a miss.",
    )
    .or("false"),
    Field::new(
        "cache.stale_for",
        Kind::Duration {
            min: std::time::Duration::ZERO,
            max: std::time::Duration::from_hours(24 * 365),
        },
        "How long after its TTL a value that `remember` loaded may still be served when its loader fails, or while another caller loads; 0 turns it off.",
    )
    .or("0"),
];

pub(super) const CACHES_FIELDS: &[Field] = &[
    Field::new(
        "caches.*.store",
        Kind::Name,
        "The store that holds this cache; a driver's name works as for `cache.default`.",
    )
    .derived("the default store")
    .example("main"),
    Field::new(
        "caches.*.prefix",
        Kind::Text,
        "As `cache.prefix`, for this cache.",
    )
    .derived("`cache.prefix`")
    .example("app"),
    Field::new(
        "caches.*.version",
        VERSION,
        "As `cache.version`, for this cache.",
    )
    .derived("`cache.version`")
    .example("2"),
    Field::new("caches.*.ttl", Kind::Ttl, "As `cache.ttl`, for this cache.")
        .derived("`cache.ttl`")
        .example("30m"),
    Field::new("caches.*.codec", CODEC, "As `cache.codec`, for this cache.")
        .derived("`cache.codec`")
        .example("json"),
    Field::new(
        "caches.*.compression",
        COMPRESSION,
        "As `cache.compression`, for this cache.",
    )
    .derived("`cache.compression`")
    .example("zstd"),
    Field::new(
        "caches.*.compress_above",
        Kind::Size { min: 0 },
        "As `cache.compress_above`, for this cache.",
    )
    .derived("`cache.compress_above`")
    .example("4KiB"),
    Field::new(
        "caches.*.jitter",
        RATIO,
        "As `cache.jitter`, for this cache.",
    )
    .derived("`cache.jitter`")
    .example("0.1"),
    Field::new(
        "caches.*.strict",
        Kind::Bool,
        "As `cache.strict`, for this cache.",
    )
    .derived("`cache.strict`")
    .example("true"),
    Field::new(
        "caches.*.stale_for",
        Kind::Duration {
            min: std::time::Duration::ZERO,
            max: std::time::Duration::from_hours(24 * 365),
        },
        "As `cache.stale_for`, for this cache.",
    )
    .derived("`cache.stale_for`")
    .example("1d"),
];

pub(super) const BEHAVIOUR_FIELDS: &[Field] = &[
    Field::new(
        "stampede.enabled",
        Kind::Bool,
        "One caller loads a missing value, in all processes together; off, each loads its own.",
    )
    .or("true"),
    Field::new(
        "stampede.lock_ttl",
        TIMEOUT,
        "How long a load may go on without a sign of life before another caller takes it over.",
    )
    .or("60s"),
    Field::new(
        "stampede.max_wait",
        TIMEOUT,
        "How long a caller waits for another's load before it loads for itself.",
    )
    .or("30s"),
    Field::new(
        "stampede.retry_interval",
        TIMEOUT,
        "How often a waiting caller looks whether the value is there.",
    )
    .or("100ms"),
    Field::new(
        "stampede.early_expiration.enabled",
        Kind::Bool,
        "`remember` loads a value anew in the background before it expires, and returns what there is.",
    )
    .or("false"),
    Field::new(
        "stampede.early_expiration.threshold",
        Kind::Float {
            min: 0.01,
            max: 0.99,
        },
        "The part of its TTL after which the next `remember` refreshes a value.",
    )
    .or("0.8"),
    Field::new(
        "tags.enabled",
        Kind::Bool,
        "Entries may have tags; off, a write with tags is an error, for tags that are ignored would leave stale values.",
    )
    .or("true"),
    Field::new(
        "tags.cleanup_every",
        INTERVAL_OR_OFF,
        "About how often a cache is cleaned of invalid entries and of tags that nothing carries, by one process for all; 0 turns it off.",
    )
    .or("1h"),
    Field::new(
        "tags.groups.*",
        Kind::List,
        "A named set of tags to invalidate together.",
    )
    .example("app_config,database_config"),
    Field::new(
        "alerts.hit_ratio_below",
        RATIO,
        "Alert when fewer of the reads are hits; 0 turns it off.",
    )
    .or("0.85"),
    Field::new(
        "alerts.memory_above",
        RATIO,
        "Alert when a store uses more of its capacity; 1 turns it off.",
    )
    .or("0.9"),
    Field::new(
        "alerts.latency_above",
        Kind::Duration {
            min: std::time::Duration::ZERO,
            max: std::time::Duration::from_mins(1),
        },
        "Alert when a store's operations take longer; 0 turns it off.",
    )
    .or("10ms"),
];
