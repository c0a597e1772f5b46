//! Puts a cache together and checks its options.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::Notify;

use super::asking::check_stale_for;
use super::background::Background;
use super::causal::SEEN_TOKENS;
use super::coherence::Follower;
use super::flight::Flights;
use super::flusher::Flusher;
use super::groups::Groups;
use super::history::History;
use super::inflight::Inflight;
use super::loading::LEARNT_KEYS;
use super::local::{Local, Tier};
use super::memo::Memos;
use super::settle::Settler;
use super::stampede::Stampede;
use super::stats::Counters;
use super::{Cache, Inner};
use crate::codec::{Codec, Compression};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::lock::Locks;
use crate::store::Store;
use crate::ttl::Ttl;

/// Values smaller than this are not compressed by default.
const COMPRESS_ABOVE_BYTES: usize = 1024;
/// The longest prefix or cache name, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Options of a [`Cache`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    store: Arc<dyn Store>,
    name: String,
    prefix: String,
    version: u32,
    default_ttl: Ttl,
    codec: Codec,
    compression: Compression,
    compress_above: usize,
    jitter: f64,
    strict: bool,
    local: Option<Local>,
    locks: Option<Locks>,
    stampede: Stampede,
    stale_for: Option<Duration>,
    tagging: bool,
    tag_groups: BTreeMap<String, Vec<String>>,
}

impl Builder {
    /// Starts a cache on a store that is shared already.
    pub fn shared(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            name: "default".into(),
            prefix: String::new(),
            version: 1,
            default_ttl: Ttl::Forever,
            codec: Codec::default(),
            compression: if cfg!(feature = "lz4") {
                Compression::Lz4
            } else {
                Compression::None
            },
            compress_above: COMPRESS_ABOVE_BYTES,
            jitter: 0.0,
            strict: false,
            local: None,
            locks: None,
            stampede: Stampede::default(),
            stale_for: None,
            tagging: true,
            tag_groups: BTreeMap::new(),
        }
    }

    /// The application's prefix, part of the namespace; up to 128 bytes, default empty.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The cache's name, part of the namespace; 1 to 128 bytes, default `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The version of the namespace; another version starts empty. Default 1.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// The TTL of entries that are written without one; default forever.
    pub fn default_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.default_ttl = ttl.into();
        self
    }

    /// How typed values are encoded; default MessagePack with field names.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// How encoded values are compressed; default LZ4.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The encoded size in bytes above which values are compressed; default 1024.
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = bytes;
        self
    }

    /// The part of its TTL, from 0 to 1, by which each written entry's is shortened at random, unless the call says
    /// otherwise; default 0.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Whether reads report the store's errors and unreadable entries instead of counting them as misses; default no.
    pub fn strict(mut self, on: bool) -> Self {
        self.strict = on;
        self
    }

    /// Puts a local tier in front of the store; default none.
    pub fn local(mut self, local: Local) -> Self {
        self.local = Some(local);
        self
    }

    /// How `remember` shares loads with other processes, unless a call says otherwise.
    pub fn stampede(mut self, stampede: Stampede) -> Self {
        self.stampede = stampede;
        self
    }

    /// How long after its TTL a value that `remember` or `remember_many` loaded may be served, unless a call says otherwise; see
    /// [`Remember::stale_for`](super::Remember::stale_for). More than zero; default not at all. Values without a TTL need
    /// none.
    pub fn stale_for(mut self, grace: Duration) -> Self {
        self.stale_for = Some(grace);
        self
    }

    /// Whether entries may have tags; default yes. Off, tags on a write and invalidations are errors (`InvalidConfig`), for
    /// tags that are ignored would leave stale values. Entries that have tags stay subject to them.
    pub fn tagging(mut self, on: bool) -> Self {
        self.tagging = on;
        self
    }

    /// Named sets of tags, for [`Cache::invalidate_group`]; default none.
    pub fn tag_groups(mut self, groups: BTreeMap<String, Vec<String>>) -> Self {
        self.tag_groups = groups;
        self
    }

    /// Shares the locks of another cache on the same store, so that one task looks after all leases; default its own.
    #[cfg(feature = "config")]
    pub(crate) fn locks(mut self, locks: Locks) -> Self {
        self.locks = Some(locks);
        self
    }

    /// Creates the cache. Inside a tokio runtime or outside; no round trip.
    ///
    /// # Errors
    /// `InvalidConfig`: a name is too long or empty. `InvalidArgument`: the default TTL or an option of the
    /// local tier is out of bounds, or a group has a tag that is none. `Unsupported`: the codec or compression is not built in.
    pub fn build(self) -> Result<Cache> {
        self.check()?;
        let mut capabilities = self.store.capabilities();
        capabilities.tags &= self.tagging;
        let namespace = Namespace::new(&self.prefix, &self.name, self.version);
        let tier = |options: &Local| {
            let journal = self.store.journal(&namespace);
            Tier::new(options, capabilities.discards, capabilities.shared, journal)
        };
        let locks = self.locks.clone().unwrap_or_else(|| {
            let store = &self.store;
            Locks::on(
                store.lock_store(),
                store.name(),
                &store.clock(),
                &self.prefix,
            )
        });
        let inner = Inner {
            locks,
            settler: Settler::default(),
            history: History::new(&self.prefix, &self.name, self.version),
            local: self.local.as_ref().map(tier).transpose()?,
            clock: self.store.clock(),
            namespace,
            internal: Namespace::internal(&self.prefix),
            name: self.name,
            store: self.store,
            capabilities,
            default_ttl: self.default_ttl,
            codec: self.codec,
            compression: self.compression,
            compress_above: self.compress_above,
            jitter: self.jitter,
            strict: self.strict,
            stampede: self.stampede,
            follower: Follower::default(),
            tokens: quick_cache::sync::Cache::new(SEEN_TOKENS),
            stale_for: self.stale_for,
            background: Background::new(),
            memos: Memos::default(),
            place: (self.prefix, self.version),
            inflight: Inflight::new(),
            flights: Arc::new(Flights::new()),
            tagging: self.tagging,
            groups: Groups::new(self.tag_groups)?,
            learnt: quick_cache::sync::Cache::new(LEARNT_KEYS),
            unmarking: AtomicUsize::new(0),
            unmarked: Notify::new(),
            counters: Counters::default(),
            flusher: Flusher::default(),
        };
        Ok(Cache {
            inner: Arc::new(inner),
            schema: 0,
            at_least_ms: 0,
        })
    }

    fn check(&self) -> Result<()> {
        if self.name.is_empty()
            || self.name.len() > MAX_NAME_BYTES
            || self.prefix.len() > MAX_NAME_BYTES
        {
            let message = format!(
                "the cache name needs 1 to {MAX_NAME_BYTES} bytes and the prefix at most as many (name {:?})",
                self.name.chars().take(32).collect::<String>()
            );
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        self.default_ttl.resolve(Ttl::Forever)?;
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::argument("the jitter must be from 0 to 1"));
        }
        self.stampede.check()?;
        check_stale_for(self.stale_for)?;
        self.codec.encode(&())?;
        crate::codec::compress(self.compression, b"probe")?;
        Ok(())
    }
}
