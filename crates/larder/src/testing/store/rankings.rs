//! Laws of asking sorted sets: members in order of score, then of bytes.

use super::StoreUnderTest;
use super::set_space::{members, names, ranks};
use crate::error::Result;
use crate::store::SortedSetOp;

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
