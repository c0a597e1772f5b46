//! A store that goes on while its primary is down, and forgets afterwards whatever was said meanwhile.
//!
//! ```text
//! call --> primary (a server) --down--> standby (memory, a file) : reads, plain writes, deletes, clears
//!            ^                              |
//!            |  replay: delete there what   |  journal: what changed, on record before it is acknowledged
//!            \--- changed here -------------/  entries: gone when the primary is back
//! ```
//! The primary stays the one truth: what exists once (conditional writes, counters, sorted sets, listings) never falls
//! back, and what was written to the standby never comes to the primary. A server that comes back with its old data
//! is made to forget every key that changed without it, before it is read again.

mod changes;
mod journal;
mod loads;
mod patience;
mod phase;
mod report;
mod transition;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::AbortHandle;

use self::journal::Journal;
use self::loads::Loads;
use self::phase::{Gate, Side, Stakes, Turns};
use super::{
    Capabilities, Entry, Examined, Expiry, Invalidated, Invalidation, LoadBegun, LoadRequest,
    NodeRole, NodeStatus, Read, Register, RegisterPage, Retirement, ScanPage, SortedSetOp,
    SortedSetReply, Stamp, StampedPut, Store, StoreStats, TidyPage, Write, reading, tags,
};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;

/// A store with another one that stands in while it is down. Cloning shares it.
///
/// The first call that fails with a retryable `Unavailable` or `Timeout` makes the standby take over, and is answered by it.
/// So does a call whose caller gives up first, if the primary does not answer a probe, either, within 800 ms.
/// A task asks the primary again after 100 ms and then at longer intervals up to 2 s; when it answers, calls wait for the
/// return, up to a second. This task ends with the store; without an outage, tasks are spawned for a moment only: to read
/// the journal, and to probe after a caller gave up.
///
/// # What falls back
/// Reads, puts, deletes, touches and clears without a condition, and loads of what has no tags. The standby starts empty, so that most reads are misses, and
/// `true` from a delete or a touch means that the standby had the entry. Conditional puts, counters, sorted sets, scans and
/// counts fail meanwhile, with `Unavailable` or, if a reply was lost, `Timeout`.
///
/// # Guarantees
/// After a put, delete or clear is acknowledged, by the primary or by the standby, no read through the same `Fallback` that
/// starts later returns an older value; it may be a miss. This holds across any number of outages, and also for
/// writes whose reply was lost and that were made nevertheless. Processes that share the standby (one file on one
/// host) give each other the same guarantee, as long as the primary is down for all of them or for none; and when one of them
/// is killed during an outage, the others, or the next one to start, replay what it left.
///
/// What the standby held is dropped on return, never copied to the primary. The keys that changed are deleted from the
/// primary; where more than 100 000 keys of one namespace changed, the whole namespace is cleared, with the counters in it.
///
/// # Not guaranteed
/// - Processes of *other hosts*, and processes that reach the primary while this one cannot, read what the primary holds until this
///   one has returned.
/// - A write that was given up on and reaches the primary only after the return: the network kept it that long.
/// - The journal survives processes, not a power cut, nor a standby whose files are damaged or deleted during an outage, nor
///   one that drops records to keep its size bound (then give it [`Builder::journal`]); memory survives nothing.
/// - That calls go on while the standby fails, its disk full or its file gone: at the start, after a new connection and on return
///   nobody knows then what others changed, and calls fail, though the primary is up.
/// - A process that starts to trust the primary makes the standby's content unreachable for those that are still on it.
///
/// # Cost
/// With a healthy primary: a few atomic loads a call; the journal is read and written once at the start and
/// once when a connection was made anew. On the standby: its own cost, one read, and for a key that changes for the first
/// time, one or two writes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use std::sync::Arc;
/// use larder::store::{Fallback, Memory};
/// let (server, standby) = (Memory::new(), Memory::new());
/// let store = Fallback::new(Arc::new(server), Arc::new(standby))?;
/// let cache = larder::Cache::builder(store).build()?;
/// cache.set("greeting", "hello").await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Fallback {
    inner: Arc<Inner>,
}

