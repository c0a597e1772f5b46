//! Laws of counters: exact, bounded, and entries like any other.

use super::space::together;
use super::{SOON, StoreUnderTest};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::store::{Condition, Expiry, Write};
use crate::testing::{body, sealed_integer, sealed_text, unreadable, write_id};

/// A counter starts at zero and goes either way, also by nothing.
pub async fn counter_starts_at_zero_and_goes_both_ways(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    assert_eq!(space.increment(b"n", 0, Expiry::Never).await?, 0);
    assert_eq!(space.increment(b"n", 5, Expiry::Never).await?, 5);
    assert_eq!(space.increment(b"n", -12, Expiry::Never).await?, -7);
    assert_eq!(space.increment(b"down", -1, Expiry::Never).await?, -1);
    Ok(())
}

/// Concurrent increments lose nothing and no two of them return the same sum.
pub async fn concurrent_increments_are_exact(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    let sums = together(16, |_| {
        let space = space.clone();
        async move {
            let mut sums = Vec::new();
            for _ in 0..250 {
                sums.push(space.increment(b"n", 1, Expiry::Never).await?);
            }
            Ok(sums)
        }
    })
    .await?;
    let mut sums = sums.concat();
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=4000), "each sum is returned once");
    assert_eq!(space.increment(b"n", 0, Expiry::Never).await?, 4000);
    Ok(())
}

/// The first increment sets the expiry; later ones keep it, whatever they ask for.
pub async fn increment_keeps_the_expiry(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    space.increment(b"n", 1, SOON).await?;
    let at = space
        .entry(b"n")
        .await?
        .and_then(|entry| entry.expires_at_ms);
    assert_ne!(at, None);
    for expiry in [Expiry::Never, Expiry::Keep, Expiry::After(3_600_000)] {
        space.increment(b"n", 1, expiry).await?;
        let entry = space.entry(b"n").await?.expect("the counter lives");
        assert_eq!(entry.expires_at_ms, at);
    }
    fixture.outlive().await;
    assert_eq!(space.get(b"n").await?, None);
    space.increment(b"forever", 1, Expiry::Never).await?;
    space.increment(b"forever", 1, SOON).await?;
    fixture.outlive().await;
    assert_eq!(space.increment(b"forever", 0, Expiry::Never).await?, 2);
    Ok(())
}

/// A counter that expired, or whose bytes cannot be read, starts again at zero with the expiry of the increment.
pub async fn absent_counter_starts_with_its_own_expiry(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    space.increment(b"expired", 5, SOON).await?;
    fixture.outlive().await;
    space.put(b"junk", &unreadable(), Expiry::Never).await?;
    for key in [&b"expired"[..], b"junk"] {
        let shown = key.escape_ascii();
        assert_eq!(space.increment(key, 2, SOON).await?, 2, "{shown}");
        let entry = space.entry(key).await?.expect("the counter lives");
        assert_ne!(entry.expires_at_ms, None, "{shown}");
    }
    fixture.outlive().await;
    assert_eq!(space.get_many(&[b"expired", b"junk"]).await?, [None, None]);
    Ok(())
}

/// A sum out of range is `Overflow` and changes nothing.
pub async fn overflow_is_refused_and_changes_nothing(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    for (limit, over) in [(i64::MAX, 1), (i64::MIN, -1)] {
        space
            .put(b"n", &sealed_integer(limit), Expiry::Never)
            .await?;
        let refused = space.increment(b"n", over, Expiry::Never).await;
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(ErrorKind::Overflow)
        );
        assert_eq!(space.increment(b"n", 0, Expiry::Never).await?, limit);
        // Exact to the last bit also where the counter never was anything else.
        let near = limit - over;
        assert!(space.delete(b"n").await?);
        assert_eq!(space.increment(b"n", near, Expiry::Never).await?, near);
        assert_eq!(space.increment(b"n", over, Expiry::Never).await?, limit);
        let refused = space.increment(b"n", over, Expiry::Never).await;
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(ErrorKind::Overflow)
        );
        assert_eq!(space.increment(b"n", 0, Expiry::Never).await?, limit);
    }
    Ok(())
}

/// Incrementing what is no integer is `WrongType` and changes nothing.
pub async fn increment_of_what_is_no_integer_is_refused(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    for text in ["", "seven", "1.5", " 1", "01", "9223372036854775808"] {
        let entry = sealed_text(text);
        space.put(b"k", &entry, Expiry::Never).await?;
        let refused = space.increment(b"k", 1, Expiry::Never).await;
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(ErrorKind::WrongType),
            "{text:?}"
        );
        assert_eq!(space.get(b"k").await?, Some(entry));
    }
    Ok(())
}

/// An integer that `set` wrote, or text that is one, can be incremented.
pub async fn integers_that_were_set_can_be_incremented(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    for entry in [sealed_integer(41), sealed_text("41")] {
        space.put(b"n", &entry, SOON).await?;
        let at = space
            .entry(b"n")
            .await?
            .and_then(|entry| entry.expires_at_ms);
        assert_eq!(space.increment(b"n", 1, Expiry::Never).await?, 42);
        let entry = space.entry(b"n").await?.expect("the counter lives");
        assert_eq!(body(&entry.value).as_deref(), Some(&b"42"[..]));
        assert_eq!(entry.expires_at_ms, at);
    }
    Ok(())
}

/// A counter is an entry: it has a body and a write id that changes, it is listed, guarded and deleted.
pub async fn counter_is_an_entry_like_any_other(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let space = fixture.space();
    space.increment(b"n", 3, Expiry::Never).await?;
    let before = space.get(b"n").await?.expect("the counter exists");
    space.increment(b"n", 1, Expiry::Never).await?;
    let after = space.get(b"n").await?.expect("the counter exists");
    assert_eq!(body(&after).as_deref(), Some(&b"4"[..]));
    assert_ne!(write_id(&after), write_id(&before));
    let stale = Condition::IfUnchanged(write_id(&before));
    assert!(!space.write(Write::delete(b"n").when(stale)).await?);
    if fixture.capabilities().enumeration {
        assert_eq!(space.keys(&Glob::all(), 10).await?, [b"n"]);
    }
    let put = Write::put(b"n", sealed_integer(9), Expiry::Never);
    assert!(!space.write(put.when(Condition::IfAbsent)).await?);
    assert!(space.delete(b"n").await?);
    assert_eq!(space.increment(b"n", 1, Expiry::Never).await?, 1);
    Ok(())
}
