//! Laws of entries that depend on registers: valid while each has the stamped number, else as if they were not there.

use std::time::Duration;

use super::tag_space::{LONG_MS, entry_of, hard, subtree, tag};
use super::{SOON, StoreUnderTest};
use crate::error::Result;
use crate::glob::Glob;
use crate::store::{Condition, Expiry, MIN_REGISTER_MS, SortedSetOp, Write};
use crate::testing::{sealed, sealed_integer, stamped, write_id};

/// An entry under the present stamps is read back as it was stored, captured by hand or by the store.
pub async fn entries_under_present_stamps_are_read_back(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("a"), tag("a:b")];
    let stamps = space.capture(b"k", &registers).await?;
    let entry = entry_of(b"v", &stamps);
    space.put(b"k", &entry, Expiry::After(LONG_MS)).await?;
    let read = space.entry(b"k").await?.expect("it is valid");
    assert_eq!((&read.value, read.is_stale), (&entry, false));
    assert!(read.expires_at_ms.is_some(), "it keeps its expiry");
    space.put_tagged(b"k", b"whole", &registers).await?;
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"whole"[..]));
    assert_eq!(
        hard(&space.capture(b"k", &registers).await?),
        hard(&stamps),
        "writes capture, they do not change registers"
    );
    space.put_tagged(b"k", b"free", &[]).await?;
    space.invalidate(&registers).await?;
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"free"[..]));
    Ok(())
}

/// An entry that the store stamped itself expires as asked, and replaces what was there.
pub async fn stamped_puts_expire(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged(b"k", b"old", &registers).await?;
    space.put_tagged_for(b"k", b"new", &registers, SOON).await?;
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"new"[..]));
    fixture.outlive().await;
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// An entry dies with any of its registers, and with no other.
pub async fn entries_die_with_any_of_their_registers(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [
        subtree("user"),
        subtree("user:1"),
        tag("user:1:photo"),
        tag("b"),
    ];
    for dead in &registers {
        space.put_tagged(b"k", b"v", &registers).await?;
        space.put_tagged(b"other", b"v", &[tag("c")]).await?;
        space.put(b"free", &sealed(b"v"), Expiry::Never).await?;
        let others = [
            tag("user"),
            tag("user:1"),
            subtree("b"),
            subtree("user:1:photo"),
        ];
        space.invalidate(&others).await?;
        assert!(space.get(b"k").await?.is_some(), "before {dead:?}");
        space.invalidate(std::slice::from_ref(dead)).await?;
        let read = space.get_many(&[b"k", b"other", b"free"]).await?;
        let is_there: Vec<_> = read.iter().map(Option::is_some).collect();
        assert_eq!(is_there, [false, true, true], "after {dead:?}");
    }
    Ok(())
}

/// An entry whose registers were never there, or were lost, is invalid.
pub async fn entries_without_their_registers_are_invalid(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let elsewhere = fixture.space();
    let registers = [tag("a"), tag("b")];
    let stamps = elsewhere.capture(b"k", &registers).await?;
    let foreign = entry_of(b"v", &stamps);
    space.put(b"k", &foreign, Expiry::Never).await?;
    assert_eq!(space.get(b"k").await?, None, "no register is there");
    let own = space.capture(b"k", &registers[..1]).await?;
    let half = entry_of(b"v", &[own[0].clone(), stamps[1].clone()]);
    space.put(b"k", &half, Expiry::Never).await?;
    assert_eq!(space.get(b"k").await?, None, "one of two is there");
    space.put_tagged(b"k", b"v", &registers).await?;
    assert!(space.get(b"k").await?.is_some());
    Ok(())
}

/// Stamps captured before an invalidation are dead, however late they are written, and whoever captured since.
pub async fn stamps_of_before_are_dead(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("a"), tag("a:b")];
    for dead in &registers {
        let stamps = space.capture(b"k", &registers).await?;
        space.invalidate(std::slice::from_ref(dead)).await?;
        let late = entry_of(b"late", &stamps);
        space.put(b"k", &late, Expiry::Never).await?;
        assert_eq!(space.get(b"k").await?, None, "{dead:?} is not there");
        space.capture(b"k", &registers).await?;
        assert_eq!(space.get(b"k").await?, None, "{dead:?} is new");
        space.put_tagged(b"other", b"v", &registers).await?;
        space.put(b"k", &late, Expiry::Never).await?;
        assert_eq!(space.get(b"k").await?, None, "{dead:?} is in use");
    }
    Ok(())
}

