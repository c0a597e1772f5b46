//! The configuration keys of the caching systems that Larder grew from, its seeds, and ours for each.
//!
//! Whoever moves an existing configuration over is told, for every key that is spelled differently
//! here, its new name, and for every key that has no meaning here, why. The table in the
//! documentation is made of the same data.

use super::path::SettingPath;

/// A key of another system.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeedKey {
    pub(super) key: &'static str,
    /// The pattern of our setting; `None`: there is nothing to set.
    pub(super) ours: Option<&'static str>,
    /// What differs, or why there is no such setting. A lower-case clause without a full stop.
    pub(super) note: &'static str,
}

const fn same(key: &'static str, note: &'static str) -> SeedKey {
    renamed(key, key, note)
}

const fn renamed(key: &'static str, ours: &'static str, note: &'static str) -> SeedKey {
    SeedKey {
        key,
        ours: Some(ours),
        note,
    }
}

const fn gone(key: &'static str, note: &'static str) -> SeedKey {
    SeedKey {
        key,
        ours: None,
        note,
    }
}

/// The cache and its stores (`config/cache.php`, `CacheManager`, `TieredCacheConfig`).
const CACHE_KEYS: &[SeedKey] = &[
    renamed("default", "cache.default", "a store or a cache"),
    renamed("defaultStore", "cache.default", "a store or a cache"),
    renamed("prefix", "cache.prefix", "the same meaning"),
    renamed(
        "fallback_to_file",
        "cache.fallback",
        "write \"file\" for true, \"none\" for false",
    ),
    same(
        "stores.*.driver",
        "redis, memcached, file as before, and more",
    ),
    same("stores.*.host", "or a whole `url`"),
    same("stores.*.port", "or a whole `url`"),
    same(
        "stores.*.password",
        "also `user`, `password_file`, or in the `url`",
    ),
    same("stores.*.database", "or in the `url`"),
    renamed(
        "stores.*.timeout",
        "stores.*.connect_timeout",
        "seconds, or 250ms; `response_timeout` bounds each reply",
    ),
    renamed(
        "stores.*.readTimeout",
        "stores.*.response_timeout",
        "seconds, or 250ms",
    ),
    same("stores.*.path", "of the driver `file`, and of `sqlite`"),
    renamed(
        "stores.*.hash_levels",
        "stores.*.depth",
        "the levels of directories",
    ),
    renamed(
        "stores.*.cleanup_frequency",
        "stores.*.sweep_interval",
        "seconds, or 1h",
    ),
    gone(
        "stores.*.options.serializer",
        "PHP serializers cannot be read here; choose cache.codec, messagepack, json or postcard",
    ),
    renamed(
        "stores.*.options.compression",
        "cache.compression",
        "none, lz4, zstd or gzip, on every store alike",
    ),
    gone(
        "stores.*.options.binary_protocol",
        "Memcached is spoken to by its meta protocol, which replaced the binary one",
    ),
    gone(
        "stores.*.options.no_block",
        "all operations are asynchronous",
    ),
    gone(
        "stores.*.options.persistent",
        "connections are always kept open",
    ),
    renamed(
        "stores.*.options.tcp_keepalive",
        "stores.*.tcp_keepalive",
        "a duration: a bare 1 is one second, not \"on\"",
    ),
    gone(
        "stores.*.pool.min_connections",
        "one connection carries all operations at once, there is no pool",
    ),
    renamed(
        "stores.*.pool.max_connections",
        "stores.*.connections",
        "one connection carries all operations at once, so 1 is usually right",
    ),
    gone(
        "stores.*.pool.idle_timeout",
        "connections stay open; stores.*.tcp_keepalive finds dead ones",
    ),
    renamed(
        "stampede_protection.enabled",
        "stampede.enabled",
        "the same meaning",
    ),
    renamed(
        "stampede_protection.lock_ttl",
        "stampede.lock_ttl",
        "seconds, or 60s",
    ),
    renamed(
        "stampede_protection.max_wait_time",
        "stampede.max_wait",
        "seconds, or 30s",
    ),
    renamed(
        "stampede_protection.retry_interval",
        "stampede.retry_interval",
        "was in microseconds and is in seconds: 100000 is \"100ms\"",
    ),
    renamed(
        "stampede_protection.early_expiration.enabled",
        "stampede.early_expiration.enabled",
        "the same meaning",
    ),
    renamed(
        "stampede_protection.early_expiration.threshold",
        "stampede.early_expiration.threshold",
        "the same meaning",
    ),
    renamed(
        "tagging.enabled",
        "tags.enabled",
        "off, a write with tags is an error",
    ),
    gone(
        "tagging.storage",
        "tags are always kept in the entry's own store",
    ),
    renamed(
        "tagging.cleanup_frequency",
        "tags.cleanup_every",
        "seconds, or 1h",
    ),
    renamed(
        "enable_l1",
        "stores.*.local.enabled",
        "the local tier of a store",
    ),
    gone(
        "enable_l2",
        "a cache without a shared tier is a store of driver memory",
    ),
    renamed(
        "write_through",
        "stores.*.local.write_through",
        "off, a write still removes the local copy",
    ),
    renamed(
        "promote_to_l1",
        "stores.*.local.promote",
        "the same meaning",
    ),
    renamed(
        "l1_ttl_fraction",
        "stores.*.local.ttl_fraction",
        "for promoted entries too",
    ),
];

