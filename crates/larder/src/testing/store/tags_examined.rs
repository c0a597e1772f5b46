//! Laws of looking at what is under a key: it is shown with whatever makes it invalid, and looking changes nothing.
//!
//! A store that shows only what is valid obeys them, too, and says so: `Capabilities::examination` is false.

use super::space::Space;
use super::tag_space::{LONG_MS, hard, subtree, tag, token};
use super::{SOON, StoreUnderTest};
use crate::envelope;
use crate::error::Result;
use crate::store::{Examined, Expiry, Read, Register, RegisterState};
use crate::testing::{body, sealed, unreadable, write_id};

/// Where there is nothing, nothing is shown.
pub async fn absent_keys_show_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    assert_eq!(space.examine(b"k").await?, None);
    space.put(b"k", &sealed(b"v"), Expiry::Never).await?;
    assert_eq!(space.examine(b"other").await?, None);
    assert_eq!(fixture.space().examine(b"k").await?, None);
    space.delete(b"k").await?;
    assert_eq!(space.examine(b"k").await?, None);
    Ok(())
}

/// A valid entry is shown as it was stored, with its registers as they were stamped.
pub async fn valid_entries_show_no_fault(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("a"), tag("a:b")];
    let expiry = Expiry::After(LONG_MS);
    space.put_tagged_for(b"k", b"v", &registers, expiry).await?;
    let stored = space.entry(b"k").await?.expect("it is valid");
    let found = space.examine(b"k").await?.expect("it is valid");
    assert_eq!(found.value, stored.value);
    assert_eq!(found.expires_at_ms, stored.expires_at_ms);
    assert!(!found.is_cleared && !found.is_invalid());
    assert_eq!(states(&found), same(&registers));
    space.put_tagged(b"free", b"v", &[]).await?;
    let free = space.examine(b"free").await?.expect("it is valid");
    assert_eq!((states(&free), free.expires_at_ms), (Vec::new(), None));
    Ok(())
}

/// An invalid entry is shown with the registers that make it so, whether they are gone or there again.
pub async fn invalid_entries_show_the_registers_to_blame(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("user"), tag("user:1"), tag("b")];
    for (at, dead) in registers.iter().enumerate() {
        let key = [b'k', at as u8];
        space.put_tagged(&key, b"v", &registers).await?;
        space.invalidate(std::slice::from_ref(dead)).await?;
        let mut expected = same(&registers);
        for state in [RegisterState::Missing, RegisterState::Changed] {
            expected[at].1 = state;
            if let Some(found) = shown(fixture, &space, &key).await? {
                assert_eq!(states(&found), expected, "{dead:?}");
                assert!(found.is_invalid() && !found.is_cleared, "{dead:?}");
                assert_eq!(body(&found.value).as_deref(), Some(&b"v"[..]));
            }
            space.capture(&key, &registers).await?;
        }
        assert_eq!(space.get(&key).await?, None, "{dead:?}");
    }
    Ok(())
}

/// A stale entry is shown with the registers that make it so, and is not invalid.
pub async fn stale_entries_show_the_registers_to_blame(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("a"), tag("a:b"), tag("c")];
    space.put_tagged(b"k", b"v", &registers).await?;
    space.soften(&registers[1..]).await?;
    let found = space.examine(b"k").await?.expect("it may be read");
    let mut expected = same(&registers);
    expected[1].1 = RegisterState::Stale;
    expected[2].1 = RegisterState::Stale;
    assert_eq!(states(&found), expected);
    assert!(!found.is_invalid() && !found.is_cleared);
    space.invalidate(&registers[2..]).await?;
    if let Some(found) = shown(fixture, &space, b"k").await? {
        expected[2].1 = RegisterState::Missing;
        assert_eq!(states(&found), expected);
    }
    Ok(())
}

/// What was cleared is not shown, or said to be so.
pub async fn cleared_entries_are_told_from_others(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    space.put_tagged(b"tagged", b"v", &[tag("a")]).await?;
    space.put_tagged(b"free", b"v", &[]).await?;
    space.clear().await?;
    for key in [&b"tagged"[..], b"free"] {
        let found = space.examine(key).await?;
        assert!(found.is_none_or(|found| found.is_cleared), "{key:?}");
    }
    space.put_tagged(b"free", b"new", &[]).await?;
    let found = space.examine(b"free").await?.expect("it is valid");
    assert!(!found.is_cleared);
    Ok(())
}

