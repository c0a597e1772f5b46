//! Laws of ending registers: those that nothing carries go, after a while, and whatever needs one keeps it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::space::{Space, together};
use super::tag_space::{entry_of, subtree, tag, token};
use super::{SOON, SOON_MS, StoreUnderTest};
use crate::error::{ErrorKind, Result};
use crate::store::{Expiry, Register, Retirement, TidyPage, Write};
use crate::testing::sealed;

/// Walks of laws end within so many pages, else the cursor runs in circles.
const MAX_PAGES: usize = 10_000;
/// Longer than any law.
const LATER: Expiry = Expiry::After(3_600_000);

fn end(suspicion: u32) -> Retirement {
    Retirement::End {
        suspicion,
        keep_ms: SOON_MS,
    }
}

fn retiring_space(fixture: &StoreUnderTest) -> Option<Space> {
    fixture.capabilities().tag_listing.then(|| fixture.space())
}

async fn retire(space: &Space, registers: &[Register], step: Retirement) -> Result<Vec<bool>> {
    let retired = space
        .store
        .retire(&space.namespace, registers, step)
        .await?;
    assert_eq!(retired.len(), registers.len(), "one result per register");
    Ok(retired)
}

/// Walks to the end; returns how many entries were removed, and what the others carry.
async fn tidy(space: &Space, limit: usize, removes: bool) -> Result<(u64, BTreeSet<Register>)> {
    let (mut removed, mut carried, mut cursor) = (0, BTreeSet::new(), None::<Bytes>);
    for _ in 0..MAX_PAGES {
        let TidyPage {
            removed: now,
            carried: met,
            next,
        } = space
            .store
            .tidy(&space.namespace, cursor.as_ref(), limit, removes)
            .await?;
        removed += now;
        carried.extend(met);
        cursor = next;
        if cursor.is_none() {
            return Ok((removed, carried));
        }
    }
    panic!("the walk does not end");
}

/// A register that was kept for good and that nothing carries any more ends, when its time is over.
pub async fn registers_without_entries_end(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a"), subtree("a"), tag("unknown")];
    space.put_tagged(b"k", b"v", &registers[..2]).await?;
    space.delete(b"k").await?;
    let expected = [true, true, false];
    assert_eq!(
        retire(&space, &registers, Retirement::Look).await?,
        expected
    );
    assert_eq!(retire(&space, &registers, end(1)).await?, [false; 3]);
    let suspect = Retirement::Suspect(1);
    assert_eq!(retire(&space, &registers, suspect).await?, expected);
    assert_eq!(
        retire(&space, &registers, Retirement::Look).await?,
        expected
    );
    assert_eq!(retire(&space, &registers, end(1)).await?, expected);
    assert_eq!(retire(&space, &registers, end(1)).await?, [false; 3]);
    fixture.outlive().await;
    space.store.prune(1000).await?;
    assert!(retire(&space, &[], Retirement::Look).await?.is_empty());
    assert_eq!(
        retire(&space, &registers, Retirement::Look).await?,
        [false; 3]
    );
    Ok(())
}

