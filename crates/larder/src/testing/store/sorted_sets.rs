//! Laws of sorted sets: members in order of score, then of bytes.

use bytes::Bytes;

use super::space::{Space, together};
use super::{SOON, StoreUnderTest};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::store::{Expiry, SortedSetOp, SortedSetReply};
use crate::testing::{sealed, sealed_integer};

type Members = Vec<(f64, Bytes)>;

fn members(listed: &[(f64, &'static str)]) -> Members {
    let owned = |(score, member): &(f64, &'static str)| (*score, Bytes::from(*member));
    listed.iter().map(owned).collect()
}

fn adding(listed: &[(f64, &'static str)], expiry: Expiry) -> SortedSetOp {
    let members = members(listed);
    SortedSetOp::Add { members, expiry }
}

fn ranks(start: i64, stop: i64, descending: bool) -> SortedSetOp {
    SortedSetOp::Range {
        start,
        stop,
        descending,
    }
}

fn names(listed: &[&'static str]) -> Vec<Bytes> {
    listed.iter().copied().map(Bytes::from).collect()
}

impl Space {
    async fn add(&self, listed: &[(f64, &'static str)]) -> Result<u64> {
        self.set_count(adding(listed, Expiry::Never)).await
    }

    async fn set_count(&self, op: SortedSetOp) -> Result<u64> {
        match self.sorted_set(b"set", op).await? {
            SortedSetReply::Count(count) => Ok(count),
            SortedSetReply::Members(_) => panic!("this operation counts"),
        }
    }

    async fn set_members(&self, op: SortedSetOp) -> Result<Members> {
        match self.sorted_set(b"set", op).await? {
            SortedSetReply::Members(members) => Ok(members),
            SortedSetReply::Count(_) => panic!("this operation lists"),
        }
    }

    async fn set_names(&self, op: SortedSetOp) -> Result<Vec<Bytes>> {
        let members = self.set_members(op).await?;
        Ok(members.into_iter().map(|(_, member)| member).collect())
    }

    async fn set_kind(&self, op: SortedSetOp) -> Option<ErrorKind> {
        self.sorted_set(b"set", op)
            .await
            .err()
            .map(|error| error.kind())
    }
}

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

/// Members are ordered by score, equal scores (0 and -0, too) by their bytes.
pub async fn members_are_ordered_by_score_then_bytes(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space
        .add(&[(1.0, "b"), (1.0, "B"), (1.0, "a"), (1.0, "ab"), (1.0, "")])
        .await?;
    space
        .add(&[
            (-1.5, "z"),
            (f64::INFINITY, "max"),
            (f64::NEG_INFINITY, "min"),
            (1e-300, "tiny"),
        ])
        .await?;
    space.add(&[(0.0, "n1"), (-0.0, "n2"), (0.0, "n3")]).await?;
    let ordered = names(&[
        "min", "z", "n1", "n2", "n3", "tiny", "", "B", "a", "ab", "b", "max",
    ]);
    assert_eq!(space.set_names(ranks(0, -1, false)).await?, ordered);
    let backwards: Vec<_> = ordered.into_iter().rev().collect();
    assert_eq!(space.set_names(ranks(0, -1, true)).await?, backwards);
    Ok(())
}

/// Ranks count from either end, and a range out of bounds is cut or empty.
pub async fn ranks_count_from_both_ends(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space
        .add(&[(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d")])
        .await?;
    let cases: [(i64, i64, bool, &[&'static str]); 12] = [
        (0, -1, false, &["a", "b", "c", "d"]),
        (0, 0, false, &["a"]),
        (0, 1, true, &["d", "c"]),
        (1, 2, false, &["b", "c"]),
        (-2, -1, false, &["c", "d"]),
        (-2, -1, true, &["b", "a"]),
        (2, 100, false, &["c", "d"]),
        (-100, 1, false, &["a", "b"]),
        (4, 9, false, &[]),
        (2, 1, false, &[]),
        (i64::MIN, i64::MAX, true, &["d", "c", "b", "a"]),
        (i64::MAX, i64::MIN, false, &[]),
    ];
    for (start, stop, descending, expected) in cases {
        let range = space.set_names(ranks(start, stop, descending)).await?;
        assert_eq!(
            range,
            names(expected),
            "{start}..={stop} descending {descending}"
        );
    }
    Ok(())
}

/// Ranges of scores include both ends and may be endless.
pub async fn score_ranges_include_both_ends(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    space
        .add(&[(1.0, "a"), (2.0, "b"), (2.0, "b2"), (3.0, "c")])
        .await?;
    let cases: [(f64, f64, &[&'static str]); 6] = [
        (1.0, 2.0, &["a", "b", "b2"]),
        (2.0, 2.0, &["b", "b2"]),
        (2.5, f64::INFINITY, &["c"]),
        (f64::NEG_INFINITY, f64::INFINITY, &["a", "b", "b2", "c"]),
        (3.5, 9.0, &[]),
        (2.0, 1.0, &[]),
    ];
    for (min, max, expected) in cases {
        let range = space
            .set_names(SortedSetOp::RangeByScore { min, max })
            .await?;
        assert_eq!(range, names(expected), "{min}..={max}");
    }
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

/// The number of members and the score of one can be asked; a missing set is an empty one.
pub async fn length_and_scores_can_be_asked(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let space = fixture.space();
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 0);
    assert_eq!(space.set_members(ranks(0, -1, false)).await?, []);
    assert_eq!(space.set_members(SortedSetOp::Score("a".into())).await?, []);
    assert_eq!(
        space.set_count(SortedSetOp::Remove(names(&["a"]))).await?,
        0
    );
    assert_eq!(space.get(b"set").await?, None, "asking creates nothing");
    let pi = std::f64::consts::PI;
    space.add(&[(pi, "a"), (-2.0, "b")]).await?;
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 2);
    assert_eq!(
        space.set_members(SortedSetOp::Score("a".into())).await?,
        members(&[(pi, "a")])
    );
    assert_eq!(space.set_members(SortedSetOp::Score("c".into())).await?, []);
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
