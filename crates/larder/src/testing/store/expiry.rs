//! Laws of time: what is expired is absent, to the millisecond where the clock allows.

use std::time::Duration;

use super::set_space::members;
use super::{SOON, StoreUnderTest};
use crate::error::Result;
use crate::glob::Glob;
use crate::store::{Expiry, SortedSetOp, Write};
use crate::testing::sealed;

/// An entry past its expiry reads as `None`, alone and among others.
pub async fn expired_entry_is_a_miss(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"x");
    space.put(b"dies", &entry, SOON).await?;
    space.put(b"lives", &entry, Expiry::Never).await?;
    assert_eq!(space.get(b"dies").await?, Some(entry.clone()));
    fixture.outlive().await;
    assert_eq!(space.get(b"dies").await?, None);
    assert_eq!(
        space.get_many(&[b"dies", b"lives"]).await?,
        [None, Some(entry)]
    );
    Ok(())
}

/// A TTL of a few milliseconds ends after so many milliseconds, not at the next second.
pub async fn short_ttl_ends_in_milliseconds(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"x");
    for ttl_ms in [1, 2, 5] {
        space.put(b"k", &entry, Expiry::After(ttl_ms)).await?;
        if fixture.time.is_some() {
            fixture.pass(Duration::from_millis(ttl_ms - 1)).await;
            assert_eq!(space.get(b"k").await?, Some(entry.clone()), "{ttl_ms} ms");
            fixture.pass(Duration::from_millis(1)).await;
        } else {
            fixture.pass(Duration::from_millis(ttl_ms)).await;
        }
        assert_eq!(space.get(b"k").await?, None, "{ttl_ms} ms");
    }
    Ok(())
}

/// The longest TTLs neither wrap around nor count as expired.
pub async fn long_ttls_do_not_wrap(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"x");
    let thousand_years_ms = 1000 * 365 * 24 * 3600 * 1000;
    for ttl_ms in [thousand_years_ms, i64::MAX as u64, u64::MAX] {
        space.put(b"k", &entry, Expiry::After(ttl_ms)).await?;
        space.store.prune(1000).await?;
        assert_eq!(space.get(b"k").await?, Some(entry.clone()), "{ttl_ms} ms");
        if fixture.capabilities().sorted_sets {
            let add = |member| SortedSetOp::Add {
                members: members(&[(1.0, member)]),
                expiry: Expiry::After(ttl_ms),
            };
            space.delete(b"set").await?;
            assert_eq!(space.set_count(add("a")).await?, 1, "{ttl_ms} ms");
            assert_eq!(space.set_count(add("b")).await?, 1, "{ttl_ms} ms");
            assert_eq!(space.set_count(SortedSetOp::Len).await?, 2, "{ttl_ms} ms");
        }
    }
    Ok(())
}

/// An entry reports when it expires, by the store's clock.
pub async fn expiry_is_reported_by_the_clock(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let clock = space.store.clock();
    let earliest = clock.now_ms() + 60_000;
    space
        .put(b"k", &sealed(b"x"), Expiry::After(60_000))
        .await?;
    let latest = clock.now_ms() + 60_000;
    let entry = space.entry(b"k").await?.expect("it lives for a minute");
    let at = entry.expires_at_ms.expect("it expires");
    // A server's clock may differ a little from ours.
    let slack = if fixture.time.is_some() { 0 } else { 1000 };
    assert!((earliest - slack..=latest + slack).contains(&at), "{at}");
    space.put(b"k", &sealed(b"x"), Expiry::Never).await?;
    let entry = space.entry(b"k").await?.expect("it never expires");
    assert_eq!(entry.expires_at_ms, None);
    Ok(())
}

/// `Keep` keeps the expiry of the entry that is overwritten or touched.
pub async fn keep_keeps_the_expiry(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (old, new) = (sealed(b"old"), sealed(b"new"));
    space.put(b"dies", &old, SOON).await?;
    space.put(b"lives", &old, Expiry::Never).await?;
    let at = space
        .entry(b"dies")
        .await?
        .and_then(|entry| entry.expires_at_ms);
    for key in [&b"dies"[..], b"lives"] {
        space.put(key, &new, Expiry::Keep).await?;
        assert!(space.write(Write::touch(key, Expiry::Keep)).await?);
    }
    let kept = space.entry(b"dies").await?.expect("it is not yet due");
    assert_eq!((kept.value, kept.expires_at_ms), (new.clone(), at));
    fixture.outlive().await;
    assert_eq!(
        space.get_many(&[b"dies", b"lives"]).await?,
        [None, Some(new)]
    );
    Ok(())
}

/// `Keep` without a live entry means never.
pub async fn keep_without_an_entry_means_never(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"expired", &sealed(b"old"), SOON).await?;
    fixture.outlive().await;
    for key in [&b"expired"[..], b"absent"] {
        space.put(key, &sealed(b"new"), Expiry::Keep).await?;
        let entry = space.entry(key).await?.expect("it was just stored");
        assert_eq!(entry.expires_at_ms, None);
    }
    Ok(())
}

/// An expired entry is neither listed nor counted, swept or not.
pub async fn expired_entry_is_neither_listed_nor_counted(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    for n in 0..20_u8 {
        let expiry = if n % 2 == 0 { SOON } else { Expiry::Never };
        space.put(&[b'k', n], &sealed(b"x"), expiry).await?;
    }
    fixture.outlive().await;
    let live: Vec<_> = (0..20)
        .filter(|n| n % 2 == 1)
        .map(|n| vec![b'k', n])
        .collect();
    for pattern in [Glob::all(), Glob::new("k*")?] {
        assert_eq!(space.keys(&pattern, 3).await?, live);
        assert_eq!(space.count(&pattern).await?, 10);
    }
    Ok(())
}

/// Deleting or touching an expired entry reports that there was none.
pub async fn expired_entry_cannot_be_deleted(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"a", &sealed(b"x"), SOON).await?;
    space.put(b"b", &sealed(b"x"), SOON).await?;
    fixture.outlive().await;
    let writes = [Write::delete(b"a"), Write::touch(b"b", Expiry::Never)];
    assert_eq!(space.write_many(&writes).await?, [false, false]);
    Ok(())
}

/// A prune, however often, removes expired entries only, and no more than its limit.
pub async fn prune_removes_only_expired_entries(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"x");
    for n in 0..30_u8 {
        let expiry = [SOON, Expiry::After(3_600_000), Expiry::Never][usize::from(n % 3)];
        space.put(&[n], &entry, expiry).await?;
    }
    // What was overwritten with a longer life must not go by its former expiry.
    space.put(&[0], &entry, Expiry::Never).await?;
    fixture.outlive().await;
    assert!(space.store.prune(1).await? <= 1);
    for _ in 0..3 {
        space.store.prune(1000).await?;
    }
    for n in 0..30_u8 {
        let lives = n == 0 || n % 3 != 0;
        assert_eq!(space.get(&[n]).await?.is_some(), lives, "entry {n}");
    }
    Ok(())
}