/// The mark of a load is shown, with its token and its registers; what an invalidation did to them, too.
pub async fn loads_under_way_are_shown(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [subtree("a"), tag("a:b")];
    let id = token();
    let stamps = space.begun(b"k", &registers, id).await?;
    if let Some(found) = shown(fixture, &space, b"k").await? {
        assert!(envelope::is_load(&found.value));
        assert!(envelope::is_readable(&found.value), "it is whole");
        assert_eq!(write_id(&found.value), id);
        assert_eq!(states(&found), same(&registers));
        assert!(found.expires_at_ms.is_some(), "its lease ends");
    }
    space.invalidate(&registers[..1]).await?;
    if let Some(found) = shown(fixture, &space, b"k").await? {
        assert!(envelope::is_load(&found.value) && found.is_invalid());
    }
    space.begun(b"free", &[], token()).await?;
    if let Some(found) = shown(fixture, &space, b"free").await? {
        assert!(envelope::is_load(&found.value) && !found.is_invalid());
    }
    assert_eq!(stamps.len(), registers.len());
    Ok(())
}

/// Looking changes nothing: no register is made or changed, and no entry comes or goes.
pub async fn looking_changes_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let registers = [tag("a"), tag("b")];
    space.put_tagged(b"k", b"v", &registers).await?;
    let before = space.capture(b"k", &registers).await?;
    space.examine(b"k").await?;
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"v"[..]));
    let after = space.capture(b"k", &registers).await?;
    assert_eq!(hard(&after), hard(&before));
    space.invalidate(&registers[..1]).await?;
    for _ in 0..2 {
        space.examine(b"k").await?;
        assert_eq!(space.get(b"k").await?, None);
    }
    let had = space.invalidate(&registers).await?;
    assert_eq!(had, [false, true], "looking makes no register");
    Ok(())
}

/// Bytes that cannot be read are shown as they are.
pub async fn damage_is_shown_as_it_is(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().examination {
        return Ok(());
    }
    let space = fixture.space();
    let damaged = unreadable();
    space.put(b"k", &damaged, Expiry::Never).await?;
    let found = space.examine(b"k").await?.expect("its bytes are there");
    assert_eq!((&found.value, states(&found)), (&damaged, Vec::new()));
    Ok(())
}

/// A read finds what [`Store::get_many`](crate::store::Store::get_many) does, and tells what a register has made invalid.
pub async fn reads_tell_the_invalid_from_the_absent(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    space.put_tagged(b"valid", b"v", &[tag("a")]).await?;
    space.put_tagged(b"stale", b"v", &[tag("b")]).await?;
    space.put_tagged(b"invalid", b"v", &[tag("c")]).await?;
    space
        .put_tagged_for(b"expired", b"v", &[tag("c")], SOON)
        .await?;
    space.begun(b"load", &[tag("a")], token()).await?;
    space.begun(b"overtaken", &[tag("c")], token()).await?;
    space.soften(&[tag("b")]).await?;
    space.invalidate(&[tag("c")]).await?;
    fixture.outlive().await;
    let absent = [&b"expired"[..], b"load", b"overtaken", b"nobody"];
    let keys = [&[&b"valid"[..], b"stale", b"invalid"], &absent[..]].concat();
    // Together, and one by one: stores do not read these in the same way.
    let mut reads = space.store.read_many(&space.namespace, &keys).await?;
    for key in &keys {
        reads.extend(space.store.read_many(&space.namespace, &[key]).await?);
    }
    let entries = space.store.get_many(&space.namespace, &keys).await?;
    for reads in reads.chunks(keys.len()) {
        let found: Vec<_> = reads.iter().cloned().map(Read::entry).collect();
        assert_eq!(found, entries);
        assert!(found[0].is_some() && found[1].as_ref().is_some_and(|it| it.is_stale));
        if fixture.capabilities().examination {
            assert_eq!(reads[2], Read::Invalid);
        }
        assert!(reads[3..].iter().all(|read| *read == Read::Absent));
    }
    assert_eq!(reads.len(), 2 * keys.len());
    Ok(())
}

impl Space {
    async fn examine(&self, key: &[u8]) -> Result<Option<Examined>> {
        self.store.examine(&self.namespace, key).await
    }
}

/// Returns what is under a key and not valid; `None` only where the store need not show it.
async fn shown(fixture: &StoreUnderTest, space: &Space, key: &[u8]) -> Result<Option<Examined>> {
    let found = space.examine(key).await?;
    let is_honest = found.is_some() || !fixture.capabilities().examination;
    assert!(is_honest, "what is not valid can be shown");
    Ok(found)
}

fn states(found: &Examined) -> Vec<(Register, RegisterState)> {
    let states = found.registers.iter();
    states
        .map(|examined| (examined.register.clone(), examined.state))
        .collect()
}

fn same(registers: &[Register]) -> Vec<(Register, RegisterState)> {
    let all = registers.iter();
    all.map(|register| (register.clone(), RegisterState::Same))
        .collect()
}
