//! A background thread that tidies a store at an interval, until the store is dropped.
//!
//! A thread and not a task, so that stores work without a runtime and never delay one.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Owns the thread: dropping it stops and joins the thread.
#[derive(Debug)]
pub(crate) struct Janitor {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    /// Starts a thread that runs `work` each `interval` and whenever it is woken.
    ///
    /// # Errors
    /// The system's error when no thread can be started.
    pub(crate) fn start(
        name: &str,
        interval: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (wake, woken): (SyncSender<()>, Receiver<()>) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("larder-{name}"))
            .spawn(move || {
                while woken.recv_timeout(interval) != Err(RecvTimeoutError::Disconnected) {
                    work();
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Asks for a run now; does nothing when one is asked for already.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            match wake.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the work was reported by the panic hook; there is nothing to add here.
            let _ = thread.join();
        }
    }
}
