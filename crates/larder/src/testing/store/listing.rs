//! Laws of listings: complete, bounded, and harmless with any cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::StoreUnderTest;
use super::space::{Space, together};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::store::{Expiry, Write};
use crate::testing::sealed;

async fn fill(space: &Space, names: &[Vec<u8>]) -> Result<()> {
    let entry = sealed(b"x");
    let put = |name| Write::put(name, entry.clone(), Expiry::Never);
    let writes: Vec<_> = names.iter().map(|name| put(name)).collect();
    space.write_many(&writes).await.map(drop)
}

fn numbered(prefix: &str, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| format!("{prefix}{n:04}").into())
        .collect()
}

/// Pages of any size meet each key exactly once when nothing changes.
pub async fn pages_meet_every_key_once(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    let names = numbered("key-", 300);
    fill(&space, &names).await?;
    for limit in [1, 2, 7, 100, 299, 300, 301, 10_000] {
        assert_eq!(
            space.keys(&Glob::all(), limit).await?,
            names,
            "pages of {limit}"
        );
    }
    Ok(())
}

/// A namespace without entries lists nothing.
pub async fn empty_namespace_lists_nothing(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    assert!(space.list(&Glob::all(), 10).await?.is_empty());
    assert_eq!(space.count(&Glob::all()).await?, 0);
    space.put(b"k", &sealed(b"x"), Expiry::Never).await?;
    space.delete(b"k").await?;
    assert!(space.list(&Glob::all(), 10).await?.is_empty());
    assert_eq!(space.count(&Glob::all()).await?, 0);
    Ok(())
}

/// Patterns select keys by prefix, ending, class and quoted characters, in pages as in counts.
pub async fn patterns_select_keys(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    let mut names = [numbered("user:", 40), numbered("post:", 40)].concat();
    names.extend(
        [
            &b"user"[..],
            b"users",
            b"user:*",
            b"use[r]",
            b"\xff",
            b"\xff\xff:1",
        ]
        .map(<[u8]>::to_vec),
    );
    fill(&space, &names).await?;
    let patterns: [&[u8]; 11] = [
        b"*",
        b"user:*",
        b"user:\\*",
        b"*:0007",
        b"*0*3*",
        b"user:00[0-1]?",
        b"[!u]*",
        b"use\\[r]",
        b"\xff*",
        b"\xff\xff*",
        b"nothing*",
    ];
    for pattern in patterns {
        let glob = Glob::new(pattern)?;
        let mut expected = names.clone();
        expected.retain(|name| glob.matches(name));
        expected.sort_unstable();
        let shown = pattern.escape_ascii();
        assert_eq!(space.keys(&glob, 5).await?, expected, "{shown}");
        assert_eq!(space.count(&glob).await?, expected.len() as u64, "{shown}");
    }
    Ok(())
}

/// A few matches among many other keys are found, over however many empty pages.
pub async fn rare_matches_are_found(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    fill(&space, &numbered("common-", 2000)).await?;
    fill(
        &space,
        &[b"common-0500-rare".to_vec(), b"common-1999-rare".to_vec()],
    )
    .await?;
    let rare = Glob::new("*rare")?;
    assert_eq!(space.keys(&rare, 1).await?.len(), 2);
    assert_eq!(space.count(&rare).await?, 2);
    Ok(())
}

/// A listed key comes with the size and the expiry of its entry.
pub async fn listed_keys_report_size_and_expiry(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    let entry = sealed(&[1; 1000]);
    space.put(b"a", &entry, Expiry::After(3_600_000)).await?;
    space.put(b"b", &entry, Expiry::Never).await?;
    for scanned in space.list(&Glob::all(), 10).await? {
        let read = space.entry(scanned.key.as_bytes()).await?;
        assert_eq!(scanned.bytes, entry.len() as u64);
        assert_eq!(
            scanned.expires_at_ms,
            read.and_then(|entry| entry.expires_at_ms)
        );
    }
    Ok(())
}

/// A key that exists throughout is met, however many come, change and go meanwhile.
pub async fn lasting_keys_are_met_despite_churn(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    let lasting = numbered("lasting-", 200);
    fill(&space, &lasting).await?;
    let stop = Arc::new(AtomicBool::new(false));
    together(3, |task| {
        let (space, stop, lasting) = (space.clone(), Arc::clone(&stop), lasting.clone());
        async move {
            if task > 0 {
                churn(&space, &lasting, &stop).await?;
                return Ok(());
            }
            for limit in [3, 16, 64, 150].repeat(3) {
                let met = space.list(&Glob::new("*")?, limit).await?;
                let mut met: Vec<_> = met.iter().map(|scanned| scanned.key.as_bytes()).collect();
                met.sort_unstable();
                for key in &lasting {
                    assert!(
                        met.binary_search(&&key[..]).is_ok(),
                        "{} is missing",
                        key.escape_ascii()
                    );
                }
            }
            stop.store(true, Ordering::Release);
            Ok(())
        }
    })
    .await?;
    Ok(())
}

/// Creates and deletes keys all over the place, and overwrites lasting ones.
async fn churn(space: &Space, lasting: &[Vec<u8>], stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Acquire) {
        let key = format!(
            "{}-{}",
            ["a", "lasting", "z"][fastrand::usize(..3)],
            fastrand::u8(..)
        );
        space
            .put(key.as_bytes(), &sealed(b"x"), Expiry::Never)
            .await?;
        let kept = &lasting[fastrand::usize(..lasting.len())];
        space
            .put(
                kept,
                &sealed(&vec![1; fastrand::usize(..500)]),
                Expiry::Never,
            )
            .await?;
        space.delete(key.as_bytes()).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A cursor that the store did not give is an error or harmless: no panic, no key of another namespace.
pub async fn foreign_cursors_are_harmless(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let (space, other) = (fixture.space(), fixture.space());
    let names = numbered("key-", 20);
    fill(&space, &names).await?;
    fill(&other, &numbered("other-", 20)).await?;
    let mut random = fastrand::Rng::with_seed(7);
    let mut cursors: Vec<Vec<u8>> = vec![Vec::new(), b"key-".to_vec(), vec![b'9'; 4096]];
    cursors.extend((1..24).map(|len| vec![0xff; len]));
    cursors.extend((1..24).map(|len| vec![0; len]));
    cursors.extend((0..50).map(|_| std::iter::repeat_with(|| random.u8(..)).take(20).collect()));
    let page = other
        .store
        .scan(&other.namespace, &Glob::all(), None, 3)
        .await?;
    cursors.extend(page.next.map(|cursor| cursor.to_vec()));
    for cursor in cursors {
        let shown = cursor.escape_ascii().to_string();
        let cursor = Bytes::from(cursor);
        match space
            .store
            .scan(&space.namespace, &Glob::all(), Some(&cursor), 100)
            .await
        {
            Ok(page) => assert!(
                page.keys
                    .iter()
                    .all(|scanned| names.iter().any(|name| name == scanned.key.as_bytes())),
                "cursor {shown}"
            ),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "cursor {shown}"),
        }
    }
    Ok(())
}
