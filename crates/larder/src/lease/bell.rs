//! Wakes those who wait in this process.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Owner;

/// Waiters by channel, which names a lock; see [`super::LockStore::listen`].
#[derive(Debug, Default)]
pub(crate) struct Bells {
    channels: Mutex<HashMap<Vec<u8>, Vec<Bell>>>,
}

#[derive(Debug)]
struct Bell {
    owner: Owner,
    notify: Arc<Notify>,
}

/// Hears that it may be its owner's turn.
#[derive(Debug)]
pub struct Listener {
    notify: Arc<Notify>,
    place: Option<Place>,
    kept: Option<Box<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
struct Place {
    bells: Arc<Bells>,
    channel: Vec<u8>,
}

impl Listener {
    /// Returns a listener that hears nothing.
    #[must_use]
    pub fn deaf() -> Self {
        Self {
            notify: Arc::default(),
            place: None,
            kept: None,
        }
    }

    /// Keeps something for as long as the listener lives.
    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "only servers have to be told who listens")
    )]
    pub(crate) fn keep(mut self, kept: impl Send + Sync + 'static) -> Self {
        self.kept = Some(Box::new(kept));
        self
    }

    /// Waits for the next ring; one that came since the last is not missed. May be dropped at any time.
    pub async fn rung(&self) {
        self.notify.notified().await;
    }
}

impl Bells {
    /// Hangs up a bell.
    pub(crate) fn listen(self: &Arc<Self>, channel: &[u8], owner: &Owner) -> Listener {
        let notify = Arc::<Notify>::default();
        let bell = Bell {
            owner: owner.clone(),
            notify: Arc::clone(&notify),
        };
        self.channels()
            .entry(channel.to_vec())
            .or_default()
            .push(bell);
        let place = Some(Place {
            bells: Arc::clone(self),
            channel: channel.to_vec(),
        });
        Listener {
            notify,
            place,
            kept: None,
        }
    }

    /// Rings for all who listen.
    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "only the messages of servers can be missed")
    )]
    pub(crate) fn ring_all(&self) {
        let channels = self.channels();
        for bell in channels.values().flatten() {
            bell.notify.notify_one();
        }
    }

    /// Rings for an owner, if it listens.
    pub(crate) fn ring(&self, channel: &[u8], owner: &str) {
        let channels = self.channels();
        let bells = channels.get(channel).into_iter().flatten();
        for bell in bells.filter(|bell| bell.owner.as_str() == owner) {
            bell.notify.notify_one();
        }
    }

    /// Rings for all who listen, where nobody knows whose turn it is.
    #[cfg(any(feature = "memcached", test))]
    pub(crate) fn ring_channel(&self, channel: &[u8]) {
        let channels = self.channels();
        for bell in channels.get(channel).into_iter().flatten() {
            bell.notify.notify_one();
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<Bell>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(Place { bells, channel }) = self.place.take() else {
            return;
        };
        let mut channels = bells.channels();
        if let Some(bells) = channels.get_mut(&channel) {
            bells.retain(|bell| !Arc::ptr_eq(&bell.notify, &self.notify));
            if bells.is_empty() {
                channels.remove(&channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_hears_and_nothing_is_left_behind() {
        let bells = Arc::new(Bells::default());
        let (a, b) = (Owner::new(), Owner::new());
        let (ear_a, ear_b) = (bells.listen(b"x", &a), bells.listen(b"x", &b));
        bells.ring(b"x", a.as_str());
        bells.ring(b"y", b.as_str());
        ear_a.rung().await;
        let silent = tokio::time::timeout(std::time::Duration::from_millis(5), ear_b.rung());
        assert!(silent.await.is_err());
        bells.ring_channel(b"x");
        ear_a.rung().await;
        ear_b.rung().await;
        drop((ear_a, ear_b));
        assert!(bells.channels().is_empty());
    }
}
