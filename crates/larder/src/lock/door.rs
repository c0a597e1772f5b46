//! Lets attempts in until the process shuts down, and knows when all have left.

use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

/// Whether attempts may go on, and how many do.
#[derive(Debug, Default)]
pub(super) struct Door {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    inside: usize,
}

impl Door {
    /// Counts an attempt, which must leave.
    pub(super) fn enter(&self) {
        self.state.send_if_modified(|state| {
            state.inside += 1;
            false
        });
    }

    pub(super) fn leave(&self) {
        self.state.send_if_modified(|state| {
            state.inside -= 1;
            state.is_closed && state.inside == 0
        });
    }

    /// Ends all attempts, also those to come.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| state.is_closed = true);
    }

    /// Waits until all attempts have ended.
    pub(super) async fn empty(&self) {
        self.until(|state| state.inside == 0).await;
    }

    /// Does the work of an attempt, and drops it when the door is closed.
    pub(super) async fn while_open<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let is_closed = self.state.borrow().is_closed;
        if !is_closed {
            tokio::select! {
                biased;
                outcome = work => return outcome,
                () = self.until(|state| state.is_closed) => {}
            }
        }
        let message = "this process is shutting down";
        Err(Error::new(ErrorKind::Unavailable, message).retryable(false))
    }

    async fn until(&self, holds: impl FnMut(&State) -> bool) {
        // An error would say that the sender is gone, but this has it.
        let _ = self.state.subscribe().wait_for(holds).await;
    }
}
