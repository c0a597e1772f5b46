//! Loads in the store: what a value depends on is captured before its load begins, and a mark is left in place of the
//! entry, which whoever changes the key removes. Only a load whose mark is still there stores its value.
//!
//! ```text
//! begin: capture, mark --> load, mark renewed --> (tags that the loader named) --> settle: store, or unmark
//! ```
//!
//! Over an entry there is no place for a mark: see `refresh`.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use serde::de::DeserializeOwned;

use super::Inner;
use super::flight::Standing;
use super::freshness::{Life, Wanted};
use super::inflight::Marker;
use super::read::Found;
use super::refresh::Lease;
use super::remember::LoadOptions;
use super::tags::AT_A_TIME;
use crate::clock::duration_ms;
use crate::envelope::{self, MAX_REGISTERS};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::store::{Condition, Entry, Expiry, LoadBegun, LoadRequest, Register, Stamp, Write};
use crate::tag;

/// For how many keys it is remembered which tags their loaders named.
pub(super) const LEARNT_KEYS: usize = 1 << 16;

/// A load that has begun.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) right: Right,
    stamps: Vec<Stamp>,
    /// What [`Register::any`] held at the beginning.
    any: Option<Stamp>,
    /// What keeps others from replacing the same entry.
    pub(super) lease: Option<Lease>,
}

/// What a load may store over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right {
    /// Its own mark.
    Mark(u64),
    /// The entry with this write id, which is of no use to whoever loads.
    Entry(u64),
    /// Whatever the local tier has, which is the whole cache.
    Tier,
    /// Nothing, for somebody else loads the key: its value is for its callers alone.
    Busy,
    /// Nothing, for the store did not answer.
    Failed,
    /// Nothing, for the store cannot take the value.
    Nothing,
}

/// What tells whether anything has overtaken a load since it began.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) right: Right,
    stamps: Vec<Stamp>,
    any: Option<Stamp>,
}

impl Claim {
    /// The claim of a load that was none: there was a value, and who comes later has to read it.
    pub(super) const LANDED: Self = Self {
        right: Right::Busy,
        stamps: Vec::new(),
        any: None,
    };
}

/// How a load begins.
pub(super) enum Begun<V> {
    /// It need not: there is a value.
    Value(Arc<V>),
    Loading(Loading),
    /// It need not: somebody else replaces the value that the caller has.
    Elsewhere,
}

impl<V> Begun<V> {
    /// Returns whether somebody else loads the key.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Loading(loading) if loading.is_busy())
    }
}