/// For conditions, an invalid entry is absent, its write id included.
pub async fn conditions_count_invalid_entries_as_absent(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    let new = sealed(b"new");
    for condition in [Condition::IfAbsent, Condition::IfVacant, Condition::Always] {
        space.put_tagged(b"k", b"old", &registers).await?;
        let put = Write::put(b"k", new.clone(), Expiry::Never).when(condition);
        let applies = space.write(put.clone()).await?;
        assert_eq!(applies, condition == Condition::Always, "{condition:?}");
        space.put_tagged(b"k", b"old", &registers).await?;
        space.invalidate(&registers).await?;
        assert!(space.write(put).await?, "{condition:?}");
        assert_eq!(space.get(b"k").await?.as_ref(), Some(&new), "{condition:?}");
    }
    let stamps = space.capture(b"k", &registers).await?;
    let old = entry_of(b"old", &stamps);
    for condition in [Condition::IfPresent, Condition::IfUnchanged(write_id(&old))] {
        space.put(b"k", &old, Expiry::Never).await?;
        let put = Write::put(b"k", old.clone(), Expiry::Never).when(condition);
        assert!(space.write(put.clone()).await?, "{condition:?}");
    }
    space.invalidate(&registers).await?;
    for condition in [Condition::IfPresent, Condition::IfUnchanged(write_id(&old))] {
        let put = Write::put(b"k", new.clone(), Expiry::Never).when(condition);
        assert!(!space.write(put).await?, "{condition:?}");
        assert_eq!(space.get(b"k").await?, None, "{condition:?}");
    }
    Ok(())
}

/// An invalid entry is neither deleted nor touched, and a touch does not revive it.
pub async fn invalid_entries_are_neither_deleted_nor_touched(
    fixture: &StoreUnderTest,
) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), tag("b")];
    space.put_tagged(b"k", b"v", &registers).await?;
    assert!(space.write(Write::touch(b"k", Expiry::Never)).await?);
    assert!(space.delete(b"k").await?);
    space.put_tagged(b"k", b"v", &registers).await?;
    space.invalidate(&registers[1..]).await?;
    for condition in [Condition::IfPresent, Condition::Always, Condition::IfAbsent] {
        let touch = Write::touch(b"k", Expiry::Never).when(condition);
        assert!(!space.write(touch).await?, "{condition:?}");
        assert_eq!(space.get(b"k").await?, None, "{condition:?}");
    }
    assert!(!space.delete(b"k").await?);
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// `Keep` over an invalid entry means never: its expiry died with it.
pub async fn keep_forgets_the_expiry_of_invalid_entries(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged_for(b"k", b"old", &registers, SOON).await?;
    space.invalidate(&registers).await?;
    space.put(b"k", &sealed(b"new"), Expiry::Keep).await?;
    let entry = space.entry(b"k").await?.expect("it was just stored");
    assert_eq!(entry.expires_at_ms, None);
    Ok(())
}

/// An increment goes on from a valid counter and keeps its stamps; an invalid one starts anew, with its own expiry.
pub async fn increments_obey_registers(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    if !fixture.capabilities().counters {
        return Ok(());
    }
    let registers = [tag("a")];
    let stamps = space.capture(b"n", &registers).await?;
    let counter = stamped(&sealed_integer(40), stamps);
    let expiry = Expiry::After(LONG_MS);
    space.put(b"n", &counter, expiry).await?;
    assert_eq!(space.increment(b"n", 2, Expiry::Never).await?, 42);
    space.invalidate(&registers).await?;
    assert_eq!(space.get(b"n").await?, None, "the sum carries the stamps");
    assert_eq!(space.increment(b"n", 5, Expiry::Never).await?, 5);
    let entry = space.entry(b"n").await?.expect("it was just counted");
    assert_eq!(entry.expires_at_ms, None, "it has its own expiry");
    space.invalidate(&registers).await?;
    assert_eq!(space.increment(b"n", 1, Expiry::Never).await?, 6);
    Ok(())
}

/// A sorted set over an invalid entry starts anew, whatever that was.
pub async fn sorted_sets_start_anew_over_invalid_entries(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    if !fixture.capabilities().sorted_sets {
        return Ok(());
    }
    let registers = [tag("a")];
    space.put_tagged(b"set", b"no set", &registers).await?;
    space.invalidate(&registers).await?;
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 0);
    assert_eq!(space.add(&[(1.0, "a"), (2.0, "b")]).await?, 2);
    assert_eq!(space.set_count(SortedSetOp::Len).await?, 2);
    Ok(())
}

/// An invalid entry is neither listed nor counted.
pub async fn invalid_entries_are_neither_listed_nor_counted(
    fixture: &StoreUnderTest,
) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let sets = [
        vec![tag("a")],
        vec![tag("b")],
        vec![tag("a"), tag("b")],
        vec![],
    ];
    for n in 0..20_u8 {
        let registers = &sets[usize::from(n % 4)];
        space.put_tagged(&[b'k', n], b"v", registers).await?;
    }
    assert_eq!(space.keys(&Glob::all(), 3).await?.len(), 20);
    space.invalidate(&[tag("a")]).await?;
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

