//! What a loader may decide, and running it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use serde::Serialize;

use super::read::Found;
use super::remember::RememberError;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::ttl::Ttl;

/// The MessagePack form of `None`.
const NIL: [u8; 1] = [0xc0];

/// What a loader of [`Cache::remember_with`](super::Cache::remember_with) may decide. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoadContext(Arc<Context>);

#[derive(Debug, Default)]
struct Context {
    decisions: Mutex<Decisions>,
    /// The value that the load is to replace.
    previous: Option<Arc<dyn Any + Send + Sync>>,
}

/// What a loader has decided.
#[derive(Debug, Clone, Default)]
pub(super) struct Decisions {
    pub(super) ttl: Option<Ttl>,
    pub(super) skip: bool,
    pub(super) tags: Vec<String>,
    pub(super) not_modified: bool,
}

impl LoadContext {
    /// Returns the context of a load that replaces a value, if it does.
    pub(super) fn over<V: Send + Sync + 'static>(found: Option<&Found<V>>) -> Self {
        Self(Arc::new(Context {
            decisions: Mutex::default(),
            previous: found.map(|found| Arc::clone(&found.value) as _),
        }))
    }

    /// Returns the value that the load is to replace: one that is refreshed ahead, or stale. `None`: there is none, or none of
    /// this type, or the call did not allow for stale values.
    #[must_use]
    pub fn previous<V: Send + Sync + 'static>(&self) -> Option<Arc<V>> {
        let previous = self.0.previous.as_ref()?;
        Arc::clone(previous).downcast().ok()
    }

    /// Says that the value returned is the [previous](Self::previous) one, which its source has confirmed. The entry then
    /// lives on for a new TTL, without being sent again, unless something has changed it meanwhile, or its tags or the call's
    /// `stale_for` are others; then the value is stored as any other.
    pub fn not_modified(&self) {
        self.lock().not_modified = true;
    }

    /// Sets how long the value lives, in place of the call's own TTL.
    pub fn ttl(&self, ttl: impl Into<Ttl>) {
        self.lock().ttl = Some(ttl.into());
    }

    /// Returns the value to the callers without storing it.
    pub fn skip(&self) {
        self.lock().skip = true;
    }

    /// Makes the value depend on one more tag, which only the loader knows.
    ///
    /// The first time a loader of this process names a tag for the key, the value is stored only if nothing at all was
    /// invalidated in the store since the load began; from then on the tag is known before. A tag that is none fails the
    /// load.
    pub fn tag(&self, tag: impl Into<String>) {
        self.lock().tags.push(tag.into());
    }

    pub(super) fn decisions(&self) -> Decisions {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Decisions> {
        let decisions = self.0.decisions.lock();
        decisions.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a loader; a panic becomes an error.
pub(super) async fn run_loader<V, E>(
    load: impl Future<Output = Result<V, E>>,
) -> Result<V, RememberError<E>> {
    match AssertUnwindSafe(load).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(RememberError::Load(Arc::new(error))),
        Err(panic) => {
            let message = format!("the loader panicked: {}", panic_text(&*panic));
            Err(RememberError::Cache(Error::new(ErrorKind::Load, message)))
        }
    }
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Returns whether the value serializes as `None`.
pub(super) fn is_none<V: Serialize>(value: &V) -> bool {
    Codec::MessagePack
        .encode(value)
        .is_ok_and(|bytes| bytes == NIL)
}
