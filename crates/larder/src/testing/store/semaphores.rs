//! Laws of semaphores: as many holders as there are permits, each with its own fence and its own end.

use super::lock_space::{LONG_MS, LockSpace, lock, owners, waiting};
use super::{SOON_MS, StoreUnderTest};
use crate::error::Result;
use crate::lease::{Ask, MAX_PERMITS, Owner};

/// The name that these laws lock.
const NAME: &[u8] = b"semaphore";

/// Returns an attempt to become one of so many holders.
fn one_of(permits: u32, owner: &Owner) -> Ask {
    Ask {
        permits,
        ..lock(owner)
    }
}

/// Returns an attempt that waits to become one of so many holders.
fn waiting_for_one_of(permits: u32, owner: &Owner) -> Ask {
    Ask {
        permits,
        ..waiting(owner)
    }
}

/// Takes a permit for each of these owners; returns their fences.
async fn fill(locks: &LockSpace, holders: &[Owner]) -> Result<Vec<u64>> {
    let mut fences = Vec::new();
    for holder in holders {
        let ask = one_of(holders.len() as u32, holder);
        fences.push(locks.granted(NAME, &ask).await?);
    }
    Ok(fences)
}

/// There are as many holders as permits and no more; what one gives up, one gets.
pub async fn permits_bound_the_holders(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    for permits in [1, 2, 7] {
        let holders: Vec<_> = (0..permits).map(|_| Owner::new()).collect();
        let [late, later] = owners();
        fill(&locks, &holders).await?;
        let ask = |owner| one_of(permits, owner);
        locks.busy(NAME, &ask(&late)).await?;
        assert!(locks.release(NAME, &holders[0]).await?);
        locks.granted(NAME, &ask(&late)).await?;
        locks.busy(NAME, &ask(&later)).await?;
        assert_eq!(locks.evict(NAME).await?, u64::from(permits));
        assert_eq!(locks.evict(NAME).await?, 0);
    }
    locks
        .granted(NAME, &one_of(MAX_PERMITS, &Owner::new()))
        .await?;
    Ok(())
}

/// Each permit has its own fence, greater than those before; asking again gives the same one and takes no other permit.
pub async fn each_permit_has_its_own_fence(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let holders = owners::<5>();
    let fences = fill(&locks, &holders).await?;
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    for (holder, fence) in holders.iter().zip(&fences) {
        let again = locks.granted(NAME, &one_of(5, holder)).await?;
        assert_eq!(again, *fence);
    }
    assert!(locks.release(NAME, &holders[2]).await?);
    let next = locks.granted(NAME, &one_of(5, &holders[2])).await?;
    assert!(next > fences[4]);
    Ok(())
}

/// A permit ends by itself, or lasts longer, without the others.
pub async fn permit_ends_alone(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let [brief, extended, lasting] = owners();
    let [late, later] = owners();
    let for_ms = |ttl_ms, owner| Ask {
        ttl_ms,
        ..one_of(3, owner)
    };
    locks.granted(NAME, &for_ms(5 * SOON_MS, &extended)).await?;
    assert!(locks.extend(NAME, &extended, LONG_MS).await?);
    locks.granted(NAME, &for_ms(LONG_MS, &lasting)).await?;
    locks.granted(NAME, &for_ms(SOON_MS, &brief)).await?;
    locks.outlive(5 * SOON_MS).await;
    assert!(!locks.extend(NAME, &brief, LONG_MS).await?);
    locks.granted(NAME, &one_of(3, &late)).await?;
    assert!(!locks.release(NAME, &brief).await?);
    locks.busy(NAME, &one_of(3, &later)).await?;
    assert!(locks.extend(NAME, &lasting, LONG_MS).await?);
    assert!(locks.release(NAME, &extended).await?);
    Ok(())
}

/// A permit that is given up twice is one permit.
pub async fn second_release_frees_no_second_permit(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let holders = owners::<3>();
    let [late, later, stranger] = owners();
    fill(&locks, &holders).await?;
    assert!(!locks.release(NAME, &stranger).await?);
    locks.busy(NAME, &one_of(3, &late)).await?;
    assert!(locks.release(NAME, &holders[1]).await?);
    assert!(!locks.release(NAME, &holders[1]).await?);
    locks.granted(NAME, &one_of(3, &late)).await?;
    locks.busy(NAME, &one_of(3, &later)).await?;
    Ok(())
}

/// Who asks for one of few sees all the holders, whatever those asked for.
pub async fn smaller_number_of_permits_counts(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let [a, b, c] = owners();
    locks.granted(NAME, &one_of(3, &a)).await?;
    locks.busy(NAME, &one_of(1, &b)).await?;
    locks.granted(NAME, &one_of(2, &b)).await?;
    locks.busy(NAME, &one_of(2, &c)).await?;
    locks.granted(NAME, &one_of(3, &c)).await?;
    assert!(locks.release(NAME, &a).await?);
    locks.busy(NAME, &one_of(1, &a)).await?;
    locks.busy(NAME, &one_of(2, &a)).await?;
    Ok(())
}

/// Waiters get permits in the order of their first attempts; as many as are free are next together.
pub async fn permits_are_granted_in_order(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let (holders, waiters) = (owners::<2>(), owners::<5>());
    let ask = |owner| waiting_for_one_of(2, owner);
    fill(&locks, &holders).await?;
    for waiter in &waiters {
        locks.busy(NAME, &ask(waiter)).await?;
    }
    assert!(locks.release(NAME, &holders[1]).await?);
    for later in waiters[1..].iter().rev() {
        locks.busy(NAME, &ask(later)).await?;
    }
    locks.granted(NAME, &ask(&waiters[0])).await?;
    assert!(locks.release(NAME, &holders[0]).await?);
    assert!(locks.release(NAME, &waiters[0]).await?);
    for later in waiters[3..].iter().rev() {
        locks.busy(NAME, &ask(later)).await?;
    }
    // Two are free, so the second in line need not wait for the first to ask.
    let second = locks.granted(NAME, &ask(&waiters[2])).await?;
    locks.busy(NAME, &ask(&waiters[3])).await?;
    assert!(locks.granted(NAME, &ask(&waiters[1])).await? > second);
    locks.busy(NAME, &ask(&waiters[3])).await?;
    Ok(())
}
