//! Laws of sorted sets: adding, removing, and being an entry like any other.

use bytes::Bytes;

use super::set_space::{Members, adding, members, names, ranks};
use super::space::together;
use super::{SOON, StoreUnderTest};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::store::{Expiry, SortedSetOp};
use crate::testing::{sealed, sealed_integer};

/// Adding counts new members only and changes the scores of known ones; of repeated ones the last counts.
pub async fn adding_counts_new_members_and_changes_scores(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    assert_eq!(space.add(&[(1.0, "a"), (2.0, "b")]).await?, 2);
    assert_eq!(space.add(&[(3.0, "a"), (2.5, "c")]).await?, 1);
    assert_eq!(space.add(&[(3.0, "a")]).await?, 0);
    assert_eq!(space.add(&[(9.0, "d"), (4.0, "d")]).await?, 1);
    assert_eq!(space.add(&[]).await?, 0);
    let all = members(&[(2.0, "b"), (2.5, "c"), (3.0, "a"), (4.0, "d")]);
    assert_eq!(space.set_members(ranks(0, -1, false)).await?, all);
    Ok(())
}

/// Members can be removed by name and by score, and are counted once.
pub async fn members_are_removed_by_name_and_by_score(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space
        .add(&[(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d"), (5.0, "e")])
        .await?;
    let remove = SortedSetOp::Remove(names(&["b", "b", "none"]));
    assert_eq!(space.set_count(remove.clone()).await?, 1);
    assert_eq!(space.set_count(remove).await?, 0);
    let low = SortedSetOp::RemoveByScore {
        min: f64::NEG_INFINITY,
        max: 3.0,
    };
    assert_eq!(space.set_count(low.clone()).await?, 2);
    assert_eq!(space.set_count(low).await?, 0);
    assert_eq!(
        space.set_members(ranks(0, -1, false)).await?,
        members(&[(4.0, "d"), (5.0, "e")])
    );
    Ok(())
}

/// Members are any bytes.
pub async fn members_may_hold_any_bytes(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    let any = super::keys::awkward_keys();
    let members: Members = any.into_iter().map(|member| (1.0, member.into())).collect();
    let expiry = Expiry::Never;
    let add = SortedSetOp::Add {
        members: members.clone(),
        expiry,
    };
    assert_eq!(space.set_count(add).await?, members.len() as u64);
    assert_eq!(space.set_members(ranks(0, -1, false)).await?, members);
    Ok(())
}

/// A set without members is no entry; adding nothing creates none.
pub async fn empty_set_disappears(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    assert_eq!(space.add(&[]).await?, 0);
    assert!(!space.delete(b"set").await?);
    space.add(&[(1.0, "a"), (2.0, "b")]).await?;
    space.set_count(SortedSetOp::Remove(names(&["a"]))).await?;
    assert!(space.get(b"set").await?.is_some());
    let rest = SortedSetOp::RemoveByScore { min: 0.0, max: 9.0 };
    assert_eq!(space.set_count(rest).await?, 1);
    assert_eq!(space.get(b"set").await?, None);
    assert!(!space.delete(b"set").await?);
    space
        .put(b"set", &sealed(b"a plain value"), Expiry::Never)
        .await
}

/// A set is an entry: listed, counted, cleared and deleted like any other.
pub async fn set_is_an_entry_like_any_other(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space.add(&[(1.0, "a")]).await?;
    if fixture.capabilities().enumeration {
        assert_eq!(space.keys(&Glob::all(), 10).await?, [b"set"]);
        assert_eq!(space.count(&Glob::all()).await?, 1);
    }
    assert!(space.delete(b"set").await?);
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 0);
    space.add(&[(1.0, "a")]).await?;
    space.clear().await?;
    assert_eq!(space.add(&[(2.0, "a")]).await?, 1);
    Ok(())
}

/// Set operations refuse values and counters, and increments refuse sets: `WrongType`, nothing changed.
pub async fn kinds_of_entries_do_not_mix(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    for entry in [sealed(b"text"), sealed_integer(5)] {
        space.put(b"set", &entry, Expiry::Never).await?;
        let ops = [
            adding(&[(1.0, "a")], Expiry::Never),
            SortedSetOp::Remove(names(&["a"])),
            SortedSetOp::RemoveByScore { min: 0.0, max: 1.0 },
            ranks(0, -1, false),
            SortedSetOp::RangeByScore { min: 0.0, max: 1.0 },
            SortedSetOp::Len,
            SortedSetOp::Score("a".into()),
        ];
        for op in ops {
            assert_eq!(
                space.set_kind(op.clone()).await,
                Some(ErrorKind::WrongType),
                "{op:?}"
            );
        }
        assert_eq!(space.get(b"set").await?, Some(entry));
    }
    space.delete(b"set").await?;
    space.add(&[(1.0, "a")]).await?;
    if fixture.capabilities().counters {
        let refused = space.increment(b"set", 1, Expiry::Never).await;
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(ErrorKind::WrongType)
        );
    }
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 1);
    Ok(())
}

