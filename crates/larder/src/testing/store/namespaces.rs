//! Laws of namespaces: they share nothing, and `clear` empties exactly one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::space::together;
use super::{StoreUnderTest, fresh_name};
use crate::error::Result;
use crate::glob::Glob;
use crate::store::{Condition, Expiry, Write};
use crate::testing::{sealed, write_id};

/// Namespaces whose names begin alike share no key, for reads, deletes, listings and clears.
pub async fn namespaces_do_not_mix(fixture: &StoreUnderTest) -> Result<()> {
    let name = fresh_name();
    let spaces: Vec<_> = ["", ":", "1", ":cache", "%", "%3A", "\0", "*", "/"]
        .iter()
        .map(|ending| fixture.space_of(&format!("{name}{ending}")))
        .collect();
    for (n, space) in spaces.iter().enumerate() {
        space.put(b"k", &sealed(&[n as u8]), Expiry::Never).await?;
        space
            .put(&[b'k', n as u8], &sealed(b"own"), Expiry::Never)
            .await?;
    }
    for (n, space) in spaces.iter().enumerate() {
        let read = space
            .get(b"k")
            .await?
            .and_then(|entry| crate::testing::body(&entry));
        assert_eq!(read.as_deref(), Some(&[n as u8][..]), "{}", space.namespace);
        if fixture.capabilities().enumeration {
            let own = vec![b'k', n as u8];
            assert_eq!(space.keys(&Glob::all(), 10).await?, [b"k".to_vec(), own]);
        }
    }
    assert!(spaces[0].delete(b"k").await?);
    spaces[1].clear().await?;
    for space in &spaces[2..] {
        assert!(space.get(b"k").await?.is_some(), "{}", space.namespace);
    }
    Ok(())
}

/// `clear` empties one namespace, of entries, counters and sorted sets, and leaves its neighbours.
pub async fn clear_empties_exactly_one_namespace(fixture: &StoreUnderTest) -> Result<()> {
    let (cleared, neighbour) = (fixture.space(), fixture.space());
    for space in [&cleared, &neighbour] {
        for n in 0..50 {
            space.put(&[n], &sealed(b"x"), Expiry::Never).await?;
        }
        if fixture.capabilities().counters {
            space.increment(b"counter", 7, Expiry::Never).await?;
        }
    }
    cleared.clear().await?;
    for n in 0..50 {
        assert_eq!(cleared.get(&[n]).await?, None);
        assert!(neighbour.get(&[n]).await?.is_some());
    }
    if fixture.capabilities().counters {
        assert_eq!(cleared.increment(b"counter", 1, Expiry::Never).await?, 1);
        assert_eq!(neighbour.increment(b"counter", 1, Expiry::Never).await?, 8);
    }
    if fixture.capabilities().enumeration {
        let left = usize::from(fixture.capabilities().counters);
        assert_eq!(cleared.keys(&Glob::all(), 10).await?.len(), left);
        assert_eq!(cleared.count(&Glob::all()).await?, left as u64);
    }
    Ok(())
}

/// Writes after a `clear` are visible, and conditions see the namespace as empty.
pub async fn writes_after_clear_are_visible(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (old, new) = (sealed(b"old"), sealed(b"new"));
    for _ in 0..5 {
        space.put(b"k", &old, Expiry::Never).await?;
        space.clear().await?;
        let put = Write::put(b"k", new.clone(), Expiry::Never);
        let unchanged = Condition::IfUnchanged(write_id(&old));
        assert!(!space.write(put.clone().when(unchanged)).await?);
        assert!(!space.write(put.clone().when(Condition::IfPresent)).await?);
        assert!(!space.delete(b"k").await?);
        assert!(space.write(put.when(Condition::IfAbsent)).await?);
        assert_eq!(space.get(b"k").await?, Some(new.clone()));
    }
    Ok(())
}

/// Clearing what is empty, once or often, is no error.
pub async fn clear_of_an_empty_namespace_is_fine(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    for _ in 0..3 {
        space.clear().await?;
    }
    space.put(b"k", &sealed(b"x"), Expiry::Never).await?;
    assert!(space.get(b"k").await?.is_some());
    Ok(())
}

/// What was written before a `clear` began is gone after it, however many write meanwhile; it never comes back.
pub async fn clear_beside_writers_leaves_no_zombie(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let stop = Arc::new(AtomicBool::new(false));
    let settled: Vec<Vec<u8>> = (0..64).map(|n| format!("settled-{n}").into()).collect();
    together(4, |task| {
        let (space, stop, settled) = (space.clone(), Arc::clone(&stop), settled.clone());
        async move {
            if task > 0 {
                for n in 0_u32.. {
                    let key = [b"busy".as_slice(), &[task as u8], &(n % 50).to_be_bytes()].concat();
                    space.put(&key, &sealed(&key), Expiry::Never).await?;
                    if stop.load(Ordering::Acquire) {
                        return Ok(());
                    }
                    tokio::task::yield_now().await;
                }
            }
            for _ in 0..20 {
                for key in &settled {
                    space.put(key, &sealed(key), Expiry::Never).await?;
                }
                space.clear().await?;
                for _ in 0..2 {
                    let keys: Vec<_> = settled.iter().map(Vec::as_slice).collect();
                    let read = space.get_many(&keys).await?;
                    assert!(read.iter().all(Option::is_none), "a cleared entry is back");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            stop.store(true, Ordering::Release);
            Ok(())
        }
    })
    .await?;
    space.clear().await?;
    if fixture.capabilities().enumeration {
        assert!(space.keys(&Glob::all(), 100).await?.is_empty());
        assert_eq!(space.count(&Glob::all()).await?, 0);
    }
    space.put(b"after", &sealed(b"x"), Expiry::Never).await?;
    assert!(space.get(b"after").await?.is_some());
    Ok(())
}
