//! Laws of loads under way: granted once, seen by nobody, and lost to whatever changes the key.

use std::time::Duration;

use super::space::together;
use super::tag_space::{hard, subtree, tag, token};
use super::{SOON, SOON_MS, StoreUnderTest};
use crate::error::Result;
use crate::glob::Glob;
use crate::store::{Condition, Expiry, MIN_REGISTER_MS, SortedSetOp, Write};
use crate::testing::{sealed, unreadable};

/// Where there is no entry, the first load is granted and the next is not, until the first has stored its value.
pub async fn loads_are_granted_once(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    for registers in [&[][..], &[subtree("a"), tag("a:b")]] {
        let key = [b'k', registers.len() as u8];
        let (first, second) = (token(), token());
        let stamps = space.begun(&key, registers, first).await?;
        let refused = space.begin(&key, registers, second).await?;
        assert!(!refused.is_granted && refused.entry.is_none());
        assert_eq!(hard(&refused.stamps), hard(&stamps));
        assert!(!space.commit(&key, second, b"second", &stamps).await?);
        assert_eq!(space.get(&key).await?, None);
        assert!(space.commit(&key, first, b"first", &stamps).await?);
        assert_eq!(space.text(&key).await?.as_deref(), Some(&b"first"[..]));
        assert!(!space.commit(&key, first, b"again", &stamps).await?);
        assert_eq!(space.text(&key).await?.as_deref(), Some(&b"first"[..]));
        let other = [b'o', registers.len() as u8];
        assert!(space.is_vacant(&other).await?, "each key for itself");
    }
    Ok(())
}

/// Of many loads that begin at the same moment one is granted, and only its value is stored.
pub async fn simultaneous_loads_grant_one(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    for round in 0..10_u8 {
        let outcomes = together(16, |task| {
            let space = space.clone();
            async move {
                let (key, id, registers) = ([round], token(), [tag("a")]);
                let registers = &registers[..task % 2];
                let begun = space.begin(&key, registers, id).await?;
                let text = [task as u8];
                let stored = space.commit(&key, id, &text, &begun.stamps).await?;
                Ok((begun, stored, text))
            }
        })
        .await?;
        let mut granted = outcomes.iter().filter(|(begun, ..)| begun.is_granted);
        let (Some((_, true, text)), None) = (granted.next(), granted.next()) else {
            panic!("not one was granted and stored: {outcomes:?}");
        };
        let stored = outcomes.iter().filter(|(_, stored, _)| *stored).count();
        assert_eq!(stored, 1, "{outcomes:?}");
        assert_eq!(space.text(&[round]).await?.as_deref(), Some(&text[..]));
    }
    Ok(())
}

/// A load under way is no entry for whoever reads, lists, adds to conditions, deletes or touches.
pub async fn loads_are_hidden(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    let id = token();
    let stamps = space.begun(b"k", &registers, id).await?;
    assert_eq!(space.get_many(&[b"k", b"k"]).await?, [None, None]);
    if fixture.capabilities().enumeration {
        assert_eq!(space.keys(&Glob::all(), 10).await?, [b""; 0]);
        assert_eq!(space.keys(&Glob::new("k*")?, 10).await?, [b""; 0]);
        assert_eq!(space.count(&Glob::all()).await?, 0);
    }
    let put = |condition| Write::put(b"k", sealed(b"x"), Expiry::Never).when(condition);
    let touch = |condition| Write::touch(b"k", Expiry::Never).when(condition);
    let refused = [
        put(Condition::IfPresent),
        put(Condition::IfVacant),
        put(Condition::IfUnchanged(token())),
        touch(Condition::IfPresent),
        touch(Condition::Always),
        touch(Condition::IfAbsent),
        touch(Condition::IfUnchanged(token())),
        Write::delete(b"k").when(Condition::IfPresent),
        Write::delete(b"k").when(Condition::IfUnchanged(token())),
    ];
    for write in refused {
        assert!(!space.write(write.clone()).await?, "{write:?}");
        assert_eq!(space.get(b"k").await?, None, "{write:?}");
    }
    space.store.prune(1000).await?;
    assert!(space.commit(b"k", id, b"v", &stamps).await?, "it is there");
    assert!(space.write(touch(Condition::IfPresent)).await?);
    assert!(space.delete(b"k").await?);
    Ok(())
}

