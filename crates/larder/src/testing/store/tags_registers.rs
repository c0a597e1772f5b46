//! Laws of registers: created once, with numbers that never come back, and changed by invalidations alone.

use std::collections::HashSet;

use super::StoreUnderTest;
use super::space::{Space, together};
use super::tag_space::{entry_of, hard, subtree, tag, token};
use crate::error::Result;
use crate::store::{Expiry, Register, Stamp, Write};
use crate::testing::sealed;

/// The first capture creates a register; later ones return the same numbers until it is invalidated.
pub async fn captures_return_the_same_numbers(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let (a, b) = (tag("a"), subtree("b"));
    let first = space.capture(b"k", std::slice::from_ref(&a)).await?;
    let both = space.capture(b"k", &[b.clone(), a.clone()]).await?;
    assert_eq!(both[1], first[0], "what is there stays as it is");
    assert_eq!(space.capture(b"k", &[b, a]).await?, both);
    assert_eq!(space.capture(b"k", &[]).await?, []);
    Ok(())
}

/// A tag and the subtree of its name, other tags and other namespaces have registers of their own.
pub async fn registers_have_numbers_of_their_own(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [
        tag("a"),
        subtree("a"),
        tag("a:b"),
        tag("A"),
        tag("ab"),
        tag("a "),
    ];
    let mut numbers = HashSet::new();
    for space in [&space, &fixture.space()] {
        let stamps = space.capture(b"k", &registers).await?;
        numbers.extend(stamps.iter().flat_map(|stamp| [stamp.hard, stamp.soft]));
    }
    assert_eq!(numbers.len(), 4 * registers.len(), "a number came twice");
    assert_eq!(space.invalidate(&registers[..1]).await?, [true]);
    let stamps = space.capture(b"k", &registers).await?;
    assert!(!numbers.contains(&stamps[0].hard), "a new number");
    assert!(
        stamps[1..]
            .iter()
            .all(|stamp| numbers.contains(&stamp.hard))
    );
    Ok(())
}

/// Captures at the same moment agree on what they create.
pub async fn concurrent_captures_agree(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    for round in 0..10 {
        let names: Vec<_> = (0..4).map(|n| tag(&format!("{round}-{n}"))).collect();
        let captured = together(16, |task| {
            let (space, mut names) = (space.clone(), names.clone());
            async move {
                if task % 2 == 0 {
                    names.reverse();
                }
                let mut stamps = space.capture(b"k", &names).await?;
                stamps.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                Ok(stamps)
            }
        })
        .await?;
        assert!(captured.iter().all(|stamps| *stamps == captured[0]));
    }
    Ok(())
}

/// A number that was invalidated is dead for good: each creation has a new one.
pub async fn numbers_never_come_back(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), subtree("a")];
    let mut numbers = HashSet::new();
    let mut entries = Vec::new();
    for round in 0..20_u8 {
        let stamps = space.capture(b"k", &registers).await?;
        for number in hard(&stamps) {
            assert!(numbers.insert(number), "round {round} repeats a number");
        }
        entries.push(entry_of(&[round], &stamps));
        assert_eq!(space.invalidate(&registers).await?, [true, true]);
    }
    for created_again in [false, true] {
        if created_again {
            space.capture(b"k", &registers).await?;
        }
        for entry in &entries {
            space.put(b"k", entry, Expiry::Never).await?;
            assert_eq!(space.get(b"k").await?, None, "{created_again}");
        }
    }
    Ok(())
}

/// An invalidation tells which registers were there.
pub async fn invalidation_tells_what_was_there(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let all = [tag("a"), tag("b"), subtree("a")];
    space.capture(b"k", &all[..1]).await?;
    space.capture(b"other", &all[2..]).await?;
    assert_eq!(space.soften(&all).await?, [true, false, true]);
    assert_eq!(space.invalidate(&all).await?, [true, false, true]);
    assert_eq!(space.invalidate(&all).await?, [false; 3]);
    assert_eq!(space.soften(&all).await?, [false; 3]);
    space.capture(b"k", &all[1..2]).await?;
    assert_eq!(space.invalidate(&all).await?, [false, true, false]);
    Ok(())
}

/// To invalidate nothing, or what nobody uses, is fine, and harms no entry.
pub async fn invalidating_nothing_is_fine(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let used = [tag("used")];
    space.put_tagged(b"k", b"v", &used).await?;
    assert!(space.invalidate(&[]).await?.is_empty());
    assert!(space.soften(&[]).await?.is_empty());
    assert_eq!(space.invalidate(&[tag("unused")]).await?, [false]);
    assert_eq!(space.staleness(b"k").await?, Some(false));
    Ok(())
}

