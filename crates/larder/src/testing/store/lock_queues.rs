//! Laws of queues: who asked first is next, and the dead hold nobody up.

use std::time::Duration;

use super::lock_space::{LockSpace, lock, owners, waiting};
use super::{SOON_MS, StoreUnderTest};
use crate::error::{ErrorKind, Result};
use crate::lease::{Answer, Ask, Listener, MAX_WAITERS, Owner};

/// The name that these laws lock.
const NAME: &[u8] = b"queue";
/// A bell on a busy machine rings within this.
const HEARING: Duration = Duration::from_secs(10);

/// Returns an attempt that waits, and is presumed dead soon.
fn frail(owner: &Owner) -> Ask {
    Ask {
        heartbeat_ms: Some(SOON_MS),
        ..lock(owner)
    }
}

/// Puts owners into the queue, one after the other; each is told how many are ahead.
async fn line_up(locks: &LockSpace, waiters: &[&Owner]) -> Result<()> {
    for (place, owner) in waiters.iter().enumerate() {
        assert_eq!(ahead(locks, &waiting(owner)).await?, place as u64);
    }
    Ok(())
}

/// Returns how many are ahead of an attempt that is not granted.
async fn ahead(locks: &LockSpace, ask: &Ask) -> Result<u64> {
    match locks.ask(NAME, ask).await? {
        Answer::Busy { ahead, .. } => Ok(ahead),
        Answer::Granted { .. } => panic!("it is not the owner's turn"),
    }
}

/// Returns when asking again can help; `None`: on a slow machine, it was granted already.
async fn retry_ms(locks: &LockSpace, ask: &Ask) -> Result<Option<u64>> {
    match locks.ask(NAME, ask).await? {
        Answer::Busy { retry_ms, .. } => Ok(Some(retry_ms)),
        Answer::Granted { .. } => {
            assert!(!locks.is_exact(), "it is not the owner's turn");
            Ok(None)
        }
    }
}

/// Who asks without a heartbeat is not in the way of others, however often it asked before them.
pub async fn attempt_without_heartbeat_does_not_queue(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, hasty, waiter] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    for _ in 0..3 {
        assert_eq!(ahead(&locks, &lock(&hasty)).await?, 0);
    }
    assert_eq!(locks.status().await?.waiters, 0);
    line_up(&locks, &[&waiter]).await?;
    assert_eq!(ahead(&locks, &lock(&hasty)).await?, 1);
    assert_eq!(locks.status().await?.waiters, 1);
    assert!(locks.release(NAME, &holder).await?);
    locks.granted(NAME, &lock(&waiter)).await?;
    assert_eq!(locks.status().await?.waiters, 0);
    Ok(())
}

/// Waiters are granted in the order of their first attempts, in whatever order and however often they ask again.
pub async fn waiters_are_granted_in_order(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let holder = Owner::new();
    let waiters = owners::<8>();
    locks.granted(NAME, &lock(&holder)).await?;
    line_up(&locks, &waiters.each_ref()).await?;
    let mut before = holder;
    for turn in 0..waiters.len() {
        for place in (turn..waiters.len()).rev() {
            let told = ahead(&locks, &waiting(&waiters[place])).await?;
            assert_eq!(told, (place - turn) as u64);
        }
        assert!(locks.release(NAME, &before).await?);
        for later in waiters[turn + 1..].iter().rev() {
            locks.busy(NAME, &waiting(later)).await?;
        }
        locks.granted(NAME, &waiting(&waiters[turn])).await?;
        before = waiters[turn].clone();
    }
    assert!(locks.release(NAME, &before).await?);
    locks.granted(NAME, &lock(&Owner::new())).await?;
    Ok(())
}

/// A free lock is the first waiter's: neither one who just tries, nor a new waiter, nor the last holder overtakes it.
pub async fn nobody_overtakes_the_queue(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, first, hasty, late] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    line_up(&locks, &[&first]).await?;
    assert!(locks.release(NAME, &holder).await?);
    for ask in [lock(&hasty), lock(&holder), waiting(&late)] {
        assert_eq!(ahead(&locks, &ask).await?, 1);
    }
    locks.granted(NAME, &lock(&first)).await?;
    assert!(locks.release(NAME, &first).await?);
    locks.busy(NAME, &lock(&hasty)).await?;
    locks.granted(NAME, &waiting(&late)).await?;
    Ok(())
}

