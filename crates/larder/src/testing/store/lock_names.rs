//! Laws of the names of locks: they share nothing with each other, with other spaces, or with entries.

use super::lock_space::{LockSpace, lock, owners, waiting};
use super::{StoreUnderTest, fresh_name};
use crate::error::Result;
use crate::glob::Glob;
use crate::key::{Key, MAX_KEY_BYTES};
use crate::lease::{Owner, Rate};
use crate::store::Expiry;
use crate::testing::sealed;

/// Returns names that something might take for something else.
fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "a",
        "A",
        "a:b",
        "a:",
        ":a",
        "::",
        ":",
        "%",
        "a%3Ab",
        "{",
        "}",
        "{}",
        "{a}",
        "}{",
        "{a}:{b}",
        "a b",
        " ",
        "\r\n",
        "a\r\nget a\r\n",
        "\0",
        "a\0",
        "a\0b",
        "*",
        "[a]",
        "../a",
        "/",
        ".",
        "..",
        "con",
        "\u{202e}",
        "ä",
        "$-1",
        "'--",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend([vec![0xff, 0xfe], vec![0xff], vec![0x80, 0, 0xc3]]);
    for last in [b'x', b'y'] {
        let mut long = vec![b'x'; MAX_KEY_BYTES];
        long[MAX_KEY_BYTES - 1] = last;
        names.push(long);
    }
    names.push(vec![b'x'; MAX_KEY_BYTES - 1]);
    names
}

/// Checks that a lock that nobody held is free, and holds it.
async fn held(locks: &LockSpace, name: &[u8]) -> Result<Owner> {
    let owner = Owner::new();
    let fence = locks.fence(name, &lock(&owner)).await?;
    assert!(fence.is_some(), "{} {name:?}", locks.namespace);
    Ok(owner)
}

/// Locks of different names share nothing: one owner may hold many, and what happens to one leaves the others.
pub async fn names_are_independent(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let [a, b] = owners();
    for name in [b"x", b"y", b"z"] {
        locks.granted(name, &lock(&a)).await?;
    }
    assert!(locks.release(b"x", &a).await?);
    assert_eq!(locks.evict(b"y").await?, 1);
    locks.granted(b"x", &lock(&b)).await?;
    locks.granted(b"y", &lock(&b)).await?;
    locks.busy(b"z", &lock(&b)).await?;
    assert!(locks.extend(b"z", &a, 1000).await?);
    assert!(!locks.release(b"z", &b).await?);
    Ok(())
}

/// A name may hold any bytes: it is a lock of its own, can be given up, and is listed as it is.
pub async fn names_of_locks_may_hold_any_bytes(fixture: &StoreUnderTest) -> Result<()> {
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    let names = hostile_names();
    let mut holders = Vec::new();
    for name in &names {
        holders.push(held(&locks, name).await?);
    }
    for name in &names {
        locks.busy(name, &lock(&Owner::new())).await?;
    }
    if fixture.capabilities().fair_locks {
        let listed = locks.list(&Glob::all(), names.len() + 1).await?;
        let listed: Vec<_> = listed.into_iter().map(|status| status.name).collect();
        let mut all: Vec<_> = names.iter().map(|name| Key::from(name.clone())).collect();
        all.sort();
        assert_eq!(listed, all);
    }
    for (name, holder) in names.iter().zip(&holders) {
        assert!(locks.release(name, holder).await?, "{name:?}");
        held(&locks, name).await?;
    }
    Ok(())
}

