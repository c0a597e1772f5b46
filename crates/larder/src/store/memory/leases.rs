//! Locks, semaphores and rate limiters of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::clock::Clock;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::lease::{
    Answer, Ask, Bells, Bucket, Lease, Listener, LockStatus, LockStore, Now, Owner, Rate, Taken,
};

/// Records are looked through for idle ones when there are so many, and again whenever they have doubled.
const MIN_SWEEP: usize = 1024;

/// The records of all names, under one mutex that is held for microseconds.
#[derive(Debug)]
pub(super) struct Leases {
    records: Mutex<Records>,
    bells: Arc<Bells>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Records {
    leases: HashMap<Vec<u8>, Record<Lease>>,
    buckets: HashMap<Vec<u8>, Record<Bucket>>,
    /// No fence is smaller than this, also of a name that was forgotten.
    fence: u64,
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Record<T> {
    state: T,
    keep_until_ms: u64,
}

impl Leases {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            records: Mutex::default(),
            bells: Arc::default(),
            clock,
        }
    }

    /// Applies a rule to the lease of a name.
    fn apply<T>(&self, id: &[u8], rule: impl FnOnce(&mut Lease, Now) -> T) -> T {
        let mut records = self.records();
        let now = Now {
            ms: self.clock.boot_ms(),
            fence: (self.clock.now_ms() * 1000).max(records.fence + 1),
        };
        records.sweep(now.ms);
        let records = &mut *records;
        let record = records.leases.entry(id.to_vec()).or_default();
        let outcome = rule(&mut record.state, now);
        // Its fence need not be kept: there is one for all.
        record.keep_until_ms = record.state.keep_until_ms(now, 0);
        records.fence = records.fence.max(record.state.latest_fence());
        outcome
    }

    fn ring(&self, id: &[u8], next: Option<Owner>) {
        if let Some(next) = next {
            self.bells.ring(id, next.as_str());
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// Forgets what nobody has used for long, now and then.
    fn sweep(&mut self, now_ms: u64) {
        if self.leases.len() + self.buckets.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.leases
            .retain(|_, record| record.keep_until_ms > now_ms);
        self.buckets
            .retain(|_, record| record.keep_until_ms > now_ms);
        self.sweep_at = 2 * (self.leases.len() + self.buckets.len());
    }
}

/// Returns one name for the lease, which no other space and name have.
fn id(space: &Namespace, name: &[u8]) -> Vec<u8> {
    [space.as_bytes(), b":", name].concat()
}

#[async_trait]
impl LockStore for Leases {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let id = id(space, name);
        let (answer, next) = self.apply(&id, |lease, now| {
            let answer = lease.acquire(ask, now);
            (answer, lease.next_to_share(ask.permits))
        });
        if matches!(answer, Ok(Answer::Granted { .. })) {
            self.ring(&id, next);
        }
        answer
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        Ok(self.apply(&id(space, name), |lease, now| {
            lease.extend(owner, ttl_ms, now)
        }))
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        let id = id(space, name);
        let released = self.apply(&id, |lease, now| lease.release(owner, held_ms, now));
        self.ring(&id, released.next);
        Ok(released.was_held)
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        let id = id(space, name);
        let (count, next) = self.apply(&id, |lease, now| (lease.evict(now), lease.next()));
        self.ring(&id, next);
        Ok(count)
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        Ok(self.apply(&id(space, name), |lease, _| lease.hold_times()))
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let prefix = id(space, b"");
        let now = Now {
            ms: self.clock.boot_ms(),
            fence: 0,
        };
        let mut records = self.records();
        let status = records.leases.iter_mut().filter_map(|(id, record)| {
            let name = id.strip_prefix(prefix.as_slice())?;
            if !pattern.matches(name) {
                return None;
            }
            let (holders, waiters) = record.state.status(now)?;
            Some(LockStatus {
                name: Key::from(name),
                holders,
                waiters,
            })
        });
        Ok(status.take(limit).collect())
    }

    async fn take(
        &self,
        space: &Namespace,
        name: &[u8],
        rate: &Rate,
        tokens: u64,
    ) -> Result<Taken> {
        let id = id(space, name);
        let now_ms = self.clock.boot_ms();
        let mut records = self.records();
        records.sweep(now_ms);
        let known = records.buckets.get(&id).map(|record| record.state);
        let (state, taken) = Bucket::take(known, rate, tokens, now_ms);
        let keep_until_ms = now_ms + rate.fill_ms();
        let record = Record {
            state,
            keep_until_ms,
        };
        records.buckets.insert(id, record);
        Ok(taken)
    }

    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        self.bells.listen(&id(space, name), owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_forgotten_unless_they_are_in_use() {
        let leases = Leases::new(Clock::system());
        let space = Namespace::leases("app", "locks");
        let ask = |heartbeat_ms| Ask {
            owner: Owner::new(),
            permits: 1,
            ttl_ms: 60_000,
            heartbeat_ms,
            barge: false,
        };
        leases.acquire(&space, b"held", &ask(None)).await.unwrap();
        let waiting = ask(Some(5000));
        leases.acquire(&space, b"held", &waiting).await.unwrap();
        let mut latest = 0;
        for number in 0..50_000_u32 {
            let (name, ask) = (number.to_be_bytes(), ask(None));
            let answer = leases.acquire(&space, &name, &ask).await.unwrap();
            let Answer::Granted { fence, .. } = answer else {
                panic!("it is free");
            };
            assert!(fence > latest);
            latest = fence;
            leases
                .release(&space, &name, &ask.owner, None)
                .await
                .unwrap();
        }
        assert!(leases.records().leases.len() <= 4 * MIN_SWEEP);
        let listed = leases.list(&space, &Glob::all(), 10).await.unwrap();
        assert_eq!((listed.len(), listed[0].waiters), (1, 1));
    }
}
