//! Writes that refuse to overwrite what is newer: a fence or a version is kept in the entry, and compared and replaced
//! in one step.

use std::sync::Arc;

use super::Inner;
use super::put::Prepared;
use crate::envelope::{self, Envelope, Header, Stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Condition, Entry, conflict};

/// Mark the two among what an entry depends on.
const FENCE: u8 = b'F';
const VERSION: u8 = b'V';
/// How often others may come first.
const MAX_ATTEMPTS: usize = 100;

/// What a write is not to overwrite.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Order {
    /// Entries with a greater fence.
    pub(super) fence: Option<u64>,
    /// Entries with this version or a greater one.
    pub(super) version: Option<u64>,
}

impl Order {
    pub(super) fn is_asked_for(&self) -> bool {
        self.fence.is_some() || self.version.is_some()
    }

    /// Notes both in the entry to come.
    pub(super) fn stamp(&self, header: &mut Header) {
        let notes = [(FENCE, self.fence), (VERSION, self.version)].into_iter();
        let stamp = |(kind, number): (u8, Option<u64>)| {
            number.map(|hard| Stamp {
                kind,
                name: bytes::Bytes::new(),
                hard,
                soft: 0,
            })
        };
        header.stamps.extend(notes.filter_map(stamp));
    }

    /// Returns what must still hold when the entry is written.
    fn condition(&self, present: Option<&Entry>) -> Result<Condition> {
        let Some(Entry { value, .. }) = present else {
            return Ok(Condition::IfAbsent);
        };
        let stamps = Envelope::open(value).map(|envelope| envelope.header.stamps);
        // What cannot be read has neither.
        let stamps = stamps.unwrap_or_default();
        let noted = |kind| {
            let stamp = stamps.iter().find(|stamp| stamp.kind == kind);
            stamp.map(|stamp| stamp.hard)
        };
        match (self.fence, noted(FENCE)) {
            (Some(fence), Some(newest)) if newest > fence => {
                let message = format!("fence {fence} is older than {newest}, which wrote last");
                return Err(Error::new(ErrorKind::LockLost, message));
            }
            _ => {}
        }
        match (self.version, noted(VERSION)) {
            (Some(version), Some(newest)) if newest >= version => {
                let message =
                    format!("version {version} is not newer than {newest}, which is stored");
                Err(Error::new(ErrorKind::Conflict, message).retryable(false))
            }
            _ => Ok(Condition::IfUnchanged(envelope::write_id(value))),
        }
    }
}

impl Inner {
    /// Stores an entry that is stamped by this order, unless the present one is newer.
    pub(super) async fn put_in_order(
        self: &Arc<Self>,
        key: &[u8],
        prepared: &Prepared,
        order: Order,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let present = self.fetch(key).await;
            let condition = present.and_then(|present| order.condition(present.as_ref()));
            let condition = condition.map_err(|error| self.tagged(error, "set", key))?;
            if self.put(key, prepared.clone(), condition).await? {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err(conflict(self.store.name(), key))
    }
}
