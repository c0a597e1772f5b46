//! What a store's servers say about themselves, for `larder doctor`, `larder node list` and `cache status`.

/// The part a server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NodeRole {
    /// The only server.
    Single,
    /// Takes writes; others copy it.
    Primary,
    /// Copies a primary.
    Replica,
    /// Watches over primaries.
    Sentinel,
    /// Stands in while the store it belongs to is down.
    Fallback,
}

impl NodeRole {
    /// Returns the word for it: `primary`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Sentinel => "sentinel",
            Self::Fallback => "fallback",
        }
    }
}

/// One server as seen from this process. What a server does not tell is `None`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its address: `127.0.0.1:6379`, or a path. Never with a password.
    pub address: String,
    /// The part it plays.
    pub role: NodeRole,
    /// Why it cannot be used now; `None`: it answers.
    pub problem: Option<String>,
    /// What an operator should change, a sentence each.
    pub warnings: Vec<String>,
    /// The program and its version: `redis 7.0.15`.
    pub version: Option<String>,
    /// The median round trip of a few pings, in microseconds.
    pub latency_us: Option<u64>,
    /// How far its clock is ahead of this machine's, in milliseconds, give or take a round trip.
    pub clock_skew_ms: Option<i64>,
    /// How long it has been up, in seconds.
    pub uptime_s: Option<u64>,
    /// Memory in use, in bytes.
    pub memory_bytes: Option<u64>,
    /// The memory bound in bytes; `None`: none is set, or it does not tell.
    pub memory_limit_bytes: Option<u64>,
    /// What it drops when it is full: `allkeys-lru`.
    pub eviction_policy: Option<String>,
    /// How its data survives a restart of it: `none`, `rdb`, `aof everysec`.
    pub persistence: Option<String>,
    /// Keys of all applications.
    pub keys: Option<u64>,
    /// Reads that found their key, since it started, of all applications.
    pub hits: Option<u64>,
    /// Reads that did not.
    pub misses: Option<u64>,
    /// Keys dropped for lack of memory since it started.
    pub evicted: Option<u64>,
    /// Open client connections.
    pub connections: Option<u64>,
    /// Commands a second, at the moment.
    pub operations_per_second: Option<f64>,
    /// The average time of a command inside the server since it started, in microseconds.
    pub response_time_us: Option<f64>,
    /// The hash slots it serves: how many of 16384.
    pub slots: Option<u32>,
}

impl NodeStatus {
    /// Returns a server about which nothing else is known yet.
    #[must_use]
    pub fn new(address: impl Into<String>, role: NodeRole) -> Self {
        Self {
            address: address.into(),
            role,
            problem: None,
            warnings: Vec::new(),
            version: None,
            latency_us: None,
            clock_skew_ms: None,
            uptime_s: None,
            memory_bytes: None,
            memory_limit_bytes: None,
            eviction_policy: None,
            persistence: None,
            keys: None,
            hits: None,
            misses: None,
            evicted: None,
            connections: None,
            operations_per_second: None,
            response_time_us: None,
            slots: None,
        }
    }

    /// Returns the hits among all reads, 0 to 1; `None` before the first read.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let (hits, misses) = (self.hits?, self.misses?);
        (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
    }
}

/// Returns the median of some round trips; `None` without any.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) fn median_us(mut round_trips: Vec<std::time::Duration>) -> Option<u64> {
    round_trips.sort_unstable();
    let middle = round_trips.get(round_trips.len() / 2)?;
    Some(u64::try_from(middle.as_micros()).unwrap_or(u64::MAX))
}