/// Options of a [`Fallback`] store.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    primary: Arc<dyn Store>,
    standby: Arc<dyn Store>,
    journal: Option<Arc<dyn Store>>,
    scope: Option<String>,
}

#[derive(Debug)]
struct Inner {
    primary: Arc<dyn Store>,
    standby: Arc<dyn Store>,
    journal: Journal,
    gate: Gate,
    /// The primary's connection epoch when it was last known to hold nothing old.
    epoch: AtomicU64,
    /// How often the primary may have been changed by a replay.
    disturbances: AtomicU64,
    /// Whether this process wrote to the primary since the present generation began.
    wrote: AtomicBool,
    loads: Loads,
    outages: AtomicU64,
    standby_calls: AtomicU64,
    prober: Mutex<Option<AbortHandle>>,
    /// Asks a primary that a caller gave up on.
    suspicion: Mutex<Option<AbortHandle>>,
}

impl Inner {
    /// Says when entries of the standby expire by the clock that callers compare with.
    fn by_primary_clock(&self, mut reads: Vec<Read>) -> Vec<Read> {
        for read in &mut reads {
            if let Read::Entry(entry) = read {
                entry.expires_at_ms = self.at_by_primary_clock(entry.expires_at_ms);
            }
        }
        reads
    }

    fn examined_on_standby(&self, mut found: Examined) -> Examined {
        found.expires_at_ms = self.at_by_primary_clock(found.expires_at_ms);
        found
    }

    fn at_by_primary_clock(&self, at_ms: Option<u64>) -> Option<u64> {
        let (to, from) = (self.primary.clock().now_ms(), self.standby.clock().now_ms());
        let left_ms = at_ms?.saturating_sub(from);
        Some(to.saturating_add(left_ms))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let prober = self
            .prober
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = prober {
            task.abort();
        }
    }
}

impl Builder {
    /// Where the journal is kept; default in the standby. Give it a store of its own where the standby has a size bound,
    /// for a record that is dropped is a change that is forgotten if the process is killed. All processes must agree on it.
    pub fn journal(mut self, store: Arc<dyn Store>) -> Self {
        self.journal = Some(store);
        self
    }

    /// Names the primary among those that share a standby; default the store's name. Two servers must differ in it, and
    /// the processes that use one server must agree.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Creates the store; neither of the two is asked anything yet.
    ///
    /// # Errors
    /// `InvalidArgument`: the standby or the journal cannot list its keys, or keeps nothing.
    pub fn build(self) -> Result<Fallback> {
        let store = self.journal.unwrap_or_else(|| Arc::clone(&self.standby));
        for part in [&self.standby, &store] {
            let can = part.capabilities();
            if !can.enumeration || can.discards {
                let message = "a fallback needs a store that keeps and lists its entries: memory, sqlite or file";
                return Err(Error::argument(message).store(part.name()));
            }
        }
        let scope = self.scope.unwrap_or_else(|| self.primary.name().to_owned());
        Ok(Fallback {
            inner: Arc::new(Inner {
                journal: Journal::new(store, scope)?,
                primary: self.primary,
                standby: self.standby,
                gate: Gate::new(),
                epoch: AtomicU64::new(0),
                disturbances: AtomicU64::new(0),
                wrote: AtomicBool::new(false),
                loads: Loads::default(),
                outages: AtomicU64::new(0),
                standby_calls: AtomicU64::new(0),
                prober: Mutex::default(),
                suspicion: Mutex::default(),
            }),
        })
    }
}

