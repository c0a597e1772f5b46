//! Ctrl-C and SIGTERM, for commands that must stop at a clean place.
//!
//! Commands that need no clean place do not listen, so the signal simply ends them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its creation on; from then the signals no longer end the process.
#[derive(Debug)]
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for a signal. Cancel-safe.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Returns whether a signal has come; lets the runtime look for one.
    pub(crate) async fn has_come(&mut self) -> bool {
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            () = self.requested() => true,
            () = std::future::ready(()) => false,
        }
    }
}
