//! Callers may give up at any time; what must not depend on their patience.
//!
//! A change of the phase, once begun, comes to its end in a task of its own: begun by each caller and finished by none, a
//! long replay would keep everybody out. And a primary that hangs longer than callers wait fails no call: whoever
//! gives up on it leaves a task behind that asks it once more, with all the time a probe has.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use tokio::runtime::Handle;

use super::Inner;
use super::phase::{Seen, is_outage};
use crate::error::{Error, ErrorKind, Result};

/// A call to the primary.
struct Asked<'a> {
    inner: &'a Arc<Inner>,
    seen: Seen,
    is_answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.inner.suspect(self.seen);
        }
    }
}

impl Inner {
    /// Waits for the primary's reply.
    #[inline]
    pub(super) async fn ask<T: Send>(
        self: &Arc<Self>,
        seen: Seen,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut asked = Asked {
            inner: self,
            seen,
            is_answered: false,
        };
        let reply = call.await;
        asked.is_answered = true;
        reply
    }

    /// Finds out whether the primary answers at all; one task at a time.
    fn suspect(self: &Arc<Self>, seen: Seen) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut suspicion = self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if suspicion.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let inner = Arc::clone(self);
        let task = runtime.spawn(async move {
            if let Err(error) = inner.ping_primary().await
                && is_outage(&error)
            {
                // Where the standby cannot take over, which is logged, calls go on to the primary.
                let _ = inner.switch(seen, &error).await;
            }
        });
        *suspicion = Some(task.abort_handle());
    }
}

/// Runs a change of the phase to its end, whether or not the caller waits for it.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let stopped = |_| {
        let message = "the runtime stopped while the primary was being left or returned to";
        Error::new(ErrorKind::Unavailable, message)
    };
    tokio::spawn(change).await.map_err(stopped)?
}