/// A soft invalidation makes entries stale for everyone who reads, and nothing else.
pub async fn soft_invalidation_makes_entries_stale(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), tag("b")];
    for soft in &registers {
        let before = space.capture(b"late", &registers).await?;
        space.put_tagged(b"k", b"v", &registers).await?;
        space.put_tagged(b"other", b"v", &[tag("c")]).await?;
        space.soften(std::slice::from_ref(soft)).await?;
        assert_eq!(space.staleness(b"k").await?, Some(true), "{soft:?}");
        assert_eq!(space.staleness(b"other").await?, Some(false), "{soft:?}");
        let add = Write::put(b"k", sealed(b"new"), Expiry::Never);
        assert!(!space.write(add.when(Condition::IfAbsent)).await?);
        assert!(space.write(Write::touch(b"k", Expiry::Never)).await?);
        assert_eq!(space.staleness(b"k").await?, Some(true), "touched");
        let late = entry_of(b"late", &before);
        space.put(b"late", &late, Expiry::Never).await?;
        assert_eq!(space.staleness(b"late").await?, Some(true), "{soft:?}");
        let after = space.capture(b"late", &registers).await?;
        assert_eq!(hard(&after), hard(&before), "soft is not hard");
        space.put_tagged(b"fresh", b"v", &registers).await?;
        assert_eq!(space.staleness(b"fresh").await?, Some(false), "{soft:?}");
        assert!(space.delete(b"k").await?, "a stale entry is an entry");
    }
    Ok(())
}

/// A hard invalidation ends what is stale, too; soft ones after it do not bring it back.
pub async fn hard_invalidation_ends_stale_entries(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), tag("b")];
    space.put_tagged(b"k", b"v", &registers).await?;
    space.soften(&registers).await?;
    space.soften(&registers).await?;
    assert_eq!(space.staleness(b"k").await?, Some(true));
    space.invalidate(&registers[..1]).await?;
    assert_eq!(space.staleness(b"k").await?, None);
    space.capture(b"k", &registers).await?;
    space.soften(&registers).await?;
    assert_eq!(space.staleness(b"k").await?, None);
    Ok(())
}

/// An entry may depend on 64 registers of long names, and dies with the last of them.
pub async fn entries_may_have_many_registers(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let name = |n| format!("{n:02}:{}", "x".repeat(197));
    let registers: Vec<_> = (0..64).map(|n| tag(&name(n))).collect();
    for dead in [0, 31, 63] {
        space.put_tagged(b"k", b"v", &registers).await?;
        assert_eq!(space.staleness(b"k").await?, Some(false));
        space.soften(&registers[dead..=dead]).await?;
        assert_eq!(space.staleness(b"k").await?, Some(true), "register {dead}");
        space.invalidate(&registers[dead..=dead]).await?;
        assert_eq!(space.staleness(b"k").await?, None, "register {dead}");
    }
    let had = space.invalidate(&registers).await?;
    assert_eq!(had.iter().filter(|had| **had).count(), 63);
    Ok(())
}

/// Registers last as long as the entries that need them, however long nobody captures them.
pub async fn registers_outlive_their_entries(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    if fixture.time.is_none() {
        return Ok(());
    }
    let registers = [subtree("a"), tag("a:b")];
    let lives = Expiry::After(5 * MIN_REGISTER_MS);
    let stamps = space.capture(b"put", &registers).await?;
    let entry = entry_of(b"v", &stamps);
    space.put(b"put", &entry, lives).await?;
    space
        .put_tagged_for(b"sealed", b"v", &registers, lives)
        .await?;
    let brief = Expiry::After(MIN_REGISTER_MS / 2);
    space
        .put_tagged_for(b"brief", b"v", &registers, brief)
        .await?;
    space
        .put_tagged_for(b"touched", b"v", &[tag("t")], brief)
        .await?;
    space.write(Write::touch(b"touched", lives)).await?;
    space.put_tagged(b"kept", b"v", &[tag("kept")]).await?;
    for _ in 0..4 {
        fixture.pass(Duration::from_millis(MIN_REGISTER_MS)).await;
        space.store.prune(1000).await?;
    }
    // So many that a store looks for those that nobody needs.
    for batch in 0..70 {
        let many: Vec<_> = (0..60).map(|n| tag(&format!("{batch}-{n}"))).collect();
        space.capture(b"put", &many).await?;
    }
    let keys: [&[u8]; 5] = [b"put", b"sealed", b"brief", b"touched", b"kept"];
    let read = space.get_many(&keys).await?;
    let is_there: Vec<_> = read.iter().map(Option::is_some).collect();
    assert_eq!(is_there, [true, true, false, true, true]);
    assert_eq!(space.invalidate(&registers).await?, [true, true]);
    assert_eq!(space.get(b"put").await?, None);
    Ok(())
}
