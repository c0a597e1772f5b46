//! Writes that refuse to follow a newer holder of a lock: the fence is kept in the entry, and compared and replaced in
//! one step.

use std::sync::Arc;

use super::Inner;
use super::put::Prepared;
use crate::envelope::{self, Envelope, Header, Stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Condition, Entry, conflict};

/// Marks the fence among what an entry depends on.
const FENCE: u8 = b'F';
/// How often others may come first.
const MAX_ATTEMPTS: usize = 100;

impl Inner {
    /// Stores an entry that carries `fence`, unless the present one carries a greater.
    pub(super) async fn put_fenced(
        self: &Arc<Self>,
        key: &[u8],
        prepared: &Prepared,
        fence: u64,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let present = self.fetch(key).await;
            let present = present.map_err(|error| self.tagged(error, "set", key))?;
            let condition = condition(present.as_ref(), fence)
                .map_err(|error| self.tagged(error, "set", key))?;
            if self.put(key, prepared.clone(), condition).await? {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err(conflict(self.store.name(), key))
    }
}

/// Gives the entry to come a fence.
pub(super) fn stamp(header: &mut Header, fence: u64) {
    header.stamps.push(Stamp {
        kind: FENCE,
        name: bytes::Bytes::new(),
        hard: fence,
        soft: 0,
    });
}

/// Returns what must still hold when the entry is written.
fn condition(present: Option<&Entry>, fence: u64) -> Result<Condition> {
    let Some(Entry { value, .. }) = present else {
        return Ok(Condition::IfAbsent);
    };
    let stamps = Envelope::open(value).map(|envelope| envelope.header.stamps);
    // What cannot be read has no fence.
    let mut stamps = stamps.iter().flatten();
    match stamps.find(|stamp| stamp.kind == FENCE) {
        Some(newest) if newest.hard > fence => {
            let message = format!(
                "fence {fence} is older than {}, which wrote last",
                newest.hard
            );
            Err(Error::new(ErrorKind::LockLost, message))
        }
        _ => Ok(Condition::IfUnchanged(envelope::write_id(value))),
    }
}
