//! Laws of reading and writing entries.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::space::together;
use super::{SOON, StoreUnderTest};
use crate::envelope::MAX_ENTRY_BYTES;
use crate::error::{ErrorKind, Result};
use crate::store::{Condition, Expiry, Write};
use crate::testing::{body, sealed, unreadable};

/// The fixed part of an entry's header.
const HEADER_BYTES: usize = 64;

/// A key that was never written reads as `None`.
pub async fn missing_key_is_none(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    assert_eq!(space.get(b"missing").await?, None);
    space.put(b"other", &sealed(b"x"), Expiry::Never).await?;
    assert_eq!(space.get(b"missing").await?, None);
    Ok(())
}

/// What was stored comes back byte for byte.
pub async fn set_then_get_returns_the_same_bytes(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let every_byte: Vec<u8> = (0..=255).collect();
    let entry = sealed(&every_byte);
    space.put(b"k", &entry, Expiry::Never).await?;
    assert_eq!(space.get(b"k").await?, Some(entry));
    Ok(())
}

/// An entry with an empty body is a value, not a miss.
pub async fn empty_body_is_a_value(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(b"");
    space.put(b"k", &entry, Expiry::Never).await?;
    assert_eq!(space.get(b"k").await?, Some(entry));
    Ok(())
}

/// A value of 1 MiB comes back whole; a store that was set up for less refuses it as `TooLarge`.
pub async fn one_mebibyte_comes_back_whole(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let mut random = fastrand::Rng::with_seed(1);
    let big: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(1 << 20)
        .collect();
    let entry = sealed(&big);
    if entry.len() > fixture.max_entry_bytes {
        let refused = space.put(b"big", &entry, Expiry::Never).await;
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::TooLarge));
        assert_eq!(space.get(b"big").await?, None);
        return Ok(());
    }
    space.put(b"big", &entry, Expiry::Never).await?;
    assert!(space.get(b"big").await? == Some(entry), "1 MiB differs");
    Ok(())
}

/// The largest entry there can be is kept whole or refused as `TooLarge`.
pub async fn largest_entry_is_kept_or_refused(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let entry = sealed(&vec![7; MAX_ENTRY_BYTES - HEADER_BYTES]);
    match space.put(b"largest", &entry, Expiry::Never).await {
        Ok(()) => assert!(space.get(b"largest").await? == Some(entry), "bytes differ"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert_eq!(space.get(b"largest").await?, None);
        }
    }
    Ok(())
}

/// Damaged bytes read as `None` or as they are; the store neither fails nor invents a value.
pub async fn damaged_bytes_are_a_miss_or_come_back_as_they_are(
    fixture: &StoreUnderTest,
) -> Result<()> {
    let space = fixture.space();
    for junk in [unreadable(), Bytes::from_static(b"x"), Bytes::new()] {
        space.put(b"junk", &junk, Expiry::Never).await?;
        if let Some(read) = space.get(b"junk").await? {
            assert_eq!(read, junk);
        }
    }
    Ok(())
}

/// Bulk reads give one result per key, in the order asked, also for keys asked twice.
pub async fn get_many_keeps_order_and_duplicates(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (a, b) = (sealed(b"a"), sealed(b"b"));
    space.put(b"a", &a, Expiry::Never).await?;
    space.put(b"b", &b, Expiry::Never).await?;
    let read = space
        .get_many(&[b"b", b"none", b"a", b"b", b"none"])
        .await?;
    assert_eq!(read, [Some(b.clone()), None, Some(a), Some(b), None]);
    Ok(())
}

/// Bulk calls about nothing answer nothing.
pub async fn empty_bulk_calls_answer_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    assert!(space.get_many(&[]).await?.is_empty());
    assert!(space.write_many(&[]).await?.is_empty());
    Ok(())
}

/// A thousand keys go through one call, each way.
pub async fn bulk_calls_of_a_thousand_keys_work(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let keys: Vec<Vec<u8>> = (0..1000).map(|n| format!("key-{n}").into()).collect();
    let entries: Vec<_> = keys.iter().map(|key| sealed(key)).collect();
    let puts = keys.iter().zip(&entries);
    let writes: Vec<_> = puts
        .map(|(key, entry)| Write::put(key, entry.clone(), Expiry::Never))
        .collect();
    assert_eq!(space.write_many(&writes).await?, vec![true; 1000]);
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let read = space.get_many(&asked).await?;
    assert!(
        read.into_iter().eq(entries.into_iter().map(Some)),
        "values differ"
    );
    Ok(())
}

