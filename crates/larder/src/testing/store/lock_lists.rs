//! Laws of what can be seen of locks: who holds them, who waits, and how long they were held.

use super::lock_space::{LONG_MS, lock, owners, waiting};
use super::{SOON_MS, StoreUnderTest};
use crate::error::Result;
use crate::glob::Glob;
use crate::lease::{Ask, HOLD_TIMES, Owner};

/// The name that these laws lock.
const NAME: &[u8] = b"listed";

/// A lock in use is listed with its holder, the fence, how long it was and will be held, and how many wait.
pub async fn list_shows_the_holder_and_counts_waiters(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let holder = Owner::new();
    let waiters = owners::<3>();
    let ask = Ask {
        ttl_ms: 60_000,
        ..lock(&holder)
    };
    let fence = locks.granted(NAME, &ask).await?;
    for waiter in &waiters {
        locks.busy(NAME, &waiting(waiter)).await?;
    }
    locks.outlive(50).await;
    let status = locks.status().await?;
    assert_eq!(status.name.as_bytes(), NAME);
    assert_eq!(status.waiters, 3);
    assert_eq!(status.holders.len(), 1);
    let shown = &status.holders[0];
    assert_eq!(
        (shown.owner.as_str(), shown.fence),
        (holder.as_str(), fence)
    );
    assert!(
        shown.held_ms >= 50 && shown.left_ms <= 60_000 - 50,
        "{shown:?}"
    );
    let grain_ms = if locks.is_exact() { 0 } else { 5 };
    assert!((shown.held_ms + shown.left_ms).abs_diff(60_000) <= grain_ms);
    assert!(!locks.is_exact() || shown.held_ms == 50);
    assert!(locks.extend(NAME, &holder, LONG_MS).await?);
    let shown = &locks.status().await?.holders[0];
    assert!(shown.held_ms >= 50, "since its grant: {shown:?}");
    assert!(shown.left_ms > 60_000 && shown.left_ms <= LONG_MS);
    Ok(())
}

/// All holders of a semaphore are listed, in the order of their grants.
pub async fn list_shows_all_holders(fixture: &StoreUnderTest) -> Result<()> {
    let locks = fixture.fair_locks();
    let Some(locks) = locks.filter(|_| fixture.capabilities().limiters) else {
        return Ok(());
    };
    let holders = owners::<4>();
    let mut granted = Vec::new();
    for owner in [2, 0, 3, 1].map(|n: usize| &holders[n]) {
        let ask = Ask {
            permits: 4,
            ..lock(owner)
        };
        granted.push((owner.to_string(), locks.granted(NAME, &ask).await?));
    }
    let status = locks.status().await?;
    let shown = status.holders.into_iter();
    let shown: Vec<_> = shown.map(|holder| (holder.owner, holder.fence)).collect();
    assert_eq!(shown, granted);
    assert_eq!(status.waiters, 0);
    Ok(())
}

/// A name that nobody holds or waits for is not listed, whether it was given up, evicted, has ended, or never was; and
/// neither is one that was only asked about.
pub async fn list_hides_what_is_not_in_use(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [owner, waiter] = owners();
    let brief = Ask {
        ttl_ms: SOON_MS,
        ..lock(&owner)
    };
    assert_eq!(locks.list(&Glob::all(), 10).await?, []);
    for name in [b"given-up".as_slice(), b"evicted", b"waited-for", b"held"] {
        locks.granted(name, &lock(&owner)).await?;
    }
    locks.granted(b"ended", &brief).await?;
    assert!(locks.record(b"given-up", &owner, 5).await?);
    assert_eq!(locks.evict(b"evicted").await?, 1);
    locks.busy(b"waited-for", &waiting(&waiter)).await?;
    assert!(locks.release(b"waited-for", &owner).await?);
    assert!(!locks.release(b"asked", &owner).await?);
    assert!(!locks.extend(b"asked", &owner, 10).await?);
    assert!(locks.hold_times(b"asked").await?.is_empty());
    locks.outlive(SOON_MS).await;
    let listed = locks.list(&Glob::all(), 10).await?;
    let names: Vec<_> = listed.iter().map(|status| status.name.as_bytes()).collect();
    assert_eq!(names, [b"held".as_slice(), b"waited-for"]);
    assert_eq!((listed[1].holders.len(), listed[1].waiters), (0, 1));
    Ok(())
}

/// A list has only names that match, and as many as were asked for, which those not in use do not count to.
pub async fn list_keeps_its_pattern_and_limit(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let owner = Owner::new();
    for n in 0..20 {
        for sort in ["idle", "used"] {
            let name = format!("{sort}:{n:02}");
            locks.granted(name.as_bytes(), &lock(&owner)).await?;
            if sort == "idle" {
                assert!(locks.release(name.as_bytes(), &owner).await?);
            }
        }
    }
    for (pattern, limit, count) in [
        ("*", 100, 20),
        ("*", 7, 7),
        ("used:0*", 100, 10),
        ("used:?3", 100, 2),
        ("used:[01]3", 1, 1),
        ("idle:*", 100, 0),
        ("USED:*", 100, 0),
    ] {
        let glob = Glob::new(pattern)?;
        let listed = locks.list(&glob, limit).await?;
        assert_eq!(listed.len(), count, "{pattern}");
        assert!(
            listed
                .iter()
                .all(|status| glob.matches(status.name.as_bytes()))
        );
    }
    Ok(())
}

/// The latest hold times that were told are remembered, the newest first; a release that tells none adds none.
pub async fn latest_hold_times_are_remembered(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let owner = Owner::new();
    assert!(locks.hold_times(NAME).await?.is_empty());
    let last = HOLD_TIMES as u64 + 8;
    for held_ms in 0..=last {
        locks.granted(NAME, &lock(&owner)).await?;
        assert!(locks.record(NAME, &owner, held_ms).await?);
        locks.granted(NAME, &lock(&owner)).await?;
        assert!(locks.release(NAME, &owner).await?);
    }
    let expected: Vec<_> = (0..=last).rev().take(HOLD_TIMES).collect();
    assert_eq!(locks.hold_times(NAME).await?, expected);
    assert!(locks.hold_times(b"another").await?.is_empty());
    Ok(())
}

/// Hold times outlast grants, evictions and the ends of leases.
pub async fn hold_times_outlast_leases(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.fair_locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    let brief = Ask {
        ttl_ms: SOON_MS,
        ..lock(&a)
    };
    locks.granted(NAME, &lock(&a)).await?;
    assert!(locks.record(NAME, &a, 70_000).await?);
    locks.granted(NAME, &brief).await?;
    assert_eq!(locks.hold_times(NAME).await?, [70_000]);
    locks.outlive(SOON_MS).await;
    locks.granted(NAME, &lock(&b)).await?;
    assert_eq!(locks.evict(NAME).await?, 1);
    if locks.is_exact() {
        locks.outlive(24 * 3_600_000).await;
    }
    assert_eq!(locks.hold_times(NAME).await?, [70_000]);
    locks.granted(NAME, &lock(&b)).await?;
    assert!(locks.record(NAME, &b, 0).await?);
    assert_eq!(locks.hold_times(NAME).await?, [0, 70_000]);
    Ok(())
}