/// Several nodes (`config/distributed_cache.php`, `RedisCluster`).
const DISTRIBUTED_KEYS: &[SeedKey] = &[
    gone(
        "enabled",
        "a store of driver sharded is used when cache.default or a cache names it",
    ),
    renamed(
        "nodes.*.host",
        "stores.*.nodes.*.host",
        "or a whole `url`; each node needs a `name`",
    ),
    renamed("nodes.*.port", "stores.*.nodes.*.port", "or a whole `url`"),
    renamed(
        "nodes.*.weight",
        "stores.*.nodes.*.weight",
        "the same meaning",
    ),
    renamed(
        "nodes.*.role",
        "stores.*.nodes.*.role",
        "primary or replica",
    ),
    renamed(
        "replication",
        "stores.*.strategy",
        "rendezvous, ring (consistent-hashing is accepted for it), ketama or round-robin",
    ),
    renamed("failover", "stores.*.failover", "the same meaning"),
    renamed(
        "strategies.consistent-hashing.virtual_nodes",
        "stores.*.virtual_nodes",
        "with strategy ring",
    ),
    renamed(
        "strategies.consistent-hashing.hash_function",
        "stores.*.hash",
        "xxh3 or md5, with strategy ring",
    ),
    renamed(
        "strategies.round-robin.sticky_sessions",
        "stores.*.sticky_sessions",
        "with strategy round-robin",
    ),
    renamed(
        "health.enabled",
        "stores.*.health.enabled",
        "the same meaning",
    ),
    renamed(
        "health.check_interval",
        "stores.*.health.check_interval",
        "seconds, or 30s",
    ),
    renamed(
        "health.timeout",
        "stores.*.health.timeout",
        "was 5 seconds; 250ms by default, for every call waits that long",
    ),
    renamed(
        "health.max_failures",
        "stores.*.health.max_failures",
        "the same meaning",
    ),
    renamed(
        "health.recovery_time",
        "stores.*.health.recovery_time",
        "seconds, or 300s",
    ),
    renamed(
        "redis_cluster.nodes",
        "stores.*.servers",
        "of a store of driver redis-cluster",
    ),
    renamed(
        "redis_cluster.timeout",
        "stores.*.connect_timeout",
        "seconds, or 250ms",
    ),
    renamed(
        "redis_cluster.readTimeout",
        "stores.*.response_timeout",
        "seconds, or 250ms",
    ),
];

/// Locks, queues, the edge and monitoring.
const OTHER_KEYS: &[SeedKey] = &[
    gone(
        "lock.ttl",
        "the length of a lock is given where it is taken: lock(..).ttl(..)",
    ),
    gone(
        "lock.cleanup_ttl",
        "the lock of the tag cleanup renews itself",
    ),
    gone(
        "maxTagAge",
        "tags are removed when no entry has them, whatever their age",
    ),
    renamed("defaultConnection", "queue.default", "one of [queues]"),
    gone(
        "sleep",
        "an idle worker is woken by the next job and does not poll",
    ),
    renamed(
        "edge.api_token",
        "edge.providers.*.api_token",
        "under the provider's name",
    ),
    renamed(
        "edge.zone_id",
        "edge.providers.*.zone_id",
        "under the provider's name",
    ),
    renamed("hit_ratio", "alerts.hit_ratio_below", "the same meaning"),
    renamed(
        "memory_usage",
        "alerts.memory_above",
        "a part of the capacity",
    ),
    renamed(
        "avg_response_time",
        "alerts.latency_above",
        "was in milliseconds: 10 is \"10ms\"",
    ),
];

/// The tables above, each with the title it has in the documentation.
pub(super) const TABLES: [(&str, &[SeedKey]); 3] = [
    ("Cache and stores", CACHE_KEYS),
    ("Distributed cache", DISTRIBUTED_KEYS),
    ("Locks, queues, edge and monitoring", OTHER_KEYS),
];

/// Keys that say by their last part alone what they are, wherever they are written.
const TELLING: [&str; 16] = [
    "serializer",
    "binary_protocol",
    "no_block",
    "persistent",
    "hash_levels",
    "cleanup_frequency",
    "readTimeout",
    "hash_function",
    "min_connections",
    "max_connections",
    "idle_timeout",
    "max_wait_time",
    "enable_l1",
    "enable_l2",
    "promote_to_l1",
    "l1_ttl_fraction",
];

fn keys() -> impl Iterator<Item = &'static SeedKey> {
    TABLES.iter().flat_map(|(_, keys)| keys.iter())
}

/// Returns the key of another system that is written at this place.
pub(super) fn find(place: &SettingPath) -> Option<&'static SeedKey> {
    let last = place.last();
    keys().find(|seed| place.matches(seed.key)).or_else(|| {
        let telling = TELLING.contains(&last);
        keys().find(|seed| telling && seed.key.rsplit('.').next() == Some(last))
    })
}

/// Returns whether this place is a table of another system.
pub(super) fn is_table(place: &SettingPath) -> bool {
    keys().any(|seed| place.leads_to(seed.key))
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn what_a_key_is_called_here_is_a_setting() {
        for seed in keys() {
            if let Some(ours) = seed.ours {
                assert!(schema::find(&SettingPath::parse(ours)).is_some(), "{ours}");
            }
        }
    }

    #[test]
    fn keys_that_differ_are_not_settings_by_accident() {
        for seed in keys().filter(|seed| seed.ours != Some(seed.key)) {
            assert!(
                schema::find(&SettingPath::parse(seed.key)).is_none(),
                "{}",
                seed.key
            );
        }
    }

    #[test]
    fn telling_keys_are_found_anywhere() {
        let place = SettingPath::parse("stores.main.serializer");
        assert!(find(&place).is_some_and(|seed| seed.ours.is_none()));
        assert!(find(&SettingPath::parse("stores.main.enabled")).is_none());
    }
}