/// Bulk writes report one result per write, in the order given.
pub async fn write_many_reports_each_write_in_order(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"old", &sealed(b"old"), Expiry::Never).await?;
    let entry = sealed(b"new");
    let put = |key| Write::put(key, entry.clone(), Expiry::Never);
    let writes = [
        Write::delete(b"none"),
        put(b"new"),
        put(b"old").when(Condition::IfAbsent),
        Write::touch(b"none", Expiry::Never),
        Write::delete(b"old"),
        put(b"none").when(Condition::IfPresent),
    ];
    let applied = space.write_many(&writes).await?;
    assert_eq!(applied, [false, true, false, false, true, false]);
    assert_eq!(
        space.get_many(&[b"old", b"new", b"none"]).await?,
        [None, Some(entry), None]
    );
    Ok(())
}

/// Writes of one call to one key apply one after the other.
pub async fn writes_of_one_call_to_one_key_apply_in_order(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (first, second, third) = (sealed(b"1"), sealed(b"2"), sealed(b"3"));
    let put = |entry: &Bytes| Write::put(b"k", entry.clone(), Expiry::Never);
    let writes = [
        put(&first).when(Condition::IfAbsent),
        put(&second).when(Condition::IfAbsent),
        Write::delete(b"k"),
        Write::delete(b"k"),
        put(&second).when(Condition::IfAbsent),
        put(&third),
    ];
    let applied = space.write_many(&writes).await?;
    assert_eq!(applied, [true, false, true, false, true, true]);
    assert_eq!(space.get(b"k").await?, Some(third));
    Ok(())
}

/// An overwrite replaces the value and the expiry, also an early expiry by a late one.
pub async fn overwrite_replaces_value_and_expiry(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let (first, second) = (sealed(b"first"), sealed(b"a longer second"));
    space.put(b"k", &first, SOON).await?;
    space.put(b"k", &second, Expiry::Never).await?;
    fixture.outlive().await;
    let entry = space
        .entry(b"k")
        .await?
        .expect("the overwritten entry never expires");
    assert_eq!((entry.value, entry.expires_at_ms), (second, None));
    space.put(b"k", &first, SOON).await?;
    fixture.outlive().await;
    assert_eq!(space.get(b"k").await?, None);
    Ok(())
}

/// A delete reports whether there was an entry, and leaves none.
pub async fn delete_reports_whether_there_was_an_entry(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    space.put(b"k", &sealed(b"x"), Expiry::Never).await?;
    assert!(space.delete(b"k").await?);
    assert_eq!(space.get(b"k").await?, None);
    assert!(!space.delete(b"k").await?);
    Ok(())
}

/// Readers beside writers see whole values only, each one that was written to its key.
pub async fn readers_beside_writers_see_whole_values(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let value = |key: u8, round: u8| sealed(&vec![key ^ round; 64 + usize::from(round) * 40]);
    for key in 0..4 {
        space.put(&[key], &value(key, 0), Expiry::Never).await?;
    }
    together(8, |task| {
        let space = space.clone();
        let key = (task % 4) as u8;
        async move {
            for round in 0..60 {
                if task < 4 {
                    space.put(&[key], &value(key, round), Expiry::Never).await?;
                    continue;
                }
                let read = space.get(&[key]).await?.expect("the key is always there");
                let plain = body(&read).expect("the entry is whole");
                let round = ((plain.len() - 64) / 40) as u8;
                assert!(
                    plain.iter().all(|byte| *byte == key ^ round),
                    "a mixed value"
                );
            }
            Ok(())
        }
    })
    .await?;
    Ok(())
}

/// A write whose future is dropped half-way is applied or not, whole, and later calls work.
pub async fn dropped_write_is_applied_or_not(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let keys: [&[u8]; 3] = [b"a", b"b", b"c"];
    let mut possible = vec![sealed(b"first")];
    for key in keys {
        space.put(key, &possible[0], Expiry::Never).await?;
    }
    for round in 0..50 {
        let entry = sealed(format!("round {round}").as_bytes());
        let writes = keys.map(|key| Write::put(key, entry.clone(), Expiry::Never));
        possible.push(entry);
        // One poll at first, then a little longer each round.
        let patience = Duration::from_micros(round * 20);
        let _ = tokio::time::timeout(patience, space.write_many(&writes)).await;
        for read in space.get_many(&keys).await? {
            let read = read.expect("an abandoned overwrite removes nothing");
            assert!(possible.contains(&read), "a value that nobody wrote");
        }
    }
    Ok(())
}

/// A write that begins after another one was dropped half-way is not undone by it later.
pub async fn dropped_write_does_not_undo_a_later_one(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    for round in 0..20 {
        // Small and large writes may go different ways.
        let old = sealed(&vec![1; if round % 2 == 0 { 10 } else { 300_000 }]);
        let new = sealed(format!("round {round}").as_bytes());
        let abandoned = [Write::put(b"k", old, Expiry::Never)];
        // One poll, as a caller that runs into its timeout.
        let _ = space.write_many(&abandoned).now_or_never();
        space.put(b"k", &new, Expiry::Never).await?;
        for _ in 0..5 {
            let read = space.get(b"k").await?;
            assert!(
                read.as_ref() == Some(&new),
                "round {round}: the former write is back"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}
