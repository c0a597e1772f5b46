//! Locks, semaphores and rate limiters on Redis: their rules, their servers' faults, and what they leave behind.

mod calls;
mod cluster;
mod rules;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use larder::lock::{Answer, Ask, LockStore, Owner};
use larder::{Namespace, RedisStore, Result, Store as _};
use xtask::servers::private::RedisServer;

/// Long enough for a test not to see its end.
const LONG_MS: u64 = 600_000;

/// The locks of a store, in one space.
#[derive(Debug, Clone)]
struct Locks {
    store: Arc<dyn LockStore>,
    space: Namespace,
}

impl Locks {
    fn new(store: &RedisStore) -> Self {
        Self {
            store: store.lock_store().expect("a lock store"),
            space: space(),
        }
    }

    async fn on(server: &RedisServer) -> Self {
        let builder = RedisStore::builder(server.url()).response_timeout(Duration::from_secs(2));
        Self::new(&builder.connect().await.unwrap())
    }

    async fn acquire(&self, name: &str, ask: &Ask) -> Result<Answer> {
        self.store.acquire(&self.space, name.as_bytes(), ask).await
    }

    /// Acquires, and returns the fence of the grant, if there is one.
    async fn fence(&self, name: &str, ask: &Ask) -> Option<u64> {
        fence(self.acquire(name, ask).await.unwrap())
    }

    async fn release(&self, name: &str, owner: &Owner) -> bool {
        let released = self
            .store
            .release(&self.space, name.as_bytes(), owner, None);
        released.await.unwrap()
    }
}

fn space() -> Namespace {
    Namespace::new("net", "locks", 1)
}

fn ask(owner: &Owner) -> Ask {
    Ask {
        owner: owner.clone(),
        permits: 1,
        ttl_ms: LONG_MS,
        heartbeat_ms: Some(LONG_MS),
        barge: false,
    }
}

fn fence(answer: Answer) -> Option<u64> {
    match answer {
        Answer::Granted { fence, .. } => Some(fence),
        Answer::Busy { .. } => None,
    }
}
