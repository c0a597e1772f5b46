//! What loads come to: their values are stored, or their marks are taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::Inner;
use super::inflight::{Commit, Marker};
use super::loading::{Loading, Right};
use super::put::Prepared;
use super::stats::Counter;
use crate::error::Error;
use crate::key::{Key, Namespace};
use crate::store::{Condition, Expiry, Write};

/// When it is tried to take back marks that an error may have left.
const UNMARK_AFTER: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// More such attempts are not made at a time: those marks end with their leases.
const MAX_UNMARKING: usize = 1000;

/// A load that has ended.
pub(super) struct Loaded<'a, 'm> {
    pub(super) key: &'a [u8],
    pub(super) marker: &'a Marker<'m>,
    pub(super) loading: &'a Loading,
    /// What is to be stored, if anything is.
    pub(super) value: Option<Ready>,
}

/// What a load has made of its value.
pub(super) enum Ready {
    Entry(Prepared),
    /// The entry that is there is to live for so many more milliseconds.
    Renewal(u64),
}

/// What is in the store; `None`: what was there has been renewed.
type Stored<'a, 'm> = (&'a [u8], &'a Marker<'m>, Option<Prepared>, Commit<'a>);

/// A task that takes marks back, counted until it ends, also with its runtime.
struct Unmarking(Arc<Inner>);

impl Unmarking {
    fn begin(inner: &Arc<Inner>) -> Self {
        inner.unmarking.fetch_add(1, SeqCst);
        Self(Arc::clone(inner))
    }
}

impl Drop for Unmarking {
    fn drop(&mut self) {
        if self.0.unmarking.fetch_sub(1, SeqCst) == 1 {
            self.0.unmarked.notify_waiters();
        }
    }
}

impl Inner {
    /// Stores what was loaded, unless something has overtaken it, and takes the marks of the others back, and all leases. A
    /// failure is counted.
    pub(super) async fn settle(self: &Arc<Self>, loaded: Vec<Loaded<'_, '_>>) {
        let since_ms = self.clock.monotonic_ms();
        let mut writes = Vec::with_capacity(loaded.len());
        let (mut stored, mut sent) = (Vec::new(), Vec::new());
        let mark = |load: &Loaded<'_, '_>| Some((Key::from(load.key), load.loading.mark()?));
        let marks: Vec<_> = loaded.iter().filter_map(mark).collect();
        let leases = loaded.iter();
        let leases: Vec<_> = leases
            .filter_map(|load| Some((load.key, load.loading.lease?)))
            .collect();
        for load in loaded {
            let commit = load.value.as_ref().and_then(|_| load.marker.commit());
            match (load.value, commit, load.loading.right) {
                (
                    Some(Ready::Entry(mut value)),
                    Some(commit),
                    Right::Mark(id) | Right::Entry(id),
                ) => {
                    if matches!(load.loading.right, Right::Entry(_))
                        && !load.loading.stamps().is_empty()
                    {
                        // The store judges what it is given; nobody would judge a local copy.
                        value.local = None;
                    }
                    let put = Write::put(load.key, value.entry.clone(), value.expiry());
                    writes.push(put.when(Condition::IfUnchanged(id)));
                    sent.push(Some((load.key, load.marker, Some(value), commit)));
                }
                (Some(Ready::Entry(value)), Some(commit), Right::Tier) => {
                    stored.push((load.key, load.marker, Some(value), commit));
                }
                (Some(Ready::Renewal(life_ms)), Some(commit), Right::Entry(id)) => {
                    let touch = Write::touch(load.key, Expiry::After(life_ms));
                    writes.push(touch.when(Condition::IfUnchanged(id)));
                    sent.push(Some((load.key, load.marker, None, commit)));
                }
                (value, _, right) => {
                    if value.is_some() {
                        self.counters.count(Counter::Overtaken);
                    }
                    if let Right::Mark(token) = right {
                        writes.push(unmark(load.key, token));
                        sent.push(None);
                    }
                }
            }
        }
        let applied = match writes.is_empty() {
            true => Ok(Vec::new()),
            false => self.store.write_many(&self.namespace, &writes).await,
        };
        match applied {
            Ok(applied) => {
                for (put, applied) in sent.into_iter().zip(applied) {
                    match (put, applied) {
                        (Some(put), true) => stored.push(put),
                        (Some(_), false) => self.counters.count(Counter::Overtaken),
                        (None, _) => {}
                    }
                }
            }
            Err(error) => {
                // Changes of these keys wait for their commits, and the store may be as slow to end the leases.
                drop(sent);
                self.unmark_later(&self.namespace, marks, &error);
                self.not_stored(&error);
            }
        }
        self.counters.add(Counter::Set, stored.len() as u64);
        self.keep(stored, since_ms);
        self.end_leases(&leases).await;
    }

    /// Takes marks back in the background after an error, so that others need not wait for the end of their leases. Each is
    /// taken back only if it is still there.
    pub(super) fn unmark_later(
        self: &Arc<Self>,
        namespace: &Namespace,
        marks: Vec<(Key, u64)>,
        error: &Error,
    ) {
        if marks.is_empty() || self.unmarking.load(SeqCst) >= MAX_UNMARKING {
            return;
        }
        tracing::debug!(cache = %self.name, %error, "the marks of loads are taken back");
        let (unmarking, namespace) = (Unmarking::begin(self), namespace.clone());
        tokio::spawn(async move {
            let inner = &unmarking.0;
            for pause in UNMARK_AFTER {
                tokio::time::sleep(pause).await;
                let unmarks = marks
                    .iter()
                    .map(|(key, token)| unmark(key.as_bytes(), *token));
                let unmarks: Vec<_> = unmarks.collect();
                if inner.store.write_many(&namespace, &unmarks).await.is_ok() {
                    break;
                }
            }
        });
    }

    /// Waits until no marks are being taken back after errors. Cancel-safe.
    pub(super) async fn unmarked(&self) {
        loop {
            let mut unmarked = std::pin::pin!(self.unmarked.notified());
            unmarked.as_mut().enable();
            if self.unmarking.load(SeqCst) == 0 {
                return;
            }
            unmarked.await;
        }
    }

    /// Takes a mark back, so that others may load at once; else it ends with its lease.
    pub(super) async fn unmark(&self, key: &[u8], token: u64) {
        drop(
            self.store
                .write_many(&self.namespace, &[unmark(key, token)])
                .await,
        );
    }

    /// Puts what was stored into the local tier, unless something has overtaken it.
    fn keep(&self, stored: Vec<Stored<'_, '_>>, since_ms: u64) {
        let Some(tier) = &self.local else { return };
        for (key, marker, prepared, _commit) in stored {
            let Some(prepared) = prepared else { continue };
            let life = prepared.local_life();
            if let Some(value) = prepared.local {
                marker.if_clean(|| tier.insert(key, value, life, since_ms));
            }
        }
    }
}

pub(super) fn unmark(key: &[u8], token: u64) -> Write<'_> {
    Write::delete(key).when(Condition::IfUnchanged(token))
}
