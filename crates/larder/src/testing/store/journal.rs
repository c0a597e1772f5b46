//! Laws of journals: whoever polls knows of every change that was acknowledged before.

use super::StoreUnderTest;
use super::journal_space::{Change, Kind, Reader, Told, covers, is_about, next_round, note};
use super::tag_space::{LONG_MS, entry_of, tag, token};
use crate::envelope;
use crate::error::Result;
use crate::store::{Condition, Expiry, Note, Register, Write};
use crate::testing::{sealed, stamped};

/// A poll that begins after a change was acknowledged tells of it, in the part of its key.
pub async fn changes_are_noted_before_they_are_acknowledged(
    fixture: &StoreUnderTest,
) -> Result<()> {
    let Some((space, mut reader)) = fixture.read_space().await? else {
        return Ok(());
    };
    let can = fixture.capabilities();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_in(can)) {
        let mut round = 0;
        loop {
            let key = format!("{kind:?}:{round}");
            let change = Change::prepare(&space, kind, key.as_bytes()).await?;
            reader.poll().await?;
            let expected = change.make().await?;
            let told = reader.poll().await?;
            if !told.says_everything() {
                for note in &expected {
                    assert!(told.tells(note), "{kind:?}: {note:?} is not in {told:?}");
                }
                break;
            }
            next_round(&mut round).await;
        }
    }
    // What everything is told of is told in all parts.
    reader.poll().await?;
    space.clear().await?;
    let told = reader.poll().await?;
    assert!(told.0.iter().all(|notes| notes.contains(&Note::All)));
    Ok(())
}

/// The first poll says that anything may have changed; a reader takes nothing from another one.
pub async fn first_poll_says_everything(fixture: &StoreUnderTest) -> Result<()> {
    let Some((space, mut early)) = fixture.read_space().await? else {
        return Ok(());
    };
    for _ in 0..3 {
        let value = sealed(b"v");
        space.put(b"k", &value, Expiry::Never).await?;
        let mut late = Reader::of(&space);
        let told = late.poll().await?;
        for notes in &told.0 {
            assert_eq!(notes.first(), Some(&Note::All), "{told:?}");
        }
        let told = early.poll().await?;
        let own = note(b"k", envelope::write_id(&value));
        assert!(told.tells(&own), "somebody else took the news");
        early.poll().await?;
    }
    Ok(())
}

/// A reader meets what he changed himself as well.
pub async fn own_changes_come_back(fixture: &StoreUnderTest) -> Result<()> {
    let Some((space, mut reader)) = fixture.read_space().await? else {
        return Ok(());
    };
    let mut other = Reader::of(&space);
    other.poll().await?;
    let mut round = 0;
    loop {
        let value = sealed(b"v");
        space.put(b"k", &value, Expiry::Never).await?;
        let told = [reader.poll().await?, other.poll().await?];
        if !told.iter().any(Told::says_everything) {
            let own = note(b"k", envelope::write_id(&value));
            assert!(told.iter().all(|told| told.tells(&own)), "{told:?}");
            return Ok(());
        }
        next_round(&mut round).await;
    }
}

/// A load that begins, renews its lease, or ends without a value changes no value.
pub async fn marks_are_not_noted(fixture: &StoreUnderTest) -> Result<()> {
    let Some((space, mut reader)) = fixture.read_space().await? else {
        return Ok(());
    };
    let registers: &[Register] = match fixture.capabilities().tags {
        true => &[tag("a")],
        false => &[],
    };
    let mut round = 0;
    loop {
        let mut told = Vec::new();
        for registers in [registers, &[]] {
            let (key, token) = (format!("k:{round}"), token());
            let (key, same) = (key.as_bytes(), Condition::IfUnchanged(token));
            space.begun(key, registers, token).await?;
            let busy = space.begin(key, registers, token + 1).await?;
            assert!(!busy.is_granted);
            let renewal = Write::touch(key, Expiry::After(2 * LONG_MS));
            assert!(space.write(renewal.when(same)).await?);
            space.write(Write::delete(key).when(same)).await?;
            told.push(reader.poll().await?);
        }
        if !told.iter().any(Told::says_everything) {
            let is_silent = |told: &Told| told.0.iter().all(Vec::is_empty);
            assert!(told.iter().all(is_silent), "{told:?}");
            return Ok(());
        }
        next_round(&mut round).await;
    }
}

