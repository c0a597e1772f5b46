//! What a configuration says, as types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::edge::EdgeConfig;
use super::queue::QueueConfig;
use super::settings::Settings;
use super::store::StoreConfig;
use super::typed::Table;
use crate::codec::{Codec, Compression};

/// The effective configuration: checked, complete, with all names resolved.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The directory of the embedded stores and queues (`LARDER_DIR`). `None` only when none can be
    /// found and nothing configured needs it.
    pub dir: Option<PathBuf>,
    /// `[cache]`: the default cache, and the defaults of all caches.
    pub cache: CacheSection,
    /// `[stores.*]` by name, with those that are implied by a driver's name or by no configuration.
    pub stores: BTreeMap<String, StoreConfig>,
    /// `[caches.*]` by name.
    pub caches: BTreeMap<String, CacheConfig>,
    /// `[stampede]`.
    pub stampede: StampedeConfig,
    /// `[tags]`.
    pub tags: TagsConfig,
    /// `[queue]`.
    pub queue: QueueSection,
    /// `[queues.*]` by name; without any, `main` in `dir`.
    pub queues: BTreeMap<String, QueueConfig>,
    /// `[edge]`.
    pub edge: EdgeConfig,
    /// `[alerts]`.
    pub alerts: AlertsConfig,
}

/// `[cache]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheSection {
    /// The default cache: the name of a store, or of a cache of [`Config::caches`]. Both exist.
    pub default: String,
    /// The embedded store that stands in while a store with servers is down; never the default cache's store itself.
    pub fallback: Option<String>,
    /// Whether opening goes on with the fallback when servers cannot be reached, instead of failing. Default `false`.
    pub falls_back_at_start: bool,
    /// What caches do unless `[caches.*]` says otherwise.
    pub settings: CacheSettings,
}

/// How a cache treats its entries.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// The application's name in every key. Default `larder`.
    pub prefix: String,
    /// Part of every key; raising it abandons all entries. Default 1.
    pub version: u32,
    /// How long an entry lives that is written without a TTL; `None` (the default): forever.
    pub ttl: Option<Duration>,
    /// How typed values become bytes. Default MessagePack.
    pub codec: Codec,
    /// How values are compressed. Default LZ4.
    pub compression: Compression,
    /// Values of fewer bytes are not compressed. Default 1 KiB.
    pub compress_above: u64,
    /// The largest part, 0 to 1, by which a TTL is shortened at random. Default 0.
    pub jitter: f64,
    /// Whether reads report a store's failure instead of a miss. Default `false`.
    pub strict: bool,
    /// How long after its TTL a value that `remember` loaded may be served when its loader fails or takes too long; `None`
    /// (the default): not at all.
    pub stale_for: Option<Duration>,
}

/// A cache: a store and how it is used.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheConfig {
    /// The cache's name in its keys: that of `[caches.*]`, or `default` when a store is used directly.
    pub name: String,
    /// The store, one of [`Config::stores`].
    pub store: String,
    /// How entries are treated; what `[caches.*]` left out is from `[cache]`.
    pub settings: CacheSettings,
}

/// `[stampede]`: who loads a missing value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StampedeConfig {
    /// Whether one caller loads for all (`CACHE_STAMPEDE_PROTECTION`). Default `true`.
    pub enabled: bool,
    /// How long a load may go on without a sign of life. Default 60 s.
    pub lock_ttl: Duration,
    /// How long a caller waits for another's load. Default 30 s.
    pub max_wait: Duration,
    /// How often a waiting caller looks. Default 100 ms.
    pub retry_interval: Duration,
    /// The part of its TTL, over 0 and under 1, after which a value is refreshed in the background; `None` (the default):
    /// never.
    pub refresh_after: Option<f64>,
}

/// `[tags]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagsConfig {
    /// Whether entries may have tags (`CACHE_TAGGING_ENABLED`); off, tags on a write are an error. Default `true`.
    pub enabled: bool,
    /// About how often caches are cleaned of invalid entries and of tags that nothing carries; `None`: never. Default 1 h.
    pub cleanup_every: Option<Duration>,
    /// Named sets of tags.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// `[queue]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSection {
    /// The default connection: one of [`Config::queues`], unless that is empty.
    pub default: String,
}

/// `[alerts]`: when `larder status --check` and the dashboard complain.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AlertsConfig {
    /// Fewer hits than this part of the reads; `None`: off. Default 0.85.
    pub hit_ratio_below: Option<f64>,
    /// More of its capacity in use by a store; `None`: off. Default 0.9.
    pub memory_above: Option<f64>,
    /// Operations that take longer; `None`: off. Default 10 ms.
    pub latency_above: Option<Duration>,
}

