//! Entries in Memcached: a client of the meta protocol of its own, and on it a store that keeps every law.
//!
//! ```text
//! get = mg entry + mg register, one write, one read      put = ms entry + mg register
//! clear = md register                                    conditions = mg with version, judge, ms with that version
//! ```
//! [`frame`] says how items look, [`register`] how namespaces are cleared, [`tags`] what else entries depend on, [`mod@write`] and [`step`] how conditions are
//! kept; [`pipe`] and [`driver`] put the commands of all tasks on one connection, [`server`] opens it and guards it with
//! a breaker; [`reply`] and [`request`] speak the protocol. Every reply must repeat the token of its command, misses
//! too, as Memcached 1.6.18 does.

mod builder;
mod connect;
mod driver;
mod frame;
mod locks;
mod pipe;
mod read;
mod register;
mod reply;
mod request;
mod server;
mod stats;
mod step;
mod tags;
mod write;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::builder::Builder;
use self::frame::{ItemKey, MAX_NAMESPACE_BYTES};
use self::locks::Locks;
use self::register::Registers;
use self::server::Server;
use self::tags::Kept;
use super::known::Known;
use super::{
    Capabilities, Entry, Invalidated, Invalidation, NodeStatus, Register, Stamp, Store, StoreStats,
    Write,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::lease::{Bells, LockStore};

const NAME: &str = "memcached";

/// A store on one Memcached server. Cloning shares its connections.
///
/// Entries may vanish at any time, as the server evicts them or restarts; nothing is listed or counted. Keys may
/// hold any bytes: those of the server's own limits (250 bytes, no spaces) do not apply.
///
/// # Cost
/// A get, a put and a delete take one round trip each; a write with a condition, one that keeps the expiry and a
/// touch take two, more while others change the same key. A bulk call takes what its dearest write takes, and one
/// round trip more for each 256 keys or 4 MiB per connection. What depends on tags takes one more where this process does
/// not know on which, and a put under tags takes two: it captures them first.
///
/// # Beyond the guarantees of every store
/// The order of one key's writes holds within a connection. After a connection was given up (two timeouts in a row),
/// the server may still carry out what it had received on it, also after writes on the next one; and with several
/// connections, so may a `clear` or an invalidation whose future was dropped. A put dropped half-way just after another process cleared the
/// namespace may leave its key absent. A delete that meets the very first put over an entry that was cleared or has expired
/// removes it and may report that there was none, and so does one that meets the value of a load; one that meets a load
/// that just begins ends it and may report an entry.
///
/// # Tags
/// Each is an item of its own: one that is evicted takes the entries along that depend on it. Nothing is listed.
///
/// # Locks
/// Advisory: the server may evict a lock, or be restarted, while somebody holds it. A lease lasts up to three seconds longer
/// than asked for, as the server counts whole seconds and skips some. Whoever asks first after that is next; those who wait have no
/// order, and are woken only by a release in their own process. Fences grow while the server keeps its data, and after
/// that as well where the clocks of its clients agree. An attempt that failed half-way may take the lock for as long as its lease
/// would have lasted. No semaphores, no rate limiters, no listing. Taking a lock costs one round trip, extending and
/// releasing it two.
///
/// # Connections
/// They belong to the runtime of the call that opened them, and are opened anew once that runtime has shut down. Where it
/// stands still instead, the next call from another one times out, and the connection is opened anew there.
#[derive(Debug, Clone)]
pub struct Memcached {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: Server,
    registers: Registers,
    /// What entries are believed to depend on, and what registers of tags held.
    known: Known<Kept>,
    clock: Clock,
    /// Who waits for a lock in this process.
    bells: Arc<Bells>,
}

impl Memcached {
    /// Starts with the defaults. `address` is `host:port`, or the path of a Unix socket, from `/` on.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address.into())
    }

    /// Connects with the defaults.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(address: impl Into<String>) -> Result<Self> {
        Self::builder(address).connect().await
    }

    /// Returns the connection that a key always uses, so that what is written to it keeps its order.
    fn lane(&self, key: &ItemKey<'_>) -> usize {
        match self.inner.server.lanes() {
            1 => 0,
            lanes => (key.hash() % lanes as u64) as usize,
        }
    }
}

fn check_namespace(namespace: &Namespace) -> Result<()> {
    if namespace.as_bytes().len() <= MAX_NAMESPACE_BYTES {
        return Ok(());
    }
    let message = format!("a namespace of over {MAX_NAMESPACE_BYTES} bytes");
    Err(Error::new(ErrorKind::InvalidKey, message).store(NAME))
}

#[async_trait]
impl Store for Memcached {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            counters: true,
            sorted_sets: true,
            locks: true,
            tags: true,
            ..Capabilities::default()
        }
    }

    fn clock(&self) -> Clock {
        self.inner.clock.clone()
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        Some(Arc::new(Locks(self.clone())))
    }

    fn connection_epoch(&self) -> u64 {
        self.inner.server.epoch()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        check_namespace(namespace)?;
        match keys {
            [] => Ok(Vec::new()),
            [key] => match self.read_one(namespace, key).await {
                Ok(entry) => Ok(vec![entry]),
                Err(error) => Err(error.store(NAME).key(key)),
            },
            _ => {
                let read = self.read_many(namespace, keys).await;
                read.map_err(|error| error.store(NAME))
            }
        }
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        check_namespace(namespace)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let applied = self.apply(namespace, writes).await;
        applied.map_err(|error| match writes {
            [write] => error.store(NAME).key(write.key),
            _ => error.store(NAME),
        })
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        check_namespace(namespace)?;
        let cleared = self.delete_register(namespace).await;
        cleared.map_err(|error| error.store(NAME))
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        check_namespace(namespace)?;
        let captured = self.capture_all(namespace, key, registers).await;
        captured.map_err(|error| error.store(NAME).key(key))
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        check_namespace(namespace)?;
        let invalidated = self.invalidate_all(namespace, registers, how).await;
        invalidated.map_err(|error| error.store(NAME))
    }

    async fn stats(&self) -> Result<StoreStats> {
        self.read_stats().await.map_err(|error| error.store(NAME))
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        Ok(vec![self.node().await])
    }

    async fn ping(&self) -> Result<()> {
        self.send_ping().await.map_err(|error| error.store(NAME))
    }
}
