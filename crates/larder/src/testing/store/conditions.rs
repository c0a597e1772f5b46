//! Laws of conditional writes: each is checked and applied in one step.

use super::space::together;
use super::{SOON, StoreUnderTest};
use crate::error::Result;
use crate::store::{Condition, Expiry, Write};
use crate::testing::{sealed, unreadable, write_id};

/// Of 64 concurrent puts under `IfAbsent` exactly one is applied, and its value stays.
pub async fn if_absent_is_exclusive(fixture: &StoreUnderTest) -> Result<()> {
    for _ in 0..8 {
        let space = fixture.space();
        let outcomes = together(64, |task| {
            let (space, entry) = (space.clone(), sealed(&[task as u8]));
            async move {
                let put = Write::put(b"k", entry.clone(), Expiry::Never);
                Ok((space.write(put.when(Condition::IfAbsent)).await?, entry))
            }
        })
        .await?;
        let winners: Vec<_> = outcomes.into_iter().filter(|(won, _)| *won).collect();
        assert_eq!(winners.len(), 1, "exactly one winner");
        assert_eq!(space.get(b"k").await?.as_ref(), Some(&winners[0].1));
    }
    Ok(())
}

/// `IfAbsent` refuses where there is an entry, and changes neither value nor expiry.
pub async fn if_absent_changes_nothing_where_there_is_an_entry(
    fixture: &StoreUnderTest,
) -> Result<()> {
    let space = fixture.space();
    let first = sealed(b"first");
    space.put(b"k", &first, SOON).await?;
    let before = space.entry(b"k").await?;
    let second = Write::put(b"k", sealed(b"second"), Expiry::Never).when(Condition::IfAbsent);
    assert!(!space.write(second).await?);
    assert_eq!(space.entry(b"k").await?, before);
    Ok(())
}

/// `IfAbsent` succeeds over an entry that has expired.
pub async fn if_absent_succeeds_over_an_expired_entry(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"k", &sealed(b"old"), SOON).await?;
    fixture.outlive().await;
    let new = sealed(b"new");
    let put = Write::put(b"k", new.clone(), Expiry::Never).when(Condition::IfAbsent);
    assert!(space.write(put.clone()).await?);
    assert!(!space.write(put).await?);
    assert_eq!(space.get(b"k").await?, Some(new));
    Ok(())
}

/// `IfAbsent` succeeds over bytes that are no entry, else a damaged key could never be added again.
pub async fn if_absent_succeeds_over_unreadable_bytes(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"k", &unreadable(), Expiry::Never).await?;
    let new = sealed(b"new");
    let put = Write::put(b"k", new.clone(), Expiry::Never).when(Condition::IfAbsent);
    assert!(space.write(put).await?);
    assert_eq!(space.get(b"k").await?, Some(new));
    Ok(())
}

/// `IfPresent` applies over a live entry and refuses where there is none, or an expired one.
pub async fn if_present_needs_a_live_entry(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (old, new) = (sealed(b"old"), sealed(b"new"));
    let put = Write::put(b"k", new.clone(), Expiry::Never).when(Condition::IfPresent);
    assert!(!space.write(put.clone()).await?);
    assert_eq!(space.get(b"k").await?, None);
    space.put(b"k", &old, Expiry::Never).await?;
    assert!(space.write(put.clone()).await?);
    assert_eq!(space.get(b"k").await?, Some(new));
    space.put(b"k", &old, SOON).await?;
    fixture.outlive().await;
    assert!(!space.write(put).await?);
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// Bytes that are no entry count as absent for `IfPresent`, also for a touch.
pub async fn if_present_counts_unreadable_bytes_as_absent(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"k", &unreadable(), Expiry::Never).await?;
    let put = Write::put(b"k", sealed(b"new"), Expiry::Never);
    assert!(!space.write(put.when(Condition::IfPresent)).await?);
    assert!(!space.write(Write::touch(b"k", Expiry::Never)).await?);
    Ok(())
}