/// Whoever sets, adds or deletes the key takes the place of a load under way: what it loaded is refused.
pub async fn changes_of_the_key_end_its_load(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    let put = Write::put(b"k", sealed(b"new"), Expiry::Never);
    let changes = [
        (put.clone(), true),
        (put.clone().when(Condition::IfAbsent), true),
        (Write::delete(b"k"), false),
    ];
    for (change, applied) in changes {
        let id = token();
        let stamps = space.begun(b"k", &registers, id).await?;
        assert_eq!(space.write(change.clone()).await?, applied, "{change:?}");
        let stored = space.get(b"k").await?;
        assert_eq!(stored.is_some(), applied, "{change:?}");
        assert!(
            !space.commit(b"k", id, b"old", &stamps).await?,
            "{change:?}"
        );
        assert_eq!(space.get(b"k").await?, stored, "{change:?}");
        assert_eq!(space.is_vacant(b"k").await?, !applied, "{change:?}");
        space.delete(b"k").await?;
    }
    let id = token();
    let stamps = space.begun(b"k", &registers, id).await?;
    space.put_tagged(b"k", b"stamped", &registers).await?;
    assert!(!space.commit(b"k", id, b"old", &stamps).await?);
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"stamped"[..]));
    assert!(space.delete(b"k").await?);
    assert!(!space.commit(b"k", id, b"old", &stamps).await?);
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// Counting and sorted sets take the place of a load under way, too, and start from nothing.
pub async fn counts_and_sets_end_a_load(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    if fixture.capabilities().counters {
        let id = token();
        let stamps = space.begun(b"n", &[tag("a")], id).await?;
        assert_eq!(space.increment(b"n", 3, Expiry::Never).await?, 3);
        let entry = space.entry(b"n").await?.expect("it was just counted");
        assert_eq!(entry.expires_at_ms, None, "not that of the lease");
        space.invalidate(&[tag("a")]).await?;
        assert!(!space.commit(b"n", id, b"old", &stamps).await?);
        assert_eq!(space.increment(b"n", 3, Expiry::Never).await?, 6);
    }
    if fixture.capabilities().sorted_sets {
        let id = token();
        let stamps = space.begun(b"set", &[tag("a")], id).await?;
        assert_eq!(space.set_count(SortedSetOp::Len).await?, 0);
        assert_eq!(space.add(&[(1.0, "a")]).await?, 1);
        assert!(!space.commit(b"set", id, b"old", &stamps).await?);
        assert_eq!(space.set_count(SortedSetOp::Len).await?, 1);
    }
    Ok(())
}

/// A clear ends the loads of its namespace, with registers and without.
pub async fn clear_ends_loads(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let other = fixture.space();
    for registers in [&[][..], &[tag("a")]] {
        let (id, id_of_other) = (token(), token());
        let stamps = space.begun(b"k", registers, id).await?;
        let stamps_of_other = other.begun(b"k", registers, id_of_other).await?;
        space.clear().await?;
        assert!(!space.commit(b"k", id, b"old", &stamps).await?);
        assert_eq!(space.get(b"k").await?, None);
        assert!(space.is_vacant(b"k").await?);
        let stored = other.commit(b"k", id_of_other, b"v", &stamps_of_other);
        assert!(stored.await?, "another namespace");
        other.delete(b"k").await?;
    }
    Ok(())
}

/// Once a register of a load is invalid, the next may begin, and the old one stores nothing that is valid.
pub async fn invalidation_lets_the_next_load_begin(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("a"), tag("a:b")];
    for dead in &registers {
        let (old, new) = (token(), token());
        let before = space.begun(b"k", &registers, old).await?;
        space.invalidate(std::slice::from_ref(dead)).await?;
        let after = space.begun(b"k", &registers, new).await?;
        assert!(!space.commit(b"k", old, b"old", &before).await?);
        assert!(!space.begin(b"k", &registers, token()).await?.is_granted);
        assert!(space.commit(b"k", new, b"new", &after).await?);
        assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"new"[..]));
        assert!(!space.commit(b"k", old, b"old", &before).await?);
        assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"new"[..]));
        space.delete(b"k").await?;
        let before = space.begun(b"k", &registers, old).await?;
        space.invalidate(std::slice::from_ref(dead)).await?;
        // Whether the store refuses it or keeps it, nobody ever reads it.
        space.commit(b"k", old, b"old", &before).await?;
        assert_eq!(space.get(b"k").await?, None);
        space.capture(b"k", &registers).await?;
        assert_eq!(space.get(b"k").await?, None);
        assert!(space.is_vacant(b"k").await?);
    }
    Ok(())
}

/// A load depends on its own registers only: others let nobody else begin, and a soft invalidation does not either.
pub async fn loads_keep_their_place_otherwise(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    let id = token();
    let stamps = space.begun(b"k", &registers, id).await?;
    space.invalidate(&[tag("b")]).await?;
    space.put(b"other", &sealed(b"x"), Expiry::Never).await?;
    space.soften(&registers).await?;
    assert!(!space.is_vacant(b"k").await?);
    assert!(space.commit(b"k", id, b"v", &stamps).await?);
    assert_eq!(space.staleness(b"k").await?, Some(true), "it began before");
    Ok(())
}

/// The lease of a load ends by itself; then the next may begin, and the old one is refused.
pub async fn leases_of_loads_end(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    for registers in [&[][..], &[tag("a")]] {
        let (old, new) = (token(), token());
        let begun = space.begin_for(b"k", registers, old, SOON_MS).await?;
        assert!(begun.is_granted);
        assert!(!space.is_vacant(b"k").await?);
        fixture.outlive().await;
        assert!(!space.commit(b"k", old, b"old", &begun.stamps).await?);
        let stamps = space.begun(b"k", registers, new).await?;
        assert!(!space.commit(b"k", old, b"old", &begun.stamps).await?);
        assert!(space.commit(b"k", new, b"new", &stamps).await?);
        let entry = space.entry(b"k").await?.expect("it was just stored");
        assert_eq!(entry.expires_at_ms, None, "the lease is not its expiry");
        space.delete(b"k").await?;
    }
    Ok(())
}

