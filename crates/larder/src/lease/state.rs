//! The rules of leases as plain data: what a store applies to the record of a name, atomically.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Answer, Ask, HOLD_TIMES, HOLD_TIMES_MS, HolderStatus, MAX_WAITERS, Owner};
use crate::error::{Error, ErrorKind, Result};

/// Heartbeats that follow each other within this part of their time count as one.
const YOUNG_PART: u64 = 8;

/// When a rule is applied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// By the clock that leases follow, in ms.
    pub(crate) ms: u64,
    /// No fence may be smaller: the time of day in us, so that fences grow even if the record was lost.
    pub(crate) fence: u64,
}

/// Everything about a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    fence: u64,
    holders: Vec<Holder>,
    waiters: VecDeque<Waiter>,
    hold_times_ms: VecDeque<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    owner: Owner,
    fence: u64,
    since_ms: u64,
    until_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiter {
    owner: Owner,
    /// Asks again by then, or is dead.
    poll_by_ms: u64,
}

impl Waiter {
    /// Notes a heartbeat, unless the former one is so young that it need not be written down.
    fn note(&mut self, poll_by_ms: u64, heartbeat_ms: u64) {
        if poll_by_ms.saturating_sub(self.poll_by_ms) >= heartbeat_ms / YOUNG_PART {
            self.poll_by_ms = poll_by_ms;
        }
    }
}

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) was_held: bool,
    /// Whose turn it may be.
    pub(crate) next: Option<Owner>,
}

impl Lease {
    /// Answers an attempt; see [`super::LockStore::acquire`].
    pub(crate) fn acquire(&mut self, ask: &Ask, now: Now) -> Result<Answer> {
        self.settle(now.ms);
        if let Some(holder) = self.holder(&ask.owner) {
            let (fence, left_ms) = (holder.fence, holder.until_ms - now.ms);
            return Ok(Answer::Granted { fence, left_ms });
        }
        let place = self.waiters.iter().position(|w| w.owner == ask.owner);
        let ahead = place.unwrap_or(self.waiters.len());
        let free = (ask.permits as usize).saturating_sub(self.holders.len());
        if free > 0 && (ask.barge || ahead < free) {
            if let Some(place) = place {
                self.waiters.remove(place);
            }
            return Ok(self.grant(ask, now));
        }
        if let Some(heartbeat_ms) = ask.heartbeat_ms {
            self.wait(&ask.owner, place, heartbeat_ms, now)?;
        }
        let retry_ms = self.next_event_ms(ahead, now.ms);
        let ahead = ahead as u64;
        Ok(Answer::Busy { ahead, retry_ms })
    }

    /// Makes a lease last from now; see [`super::LockStore::extend`].
    pub(crate) fn extend(&mut self, owner: &Owner, ttl_ms: u64, now: Now) -> bool {
        self.settle(now.ms);
        let holder = self.holders.iter_mut().find(|h| h.owner == *owner);
        let Some(holder) = holder else { return false };
        holder.until_ms = now.ms.saturating_add(ttl_ms);
        true
    }

    /// Returns whose turn it may be right after a grant, since more permits are free.
    pub(crate) fn next_to_share(&self, permits: u32) -> Option<Owner> {
        let is_free = self.holders.len() < permits as usize;
        is_free.then(|| self.next()).flatten()
    }

    /// Ends a lease or a place in the queue; see [`super::LockStore::release`].
    pub(crate) fn release(&mut self, owner: &Owner, held_ms: Option<u64>, now: Now) -> Released {
        // A lease that has ended counts as held as long as nobody else was let in, which settles who holds one.
        let was_held = self.holder(owner).is_some();
        self.settle(now.ms);
        self.holders.retain(|h| h.owner != *owner);
        self.waiters.retain(|w| w.owner != *owner);
        if let Some(held_ms) = held_ms {
            self.hold_times_ms.truncate(HOLD_TIMES - 1);
            self.hold_times_ms.push_front(held_ms);
        }
        Released {
            was_held,
            next: self.next(),
        }
    }

    /// Ends all leases; returns how many there were. See [`super::LockStore::evict`].
    pub(crate) fn evict(&mut self, now: Now) -> u64 {
        self.settle(now.ms);
        let count = self.holders.len();
        self.holders.clear();
        count as u64
    }

