//! Laws of locks: one holder at a time, with a fence, until it lets go or its lease ends.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::lock_space::{LONG_MS, lock, owners};
use super::{SOON_MS, StoreUnderTest};
use crate::clock::Clock;
use crate::error::Result;
use crate::lease::{Answer, Ask, Owner};

/// The name that these laws lock.
const NAME: &[u8] = b"lock";
/// How much less than its TTL a lease may seem to last, where clocks count whole ms.
const CLOCK_GRAIN: Duration = Duration::from_millis(5);
/// How much longer than its TTL a lease may last on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns an attempt whose lease ends soon.
fn short(owner: &Owner) -> Ask {
    Ask {
        ttl_ms: SOON_MS,
        ..lock(owner)
    }
}

/// While one owner holds a lock no other does; when it is given up, another may, and then the first may not.
pub async fn one_owner_holds_at_a_time(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b, c] = owners();
    locks.granted(NAME, &lock(&a)).await?;
    for other in [&b, &c, &b] {
        locks.busy(NAME, &lock(other)).await?;
    }
    assert!(locks.release(NAME, &a).await?);
    locks.granted(NAME, &lock(&b)).await?;
    for other in [&a, &c] {
        locks.busy(NAME, &lock(other)).await?;
    }
    Ok(())
}

/// Each grant has a greater fence than every one before, however the lease before it ended.
pub async fn fences_grow_with_every_grant(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    let mut fences = Vec::new();
    for round in 0..12 {
        let owner = if round % 3 == 0 { &a } else { &b };
        fences.push(locks.granted(NAME, &lock(owner)).await?);
        if round % 4 == 3 {
            assert_eq!(locks.evict(NAME).await?, 1);
        } else {
            assert!(locks.release(NAME, owner).await?);
        }
    }
    fences.push(locks.granted(NAME, &short(&a)).await?);
    locks.outlive(SOON_MS).await;
    fences.push(locks.granted(NAME, &short(&b)).await?);
    locks.outlive(SOON_MS).await;
    fences.push(locks.granted(NAME, &lock(&b)).await?);
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    Ok(())
}

/// Fences start at the time of day in us, so that they grow also where everything was lost.
pub async fn fences_start_at_the_time_of_day(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    // Locks may follow real time where the entries follow a manual clock.
    let now_ms = [fixture.store.clock(), Clock::system()].map(|clock| clock.now_ms());
    let before_us = (now_ms[0].min(now_ms[1]) - 1000) * 1000;
    let fence = locks.granted(NAME, &lock(&Owner::new())).await?;
    assert!(fence >= before_us, "{fence} is before {before_us}");
    assert!(fence < 1 << 53, "every language can count to it");
    Ok(())
}

/// A lease that ended unnoticed can be given up, with either answer; then the lock is free, once.
pub async fn ended_lease_can_be_given_up(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b, c] = owners();
    locks.granted(NAME, &short(&a)).await?;
    locks.outlive(SOON_MS).await;
    locks.release(NAME, &a).await?;
    assert!(!locks.release(NAME, &a).await?);
    assert!(!locks.extend(NAME, &a, LONG_MS).await?);
    locks.granted(NAME, &lock(&b)).await?;
    locks.busy(NAME, &lock(&c)).await?;
    Ok(())
}

/// An owner that asks again, since the answer was lost, gets the grant that it has, which lasts no longer by that.
pub async fn asking_again_gets_the_same_grant(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let owner = Owner::new();
    let granted = |answer| match answer {
        Answer::Granted { fence, left_ms } => (fence, left_ms),
        Answer::Busy { .. } => panic!("the owner holds it"),
    };
    let (fence, left_ms) = granted(locks.ask(NAME, &lock(&owner)).await?);
    assert!(left_ms <= LONG_MS && left_ms > LONG_MS / 2, "{left_ms}");
    locks.outlive(30).await;
    let longer = Ask {
        ttl_ms: 2 * LONG_MS,
        ..lock(&owner)
    };
    for ask in [lock(&owner), longer] {
        let (again, still_ms) = granted(locks.ask(NAME, &ask).await?);
        assert_eq!(again, fence);
        assert!(still_ms <= LONG_MS && still_ms > LONG_MS / 2, "{still_ms}");
        assert!(!locks.is_punctual() || still_ms + 30 <= left_ms);
        assert!(!locks.is_exact() || still_ms == LONG_MS - 30);
    }
    assert!(locks.release(NAME, &owner).await?);
    locks.granted(NAME, &lock(&Owner::new())).await?;
    Ok(())
}

/// A lease ends when its TTL is over, and not before.
pub async fn lease_ends_after_its_ttl_and_not_before(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    let asked = Instant::now();
    locks.granted(NAME, &short(&a)).await?;
    if locks.is_exact() {
        locks.outlive(SOON_MS - 1).await;
        locks.busy(NAME, &lock(&b)).await?;
        locks.outlive(1).await;
        locks.granted(NAME, &lock(&b)).await?;
        return Ok(());
    }
    let ttl = Duration::from_millis(SOON_MS);
    while locks.fence(NAME, &lock(&b)).await?.is_none() {
        assert!(asked.elapsed() < ttl + PATIENCE, "the lease does not end");
        // Elsewhere, the manual clock must have its part in it.
        locks.outlive(1).await;
    }
    assert!(asked.elapsed() + CLOCK_GRAIN >= ttl, "it ended too early");
    Ok(())
}

