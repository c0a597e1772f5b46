//! Running blocking work for an async caller, and withdrawing it when the caller goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::disk::Disk;
use super::fault::{Attempt, Effort, Fault};
use crate::error::{Error, ErrorKind, Result};

/// Sets the flag when the waiting future is dropped.
struct Withdraw(Arc<AtomicBool>);

impl Drop for Withdraw {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` on a thread that may block; without a runtime, on this one.
///
/// # Errors
/// What `work` returns. `Unavailable`: the runtime shuts down. `Internal`: `work` panicked.
pub(super) async fn offload<T: Send + 'static>(
    disk: &Arc<Disk>,
    work: impl FnOnce(&Disk, Effort<'_>) -> Attempt<T> + Send + 'static,
) -> Result<T> {
    let Ok(runtime) = Handle::try_current() else {
        return work(disk, Effort::FULL).or_else(give_up);
    };
    let withdrawn = Arc::new(AtomicBool::new(false));
    let _withdraw = Withdraw(Arc::clone(&withdrawn));
    let disk = Arc::clone(disk);
    let task = runtime.spawn_blocking(move || work(&disk, Effort::unless(&withdrawn)));
    match task.await {
        Ok(done) => done.or_else(give_up),
        Err(stopped) => {
            let kind = if stopped.is_cancelled() {
                ErrorKind::Unavailable
            } else {
                ErrorKind::Internal
            };
            Err(Error::new(kind, "the work was not finished")
                .store("file")
                .caused_by(stopped))
        }
    }
}

/// Turns the end of an attempt that nobody repeats into an error.
pub(super) fn give_up<T>(fault: Fault) -> Result<T> {
    Err(match fault {
        Fault::Failed(error) => error,
        Fault::Busy => Error::new(ErrorKind::Timeout, "a lock was not free"),
        Fault::Vanished => Error::new(ErrorKind::Unavailable, "a directory went away"),
    })
}