/// Spaces share no lock, however their names and those of the locks are cut.
pub async fn spaces_of_locks_do_not_mix(fixture: &StoreUnderTest) -> Result<()> {
    let prefix = fresh_name();
    let cuts = [
        ("", "locks", "a:b:c"),
        (":a", "locks", "b:c"),
        (":a:b", "locks", "c"),
        ("", "locks:a", "b:c"),
        ("", "locks:a:b", "c"),
        ("", "a", "locks:b:c"),
        ("", "semaphores", "a:b:c"),
        ("{a}", "locks", "a:b:c"),
        ("", "{a}", "a:b:c"),
        ("\r\n", "locks", "a:b:c"),
        ("\0", "locks", "a:b:c"),
    ];
    let mut held_so_far = Vec::new();
    for (ending, sort, name) in cuts {
        let Some(locks) = fixture.locks_of(&format!("{prefix}{ending}"), sort) else {
            return Ok(());
        };
        let owner = held(&locks, name.as_bytes()).await?;
        held_so_far.push((locks, name.as_bytes(), owner));
    }
    let (first, name, _) = &held_so_far[0];
    assert_eq!(first.evict(name).await?, 1);
    for (locks, name, owner) in &held_so_far[1..] {
        if fixture.capabilities().fair_locks {
            let status = locks.status().await?;
            assert_eq!(status.name.as_bytes(), *name);
        }
        assert!(locks.release(name, owner).await?);
    }
    Ok(())
}

/// Clearing a cache leaves the locks, their queues and the buckets of its prefix as they are.
pub async fn clear_leaves_locks_alone(fixture: &StoreUnderTest) -> Result<()> {
    let prefix = fresh_name();
    let Some(locks) = fixture.locks_of(&prefix, "locks") else {
        return Ok(());
    };
    let can = fixture.capabilities();
    let rate = Rate {
        tokens: 1,
        interval_ms: Rate::MAX_INTERVAL_MS,
        burst: 1,
    };
    let [holder, waiter] = owners();
    let space = fixture.space_of(&prefix);
    space.put(b"lock", &sealed(b"entry"), Expiry::Never).await?;
    let fence = locks.granted(b"lock", &lock(&holder)).await?;
    if can.fair_locks {
        locks.busy(b"lock", &waiting(&waiter)).await?;
    }
    if can.limiters {
        assert!(locks.take(b"bucket", &rate, 1).await?.allowed);
    }
    space.clear().await?;
    fixture.store.prune(1000).await?;
    assert_eq!(space.get(b"lock").await?, None);
    assert_eq!(locks.granted(b"lock", &lock(&holder)).await?, fence);
    locks.busy(b"lock", &lock(&waiter)).await?;
    if can.fair_locks {
        assert_eq!(locks.status().await?.waiters, 1);
    }
    if can.limiters {
        assert!(!locks.take(b"bucket", &rate, 1).await?.allowed);
    }
    assert!(locks.release(b"lock", &holder).await?);
    assert!(locks.granted(b"lock", &lock(&waiter)).await? > fence);
    Ok(())
}

/// Locks and buckets are no entries: a cache of their prefix neither reads nor lists nor counts them.
pub async fn locks_are_no_entries(fixture: &StoreUnderTest) -> Result<()> {
    let prefix = fresh_name();
    let Some(locks) = fixture.locks_of(&prefix, "locks") else {
        return Ok(());
    };
    let space = fixture.space_of(&prefix);
    space.put(b"entry", &sealed(b"x"), Expiry::Never).await?;
    for name in [b"lock", b"next"] {
        held(&locks, name).await?;
    }
    if fixture.capabilities().limiters {
        let rate = Rate {
            tokens: 1,
            interval_ms: 1000,
            burst: 9,
        };
        locks.take(b"bucket", &rate, 1).await?;
    }
    for name in [b"lock".as_slice(), b"next", b"bucket"] {
        assert_eq!(space.get(name).await?, None);
        assert!(!space.delete(name).await?);
    }
    if fixture.capabilities().enumeration {
        assert_eq!(space.keys(&Glob::all(), 100).await?, [b"entry"]);
        assert_eq!(space.count(&Glob::all()).await?, 1);
    }
    locks.busy(b"lock", &lock(&Owner::new())).await?;
    Ok(())
}
