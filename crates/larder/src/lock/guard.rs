//! The guard of a lock that is held, and what is known of its lease.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Owner;
use super::builder::check_ttl;
use super::held::{Held, Phase};
use crate::clock::duration_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use futures_util::future::BoxFuture;

/// Shows that a lock is held; gives it up when dropped. Can be sent to other tasks and shared.
///
/// # Guarantees
/// [`is_valid`](Self::is_valid) turns false before the store lets anybody else in, judged by this host's clock, which
/// counts while the host is suspended. It cannot see into the future: a stop between the check and the work is what
/// [`fence`](Self::fence) is for.
///
/// The lease is renewed, and [`lost`](Self::lost) is told, by the runtime on which it was acquired.
#[must_use = "a lock is released when its guard is dropped"]
pub struct LockGuard {
    held: Arc<Held>,
}

impl LockGuard {
    pub(super) fn new(held: Held) -> Self {
        let held = Arc::new(held);
        held.inner.watchdog.watch(&held);
        Self { held }
    }

    /// Returns the fence of this grant: greater than that of every earlier grant of this name. A store that lost its
    /// data goes on from the time of day in us, which is greater as long as its servers agree on the date. What the lock
    /// protects should remember the greatest it has seen and refuse smaller ones.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.held.fence
    }

    /// Returns the name of the lock.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.held.name
    }

    /// Returns who holds it, as `larder lock list` shows it.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.held.owner
    }

    /// Returns whether the lease is held for certain, by what this process knows. No round trip.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.held.is_valid()
    }

    /// Returns how long the lease is held for certain if nothing renews it; zero once it is not. No round trip.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Waits until the lease is lost: it was not renewed in time, somebody took it, or the store forgot it. Never ends
    /// after a release. The future is independent of the guard.
    pub fn lost(&self) -> Lost {
        let mut phase = self.held.watch();
        Lost(Box::pin(async move {
            if phase.wait_for(|phase| *phase == Phase::Lost).await.is_err() {
                // The guard is gone, and its lease was not lost before.
                std::future::pending::<()>().await;
            }
        }))
    }

    /// Makes the lease last for `ttl` from now, longer or shorter than before; renewals use it from then on.
    ///
    /// Cost: one round trip. If it is not known whether the store heard of it, after an error or when this was dropped,
    /// the lease is believed to last as long as in the worse case.
    ///
    /// # Errors
    /// `LockLost`: the lease was lost or given up; it cannot be had again through this guard. `InvalidArgument`: a TTL
    /// under 50 ms or over 24 hours. `Unavailable`, `Timeout`: the lease may have been extended or not.
    pub async fn extend(&self, ttl: Duration) -> Result<()> {
        let held = &self.held;
        let named = |error| held.named(error, "extend");
        check_ttl(ttl).map_err(named)?;
        match held.prolong(Some(duration_ms(ttl))).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.lost_error()),
            Err(error) => Err(named(error)),
        }
    }

    /// Gives the lock up and waits until the store knows.
    ///
    /// Cost: one round trip. A second release does nothing. After an error of the store it can be tried again; dropping
    /// the guard tries again in the background.
    ///
    /// # Errors
    /// `LockLost`: the lease was lost before, so that what was done under it may have met another holder.
    /// `Unavailable`, `Timeout`: the lock may still be held, until its TTL ends.
    pub async fn release(&self) -> Result<()> {
        let held = &self.held;
        held.end();
        let released = held.release().await;
        match (held.phase(), released) {
            (Phase::Lost, _) => Err(self.lost_error()),
            (_, Err(error)) => Err(held.named(error, "release")),
            (_, Ok(())) => Ok(()),
        }
    }

    pub(super) fn lost_error(&self) -> Error {
        let message = "the lease is not held any more";
        self.held
            .named(Error::new(ErrorKind::LockLost, message), "lock")
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let held = &self.held;
        held.end();
        if !held.is_settled() {
            let (watchdog, until_ms) = (&held.inner.watchdog, held.over_at_ms());
            let behind = Arc::clone(held);
            let release = move || {
                let held = Arc::clone(&behind);
                async move { held.release().await }
            };
            watchdog.give_up(&held.runtime, &held.inner, until_ms, release);
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", &self.held.name)
            .field("fence", &self.held.fence)
            .field("phase", &self.held.phase())
            .finish_non_exhaustive()
    }
}

/// See [`LockGuard::lost`].
#[must_use = "futures do nothing unless awaited"]
pub struct Lost(BoxFuture<'static, ()>);

impl Future for Lost {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lost")
    }
}