/// A suspicion alone changes nothing for anybody.
pub async fn suspicion_changes_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a"), subtree("b")];
    space.put_tagged(b"k", b"v", &registers).await?;
    let stamps = space.capture(b"k", &registers).await?;
    for number in [0, 1, u32::MAX] {
        retire(&space, &registers, Retirement::Suspect(number)).await?;
        fixture.outlive().await;
        assert_eq!(space.staleness(b"k").await?, Some(false), "{number}");
        assert_eq!(space.capture(b"k", &registers).await?, stamps);
    }
    assert_eq!(space.soften(&registers[..1]).await?, [true]);
    assert_eq!(space.staleness(b"k").await?, Some(true));
    assert_eq!(space.invalidate(&registers[1..]).await?, [true]);
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// Whoever stores an entry, in whatever way, clears its registers of suspicion, and they are kept for good.
pub async fn stored_entries_clear_of_suspicion(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a"), subtree("a")];
    for (number, way) in (0_u32..).zip(["put", "short put", "write", "touch", "load", "commit"]) {
        // All under one key: registers belong to the part of the store that a key is in.
        space.put_tagged(b"k", b"v", &registers).await?;
        let (stamps, id) = (space.capture(b"k", &registers).await?, token());
        match way {
            "touch" => space.put_tagged_for(b"k", b"v", &registers, LATER).await?,
            _ => drop(space.delete(b"k").await?),
        }
        if way == "commit" {
            space.begun(b"k", &registers, id).await?;
        }
        let suspect = Retirement::Suspect(number);
        assert_eq!(
            retire(&space, &registers, suspect).await?,
            [true; 2],
            "{way}"
        );
        match way {
            "put" => space.put_tagged(b"k", b"v", &registers).await?,
            "short put" => space.put_tagged_for(b"k", b"v", &registers, LATER).await?,
            "write" => space.put(b"k", &entry_of(b"v", &stamps), LATER).await?,
            "touch" => assert!(space.write(Write::touch(b"k", Expiry::Never)).await?),
            "load" => drop(space.begun(b"k", &registers, id).await?),
            _ => assert!(space.commit(b"k", id, b"v", &stamps).await?),
        }
        assert_eq!(
            retire(&space, &registers, end(number)).await?,
            [false; 2],
            "{way}"
        );
        let for_good = retire(&space, &registers, Retirement::Look).await?;
        assert_eq!(for_good, [true; 2], "{way}");
    }
    fixture.outlive().await;
    assert_eq!(space.staleness(b"k").await?, Some(false));
    Ok(())
}

/// Only the suspicion that came last ends a register, and only by its number.
pub async fn suspicions_are_told_apart(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged(b"k", b"v", &registers).await?;
    for (old, new) in [(0, 1), (1, 0), (5, u32::MAX), (u32::MAX, u32::MAX - 1)] {
        retire(&space, &registers, Retirement::Suspect(old)).await?;
        retire(&space, &registers, Retirement::Suspect(new)).await?;
        assert_eq!(retire(&space, &registers, end(old)).await?, [false]);
    }
    assert_eq!(retire(&space, &registers, end(u32::MAX - 1)).await?, [true]);
    Ok(())
}

/// Registers that end by themselves are left alone.
pub async fn registers_of_short_lives_are_left_alone(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("short"), tag("captured")];
    space
        .put_tagged_for(b"k", b"v", &registers[..1], LATER)
        .await?;
    space.capture(b"k", &registers[1..]).await?;
    for step in [Retirement::Look, Retirement::Suspect(0), end(0)] {
        assert_eq!(retire(&space, &registers, step).await?, [false; 2]);
    }
    fixture.outlive().await;
    assert_eq!(space.staleness(b"k").await?, Some(false));
    Ok(())
}

/// What was captured before a register was ended may still be stored, and keeps it.
pub async fn late_entries_keep_ended_registers(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged(b"k", b"v", &registers).await?;
    let stamps = space.capture(b"k", &registers).await?;
    space.delete(b"k").await?;
    retire(&space, &registers, Retirement::Suspect(0)).await?;
    assert_eq!(retire(&space, &registers, end(0)).await?, [true]);
    space
        .put(b"k", &entry_of(b"late", &stamps), Expiry::Never)
        .await?;
    fixture.outlive().await;
    space.store.prune(1000).await?;
    assert_eq!(space.text(b"k").await?.as_deref(), Some(&b"late"[..]));
    Ok(())
}