/// `IfUnchanged` applies to the entry with that write id only.
pub async fn if_unchanged_needs_the_same_write_id(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (first, second) = (sealed(b"same"), sealed(b"same"));
    let swap = |id| {
        let put = Write::put(b"k", second.clone(), Expiry::Never);
        put.when(Condition::IfUnchanged(id))
    };
    assert!(!space.write(swap(write_id(&first))).await?, "no entry");
    space.put(b"k", &first, Expiry::Never).await?;
    assert!(!space.write(swap(write_id(&second))).await?, "another id");
    assert_eq!(space.get(b"k").await?, Some(first.clone()));
    assert!(space.write(swap(write_id(&first))).await?);
    assert!(!space.write(swap(write_id(&first))).await?, "changed since");
    assert_eq!(space.get(b"k").await?, Some(second.clone()));
    space.put(b"k", &second, SOON).await?;
    fixture.outlive().await;
    assert!(!space.write(swap(write_id(&second))).await?, "expired");
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// Of 32 concurrent swaps of the same entry exactly one is applied.
pub async fn if_unchanged_is_exclusive(fixture: &StoreUnderTest) -> Result<()> {
    for _ in 0..8 {
        let space = fixture.space();
        let first = sealed(b"first");
        space.put(b"k", &first, Expiry::Never).await?;
        let seen = Condition::IfUnchanged(write_id(&first));
        let outcomes = together(32, |task| {
            let (space, entry) = (space.clone(), sealed(&[task as u8]));
            async move {
                let put = Write::put(b"k", entry.clone(), Expiry::Keep).when(seen);
                Ok((space.write(put).await?, entry))
            }
        })
        .await?;
        let winners: Vec<_> = outcomes.into_iter().filter(|(won, _)| *won).collect();
        assert_eq!(winners.len(), 1, "exactly one winner");
        assert_eq!(space.get(b"k").await?.as_ref(), Some(&winners[0].1));
    }
    Ok(())
}

/// Deletes and touches obey conditions, too.
pub async fn conditions_guard_deletes_and_touches(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"x");
    let (right, wrong) = (write_id(&entry), write_id(&entry) ^ 1);
    let delete = |condition| Write::delete(b"k").when(condition);
    let touch = |condition| Write::touch(b"k", Expiry::After(60_000)).when(condition);
    assert!(!space.write(delete(Condition::IfAbsent)).await?);
    space.put(b"k", &entry, Expiry::Never).await?;
    assert!(!space.write(delete(Condition::IfAbsent)).await?);
    assert!(!space.write(delete(Condition::IfUnchanged(wrong))).await?);
    assert!(!space.write(touch(Condition::IfUnchanged(wrong))).await?);
    let untouched = space.entry(b"k").await?.expect("nothing was applied");
    assert_eq!((untouched.value, untouched.expires_at_ms), (entry, None));
    assert!(space.write(touch(Condition::IfUnchanged(right))).await?);
    assert!(space.write(delete(Condition::IfUnchanged(right))).await?);
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// A touch changes the expiry and leaves the value with its write id.
pub async fn touch_changes_the_expiry_only(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"x");
    space.put(b"k", &entry, SOON).await?;
    assert!(space.write(Write::touch(b"k", Expiry::Never)).await?);
    fixture.outlive().await;
    let kept = space.entry(b"k").await?.expect("it never expires");
    assert_eq!((&kept.value, kept.expires_at_ms), (&entry, None));
    assert!(space.write(Write::touch(b"k", SOON)).await?);
    assert_eq!(space.get(b"k").await?, Some(entry));
    fixture.outlive().await;
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// A touch of what is not there is not applied and creates nothing, whatever its condition.
pub async fn touch_of_a_missing_entry_is_not_applied(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let touch = Write::touch(b"k", Expiry::Never);
    for condition in [Condition::IfPresent, Condition::Always, Condition::IfAbsent] {
        assert!(!space.write(touch.clone().when(condition)).await?);
    }
    assert_eq!(space.get(b"k").await?, None);
    space.put(b"k", &sealed(b"x"), SOON).await?;
    fixture.outlive().await;
    assert!(!space.write(touch).await?, "an expired entry stays expired");
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}