impl Config {
    /// Returns the cache of this name: `default`, one of `[caches]`, or a store used as a cache with
    /// the settings of `[cache]`.
    ///
    /// All names of one store lead to the same entries, except those of `[caches]`.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<CacheConfig> {
        let name = match name {
            super::DEFAULT_CACHE => self.cache.default.as_str(),
            other => other,
        };
        if let Some(cache) = self.caches.get(name) {
            return Some(cache.clone());
        }
        self.stores.contains_key(name).then(|| CacheConfig {
            name: super::DEFAULT_CACHE.into(),
            store: name.into(),
            settings: self.cache.settings.clone(),
        })
    }

    /// Returns the names that [`Config::cache`] knows, `default` first.
    pub fn cache_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(super::DEFAULT_CACHE)
            .chain(self.caches.keys().map(String::as_str))
            .chain(self.stores.keys().map(String::as_str))
    }

    pub(super) fn from_settings(settings: &Settings) -> Self {
        let table = |dotted: &str| Table::new(settings, dotted);
        let names = |dotted: &str| table(dotted).names();
        let cache = table("cache");
        Self {
            dir: settings.text_at("dir").map(PathBuf::from),
            cache: CacheSection {
                default: cache.text("default").unwrap_or_default(),
                fallback: cache.text("fallback").filter(|name| name != "none"),
                falls_back_at_start: cache.text("fallback_at_start").as_deref()
                    == Some("fall-back"),
                settings: CacheSettings::read(&cache),
            },
            stores: names("stores")
                .into_iter()
                .map(|name| {
                    let store = StoreConfig::read(&table("stores").table(&name));
                    (name, store)
                })
                .collect(),
            caches: names("caches")
                .into_iter()
                .map(|name| {
                    let cache = CacheConfig::read(&table("caches").table(&name), &name);
                    (name, cache)
                })
                .collect(),
            stampede: StampedeConfig::read(&table("stampede")),
            tags: TagsConfig::read(&table("tags")),
            queue: QueueSection {
                default: table("queue").text("default").unwrap_or_default(),
            },
            queues: names("queues")
                .into_iter()
                .map(|name| {
                    let queue = QueueConfig::read(&table("queues").table(&name));
                    (name, queue)
                })
                .collect(),
            edge: EdgeConfig::read(&table("edge")),
            alerts: AlertsConfig::read(&table("alerts")),
        }
    }
}

impl CacheSettings {
    fn read(table: &Table<'_>) -> Self {
        let codec = table.text("codec").and_then(|name| Codec::by_name(&name));
        let compression = table.text("compression");
        Self {
            prefix: table.text("prefix").unwrap_or_default(),
            version: table.integer("version"),
            ttl: table.nonzero("ttl"),
            codec: codec.unwrap_or_default(),
            compression: compression
                .and_then(|name| Compression::by_name(&name))
                .unwrap_or_default(),
            compress_above: table.size("compress_above").unwrap_or_default(),
            jitter: table.float("jitter"),
            strict: table.flag("strict"),
            stale_for: table.nonzero("stale_for"),
        }
    }
}

impl CacheConfig {
    fn read(table: &Table<'_>, name: &str) -> Self {
        Self {
            name: name.into(),
            store: table.text("store").unwrap_or_default(),
            settings: CacheSettings::read(table),
        }
    }
}

impl StampedeConfig {
    fn read(table: &Table<'_>) -> Self {
        let early = table.table("early_expiration");
        Self {
            enabled: table.flag("enabled"),
            lock_ttl: table.duration("lock_ttl"),
            max_wait: table.duration("max_wait"),
            retry_interval: table.duration("retry_interval"),
            refresh_after: early.flag("enabled").then(|| early.float("threshold")),
        }
    }
}

impl TagsConfig {
    fn read(table: &Table<'_>) -> Self {
        Self {
            enabled: table.flag("enabled"),
            cleanup_every: table.nonzero("cleanup_every"),
            groups: table.table("groups").lists().collect(),
        }
    }
}

impl AlertsConfig {
    fn read(table: &Table<'_>) -> Self {
        let memory = table.float("memory_above");
        let hits = table.float("hit_ratio_below");
        Self {
            hit_ratio_below: (hits > 0.0).then_some(hits),
            memory_above: (memory < 1.0).then_some(memory),
            latency_above: table.nonzero("latency_above"),
        }
    }
}