/// A score that is not a number is `InvalidArgument`, and nothing of that call is added.
pub async fn scores_that_are_no_numbers_are_refused(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    let add = adding(&[(1.0, "a"), (f64::NAN, "b"), (2.0, "c")], Expiry::Never);
    assert_eq!(
        space.set_kind(add.clone()).await,
        Some(ErrorKind::InvalidArgument)
    );
    assert_eq!(space.get(b"set").await?, None);
    space.add(&[(5.0, "a")]).await?;
    assert_eq!(space.set_kind(add).await, Some(ErrorKind::InvalidArgument));
    assert_eq!(
        space.set_members(ranks(0, -1, false)).await?,
        members(&[(5.0, "a")])
    );
    Ok(())
}

/// Concurrent adds and removes lose nothing.
pub async fn concurrent_set_operations_lose_nothing(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space.add(&[(-1.0, "first")]).await?;
    let counts = together(8, |task| {
        let space = space.clone();
        async move {
            let mut added = 0;
            for n in 0..16 {
                let own = (n as f64, Bytes::from(format!("{task}-{n}")));
                let shared = (1.0, Bytes::from(format!("shared-{n}")));
                let expiry = Expiry::Never;
                let members = vec![own, shared];
                added += space
                    .set_count(SortedSetOp::Add { members, expiry })
                    .await?;
            }
            let first = Bytes::from(format!("{task}-0"));
            let removed = space.set_count(SortedSetOp::Remove(vec![first])).await?;
            Ok((added, removed))
        }
    })
    .await?;
    let added: u64 = counts.iter().map(|(added, _)| added).sum();
    assert_eq!(added, 8 * 16 + 16, "each new member is counted once");
    assert!(counts.iter().all(|(_, removed)| *removed == 1));
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 1 + added - 8);
    Ok(())
}

/// The first add sets the expiry; later changes keep it, and an expired set is an empty one.
pub async fn set_changes_keep_the_expiry(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space
        .set_count(adding(&[(1.0, "a"), (2.0, "b")], SOON))
        .await?;
    let at = space
        .entry(b"set")
        .await?
        .and_then(|entry| entry.expires_at_ms);
    assert_ne!(at, None);
    space.add(&[(3.0, "c")]).await?;
    space.set_count(SortedSetOp::Remove(names(&["a"]))).await?;
    let entry = space.entry(b"set").await?.expect("the set lives");
    assert_eq!(entry.expires_at_ms, at);
    fixture.outlive().await;
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 0);
    assert_eq!(space.add(&[(4.0, "a")]).await?, 1);
    let entry = space.entry(b"set").await?.expect("the set is new");
    assert_eq!(entry.expires_at_ms, None);
    Ok(())
}