impl Fallback {
    /// Puts a standby behind a primary.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(primary: Arc<dyn Store>, standby: Arc<dyn Store>) -> Result<Self> {
        Self::builder(primary, standby).build()
    }

    /// Starts with the defaults: the journal in the standby, under the primary's name.
    pub fn builder(primary: Arc<dyn Store>, standby: Arc<dyn Store>) -> Builder {
        Builder {
            primary,
            standby,
            journal: None,
            scope: None,
        }
    }

    /// Writes that fall back.
    async fn write_plain(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let (inner, mut turns) = (&self.inner, Turns::new());
        loop {
            let reply = match inner.side(&mut turns).await? {
                Side::Primary(seen) => {
                    if !inner.about_to_write(seen) {
                        continue;
                    }
                    let call = inner.primary.write_many(namespace, writes);
                    let reply = inner.ask(seen, call).await;
                    inner.judge(seen, Stakes::Write, reply).await?
                }
                Side::Standby(stay) => {
                    let keys = writes.iter().map(|write| write.key);
                    stay.record(namespace, keys).await?;
                    let entries = stay.entries(namespace);
                    let reply = inner.standby.write_many(&entries, writes).await;
                    if let Ok(applied) = &reply {
                        inner.loads.note(writes, applied);
                    }
                    stay.confirm(reply).await?
                }
            };
            if let Some(applied) = reply {
                return Ok(applied);
            }
        }
    }
}