    /// Drops holders and waiters that are known to be gone, such as those of a dead process.
    #[cfg_attr(
        not(any(feature = "file", feature = "sqlite")),
        expect(dead_code, reason = "only stores of a host know who is gone")
    )]
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&Owner) -> bool) {
        self.holders.retain(|h| !is_gone(&h.owner));
        self.waiters.retain(|w| !is_gone(&w.owner));
    }

    /// Returns whose turn it may be.
    pub(crate) fn next(&self) -> Option<Owner> {
        self.waiters.front().map(|waiter| waiter.owner.clone())
    }

    /// Returns the fence of the latest grant.
    pub(crate) fn latest_fence(&self) -> u64 {
        self.fence
    }

    /// Returns the remembered hold times, the latest first.
    pub(crate) fn hold_times(&self) -> Vec<u64> {
        self.hold_times_ms.iter().copied().collect()
    }

    /// Returns the holders and how many wait; `None`: the name is not in use.
    pub(crate) fn status(&mut self, now: Now) -> Option<(Vec<HolderStatus>, u64)> {
        self.settle(now.ms);
        let status = |holder: &Holder| HolderStatus {
            owner: holder.owner.to_string(),
            fence: holder.fence,
            held_ms: now.ms.saturating_sub(holder.since_ms),
            left_ms: holder.until_ms - now.ms,
        };
        let holders: Vec<_> = self.holders.iter().map(status).collect();
        let waiters = self.waiters.len() as u64;
        (waiters > 0 || !holders.is_empty()).then_some((holders, waiters))
    }

    /// Returns until when the record must be kept if nothing more happens, in ms by the clock of leases: for `idle_ms`
    /// after its last use, or as long as its hold times.
    pub(crate) fn keep_until_ms(&self, now: Now, idle_ms: u64) -> u64 {
        let ends = self.holders.iter().map(|holder| holder.until_ms);
        let waiters = self.waiters.iter();
        let polls = waiters.map(|waiter| waiter.poll_by_ms.saturating_add(1));
        let used_until_ms = ends.chain(polls).fold(now.ms, u64::max);
        let idle_ms = if self.hold_times_ms.is_empty() {
            idle_ms
        } else {
            HOLD_TIMES_MS
        };
        used_until_ms.saturating_add(idle_ms)
    }

    fn holder(&self, owner: &Owner) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.owner == *owner)
    }

    /// Drops leases that have ended, and waiters that did not ask again in time.
    fn settle(&mut self, now_ms: u64) {
        self.holders.retain(|holder| holder.until_ms > now_ms);
        self.waiters.retain(|waiter| waiter.poll_by_ms >= now_ms);
    }

    fn grant(&mut self, ask: &Ask, now: Now) -> Answer {
        self.fence = self.fence.saturating_add(1).max(now.fence);
        self.holders.push(Holder {
            owner: ask.owner.clone(),
            fence: self.fence,
            since_ms: now.ms,
            until_ms: now.ms.saturating_add(ask.ttl_ms),
        });
        Answer::Granted {
            fence: self.fence,
            left_ms: ask.ttl_ms,
        }
    }

    fn wait(
        &mut self,
        owner: &Owner,
        place: Option<usize>,
        heartbeat_ms: u64,
        now: Now,
    ) -> Result<()> {
        let poll_by_ms = now.ms.saturating_add(heartbeat_ms);
        match place {
            Some(place) => self.waiters[place].note(poll_by_ms, heartbeat_ms),
            None if self.waiters.len() >= MAX_WAITERS => return Err(too_many_waiters()),
            None => self.waiters.push_back(Waiter {
                owner: owner.clone(),
                poll_by_ms,
            }),
        }
        Ok(())
    }

    /// Returns in how many ms the owner's chances change by themselves: the first waiter is presumed dead, or for the
    /// first waiter, a lease ends.
    fn next_event_ms(&self, ahead: usize, now_ms: u64) -> u64 {
        let first_in_queue = self.waiters.front().filter(|_| ahead > 0);
        let at_ms = match first_in_queue {
            Some(first) => first.poll_by_ms.saturating_add(1),
            None => self.holders.iter().map(|h| h.until_ms).min().unwrap_or(0),
        };
        at_ms.saturating_sub(now_ms)
    }
}

