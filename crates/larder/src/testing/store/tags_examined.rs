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

/// A store may remove what is not valid at any time, as when another law prunes the same server: so laws look again.
const LOOKS: usize = 5;

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
    for dead in 0..registers.len() {
        let mut is_shown = false;
        for _ in 0..LOOKS {
            is_shown = is_shown || is_blamed(&space, &registers, dead).await?;
        }
        assert_shown(fixture, is_shown);
    }
    Ok(())
}

/// Invalidates an entry by one of its registers; returns whether it was shown afterwards.
async fn is_blamed(space: &Space, registers: &[Register], dead: usize) -> Result<bool> {
    space.put_tagged(b"k", b"v", registers).await?;
    space.invalidate(&registers[dead..=dead]).await?;
    let mut expected = same(registers);
    for state in [RegisterState::Missing, RegisterState::Changed] {
        expected[dead].1 = state;
        let Some(found) = space.examine(b"k").await? else {
            return Ok(false);
        };
        assert_eq!(states(&found), expected);
        assert!(found.is_invalid() && !found.is_cleared);
        assert_eq!(body(&found.value).as_deref(), Some(&b"v"[..]));
        space.capture(b"k", registers).await?;
    }
    assert_eq!(space.get(b"k").await?, None);
    Ok(true)
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
    if let Some(found) = space.examine(b"k").await? {
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
    space.begun(b"k", &registers, id).await?;
    let found = space.examine(b"k").await?;
    assert_shown(fixture, found.is_some());
    if let Some(found) = found {
        assert!(envelope::is_load(&found.value));
        assert!(envelope::is_readable(&found.value), "it is whole");
        assert_eq!(write_id(&found.value), id);
        assert_eq!(states(&found), same(&registers));
        assert!(found.expires_at_ms.is_some(), "its lease ends");
    }
    space.begun(b"free", &[], token()).await?;
    let found = space.examine(b"free").await?;
    assert_shown(fixture, found.is_some());
    assert!(found.is_none_or(|it| envelope::is_load(&it.value) && !it.is_invalid()));
    let mut is_shown = false;
    for _ in 0..LOOKS {
        space.begin(b"k", &registers, token()).await?;
        space.invalidate(&registers[..1]).await?;
        if let Some(found) = space.examine(b"k").await? {
            assert!(envelope::is_load(&found.value) && found.is_invalid());
            is_shown = true;
        }
    }
    assert_shown(fixture, is_shown);
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
    space.soften(&[tag("b")]).await?;
    space.begun(b"load", &[tag("a")], token()).await?;
    let mut is_told = false;
    for _ in 0..LOOKS {
        space.put_tagged(b"invalid", b"v", &[tag("c")]).await?;
        space.begin(b"overtaken", &[tag("c")], token()).await?;
        space.invalidate(&[tag("c")]).await?;
        is_told = is_told || is_told_apart(&space).await?;
    }
    assert_shown(fixture, is_told);
    let registers = [tag("a")];
    space
        .put_tagged_for(b"expired", b"v", &registers, SOON)
        .await?;
    space.invalidate(&registers).await?;
    fixture.outlive().await;
    let expired = space
        .store
        .read_many(&space.namespace, &[b"expired"])
        .await?;
    assert_eq!(expired, [Read::Absent]);
    Ok(())
}

/// Checks what reads of some keys find; returns whether they tell that one is invalid.
async fn is_told_apart(space: &Space) -> Result<bool> {
    let keys = [
        &b"valid"[..],
        b"stale",
        b"invalid",
        b"load",
        b"overtaken",
        b"nobody",
    ];
    let entries = space.store.get_many(&space.namespace, &keys).await?;
    // Together, and one by one: stores do not read these in the same way.
    let mut reads = space.store.read_many(&space.namespace, &keys).await?;
    for key in &keys {
        reads.extend(space.store.read_many(&space.namespace, &[key]).await?);
    }
    assert_eq!(reads.len(), 2 * keys.len(), "one result per key");
    let mut is_told = true;
    for reads in reads.chunks(keys.len()) {
        let found: Vec<_> = reads.iter().cloned().map(Read::entry).collect();
        assert_eq!(found, entries);
        assert!(found[0].is_some() && found[1].as_ref().is_some_and(|it| it.is_stale));
        assert!(reads[3..].iter().all(|read| *read == Read::Absent));
        is_told &= reads[2] == Read::Invalid;
    }
    Ok(is_told)
}

impl Space {
    async fn examine(&self, key: &[u8]) -> Result<Option<Examined>> {
        self.store.examine(&self.namespace, key).await
    }
}

/// Checks that a store that shows what is not valid has done so.
fn assert_shown(fixture: &StoreUnderTest, is_shown: bool) {
    let is_honest = is_shown || !fixture.capabilities().examination;
    assert!(is_honest, "what is not valid is shown");
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
