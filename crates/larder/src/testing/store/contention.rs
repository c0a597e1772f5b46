//! Laws of locks under contention: whatever many do at once, a checker finds nothing in what happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::StoreUnderTest;
use super::lock_space::{LockSpace, fence, lock, waiting};
use super::space::together;
use crate::error::{Error, Result};
use crate::lease::{Answer, Ask, Owner};
use crate::testing::{Section, SectionHistory};

/// The name that these laws lock.
const NAME: &[u8] = b"contended";
const CONTENDERS: usize = 16;
const SECTIONS: usize = 20;

/// What contenders share.
#[derive(Debug)]
struct Contest {
    locks: LockSpace,
    begun: Instant,
    /// Held during a first attempt, so that the order of tickets is that of the attempts.
    tickets: Mutex<u64>,
    is_fair: bool,
    /// What the lock guards: the fence of the latest write.
    guarded: AtomicU64,
}

impl Contest {
    fn now_ns(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// Runs one critical section.
    async fn section(&self) -> Result<Section> {
        let owner = Owner::new();
        let ask = if self.is_fair {
            waiting(&owner)
        } else {
            lock(&owner)
        };
        let (ticket, first) = self.first_attempt(&ask).await?;
        let fence = match fence(first) {
            Some(fence) => fence,
            None => granted(&self.locks, &ask).await?,
        };
        let enter_ns = self.now_ns();
        let accepted = self.guarded.fetch_max(fence, Ordering::AcqRel) <= fence;
        tokio::task::yield_now().await;
        let exit_ns = self.now_ns();
        persist(|| self.locks.release(NAME, &owner)).await?;
        Ok(Section {
            fence,
            ticket,
            enter_ns,
            exit_ns,
            accepted,
        })
    }

    async fn first_attempt(&self, ask: &Ask) -> Result<(Option<u64>, Answer)> {
        if !self.is_fair {
            return Ok((None, persist(|| self.locks.ask(NAME, ask)).await?));
        }
        let mut tickets = self.tickets.lock().await;
        *tickets += 1;
        let answer = persist(|| self.locks.ask(NAME, ask)).await?;
        Ok((Some(*tickets), answer))
    }
}

/// Asks until the permit is granted.
async fn granted(locks: &LockSpace, ask: &Ask) -> Result<u64> {
    loop {
        match persist(|| locks.ask(NAME, ask)).await? {
            Answer::Granted { fence, .. } => return Ok(fence),
            // Who is far from the head has time.
            Answer::Busy { ahead, .. } => {
                tokio::time::sleep(Duration::from_millis(1 + ahead)).await;
            }
        }
    }
}

/// Repeats a call that was lost, as holders do.
async fn persist<T, W: Future<Output = Result<T>>>(mut call: impl FnMut() -> W) -> Result<T> {
    loop {
        match call().await {
            Err(error) if is_lost(&error) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
}

fn is_lost(error: &Error) -> bool {
    use crate::error::ErrorKind::{Timeout, Unavailable};
    matches!(error.kind(), Timeout | Unavailable)
}

/// Many contenders over one lock: no two sections overlap, fences grow with time, and where locks are fair each gets its
/// turn in the order of its first attempt. So it is where calls are refused and replies are lost, too.
pub async fn contenders_never_hold_together(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let contest = Arc::new(Contest {
        locks,
        begun: Instant::now(),
        tickets: Mutex::default(),
        is_fair: fixture.capabilities().fair_locks,
        guarded: AtomicU64::default(),
    });
    let sections = together(CONTENDERS, |_| {
        let contest = Arc::clone(&contest);
        async move {
            let mut sections = Vec::new();
            for _ in 0..SECTIONS {
                sections.push(contest.section().await?);
            }
            Ok(sections)
        }
    })
    .await?;
    let mut history = SectionHistory::default();
    history.extend(sections.into_iter().flatten());
    assert_eq!(history.len(), CONTENDERS * SECTIONS);
    assert_eq!(history.exclusion_violations(), []);
    assert_eq!(history.order_violations(), []);
    Ok(())
}

/// Many contenders over a semaphore: there are never more holders than permits, and no two grants have one fence.
pub async fn holders_never_exceed_the_permits(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    const PERMITS: u32 = 3;
    let holders = Arc::new(AtomicUsize::default());
    let fences = together(12, |_| {
        let (locks, holders) = (locks.clone(), Arc::clone(&holders));
        async move {
            let mut fences = Vec::new();
            for _ in 0..10 {
                let owner = Owner::new();
                let ask = Ask {
                    permits: PERMITS,
                    ..waiting(&owner)
                };
                fences.push(granted(&locks, &ask).await?);
                let others = holders.fetch_add(1, Ordering::AcqRel);
                assert!(others < PERMITS as usize, "{others} others hold permits");
                tokio::task::yield_now().await;
                holders.fetch_sub(1, Ordering::AcqRel);
                persist(|| locks.release(NAME, &owner)).await?;
            }
            Ok(fences)
        }
    })
    .await?;
    let mut fences: Vec<_> = fences.into_iter().flatten().collect();
    fences.sort_unstable();
    assert!(fences.is_sorted_by(|a, b| a < b), "a fence came twice");
    assert_eq!(fences.len(), 120);
    Ok(())
}

/// Of many who try a free lock at the same moment, one gets it.
pub async fn simultaneous_attempts_grant_one(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    for round in 0..20_u8 {
        let fences = together(8, |_| {
            let locks = locks.clone();
            async move { locks.fence(&[round], &lock(&Owner::new())).await }
        })
        .await?;
        assert_eq!(fences.iter().flatten().count(), 1, "{fences:?}");
    }
    Ok(())
}

/// Attempts of one owner at the same moment are one attempt: they take one permit and tell one fence.
pub async fn simultaneous_attempts_of_one_owner_are_one(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    for round in 0..20_u8 {
        let owner = Owner::new();
        let fences = together(8, |_| {
            let (locks, owner) = (locks.clone(), owner.clone());
            async move { locks.fence(&[round], &lock(&owner)).await }
        })
        .await?;
        let same = fences.iter().all(|fence| *fence == fences[0]);
        assert!(same && fences[0].is_some(), "{fences:?}");
        assert!(locks.release(&[round], &owner).await?);
        assert!(!locks.release(&[round], &owner).await?);
    }
    Ok(())
}