/// Invalidations in one namespace leave the registers of others alone.
pub async fn invalidation_stays_in_its_namespace(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let (other, registers) = (fixture.space(), [tag("a")]);
    for space in [&space, &other] {
        space.put_tagged(b"k", b"v", &registers).await?;
    }
    space.soften(&registers).await?;
    assert_eq!(other.staleness(b"k").await?, Some(false));
    space.invalidate(&registers).await?;
    space.clear().await?;
    assert_eq!(other.staleness(b"k").await?, Some(false));
    Ok(())
}

async fn any(space: &Space) -> Result<Stamp> {
    Ok(space.capture(b"k", &[Register::any()]).await?.remove(0))
}

/// The register of all invalidations changes with each of them, hard or soft, of whatever.
pub async fn any_changes_with_each_invalidation(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let used = [tag("used")];
    space.capture(b"k", &used).await?;
    let mut numbers = HashSet::from([any(&space).await?.hard]);
    let sets = [&[][..], &[tag("unused")], &used, &used];
    for registers in sets {
        space.soften(registers).await?;
        assert!(numbers.insert(any(&space).await?.hard), "{registers:?}");
        space.invalidate(registers).await?;
        assert!(numbers.insert(any(&space).await?.hard), "{registers:?}");
    }
    Ok(())
}

/// Nothing but an invalidation changes the register of all of them.
pub async fn any_changes_with_nothing_else(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let before = any(&space).await?;
    let (registers, id) = ([tag("a"), subtree("a")], token());
    space.put_tagged(b"k", b"v", &registers).await?;
    space.put(b"other", &sealed(b"v"), Expiry::Never).await?;
    space.delete(b"k").await?;
    let stamps = space.begun(b"k", &registers, id).await?;
    assert!(space.commit(b"k", id, b"loaded", &stamps).await?);
    space.write(Write::touch(b"k", Expiry::Never)).await?;
    space.begin(b"k", &[tag("b")], token()).await?;
    fixture.space().invalidate(&registers).await?;
    assert_eq!(any(&space).await?, before);
    assert_eq!(any(&space).await?, before, "nor does it change by itself");
    Ok(())
}

/// No entry depends on the register of all invalidations: its stamp is a note to the loader.
pub async fn any_invalidates_no_entry(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), Register::any()];
    let stamps = space.capture(b"k", &registers).await?;
    space
        .put(b"k", &entry_of(b"v", &stamps), Expiry::Never)
        .await?;
    space.invalidate(&[tag("b")]).await?;
    assert_eq!(space.staleness(b"k").await?, Some(false));
    space.invalidate(&registers[..1]).await?;
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// A clear drops registers: stamps of before are dead, also when the registers are there again.
pub async fn clear_drops_registers(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), subtree("a")];
    let old = space.capture(b"k", &registers).await?;
    space.clear().await?;
    for created_again in [false, true] {
        if created_again {
            let new = space.capture(b"k", &registers).await?;
            assert!(hard(&new).iter().all(|number| !hard(&old).contains(number)));
        }
        let late = entry_of(b"late", &old);
        space.put(b"k", &late, Expiry::Never).await?;
        assert_eq!(space.get(b"k").await?, None, "{created_again}");
    }
    space.put_tagged(b"k", b"new", &registers).await?;
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"new"[..]));
    Ok(())
}

/// Tags of the greatest length and depth, and of characters that mean something somewhere, are different registers.
pub async fn names_may_be_long_and_strange(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let long = "x".repeat(200);
    let deep = "a:b:c:d:e:f";
    let colons = ":".repeat(5);
    let names = [
        &long,
        &long[..199],
        deep,
        &colons,
        "{",
        "}",
        "{}",
        "{a}",
        "a}{b",
        "a\0",
        "a\0b",
        "a",
        "\n",
        "a\r\nb",
        " ",
        "é",
        "%",
        "'",
        "\"",
        "\\",
        "=a",
        "/a",
        "$1",
        "a;--",
    ];
    let registers: Vec<_> = names.iter().map(|name| tag(name)).collect();
    let stamps = space.capture(b"k", &registers).await?;
    let numbers: HashSet<_> = hard(&stamps).into_iter().collect();
    assert_eq!(numbers.len(), names.len(), "two names are one register");
    for (at, register) in registers.iter().enumerate() {
        let one = std::slice::from_ref(register);
        let key = [b'k', at as u8];
        space.put_tagged(&key, b"v", one).await?;
        assert!(space.get(&key).await?.is_some(), "{register:?}");
    }
    for (at, register) in registers.iter().enumerate() {
        let one = std::slice::from_ref(register);
        assert_eq!(space.invalidate(one).await?, [true], "{register:?}");
        for (other, shown) in registers.iter().enumerate() {
            let is_there = space.get(&[b'k', other as u8]).await?.is_some();
            assert_eq!(is_there, other > at, "{shown:?} by {register:?}");
        }
    }
    Ok(())
}