/// Makes a call that never falls back.
macro_rules! primary_only {
    ($self:ident, $stakes:expr, $primary:ident => $call:expr) => {{
        let (inner, mut turns) = (&$self.inner, Turns::new());
        loop {
            let Side::Primary(seen) = inner.side(&mut turns).await? else {
                return Err(inner.refusal(None));
            };
            if $stakes == Stakes::Exclusive && !inner.about_to_write(seen) {
                continue;
            }
            let $primary = &inner.primary;
            let reply = inner.ask(seen, $call).await;
            if let Some(reply) = inner.judge(seen, $stakes, reply).await? {
                return Ok(reply);
            }
        }
    }};
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Fallback {
    fn name(&self) -> &'static str {
        self.inner.primary.name()
    }

    /// What holds while the primary is up; but a local tier is told of changes only if both stores tell.
    fn capabilities(&self) -> Capabilities {
        let primary = self.inner.primary.capabilities();
        let standby = self.inner.standby.capabilities();
        Capabilities {
            coherent_local: primary.coherent_local && standby.coherent_local,
            ..primary
        }
    }

    fn clock(&self) -> Clock {
        self.inner.primary.clock()
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        primary_only!(self, Stakes::Exclusive, primary => primary.capture(namespace, key, registers))
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &StampedPut<'_>,
    ) -> Result<()> {
        primary_only!(self, Stakes::Exclusive, primary => primary.put_stamped(namespace, key, put))
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        if load.registers.is_empty() {
            // By the steps that fall back.
            return tags::begin_load(self, namespace, key, load).await;
        }
        primary_only!(self, Stakes::Exclusive, primary => primary.begin_load(namespace, key, load))
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        primary_only!(self, Stakes::Exclusive, primary => primary.invalidate(namespace, registers, how))
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        primary_only!(self, Stakes::Read, primary => primary.scan_registers(namespace, pattern, cursor, limit))
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        primary_only!(self, Stakes::Read, primary => primary.scan_by_register(namespace, register, cursor, limit))
    }

    /// What is in the store that is in use.
    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        let (inner, mut turns) = (&self.inner, Turns::new());
        loop {
            let reply = match inner.side(&mut turns).await? {
                Side::Primary(seen) => {
                    let reply = inner.ask(seen, inner.primary.examine(namespace, key)).await;
                    inner.judge(seen, Stakes::Read, reply).await?
                }
                Side::Standby(stay) => {
                    let entries = stay.entries(namespace);
                    let reply = inner.standby.examine(&entries, key).await;
                    let reply = reply.map(|found| found.map(|it| inner.examined_on_standby(it)));
                    stay.confirm(reply).await?
                }
            };
            if let Some(found) = reply {
                return Ok(found);
            }
        }
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        primary_only!(self, Stakes::Exclusive, primary => primary.tidy(namespace, cursor, limit, removes))
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        primary_only!(self, Stakes::Exclusive, primary => primary.retire(namespace, registers, step))
    }

    /// The primary's, always: two holders, one on each side, would be worse than none.
    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn super::Journal>> {
        let is_told = self.capabilities().coherent_local;
        is_told.then(|| self.inner.primary.journal(namespace))?
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        self.inner.primary.lock_store()
    }

    fn connection_epoch(&self) -> u64 {
        self.inner.primary.connection_epoch()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        self.read_many(namespace, keys).await.map(reading::entries)
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let (inner, mut turns) = (&self.inner, Turns::new());
        loop {
            let reply = match inner.side(&mut turns).await? {
                Side::Primary(seen) => {
                    let call = inner.primary.read_many(namespace, keys);
                    let reply = inner.ask(seen, call).await;
                    inner.judge(seen, Stakes::Read, reply).await?
                }
                Side::Standby(stay) => {
                    let entries = stay.entries(namespace);
                    let reply = inner.standby.read_many(&entries, keys).await;
                    let reply = reply.map(|reads| inner.by_primary_clock(reads));
                    stay.confirm(reply).await?
                }
            };
            if let Some(reads) = reply {
                return Ok(reads);
            }
        }
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        if writes
            .iter()
            .all(|write| self.inner.loads.falls_back(write))
        {
            return self.write_plain(namespace, writes).await;
        }
        primary_only!(self, Stakes::Exclusive, primary => primary.write_many(namespace, writes))
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        let (inner, mut turns) = (&self.inner, Turns::new());
        loop {
            let reply = match inner.side(&mut turns).await? {
                Side::Primary(seen) => {
                    if !inner.about_to_write(seen) {
                        continue;
                    }
                    let reply = inner.ask(seen, inner.primary.clear(namespace)).await;
                    inner.judge(seen, Stakes::Write, reply).await?
                }
                Side::Standby(stay) => {
                    stay.record_everything(namespace).await?;
                    let entries = stay.entries(namespace);
                    let reply = inner.standby.clear(&entries).await;
                    stay.confirm(reply).await?
                }
            };
            if reply.is_some() {
                return Ok(());
            }
        }
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        primary_only!(self, Stakes::Exclusive, primary => primary.increment(namespace, key, by, expiry))
    }

    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        let stakes = if op.is_change() {
            Stakes::Exclusive
        } else {
            Stakes::Read
        };
        primary_only!(self, stakes, primary => primary.sorted_set(namespace, key, op))
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        primary_only!(self, Stakes::Read, primary => primary.scan(namespace, pattern, cursor, limit))
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        primary_only!(self, Stakes::Read, primary => primary.count(namespace, pattern))
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        let inner = &self.inner;
        if inner.gate.is_primary() {
            inner.primary.prune(limit).await
        } else {
            inner.standby.prune(limit).await
        }
    }

    /// The figures of the store in use, and the state of the fallback among the details.
    async fn stats(&self) -> Result<StoreStats> {
        let inner = &self.inner;
        let stats = if inner.gate.outage().is_none() {
            inner.primary.stats().await
        } else {
            inner.standby.stats().await
        };
        let mut stats = match stats {
            Err(error) if phase::is_outage(&error) => inner.standby.stats().await?,
            other => other?,
        };
        inner.describe(&mut stats);
        Ok(stats)
    }

    /// The primary's servers, and the standby with a warning while it is in use.
    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        let inner = &self.inner;
        let mut nodes = inner.primary.nodes().await.unwrap_or_else(|error| {
            let mut down = NodeStatus::new(inner.primary.name(), NodeRole::Single);
            down.problem = Some(error.to_string());
            vec![down]
        });
        nodes.push(inner.standby_node());
        Ok(nodes)
    }

    /// Checks that one of the two answers; which one, [`Store::nodes`] and [`Store::stats`] tell.
    async fn ping(&self) -> Result<()> {
        let (inner, mut turns) = (&self.inner, Turns::new());
        loop {
            let reply = match inner.side(&mut turns).await? {
                Side::Primary(seen) => {
                    let reply = inner.ask(seen, inner.primary.ping()).await;
                    inner.judge(seen, Stakes::Read, reply).await?
                }
                Side::Standby(stay) => stay.confirm(inner.standby.ping().await).await?,
            };
            if reply.is_some() {
                return Ok(());
            }
        }
    }
}
