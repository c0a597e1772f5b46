//! Laws of rate limiters: a burst, then the rate, and never a token more.

use std::time::{Duration, Instant};

use super::StoreUnderTest;
use super::lock_space::LockSpace;
use super::space::together;
use crate::error::Result;
use crate::lease::{Rate, Taken};

/// The bucket of these laws.
const NAME: &[u8] = b"bucket";

/// Returns a rate that adds nothing while a law runs.
fn still(burst: u64) -> Rate {
    Rate {
        tokens: 1,
        interval_ms: Rate::MAX_INTERVAL_MS,
        burst,
    }
}

/// Takes tokens that must be there.
async fn taken(locks: &LockSpace, rate: &Rate, tokens: u64) -> Result<Taken> {
    let taken = locks.take(NAME, rate, tokens).await?;
    assert!(taken.allowed, "{tokens} tokens are there: {taken:?}");
    assert_eq!(taken.retry_after_ms, 0);
    Ok(taken)
}

/// Asks for tokens that must not be there.
async fn refused(locks: &LockSpace, rate: &Rate, tokens: u64) -> Result<Taken> {
    let refused = locks.take(NAME, rate, tokens).await?;
    assert!(
        !refused.allowed,
        "{tokens} tokens are not there: {refused:?}"
    );
    assert!(refused.retry_after_ms > 0);
    Ok(refused)
}

/// A full bucket gives its burst, and then its rate: to the ms where time stands still, else never more than that.
pub async fn burst_comes_first_and_then_the_rate(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = Rate {
        tokens: 3,
        interval_ms: 100,
        burst: 5,
    };
    let begun = Instant::now();
    if locks.is_exact() {
        assert_eq!(taken(&locks, &rate, 5).await?.remaining, 0);
        assert_eq!(refused(&locks, &rate, 1).await?.retry_after_ms, 34);
        locks.outlive(33).await;
        refused(&locks, &rate, 1).await?;
        locks.outlive(1).await;
        taken(&locks, &rate, 1).await?;
        let mut count = 0;
        for _ in 0..1000 {
            locks.outlive(7).await;
            count += u64::from(locks.take(NAME, &rate, 1).await?.allowed);
        }
        // Of 7034 ms, the first 34 were for one token.
        assert_eq!(count, 7034 * 3 / 100 - 1);
        return Ok(());
    }
    let mut count = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        count += u64::from(locks.take(NAME, &rate, 1).await?.allowed);
        locks.outlive(1).await;
    }
    let most = rate.burst + begun.elapsed().as_millis() as u64 * 3 / 100 + 1;
    assert!((rate.burst..=most).contains(&count), "{count} of {most}");
    Ok(())
}

/// Tokens are taken all or none, and what is left is told.
pub async fn tokens_are_taken_all_or_none(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = still(10);
    assert_eq!(taken(&locks, &rate, 7).await?.remaining, 3);
    for tokens in [4, 10, 4] {
        assert_eq!(refused(&locks, &rate, tokens).await?.remaining, 3);
    }
    assert_eq!(taken(&locks, &rate, 2).await?.remaining, 1);
    refused(&locks, &rate, 2).await?;
    assert_eq!(taken(&locks, &rate, 1).await?.remaining, 0);
    refused(&locks, &rate, 1).await?;
    Ok(())
}

/// However often it is refused, an attempt takes nothing and puts nothing off: after the told time it succeeds.
pub async fn told_time_suffices_despite_refusals(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = Rate {
        tokens: 7,
        interval_ms: 1000,
        burst: 20,
    };
    taken(&locks, &rate, 20).await?;
    let told = locks.take(NAME, &rate, 2).await?;
    for _ in 0..20 {
        let again = locks.take(NAME, &rate, 3).await?;
        if told.allowed || again.allowed {
            // On a slow machine, time passed.
            assert!(!locks.is_exact());
            return Ok(());
        }
    }
    assert!((1..=286).contains(&told.retry_after_ms), "{told:?}");
    if locks.is_exact() {
        assert_eq!(told.retry_after_ms, 286);
        locks.outlive(285).await;
        assert_eq!(refused(&locks, &rate, 2).await?.retry_after_ms, 1);
        locks.outlive(1).await;
    } else {
        locks.outlive(told.retry_after_ms).await;
    }
    taken(&locks, &rate, 2).await?;
    Ok(())
}

/// A bucket that was left alone is full, and not more than that; more than it can hold is never there.
pub async fn bucket_holds_its_burst_at_most(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = Rate {
        tokens: 1,
        interval_ms: 100,
        burst: 3,
    };
    refused(&locks, &rate, 4).await?;
    taken(&locks, &rate, 3).await?;
    locks
        .outlive(if locks.is_exact() { 86_400_000 } else { 500 })
        .await;
    refused(&locks, &rate, 4).await?;
    assert_eq!(taken(&locks, &rate, 3).await?.remaining, 0);
    Ok(())
}

/// A changed rate keeps the whole tokens that are left, as far as the bucket holds them now.
pub async fn change_of_the_rate_keeps_whole_tokens(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let hourly = Rate {
        interval_ms: 3_600_000,
        ..still(10)
    };
    assert_eq!(taken(&locks, &still(10), 3).await?.remaining, 7);
    assert_eq!(taken(&locks, &hourly, 1).await?.remaining, 6);
    assert_eq!(taken(&locks, &still(20), 1).await?.remaining, 5);
    refused(&locks, &still(3), 4).await?;
    taken(&locks, &still(3), 3).await?;
    Ok(())
}

/// The largest numbers stay exact.
pub async fn extreme_rates_stay_exact(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = still(Rate::MAX_TOKENS);
    let left = taken(&locks, &rate, Rate::MAX_TOKENS - 1).await?;
    assert_eq!(left.remaining, 1);
    assert_eq!(taken(&locks, &rate, 1).await?.remaining, 0);
    let told = refused(&locks, &rate, 1).await?.retry_after_ms;
    let day_ms = Rate::MAX_INTERVAL_MS;
    assert!(told <= day_ms && told > day_ms - 60_000, "{told}");
    if locks.is_exact() {
        assert_eq!(told, day_ms);
        let all = refused(&locks, &rate, Rate::MAX_TOKENS).await?;
        assert_eq!(all.retry_after_ms, day_ms * Rate::MAX_TOKENS);
        locks.outlive(day_ms - 1).await;
        refused(&locks, &rate, 1).await?;
        locks.outlive(1).await;
        assert_eq!(taken(&locks, &rate, 1).await?.remaining, 0);
    }
    Ok(())
}

/// Buckets of different names share nothing, and each starts full.
pub async fn buckets_are_independent(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = still(1);
    let names: [&[u8]; 6] = [b"a", b"b", b"{a}", b"a:", b"a\0", b"a\r\nb"];
    for name in names {
        assert!(locks.take(name, &rate, 1).await?.allowed, "{name:?}");
    }
    for name in names {
        assert!(!locks.take(name, &rate, 1).await?.allowed, "{name:?}");
    }
    Ok(())
}

/// Many at once get what is there, to the token.
pub async fn concurrent_takes_are_exact(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.limiters() else {
        return Ok(());
    };
    let rate = still(50);
    let counts = together(8, |_| {
        let locks = locks.clone();
        async move {
            let mut count = 0;
            for _ in 0..20 {
                count += u64::from(locks.take(NAME, &rate, 1).await?.allowed);
                tokio::task::yield_now().await;
            }
            Ok(count)
        }
    })
    .await?;
    assert_eq!(counts.iter().sum::<u64>(), 50);
    Ok(())
}
