//! Ctrl-C, SIGTERM and SIGHUP as a question that waiting loops ask.
//!
//! The signal only sets a flag. Every loop that waits calls [`check`] and returns the error, so that an interrupted
//! task ends through the same `Drop`s as a failed one: there is one way to clean up, not two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The error of a task that the user, or the machine it runs on, asked to end.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Takes over the signals; called once, before any task starts.
pub(crate) fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&REQUESTED)).context("cannot listen for signals")?;
    }
    Ok(())
}

/// Returns [`Interrupted`] once a signal has come.
pub(crate) fn check() -> Result<()> {
    if REQUESTED.load(Ordering::SeqCst) {
        return Err(Interrupted.into());
    }
    Ok(())
}
