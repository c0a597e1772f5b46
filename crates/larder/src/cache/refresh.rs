//! Who replaces an entry that is there: one caller in all processes.
//!
//! A load of a missing key leaves its mark in place of the entry. Over an entry that may still be served, or that is of use to
//! others, there is no place for one: it is left under the same key in a namespace of its own, for each schema version, before
//! the load begins. Losing it costs a second load and nothing else, for values are stored only over the entry that they were
//! to replace.

use std::sync::Arc;

use super::Inner;
use super::landing::unmark;
use super::loading::lease;
use super::remember::LoadOptions;
use crate::envelope;
use crate::error::Result;
use crate::key::{Key, Namespace};
use crate::store::{Condition, Write};
use crate::tag;

/// The right to replace the entry of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    /// `None`: the store did not answer, so that nobody else has it either.
    pub(super) token: Option<u64>,
    schema: u32,
}

/// What the store said to whoever asked for a lease.
pub(super) enum Leased {
    Granted(Lease),
    /// Somebody else has it.
    Elsewhere,
}

impl Inner {
    /// Returns where the leases of this schema version are.
    pub(super) fn refreshes(&self, schema: u32) -> Namespace {
        let (prefix, version) = &self.place;
        Namespace::refreshes(prefix, (&self.name, *version), schema)
    }

    /// Asks for the right to replace an entry.
    pub(super) async fn lease(self: &Arc<Self>, key: &[u8], options: &LoadOptions) -> Leased {
        let mut leased = self.lease_many(&[key], options).await;
        leased.pop().unwrap_or(Leased::Elsewhere)
    }

    /// As [`Inner::lease`], of several keys. Without protection, everybody has it.
    pub(super) async fn lease_many(
        self: &Arc<Self>,
        keys: &[&[u8]],
        options: &LoadOptions,
    ) -> Vec<Leased> {
        let schema = options.write.schema;
        let with = |token| Leased::Granted(Lease { token, schema });
        if keys.is_empty() || !options.stampede.enabled || self.capabilities.discards {
            return keys.iter().map(|_| with(None)).collect();
        }
        let namespace = self.refreshes(schema);
        let tokens: Vec<u64> = keys.iter().map(|_| tag::nonce()).collect();
        let asked = self.ask_for_leases(&namespace, keys, &tokens, options);
        match asked.await {
            Ok(granted) => {
                let answers = granted.into_iter().zip(tokens);
                let answer = |(is_granted, token)| match is_granted {
                    true => with(Some(token)),
                    false => Leased::Elsewhere,
                };
                answers.map(answer).collect()
            }
            Err(error) => {
                // They may have been left before the answer was lost.
                let left = keys.iter().map(|key| Key::from(*key)).zip(tokens);
                self.unmark_later(&namespace, left.collect(), &error);
                keys.iter().map(|_| with(None)).collect()
            }
        }
    }

    async fn ask_for_leases(
        &self,
        namespace: &Namespace,
        keys: &[&[u8]],
        tokens: &[u64],
        options: &LoadOptions,
    ) -> Result<Vec<bool>> {
        let now_ms = self.store.clock().now_ms();
        let mut writes = Vec::with_capacity(keys.len());
        for (key, token) in keys.iter().zip(tokens) {
            let mark = envelope::load(*token, Vec::new(), now_ms)?;
            let put = Write::put(key, mark, lease(options));
            writes.push(put.when(Condition::IfVacant));
        }
        self.store.write_many(namespace, &writes).await
    }

    /// Gives leases back, so that others may replace their entries; else they end by themselves. All are of one schema
    /// version.
    pub(super) async fn end_leases(self: &Arc<Self>, leases: &[(&[u8], Lease)]) {
        let held = leases.iter();
        let held = held.filter_map(|(key, lease)| Some((*key, lease.token?, lease.schema)));
        let held: Vec<_> = held.collect();
        let Some((.., schema)) = held.first() else {
            return;
        };
        let namespace = self.refreshes(*schema);
        let ends: Vec<_> = held
            .iter()
            .map(|(key, token, _)| unmark(key, *token))
            .collect();
        if let Err(error) = self.store.write_many(&namespace, &ends).await {
            let left = held.iter().map(|(key, token, _)| (Key::from(*key), *token));
            self.unmark_later(&namespace, left.collect(), &error);
        }
    }
}
