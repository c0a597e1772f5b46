//! Laws of what a store says about itself.

use super::StoreUnderTest;
use super::lock_space::lock;
use super::tag_space::{tag, token};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::lease::{Ask, Owner, Rate};
use crate::store::{Expiry, Invalidation, LoadRequest, SortedSetOp};
use crate::testing::{sealed, stamped};

/// What the capabilities promise works, and what they exclude answers `Unsupported`.
pub async fn capabilities_are_honest(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let can = fixture.capabilities();
    assert_eq!(can, fixture.capabilities(), "they never change");
    let outcomes = [
        (
            can.enumeration,
            space
                .store
                .scan(&space.namespace, &Glob::all(), None, 1)
                .await
                .map(drop),
        ),
        (can.enumeration, space.count(&Glob::all()).await.map(drop)),
        (
            can.counters,
            space.increment(b"n", 1, Expiry::Never).await.map(drop),
        ),
        (
            can.sorted_sets,
            space.sorted_set(b"s", SortedSetOp::Len).await.map(drop),
        ),
    ];
    for (promised, outcome) in outcomes {
        let kind = outcome.map_err(|error| error.kind());
        assert_eq!(kind, works_if(promised));
    }
    space.put(b"k", &sealed(b"v"), Expiry::Never).await?;
    let kept = space.get(b"k").await?.is_some();
    assert_eq!(kept, !can.discards, "what is put is kept, or not");
    assert!(
        can.sorted_sets || !can.native_sorted_sets,
        "native sets are sets"
    );
    let journal = space.store.journal(&space.namespace);
    assert_eq!(journal.is_some(), can.coherent_local);
    tags_are_honest(fixture).await?;
    locks_are_honest(fixture).await
}

/// Checks what the capabilities say of tags.
async fn tags_are_honest(fixture: &StoreUnderTest) -> Result<()> {
    let can = fixture.capabilities();
    assert!(can.tags || !can.tag_listing, "what is listed is there");
    let (store, namespace) = (&fixture.store, &fixture.space().namespace);
    let of_tag = tag("t");
    let registers = std::slice::from_ref(&of_tag);
    let seal = |stamps| Ok(stamped(&sealed(b"v"), stamps));
    let load = LoadRequest {
        registers,
        token: token(),
        lease_ms: 1000,
    };
    let how = Invalidation::Hard;
    let all = Glob::all();
    let outcomes = [
        (
            can.tags,
            store.capture(namespace, b"k", registers).await.map(drop),
        ),
        (
            can.tags,
            store
                .put_stamped(
                    namespace,
                    b"k",
                    &crate::store::StampedPut {
                        registers,
                        expiry: Expiry::Never,
                        seal: &seal,
                    },
                )
                .await,
        ),
        (
            can.tags,
            store.begin_load(namespace, b"k", &load).await.map(drop),
        ),
        (
            can.tags,
            store.invalidate(namespace, registers, how).await.map(drop),
        ),
        (
            can.tag_listing,
            store
                .scan_registers(namespace, &all, None, 1)
                .await
                .map(drop),
        ),
        (
            can.tag_listing,
            store
                .scan_by_register(namespace, &of_tag, None, 1)
                .await
                .map(drop),
        ),
    ];
    for (promised, outcome) in outcomes {
        let kind = outcome.map_err(|error| error.kind());
        assert_eq!(kind, works_if(promised));
    }
    Ok(())
}

/// Checks what the capabilities say of locks.
async fn locks_are_honest(fixture: &StoreUnderTest) -> Result<()> {
    let can = fixture.capabilities();
    assert_eq!(fixture.store.lock_store().is_some(), can.locks);
    let of_locks = [
        can.fair_locks,
        can.durable_fences,
        can.locks_freed_on_death,
        can.limiters,
    ];
    assert!(
        can.locks || of_locks == [false; 4],
        "without locks, they are neither fair nor anything else"
    );
    let Some(locks) = fixture.locks() else {
        return Ok(());
    };
    assert_eq!(locks.store.is_fair(), can.fair_locks);
    assert!(
        (1..=1000).contains(&locks.store.longest_pause().as_millis()),
        "who waits neither spins nor sleeps for long"
    );
    let owner = Owner::new();
    locks.granted(b"lock", &lock(&owner)).await?;
    let permit = Ask {
        permits: 2,
        ..lock(&owner)
    };
    let rate = Rate {
        tokens: 1,
        interval_ms: 1000,
        burst: 1,
    };
    let outcomes = [
        (can.fair_locks, locks.list(&Glob::all(), 1).await.map(drop)),
        (can.limiters, locks.ask(b"permit", &permit).await.map(drop)),
        (
            can.limiters,
            locks.take(b"bucket", &rate, 1).await.map(drop),
        ),
    ];
    for (promised, outcome) in outcomes {
        let kind = outcome.map_err(|error| error.kind());
        assert_eq!(kind, works_if(promised));
    }
    Ok(())
}

fn works_if(promised: bool) -> Result<(), ErrorKind> {
    if promised {
        Ok(())
    } else {
        Err(ErrorKind::Unsupported)
    }
}

/// A store that works answers a ping, and has a short name for messages.
pub async fn ping_answers(fixture: &StoreUnderTest) -> Result<()> {
    fixture.store.ping().await?;
    let name = fixture.store.name();
    assert!(!name.is_empty() && name.len() <= 32, "{name:?}");
    assert!(
        !name.contains(|c: char| c.is_uppercase() || c.is_whitespace()),
        "{name:?}"
    );
    Ok(())
}

/// The clock of the store is the one it was built with.
pub async fn clock_is_the_one_given(fixture: &StoreUnderTest) -> Result<()> {
    let Some(time) = &fixture.time else {
        return Ok(());
    };
    assert_eq!(fixture.store.clock().now_ms(), time.clock().now_ms());
    time.advance(std::time::Duration::from_millis(1));
    assert_eq!(fixture.store.clock().now_ms(), time.clock().now_ms());
    Ok(())
}

/// The figures cover what was stored and go down with it, where the store can tell.
pub async fn stats_are_plausible(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(&[5; 1000]);
    for n in 0..100 {
        space.put(&[n], &entry, Expiry::Never).await?;
    }
    let stats = fixture.store.stats().await?;
    assert!(
        stats.entries.is_none_or(|entries| entries >= 100),
        "{stats:?}"
    );
    assert!(
        stats.bytes.is_none_or(|bytes| bytes >= 100 * 1000),
        "{stats:?}"
    );
    if let (Some(bytes), Some(capacity)) = (stats.bytes, stats.capacity_bytes) {
        assert!(bytes <= capacity, "{stats:?}");
    }
    assert_eq!(stats.quarantined, 0, "nothing was damaged");
    Ok(())
}

/// Reads beside a bulk of writes on other tasks are answered; nothing waits for ever.
pub async fn mixed_load_is_answered(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    super::space::together(24, |task| {
        let space = space.clone();
        async move {
            for n in 0..20_u8 {
                let key = [n % 5];
                match task % 4 {
                    0 => space.put(&key, &sealed(&[n]), Expiry::After(50)).await?,
                    1 => drop(space.get_many(&[&key, b"x", b"y"]).await?),
                    2 => drop(space.delete(&key).await?),
                    _ => drop(space.store.prune(10).await?),
                }
            }
            Ok(())
        }
    })
    .await?;
    fixture.store.ping().await
}