/// Returns the error for one waiter too many.
pub(crate) fn too_many_waiters() -> Error {
    let message = format!("{MAX_WAITERS} wait already");
    Error::new(ErrorKind::Overloaded, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(owner: &Owner) -> Ask {
        Ask {
            owner: owner.clone(),
            permits: 1,
            ttl_ms: 100,
            heartbeat_ms: Some(50),
            barge: false,
        }
    }

    fn at(ms: u64) -> Now {
        Now { ms, fence: ms * 10 }
    }

    fn fence(answer: Answer) -> Option<u64> {
        match answer {
            Answer::Granted { fence, .. } => Some(fence),
            Answer::Busy { .. } => None,
        }
    }

    #[test]
    fn attempts_are_granted_in_order_and_once() {
        let (a, b, c) = (Owner::new(), Owner::new(), Owner::new());
        let mut lease = Lease::default();
        let first = fence(lease.acquire(&ask(&a), at(1)).unwrap()).unwrap();
        assert_eq!(
            lease.acquire(&ask(&a), at(41)).unwrap(),
            Answer::Granted {
                fence: first,
                left_ms: 60
            }
        );
        let busy = |ahead, retry_ms| Answer::Busy { ahead, retry_ms };
        assert_eq!(lease.acquire(&ask(&b), at(42)).unwrap(), busy(0, 59));
        assert_eq!(lease.acquire(&ask(&c), at(43)).unwrap(), busy(1, 50));
        let released = lease.release(&a, None, at(44));
        assert_eq!(released.next, Some(b.clone()));
        assert!(released.was_held);
        assert_eq!(lease.acquire(&ask(&c), at(45)).unwrap(), busy(1, 48));
        assert!(fence(lease.acquire(&ask(&b), at(46)).unwrap()).unwrap() > first);
        assert!(!lease.release(&a, None, at(47)).was_held);
    }

    #[test]
    fn endless_leases_and_heartbeats_do_not_wrap() {
        let [a, b, c] = [Owner::new(), Owner::new(), Owner::new()];
        let endless = |owner| Ask {
            ttl_ms: u64::MAX,
            heartbeat_ms: Some(u64::MAX),
            ..ask(owner)
        };
        let mut lease = Lease::default();
        lease.acquire(&endless(&a), at(1)).unwrap();
        for (owner, ahead) in [(&b, 0), (&c, 1)] {
            let retry_ms = u64::MAX - 1;
            let busy = Answer::Busy { ahead, retry_ms };
            assert_eq!(lease.acquire(&endless(owner), at(1)).unwrap(), busy);
        }
    }

    #[test]
    fn dead_waiters_lose_their_places_together() {
        let owners: Vec<_> = (0..21).map(|_| Owner::new()).collect();
        let mut lease = Lease::default();
        let holder = Owner::new();
        lease.acquire(&ask(&holder), at(0)).unwrap();
        for owner in &owners {
            lease.acquire(&ask(owner), at(1)).unwrap();
        }
        lease.release(&holder, None, at(2));
        let last = &owners[20];
        assert_eq!(fence(lease.acquire(&ask(last), at(40)).unwrap()), None);
        assert!(fence(lease.acquire(&ask(last), at(52)).unwrap()).is_some());
    }

    proptest! {
        /// Whatever happens, there are never more holders than permits, and fences only grow.
        #[test]
        fn holders_are_bounded_and_fences_grow(
            permits in 1_u32..4,
            steps in proptest::collection::vec((0_usize..6, 0_u8..6, 0_u64..60), 1..200),
        ) {
            let owners: Vec<_> = (0..6).map(|_| Owner::new()).collect();
            let (mut lease, mut now_ms, mut latest) = (Lease::default(), 1, 0);
            let mut known = std::collections::HashMap::new();
            for (who, what, passed) in steps {
                now_ms += passed;
                let owner = &owners[who];
                match what {
                    0..=3 => {
                        let request = Ask { permits, barge: what == 3, ..ask(owner) };
                        if let Some(fence) = fence(lease.acquire(&request, at(now_ms)).unwrap())
                            && known.insert(owner.clone(), fence) != Some(fence)
                        {
                            prop_assert!(fence > latest);
                            latest = fence;
                        }
                    }
                    4 => { lease.release(owner, Some(passed), at(now_ms)); }
                    _ => { lease.extend(owner, 80, at(now_ms)); }
                }
                prop_assert!(lease.holders.len() <= permits as usize);
                prop_assert!(lease.hold_times().len() <= HOLD_TIMES);
            }
        }
    }
}