/// A waiter that releases leaves the queue, at its head or within it; it held nothing, and queues anew at the end.
pub async fn cancelled_waiter_lets_the_next_through(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let holder = Owner::new();
    let waiters = owners::<4>();
    locks.granted(NAME, &lock(&holder)).await?;
    line_up(&locks, &waiters.each_ref()).await?;
    assert!(!locks.release(NAME, &waiters[1]).await?);
    assert_eq!(ahead(&locks, &waiting(&waiters[2])).await?, 1);
    assert!(locks.release(NAME, &holder).await?);
    locks.busy(NAME, &waiting(&waiters[2])).await?;
    assert!(!locks.release(NAME, &waiters[0]).await?);
    assert_eq!(ahead(&locks, &waiting(&waiters[0])).await?, 2);
    locks.granted(NAME, &waiting(&waiters[2])).await?;
    assert_eq!(locks.status().await?.waiters, 2);
    assert_eq!(ahead(&locks, &waiting(&waiters[3])).await?, 0);
    Ok(())
}

/// A waiter that does not ask again within its heartbeat loses its place; each time it asks keeps it.
pub async fn dead_waiter_loses_its_place(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, dead, live] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    locks.busy(NAME, &frail(&dead)).await?;
    locks.busy(NAME, &waiting(&live)).await?;
    if locks.is_exact() {
        for _ in 0..3 {
            locks.outlive(SOON_MS).await;
            assert_eq!(ahead(&locks, &frail(&dead)).await?, 0, "it is in time");
        }
        assert_eq!(ahead(&locks, &waiting(&live)).await?, 1);
    }
    locks.outlive(SOON_MS + 1).await;
    assert_eq!(locks.status().await?.waiters, 1);
    assert_eq!(ahead(&locks, &waiting(&live)).await?, 0);
    assert_eq!(ahead(&locks, &waiting(&dead)).await?, 1, "it starts anew");
    assert!(locks.release(NAME, &holder).await?);
    locks.busy(NAME, &lock(&dead)).await?;
    locks.granted(NAME, &lock(&live)).await?;
    Ok(())
}

/// Twenty dead waiters in a row cost the living one heartbeat together, not one each.
pub async fn dead_waiters_cost_one_heartbeat_together(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, live] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    for dead in owners::<20>() {
        locks.busy(NAME, &frail(&dead)).await?;
    }
    locks.busy(NAME, &waiting(&live)).await?;
    assert!(locks.release(NAME, &holder).await?);
    locks.outlive(SOON_MS + 1).await;
    locks.granted(NAME, &waiting(&live)).await?;
    assert_eq!(locks.status().await?.waiters, 0);
    Ok(())
}

/// Who barges in takes a free lock that is another's turn, never one that is held; the others keep their places.
pub async fn barging_takes_a_free_permit_only(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, first, second, rude] = owners();
    let barging = |owner| Ask {
        barge: true,
        ..waiting(owner)
    };
    locks.granted(NAME, &lock(&holder)).await?;
    line_up(&locks, &[&first, &second]).await?;
    assert_eq!(ahead(&locks, &barging(&rude)).await?, 2, "it is held");
    assert!(locks.release(NAME, &holder).await?);
    locks.granted(NAME, &barging(&rude)).await?;
    assert_eq!(ahead(&locks, &barging(&second)).await?, 1, "it is held");
    assert_eq!(ahead(&locks, &waiting(&first)).await?, 0);
    assert_eq!(locks.status().await?.waiters, 2, "its place went with it");
    assert!(locks.release(NAME, &rude).await?);
    locks.busy(NAME, &waiting(&second)).await?;
    locks.granted(NAME, &waiting(&first)).await?;
    Ok(())
}

/// A lease that ends or is evicted leaves the lock to the first waiter.
pub async fn ended_leases_go_to_the_queue(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let holder = Owner::new();
    let waiters = owners::<3>();
    let brief = Ask {
        ttl_ms: SOON_MS,
        ..lock(&holder)
    };
    let expired = locks.granted(NAME, &brief).await?;
    for owner in &waiters {
        // On a slow machine, the lease may end before they have all asked: they wait in their order even so.
        let first = locks.fence(NAME, &waiting(owner)).await?;
        assert!(first.is_none() || !locks.is_exact());
    }
    locks.outlive(SOON_MS).await;
    locks.busy(NAME, &lock(&Owner::new())).await?;
    let first = locks.granted(NAME, &waiting(&waiters[0])).await?;
    assert!(first > expired);
    assert_eq!(locks.evict(NAME).await?, 1);
    for hasty in [&holder, &waiters[0], &waiters[2]] {
        locks.busy(NAME, &lock(hasty)).await?;
    }
    assert!(locks.granted(NAME, &waiting(&waiters[1])).await? > first);
    Ok(())
}