/// A load may take almost an hour: its registers are kept so long, and so is its lease.
pub async fn loads_may_take_long(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    if fixture.time.is_none() {
        return Ok(());
    }
    let (registers, id) = ([subtree("a"), tag("a:b")], token());
    let lease_ms = MIN_REGISTER_MS - 1;
    let begun = space.begin_for(b"k", &registers, id, lease_ms).await?;
    fixture.pass(Duration::from_millis(lease_ms - 1)).await;
    space.store.prune(1000).await?;
    assert!(!space.is_vacant(b"k").await?);
    assert!(space.commit(b"k", id, b"v", &begun.stamps).await?);
    fixture
        .pass(Duration::from_millis(2 * MIN_REGISTER_MS))
        .await;
    assert_eq!(space.staleness(b"k").await?, Some(false));
    Ok(())
}

/// A loader keeps its place by touching it under its token, and gives it up by deleting it so.
pub async fn loaders_renew_and_release_their_leases(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let id = token();
    let begun = space.begin_for(b"k", &[tag("a")], id, SOON_MS).await?;
    assert!(begun.is_granted);
    let renew = Write::touch(b"k", Expiry::After(60_000)).when(Condition::IfUnchanged(id));
    assert!(space.write(renew.clone()).await?);
    fixture.outlive().await;
    assert!(!space.is_vacant(b"k").await?, "it was renewed");
    assert_eq!(space.get(b"k").await?, None);
    let look = Write::touch(b"k", Expiry::Keep).when(Condition::IfUnchanged(id));
    assert!(space.write(look).await?, "its place is still there");
    let release = Write::delete(b"k").when(Condition::IfUnchanged(id));
    space.write(release).await?;
    assert!(space.is_vacant(b"k").await?, "it was given up");
    assert!(!space.write(renew).await?, "renewing creates nothing");
    assert!(space.is_vacant(b"k").await?);
    assert!(!space.commit(b"k", id, b"old", &begun.stamps).await?);
    Ok(())
}

/// A load over a valid entry is not granted and returns it, stale or not.
pub async fn loads_over_valid_entries_return_them(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged(b"tagged", b"v", &registers).await?;
    space.put(b"free", &sealed(b"v"), Expiry::Never).await?;
    for (key, is_stale) in [(&b"tagged"[..], false), (b"free", false), (b"tagged", true)] {
        if is_stale {
            space.soften(&registers).await?;
        }
        let id = token();
        let begun = space.begin(key, &registers, id).await?;
        assert!(!begun.is_granted);
        let entry = begun.entry.expect("the valid entry");
        assert_eq!(Some(&entry), space.entry(key).await?.as_ref());
        assert_eq!(entry.is_stale, is_stale);
        assert!(!space.commit(key, id, b"new", &begun.stamps).await?);
        assert_eq!(space.get(key).await?, Some(entry.value));
    }
    Ok(())
}

/// A load over what is expired, invalid or unreadable is granted.
pub async fn loads_over_dead_entries_are_granted(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged(b"invalid", b"old", &registers).await?;
    space.put(b"expired", &sealed(b"old"), SOON).await?;
    space
        .put(b"unreadable", &unreadable(), Expiry::Never)
        .await?;
    space.invalidate(&registers).await?;
    fixture.outlive().await;
    for key in [&b"invalid"[..], b"expired", b"unreadable", b"absent"] {
        let id = token();
        let stamps = space.begun(key, &registers, id).await?;
        let shown = key.escape_ascii();
        assert_eq!(space.get(key).await?, None, "{shown}");
        assert!(space.commit(key, id, b"new", &stamps).await?, "{shown}");
        let read = space.text(key).await?;
        assert_eq!(read.as_deref(), Some(&b"new"[..]), "{shown}");
    }
    Ok(())
}

/// A touch that keeps the lease of a load finds out whether it has its place, and does not make it last longer.
pub async fn a_look_at_a_load_keeps_its_lease(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let id = token();
    let begun = space.begin_for(b"k", &[], id, SOON_MS).await?;
    assert!(begun.is_granted);
    let look = Write::touch(b"k", Expiry::Keep).when(Condition::IfUnchanged(id));
    space.write(look.clone()).await?;
    fixture.outlive().await;
    assert!(!space.write(look).await?, "its lease is over");
    assert!(space.is_vacant(b"k").await?);
    Ok(())
}

/// `Keep` over a load under way means never: the end of its lease is no expiry.
pub async fn keep_ignores_the_lease_of_a_load(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let id = token();
    space.begun(b"k", &[], id).await?;
    space.put(b"k", &sealed(b"new"), Expiry::Keep).await?;
    let entry = space.entry(b"k").await?.expect("it was just stored");
    assert_eq!(entry.expires_at_ms, None);
    Ok(())
}