/// What changes in one namespace is not told in another.
pub async fn notes_of_other_namespaces_stay_there(fixture: &StoreUnderTest) -> Result<()> {
    let Some((here, mut reader)) = fixture.read_space().await? else {
        return Ok(());
    };
    let there = fixture.space();
    let mut stranger = Reader::of(&there);
    let mut round = 0;
    loop {
        stranger.poll().await?;
        let value = sealed(b"v");
        there.put(b"k", &value, Expiry::Never).await?;
        there.delete(b"k").await?;
        if fixture.capabilities().tags {
            there.invalidate(&[tag("a")]).await?;
        }
        there.clear().await?;
        here.put(b"mine", &value, Expiry::Never).await?;
        let told = reader.poll().await?;
        if !told.says_everything() {
            let all: Vec<_> = told.0.into_iter().flatten().collect();
            assert!(all.iter().all(is_about(b"mine")), "{all:?}");
            return Ok(());
        }
        next_round(&mut round).await;
    }
}

/// An entry whose tags were changed keeps its write id, and is told as one that nobody has a copy of.
pub async fn a_restamped_entry_is_noted_as_another(fixture: &StoreUnderTest) -> Result<()> {
    let Some((space, mut reader)) = fixture.read_space().await? else {
        return Ok(());
    };
    if !fixture.capabilities().tags {
        return Ok(());
    }
    let registers = [tag("a"), tag("b")];
    let mut round = 0;
    loop {
        let stamps = space.capture(b"k", &registers).await?;
        let value = entry_of(b"v", &stamps[..1]);
        space.put(b"k", &value, Expiry::Never).await?;
        reader.poll().await?;
        let again = stamped(&value, stamps);
        let write_id = envelope::write_id(&value);
        assert_eq!(envelope::write_id(&again), write_id);
        let put = Write::put(b"k", again, Expiry::Keep);
        assert!(
            space
                .write(put.when(Condition::IfUnchanged(write_id)))
                .await?
        );
        let told = reader.poll().await?;
        if !told.says_everything() {
            assert!(told.tells(&note(b"k", 0)), "{told:?}");
            return Ok(());
        }
        next_round(&mut round).await;
    }
}

/// Changes of one part are told in the order in which they were acknowledged.
pub async fn order_is_kept(fixture: &StoreUnderTest) -> Result<()> {
    let Some((space, mut reader)) = fixture.read_space().await? else {
        return Ok(());
    };
    let can = fixture.capabilities();
    let mut round = 0;
    loop {
        reader.poll().await?;
        let mut expected = Vec::new();
        for step in 0..40 {
            let value = sealed(b"v");
            match step % 4 {
                3 => {
                    space.delete(b"k").await?;
                    expected.push(note(b"k", 0));
                }
                2 if can.tags => {
                    let register = tag(&format!("{step}"));
                    space.invalidate(std::slice::from_ref(&register)).await?;
                    expected.push(Note::Register(register));
                }
                _ => {
                    space.put(b"k", &value, Expiry::Never).await?;
                    expected.push(note(b"k", envelope::write_id(&value)));
                }
            }
        }
        let told = reader.poll().await?;
        if !told.says_everything() {
            let part = reader.part_of(b"k");
            assert!(follow(&expected, &told.0[part]), "{told:?}");
            return Ok(());
        }
        next_round(&mut round).await;
    }
}

/// Returns whether notes tell of changes in this order.
fn follow(expected: &[Note], told: &[Note]) -> bool {
    let mut told = told.iter();
    let mut expected = expected.iter();
    expected.all(|change| told.any(|note| covers(note, change)))
}