/// The shortest lease is a lease, and the longest is not mistaken for a short one.
pub async fn extreme_ttls_do_not_wrap(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    let lasting = |ttl_ms| Ask { ttl_ms, ..lock(&a) };
    locks.granted(b"short", &lasting(1)).await?;
    let days_ms = 30 * 24 * 3600 * 1000;
    locks.granted(b"long", &lasting(days_ms)).await?;
    locks.granted(b"longer", &lock(&a)).await?;
    assert!(locks.extend(b"longer", &a, days_ms).await?);
    locks.outlive(1).await;
    locks.granted(b"short", &lock(&b)).await?;
    locks.busy(b"long", &lock(&b)).await?;
    locks.busy(b"longer", &lock(&b)).await?;
    assert!(locks.release(b"long", &a).await?);
    Ok(())
}

/// A release by someone else says so and frees nothing.
pub async fn only_the_owner_can_release(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    assert!(!locks.release(NAME, &a).await?, "nobody holds it");
    locks.granted(NAME, &lock(&a)).await?;
    assert!(!locks.release(NAME, &b).await?);
    locks.busy(NAME, &lock(&b)).await?;
    assert!(locks.release(NAME, &a).await?);
    Ok(())
}

/// An extension by someone else, or of a lease that has ended, says so and changes nothing.
pub async fn only_the_owner_can_extend(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    assert!(!locks.extend(NAME, &a, LONG_MS).await?, "nobody holds it");
    locks.granted(NAME, &short(&a)).await?;
    assert!(!locks.extend(NAME, &b, LONG_MS).await?);
    locks.outlive(SOON_MS).await;
    assert!(!locks.extend(NAME, &a, LONG_MS).await?, "it has ended");
    locks.granted(NAME, &lock(&b)).await?;
    assert!(!locks.extend(NAME, &a, 1).await?, "another holds it");
    locks.outlive(1).await;
    locks.busy(NAME, &lock(&a)).await?;
    Ok(())
}

/// An extended lease lasts so long from the extension, be that longer or shorter than before; its fence stays.
pub async fn extension_counts_from_now(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    let ttl_ms = 5 * SOON_MS;
    let fence = locks.granted(NAME, &Ask { ttl_ms, ..lock(&a) }).await?;
    assert!(locks.extend(NAME, &a, LONG_MS).await?);
    locks.outlive(ttl_ms).await;
    locks.busy(NAME, &lock(&b)).await?;
    assert_eq!(locks.granted(NAME, &lock(&a)).await?, fence);
    assert!(locks.extend(NAME, &a, SOON_MS).await?);
    locks.outlive(SOON_MS).await;
    locks.granted(NAME, &lock(&b)).await?;
    Ok(())
}

/// A release that comes too late says so and leaves the lease to its new holder.
pub async fn late_release_spares_the_next_holder(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b, c] = owners();
    locks.granted(NAME, &short(&a)).await?;
    locks.outlive(SOON_MS).await;
    let fence = locks.granted(NAME, &lock(&b)).await?;
    assert!(!locks.release(NAME, &a).await?);
    locks.busy(NAME, &lock(&c)).await?;
    assert_eq!(locks.granted(NAME, &lock(&b)).await?, fence);
    Ok(())
}

/// Of two releases the second says that there was nothing left, and spares whoever came between them.
pub async fn second_release_finds_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b, c] = owners();
    locks.granted(NAME, &lock(&a)).await?;
    assert!(locks.release(NAME, &a).await?);
    assert!(!locks.release(NAME, &a).await?);
    locks.granted(NAME, &lock(&b)).await?;
    assert!(!locks.release(NAME, &a).await?);
    locks.busy(NAME, &lock(&c)).await?;
    Ok(())
}

/// An eviction ends the lease at once; whoever held it finds out, and may ask anew.
pub async fn evicted_holder_holds_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    assert_eq!(locks.evict(NAME).await?, 0, "nobody holds it");
    let first = locks.granted(NAME, &lock(&a)).await?;
    assert_eq!(locks.evict(NAME).await?, 1);
    assert_eq!(locks.evict(NAME).await?, 0);
    assert!(!locks.extend(NAME, &a, LONG_MS).await?);
    assert!(!locks.release(NAME, &a).await?);
    assert!(locks.granted(NAME, &lock(&a)).await? > first);
    assert_eq!(locks.evict(NAME).await?, 1);
    locks.granted(NAME, &lock(&b)).await?;
    assert!(!locks.extend(NAME, &a, 1).await?);
    assert!(!locks.release(NAME, &a).await?);
    locks.outlive(1).await;
    locks.busy(NAME, &lock(&a)).await?;
    Ok(())
}

/// An attempt whose caller gave up was made or was not; a release takes it back in any case.
pub async fn release_takes_back_a_dropped_attempt(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    for round in 0..50 {
        let [a, b] = owners();
        let ask = lock(&a);
        let attempt = locks.ask(NAME, &ask);
        // One poll, as a caller that runs into its timeout, or a little longer each round.
        if round % 2 == 0 {
            let _ = attempt.now_or_never();
        } else {
            let _ = tokio::time::timeout(Duration::from_micros(round * 20), attempt).await;
        }
        locks.release(NAME, &a).await?;
        locks.granted(NAME, &lock(&b)).await?;
        assert!(locks.release(NAME, &b).await?);
    }
    Ok(())
}
