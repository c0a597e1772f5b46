//! What has to be known before the first call: whether a cluster is laid out as this process believes, and how far the
//! servers' clock is ahead.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, timeout_at};

use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::redis_conn::{Call, slot, text};

/// The key that says how the entries of a cluster are laid out; every process writes the same, or is refused.
const LAYOUT_KEY: &[u8] = b"larder:layout";

/// Whether all is known.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    is_known: AtomicBool,
    /// Held while servers are asked; the latest failure, so that those who waited need not fail again one by one.
    asking: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

impl Inner {
    /// Finds out what has to be known, once. Cost: an atomic load; the first time, two round trips.
    ///
    /// # Errors
    /// `InvalidConfig`: the cluster has another number of buckets; `Unavailable`, `Timeout`.
    pub(super) async fn ready(&self) -> Result<()> {
        let readiness = &self.readiness;
        if readiness.is_known.load(Ordering::Acquire) {
            return Ok(());
        }
        let began = Instant::now();
        let late = |_| Error::new(ErrorKind::Timeout, "the servers did not answer in time");
        let asking = timeout_at(self.link.patience(), readiness.asking.lock());
        let mut latest_failure = asking.await.map_err(late)?;
        if readiness.is_known.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some((_, error)) = latest_failure.as_ref().filter(|(at, _)| *at > began) {
            return Err(error.clone());
        }
        // Once in a store's life: no other call's future needs to have room for it.
        let outcome = Box::pin(self.prepare()).await;
        match &outcome {
            Ok(()) => readiness.is_known.store(true, Ordering::Release),
            Err(error) => *latest_failure = Some((Instant::now(), error.clone())),
        }
        outcome
    }

    async fn prepare(&self) -> Result<()> {
        if self.link.is_cluster() {
            self.check_layout().await?;
        }
        self.measure_clock().await
    }

    async fn check_layout(&self) -> Result<()> {
        let own = format!("1 {}", self.buckets.len());
        let mut set = redis::cmd("SET");
        set.arg(LAYOUT_KEY).arg(&own).arg("NX");
        let mut get = redis::cmd("GET");
        get.arg(LAYOUT_KEY);
        let calls = [set, get].map(|command| Call::new(slot(LAYOUT_KEY), command));
        let mut replies = self.link.many(&calls).await.into_iter();
        replies.next().transpose()?;
        let stored = replies.next().transpose()?;
        match stored.as_ref().and_then(text) {
            Some(stored) if stored != own => {
                let message = format!(
                    "the cluster is laid out as {stored:?} (version and buckets), this process as {own:?}: set buckets to the same number"
                );
                Err(Error::new(ErrorKind::InvalidConfig, message))
            }
            _ => Ok(()),
        }
    }
}