/// A walk removes what is invalid and what has expired, tells what the others carry, and leaves them alone.
pub async fn walks_remove_what_is_invalid(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let (a, b, bad, loading) = (tag("a"), subtree("b"), tag("bad"), tag("loading"));
    for limit in [1, 3, 1000] {
        for n in 0..10_u8 {
            let lives = [a.clone(), b.clone()];
            space.put_tagged(&[b'v', n], b"v", &lives).await?;
            let dies = [a.clone(), bad.clone(), tag("dies")];
            space.put_tagged(&[b'i', n], b"v", &dies).await?;
        }
        let expires = [tag("expires")];
        space
            .put_tagged_for(b"expires", b"v", &expires, SOON)
            .await?;
        space.put(b"plain", &sealed(b"v"), Expiry::Never).await?;
        space
            .begin(b"loading", std::slice::from_ref(&loading), token())
            .await?;
        space.invalidate(std::slice::from_ref(&bad)).await?;
        fixture.outlive().await;
        let carried = BTreeSet::from([a.clone(), b.clone(), loading.clone()]);
        let (would, met) = tidy(&space, limit, false).await?;
        // Stores remove such entries by themselves, too, and servers what has expired.
        assert!(would <= 11, "{would} of 11");
        assert_eq!(met, carried);
        let (removed, met) = tidy(&space, limit, true).await?;
        assert!(removed <= would, "{removed} of {would}");
        assert_eq!(met, carried);
        assert_eq!(tidy(&space, limit, false).await?, (0, carried));
        for n in 0..10_u8 {
            assert_eq!(space.staleness(&[b'v', n]).await?, Some(false));
        }
        assert!(space.get(b"plain").await?.is_some());
        assert!(!space.is_vacant(b"loading").await?);
    }
    assert_eq!(
        tidy(&fixture.space(), 10, true).await?,
        (0, BTreeSet::new())
    );
    Ok(())
}

/// A cursor of something else is refused, or ends somewhere; nothing is lost.
pub async fn foreign_cursors_of_walks_are_harmless(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a")];
    space.put_tagged(b"k", b"v", &registers).await?;
    for junk in [&b""[..], b"x", b"12345678", &[0xFF; 40]] {
        let junk = Bytes::copy_from_slice(junk);
        let walk = space.store.tidy(&space.namespace, Some(&junk), 10, true);
        if let Err(refused) = walk.await {
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        }
    }
    assert_eq!(space.staleness(b"k").await?, Some(false));
    Ok(())
}

/// Entries come and go while cleanups end what nothing carries: a register that a valid entry without a TTL carries is
/// kept for good.
pub async fn cleanups_spare_what_is_stored_meanwhile(fixture: &StoreUnderTest) -> Result<()> {
    const TAGS: usize = 6;
    const ROUNDS: u32 = 40;
    let Some(space) = retiring_space(fixture) else {
        return Ok(());
    };
    let all: Vec<_> = (0..TAGS).map(|n| tag(&format!("t{n}"))).collect();
    together(4, |task| {
        let (space, all) = (space.clone(), all.clone());
        async move {
            for round in 0..ROUNDS {
                if task < 2 {
                    // Each cleanup has numbers of its own, and may overtake the other at any step.
                    cleanup(&space, &all, 2 * round + task as u32).await?;
                } else {
                    let key = [task as u8, fastrand::u8(0..4)];
                    change(&space, &key, &all[fastrand::usize(0..TAGS)]).await?;
                }
            }
            Ok(())
        }
    })
    .await
    .map(drop)
}

/// Changes an entry that nobody else changes, and looks after its register for a while.
async fn change(space: &Space, key: &[u8], register: &Register) -> Result<()> {
    let one = std::slice::from_ref(register);
    match fastrand::u8(0..3) {
        0 => space.delete(key).await.map(drop),
        1 => space.put_tagged_for(key, b"v", one, LATER).await,
        _ => {
            space.put_tagged(key, b"v", one).await?;
            for _ in 0..4 {
                let for_good = retire(space, one, Retirement::Look).await?;
                assert_eq!(for_good, [true], "a register in use was ended");
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    }
}

async fn cleanup(space: &Space, all: &[Register], number: u32) -> Result<()> {
    let (_, carried) = tidy(space, 3, true).await?;
    let mut idle = all.to_vec();
    idle.retain(|register| !carried.contains(register));
    retire(space, &idle, Retirement::Suspect(number)).await?;
    let (_, carried) = tidy(space, 3, true).await?;
    idle.retain(|register| !carried.contains(register));
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    let end = Retirement::End {
        suspicion: number,
        keep_ms: 3_600_000,
    };
    retire(space, &idle, end).await.map(drop)
}
