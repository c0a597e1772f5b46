//! Sound locks of the plainest sort: no queues, no lists, no permits, whole seconds, and a time of their own.

use std::sync::Arc;

use async_trait::async_trait;
use larder::lock::{Answer, Ask, Listener, LockStatus, LockStore, Owner, Rate, Taken};
use larder::store::{Memory, Store};
use larder::{Error, ErrorKind, Glob, Namespace, Result};

/// Locks in real time, whatever clock the entries follow.
#[derive(Debug)]
pub(crate) struct PlainLocks(Arc<dyn LockStore>);

impl PlainLocks {
    pub(crate) fn new() -> Self {
        Self(Memory::new().lock_store().expect("memory has locks"))
    }
}

/// Returns the whole seconds that last at least as long, when it is not known how much of the present one is over.
fn rounded(ttl_ms: u64) -> u64 {
    (ttl_ms.div_ceil(1000) + 1) * 1000
}

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, what))
}

#[async_trait]
impl LockStore for PlainLocks {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        if ask.permits > 1 {
            return unsupported("semaphores");
        }
        let made = Ask {
            ttl_ms: rounded(ask.ttl_ms),
            heartbeat_ms: None,
            ..ask.clone()
        };
        Ok(match self.0.acquire(space, name, &made).await? {
            Answer::Granted { fence, left_ms } => Answer::Granted {
                fence,
                left_ms: left_ms.saturating_sub(1000).min(ask.ttl_ms),
            },
            Answer::Busy { .. } => Answer::Busy {
                ahead: 0,
                retry_ms: 1000,
            },
        })
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        self.0.extend(space, name, owner, rounded(ttl_ms)).await
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        _held_ms: Option<u64>,
    ) -> Result<bool> {
        self.0.release(space, name, owner, None).await
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        self.0.evict(space, name).await
    }

    async fn hold_times(&self, _space: &Namespace, _name: &[u8]) -> Result<Vec<u64>> {
        unsupported("hold times")
    }

    async fn list(
        &self,
        _space: &Namespace,
        _pattern: &Glob,
        _limit: usize,
    ) -> Result<Vec<LockStatus>> {
        unsupported("lists of locks")
    }

    async fn take(
        &self,
        _space: &Namespace,
        _name: &[u8],
        _rate: &Rate,
        _tokens: u64,
    ) -> Result<Taken> {
        unsupported("rate limiters")
    }

    fn is_fair(&self) -> bool {
        false
    }

    async fn listen(&self, _space: &Namespace, _name: &[u8], _owner: &Owner) -> Listener {
        Listener::deaf()
    }
}
