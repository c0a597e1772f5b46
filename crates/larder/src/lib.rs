//! Larder: one cache that never lies, from an embedded directory up to a cluster.
//!
//! # Layout
//! Floors, lowest first; imports go down only.
//!
//! | floor | modules | what it is |
//! |---|---|---|
//! | 0 | `error`, `clock`, `key`, `glob`, `ttl`, `codec`, `envelope`, `lease`, `breaker`, `redis_conn` | words that all share |
//! | 1 | [`store`] | bytes in, bytes out: memory, sqlite, file, redis, memcached, fallback, null |
//! | 2 | [`lock`] | locks, semaphores and rate limiters on any store |
//! | 3 | [`cache`](mod@cache) | what applications hold: typed values, local tier, single-flight loads |
//! | 4 | `config`, `larder`, `dashboard` | the edges: configuration, the whole box, HTTP |
//!
//! # Features
//! Default: `config`, `file`, `gzip`, `lz4`, `macros`, `memcached`, `postcard`, `redis`, `sqlite`, `zstd`. Also: `dashboard` (the HTTP API), `testing` (the
//! store laws and fault injection). Without default features: the memory store and the cache, nothing else.

pub mod cache;
#[cfg(feature = "dashboard")]
pub mod dashboard;
pub mod lock;
pub mod store;

#[cfg(any(feature = "memcached", feature = "redis"))]
mod breaker;
mod clock;
mod codec;
#[cfg(feature = "config")]
pub mod config;
mod envelope;
mod error;
mod glob;
mod key;
#[cfg(feature = "config")]
mod larder;
mod lease;
#[cfg(feature = "redis")]
mod redis_conn;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;
mod ttl;

#[cfg(feature = "macros")]
#[doc(hidden)]
pub use cache::attribute as macros;
pub use cache::{Cache, Local, RememberError, default_cache, set_default_cache};
pub use clock::{Clock, ManualClock};
pub use codec::{Codec, Compression};
pub use envelope::MAX_ENTRY_BYTES;
pub use error::{Error, ErrorKind, Result};
pub use glob::Glob;
pub use key::{Key, KeyRef, MAX_KEY_BYTES, Namespace};
#[cfg(feature = "config")]
pub use larder::{Larder, StoreNodes};
#[cfg(feature = "macros")]
pub use larder_macros::cache;
pub use lock::{Lock, LockGuard, Locks};
#[cfg(feature = "file")]
pub use store::File as FileStore;
#[cfg(feature = "memcached")]
pub use store::Memcached as MemcachedStore;
#[cfg(feature = "redis")]
pub use store::Redis as RedisStore;
#[cfg(feature = "sqlite")]
pub use store::Sqlite as SqliteStore;
pub use store::{Memory as MemoryStore, Null as NullStore, Store};
pub use tag::{MAX_TAG_BYTES, MAX_TAG_DEPTH, MAX_TAGS};
pub use ttl::{TimeLeft, Ttl, format_duration, parse_duration};

/// The examples of the README are compiled and run.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So are those of the guide to locks.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../../docs/locks.md")]
struct LocksGuide;

/// Those of the guide to `#[cache]`.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../../docs/macro.md")]
struct MacroGuide;

/// And those of the guide to tags.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tags.md")]
struct TagsGuide;

/// And those of the guide to local tiers.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tiers.md")]
struct TiersGuide;

/// And those of the guide to loads.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/remember.md")]
struct RememberGuide;

#[cfg(test)]
mod tests {
    fn assert_send_sync<T: Send + Sync>() {}

    #[test]
    fn handles_can_be_shared_between_threads() {
        assert_send_sync::<super::Cache>();
        assert_send_sync::<super::Error>();
        assert_send_sync::<super::MemoryStore>();
    }
}