/// A key of a flight, with what watches it.
pub(super) type Flying<'a, 'm> = (&'a [u8], &'a Marker<'m>, Arc<Standing>);

impl Loading {
    fn with(right: Right) -> Self {
        Self {
            right,
            stamps: Vec::new(),
            any: None,
            lease: None,
        }
    }

    /// Returns whether it may replace the entry with this write id.
    pub(super) fn replaces(&self, id: u64) -> bool {
        matches!(self.right, Right::Entry(present) if present == id)
    }

    pub(super) fn may_store(&self) -> bool {
        !matches!(self.right, Right::Busy | Right::Failed | Right::Nothing)
    }

    /// Returns what must still hold when the value is stored; `None`: it must not be.
    pub(super) fn condition(&self) -> Option<Condition> {
        match self.right {
            Right::Mark(id) | Right::Entry(id) => Some(Condition::IfUnchanged(id)),
            Right::Tier | Right::Busy | Right::Failed | Right::Nothing => None,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.right, Right::Busy)
    }

    /// Returns the token of the mark that it has left.
    pub(super) fn mark(&self) -> Option<u64> {
        match self.right {
            Right::Mark(token) => Some(token),
            _ => None,
        }
    }

    pub(super) fn claim(&self) -> Claim {
        Claim {
            right: self.right,
            stamps: self.stamps.clone(),
            any: self.any.clone(),
        }
    }

    /// Returns the stamps of all that the value is known to depend on.
    pub(super) fn stamps(&self) -> &[Stamp] {
        &self.stamps
    }
}

impl Inner {
    /// Captures what a value will depend on, and marks the key.
    pub(super) async fn begin<V>(
        self: &Arc<Self>,
        key: &[u8],
        options: &LoadOptions,
        (marker, previous): (&Marker<'_>, Option<&Life>),
    ) -> Begun<V>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        match self.beginning(key, options).await {
            Ok(begun) => self.begun(key, begun, options, (marker, previous)),
            Err(error) => {
                self.not_stored(&error);
                Begun::Loading(Loading::with(failed(&error)))
            }
        }
    }

    /// As [`Inner::begin`], of several keys: one more round trip if there are values after all.
    pub(super) async fn begin_many<V>(
        self: &Arc<Self>,
        keys: &[&Flying<'_, '_>],
        options: &LoadOptions,
    ) -> Vec<Begun<V>>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        if self.capabilities.discards || options.is_tagged() {
            let begun = keys
                .iter()
                .map(|(key, marker, _)| self.begin(key, options, (marker, None)));
            let begun: Vec<_> = begun.collect();
            return stream::iter(begun).buffered(AT_A_TIME).collect().await;
        }
        match self.mark_many(keys, options).await {
            Ok(begun) => {
                let begun = keys.iter().zip(begun);
                let begun = begun
                    .map(|((key, marker, _), it)| self.begun(key, it, options, (marker, None)));
                begun.collect()
            }
            Err(error) => {
                self.not_stored(&error);
                let nothing = |_| Begun::Loading(Loading::with(failed(&error)));
                keys.iter().map(nothing).collect()
            }
        }
    }

    /// Asks the store to begin a load; the entry is there in spite of all.
    pub(super) async fn beginning(
        self: &Arc<Self>,
        key: &[u8],
        options: &LoadOptions,
    ) -> Result<(Loading, Option<Entry>)> {
        if options.is_tagged() {
            self.needs_tags()?;
        }
        if self.capabilities.discards {
            let right = self.only_tier().map_or(Right::Nothing, |_| Right::Tier);
            return Ok((Loading::with(right), None));
        }
        let registers = self.captured_by(key, options)?;
        match self.ask_to_load(key, &registers, options).await {
            // Tags stay with their store, but a loader that may name some and has not yet is served by a standby.
            Err(error) if error.is_retryable() && registers == [Register::any()] => {
                self.ask_to_load(key, &[], options).await
            }
            begun => begun,
        }
    }

    async fn ask_to_load(
        self: &Arc<Self>,
        key: &[u8],
        registers: &[Register],
        options: &LoadOptions,
    ) -> Result<(Loading, Option<Entry>)> {
        let load = LoadRequest {
            registers,
            token: tag::nonce(),
            lease_ms: duration_ms(options.stampede.lease_ttl),
        };
        match self.store.begin_load(&self.namespace, key, &load).await {
            Ok(begun) => Ok(of_store(begun, load.token)),
            Err(error) => {
                // The mark may have been left before the answer was lost.
                let marks = vec![(Key::from(key), load.token)];
                self.unmark_later(&self.namespace, marks, &error);
                Err(error)
            }
        }
    }

    /// Returns the registers that a load captures.
    fn captured_by(&self, key: &[u8], options: &LoadOptions) -> Result<Vec<Register>> {
        let mut registers = options.tags.registers()?.to_vec();
        if options.learns && self.capabilities.tags && registers.len() < MAX_REGISTERS {
            let room = MAX_REGISTERS - 1 - registers.len();
            let learnt = self.learnt.get(key).unwrap_or_default();
            let new = learnt.iter().filter(|name| !registers.contains(name));
            let new: Vec<_> = new.take(room).cloned().collect();
            registers.extend(new);
            registers.push(Register::any());
        }
        Ok(registers)
    }

    /// Marks keys whose values depend on no register, all at once.
    async fn mark_many(
        self: &Arc<Self>,
        keys: &[&Flying<'_, '_>],
        options: &LoadOptions,
    ) -> Result<Vec<(Loading, Option<Entry>)>> {
        let now_ms = self.store.clock().now_ms();
        let tokens: Vec<u64> = keys.iter().map(|_| tag::nonce()).collect();
        let mut marks = Vec::with_capacity(keys.len());
        for ((key, ..), token) in keys.iter().zip(&tokens) {
            let mark = envelope::load(*token, Vec::new(), now_ms)?;
            let put = Write::put(key, mark, lease(options));
            marks.push(put.when(Condition::IfVacant));
        }
        let granted = self.store.write_many(&self.namespace, &marks).await;
        let granted = granted.inspect_err(|error| {
            let left = keys.iter().zip(&tokens);
            let left = left.map(|((key, ..), token)| (Key::from(*key), *token));
            self.unmark_later(&self.namespace, left.collect(), error);
        })?;
        let refused = keys.iter().zip(&granted).filter(|(_, granted)| !**granted);
        let refused: Vec<&[u8]> = refused.map(|((key, ..), _)| *key).collect();
        let present = match refused.is_empty() {
            true => Vec::new(),
            false => {
                let present = self.store.get_many(&self.namespace, &refused).await;
                present.inspect_err(|error| {
                    // Nobody loads under those that were granted.
                    let left = keys.iter().zip(&tokens).zip(&granted);
                    let left = left.filter(|(_, granted)| **granted);
                    let left = left.map(|(((key, ..), token), _)| (Key::from(*key), *token));
                    self.unmark_later(&self.namespace, left.collect(), error);
                })?
            }
        };
        let mut present = present.into_iter();
        let begun = granted.iter().zip(tokens).map(|(is_granted, token)| {
            let begun = LoadBegun {
                stamps: Vec::new(),
                is_granted: *is_granted,
                entry: (!is_granted).then(|| present.next().flatten()).flatten(),
            };
            of_store(begun, token)
        });
        Ok(begun.collect())
    }

    /// Decides whether there is a value after all.
    fn begun<V>(
        &self,
        key: &[u8],
        (loading, entry): (Loading, Option<Entry>),
        options: &LoadOptions,
        (marker, previous): (&Marker<'_>, Option<&Life>),
    ) -> Begun<V>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let schema = options.write.schema;
        if let (Right::Tier, Some(tier)) = (loading.right, &self.local)
            && let Some(value) = tier.get::<V>(key, schema, self.clock.monotonic_ms())
        {
            return Begun::Value(value);
        }
        let wanted = Wanted {
            grace_ms: 0,
            ..options.wanted()
        };
        if let Some(entry) = entry.filter(|entry| !entry.is_stale)
            && let Ok(Found { value, life, .. }) = self.promote(key, &entry, wanted, Some(marker))
        {
            let is_still = |previous| life.is_some_and(|life| life.is_still(previous));
            if !previous.is_some_and(is_still) {
                return Begun::Value(value);
            }
        }
        Begun::Loading(loading)
    }

    /// Returns whether nothing has overtaken a load, as far as the store knows. Where nobody knows there is one load for all
    /// who ask in this process, whose own changes end it.
    pub(super) async fn stands(&self, key: &[u8], claim: Claim) -> bool {
        let id = match claim.right {
            Right::Tier => return true,
            // Nobody else can see what this process stores.
            Right::Nothing => return self.capabilities.discards,
            // As long as the store is down, nobody else can change anything in it, either.
            Right::Failed => return self.store.ping().await.is_err(),
            // It has no place in the store that a change would have taken away.
            Right::Busy => return false,
            Right::Mark(id) | Right::Entry(id) => id,
        };
        // Its lease is its own matter: whoever asks may have another one in mind.
        let touch = Write::touch(key, Expiry::Keep).when(Condition::IfUnchanged(id));
        let touched = self.store.write_many(&self.namespace, &[touch]).await;
        if !touched.is_ok_and(|applied| applied == [true]) {
            return false;
        }
        let mut stamps = claim.stamps;
        stamps.extend(claim.any);
        // A mark by another process does not end the load, but its value is none that is fresh to whoever asks afterwards.
        let is_fresh = |then: &Stamp, now: &Stamp| {
            then.hard == now.hard && (then.soft == now.soft || !then.is_of_register())
        };
        self.compare(key, &stamps, is_fresh).await.unwrap_or(false)
    }

    /// Returns whether registers still hold what they held when they were captured.
    pub(super) async fn are_current(&self, key: &[u8], stamps: &[Stamp]) -> Result<bool> {
        let is_current = |then: &Stamp, now: &Stamp| then.hard == now.hard;
        self.compare(key, stamps, is_current).await
    }

    /// Compares each of these stamps with what its register holds now, if there are any.
    async fn compare(
        &self,
        key: &[u8],
        stamps: &[Stamp],
        holds: impl Fn(&Stamp, &Stamp) -> bool,
    ) -> Result<bool> {
        if stamps.is_empty() {
            return Ok(true);
        }
        let names = stamps
            .iter()
            .map(|stamp| Register::new(stamp.kind, &stamp.name));
        let names: Vec<_> = names.collect();
        let now = self.store.capture(&self.namespace, key, &names).await?;
        let mut all = stamps.iter().zip(&now);
        Ok(all.all(|(then, now)| holds(then, now)))
    }

    /// Makes a value depend on tags that its loader named. `false`: it is not known whether one of them was invalidated
    /// meanwhile.
    pub(super) async fn learn(
        &self,
        key: &[u8],
        loading: &mut Loading,
        tags: &[String],
    ) -> Result<bool> {
        if tags.is_empty() {
            return Ok(true);
        }
        self.needs_tags()?;
        let named = tag::registers(tags)?;
        self.learnt.insert(key.into(), Arc::from(named.as_slice()));
        let is_captured = |name: &&Register| !loading.stamps.iter().any(|stamp| stamp.is_of(name));
        let mut late: Vec<_> = named.iter().filter(is_captured).cloned().collect();
        if late.is_empty() {
            return Ok(true);
        }
        // Last, so that it is read after the others were captured.
        late.push(Register::any());
        let mut captured = self.store.capture(&self.namespace, key, &late).await?;
        let any = captured.pop();
        loading.stamps.extend(captured);
        Ok(any.is_some() && any == loading.any)
    }
}

/// Turns a store's answer into a load. An entry that is there in spite of all, stale or of another kind, may be replaced.
fn of_store(begun: LoadBegun, token: u64) -> (Loading, Option<Entry>) {
    let right = match &begun.entry {
        _ if begun.is_granted => Right::Mark(token),
        Some(entry) => replaceable(entry),
        None => Right::Busy,
    };
    let (stamps, any) = begun.stamps.into_iter().partition(Stamp::is_of_register);
    let any: Vec<Stamp> = any;
    let loading = Loading {
        right,
        stamps,
        any: any.into_iter().next(),
        lease: None,
    };
    (loading, begun.entry)
}

fn failed(error: &Error) -> Right {
    match error.is_retryable() {
        true => Right::Failed,
        false => Right::Nothing,
    }
}

fn replaceable(entry: &Entry) -> Right {
    match envelope::write_id(&entry.value) {
        0 => Right::Nothing,
        _ if envelope::is_sorted_set(&entry.value) => Right::Nothing,
        id => Right::Entry(id),
    }
}

pub(super) fn lease(options: &LoadOptions) -> Expiry {
    Expiry::After(duration_ms(options.stampede.lease_ttl))
}