/// A waiter that is told when the lease ends is granted then.
pub async fn told_end_of_the_lease_suffices(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, first] = owners();
    let ttl_ms = 5 * SOON_MS;
    let brief = Ask {
        ttl_ms,
        ..lock(&holder)
    };
    locks.granted(NAME, &brief).await?;
    if locks.is_exact() {
        assert_eq!(retry_ms(&locks, &waiting(&first)).await?, Some(ttl_ms));
        locks.outlive(ttl_ms - 1).await;
        assert_eq!(retry_ms(&locks, &waiting(&first)).await?, Some(1));
    }
    if let Some(wait_ms) = retry_ms(&locks, &waiting(&first)).await? {
        assert!((1..=ttl_ms).contains(&wait_ms), "{wait_ms}");
        locks.outlive(wait_ms).await;
        locks.granted(NAME, &waiting(&first)).await?;
    }
    Ok(())
}

/// A waiter that is told when the one before it is presumed dead is granted then, if that one does not ask again.
pub async fn told_death_of_the_first_suffices(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, first, second] = owners();
    let heartbeat_ms = 5 * SOON_MS;
    let frail = Ask {
        heartbeat_ms: Some(heartbeat_ms),
        ..lock(&first)
    };
    locks.granted(NAME, &lock(&holder)).await?;
    locks.busy(NAME, &frail).await?;
    locks.busy(NAME, &waiting(&second)).await?;
    assert!(locks.release(NAME, &holder).await?);
    if let Some(wait_ms) = retry_ms(&locks, &waiting(&second)).await? {
        assert!((1..=heartbeat_ms + 1).contains(&wait_ms), "{wait_ms}");
        locks.outlive(wait_ms).await;
        locks.granted(NAME, &waiting(&second)).await?;
    }
    Ok(())
}

/// The first waiter that listens hears of a release, wherever in the process it listens.
pub async fn bell_rings_for_the_next_on_release(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, first, second] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    let first_bell = locks.listen(NAME, &first).await;
    let second_bell = locks.listen(NAME, &second).await;
    line_up(&locks, &[&first, &second]).await?;
    assert!(locks.release(NAME, &holder).await?);
    heard(&first_bell).await;
    locks.granted(NAME, &waiting(&first)).await?;
    assert!(locks.release(NAME, &first).await?);
    heard(&second_bell).await;
    locks.granted(NAME, &waiting(&second)).await?;
    Ok(())
}

/// The next in line also hears that an operator freed the lock, and that the one before it gave up its turn.
pub async fn bell_rings_after_eviction_and_cancelling(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [holder, first, second] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    let first_bell = locks.listen(NAME, &first).await;
    let second_bell = locks.listen(NAME, &second).await;
    line_up(&locks, &[&first, &second]).await?;
    assert_eq!(locks.evict(NAME).await?, 1);
    heard(&first_bell).await;
    assert!(!locks.release(NAME, &first).await?);
    heard(&second_bell).await;
    locks.granted(NAME, &waiting(&second)).await?;
    Ok(())
}

async fn heard(bell: &Listener) {
    let rung = tokio::time::timeout(HEARING, bell.rung()).await;
    assert!(rung.is_ok(), "nothing is heard");
}

/// One waiter too many is refused, may come when there is room, and nobody else is hurt.
pub async fn full_queue_is_overloaded(fixture: &StoreUnderTest) -> Result<()> {
    // So many steps are quick in one process only.
    let is_quick = fixture.time.is_some() && !fixture.capabilities().shared;
    let Some(locks) = fixture.fair_locks().filter(|_| is_quick) else {
        return Ok(());
    };
    let [holder, first, late] = owners();
    locks.granted(NAME, &lock(&holder)).await?;
    locks.busy(NAME, &waiting(&first)).await?;
    for _ in 1..MAX_WAITERS {
        locks.busy(NAME, &waiting(&Owner::new())).await?;
    }
    let refused = locks.ask(NAME, &waiting(&late)).await;
    let kind = refused.map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::Overloaded));
    assert_eq!(locks.status().await?.waiters, MAX_WAITERS as u64);
    locks.busy(NAME, &lock(&late)).await?;
    assert!(locks.release(NAME, &holder).await?);
    locks.granted(NAME, &waiting(&first)).await?;
    locks.busy(NAME, &waiting(&late)).await
}
