//! Laws of tags while everything happens at once: a checker finds no value that should be gone.
//!
//! Every value has a number, and all who take part share one count of moments. A value is as old as the moment at which
//! its computation began, or, where it was set, at which that had ended. A read must not return a value that is
//! older than the beginning of an invalidation, set, delete or clear that had returned when the read began:
//! [`ReadHistory`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::StoreUnderTest;
use super::space::{Space, together};
use super::tag_space::{LONG_MS, subtree, tag, token};
use crate::error::Result;
use crate::store::{Condition, Expiry, Register, Write};
use crate::testing::{ReadHistory, sealed};

const KEYS: u8 = 3;
const WRITERS: usize = 4;
const READERS: usize = 4;
const INVALIDATIONS: usize = 200;

/// What a change is about that is about all keys; the rest are about the key of that number.
const ALL: u64 = u64::MAX;

/// What happened so far.
#[derive(Debug, Default)]
struct History {
    moment: AtomicU64,
    happened: Mutex<ReadHistory>,
    stop: AtomicBool,
}

impl History {
    fn tick(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes as of which moment the value of a key is right.
    fn age(&self, key: u8, value: u64, since: u64) {
        let mut happened = lock(&self.happened);
        happened.depends(value, key.into(), since);
        happened.depends(value, ALL, since);
    }

    /// Makes a change and notes when.
    async fn change<T>(&self, about: u64, change: impl Future<Output = Result<T>>) -> Result<T> {
        let began = self.tick();
        let outcome = change.await?;
        let ended = self.tick();
        lock(&self.happened).changed(about, began, ended);
        Ok(outcome)
    }

    async fn read(&self, space: &Space, key: u8) -> Result<()> {
        let began = self.tick();
        let Some(text) = space.text(&[key]).await? else {
            return Ok(());
        };
        let value = u64::from_le_bytes(text[..].try_into().expect("eight bytes"));
        lock(&self.happened).read(value, began);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn registers(key: u8) -> [Register; 3] {
    [subtree("group"), tag(&format!("group:{key}")), tag("all")]
}

/// Sets, deletes and loads until the invalidations are over.
async fn write(space: &Space, history: &History) -> Result<()> {
    while !history.stop.load(Ordering::SeqCst) {
        let key = fastrand::u8(..KEYS);
        match fastrand::u8(..10) {
            0..2 => {
                let value = history.tick();
                let text = value.to_le_bytes();
                let registers = registers(key);
                let at = [key];
                let put = space.put_tagged(&at, &text, &registers);
                history.change(key.into(), put).await?;
                history.age(key, value, history.tick());
            }
            2..7 => load(space, history, key).await?,
            _ => drop(history.change(key.into(), space.delete(&[key])).await?),
        }
        linger().await;
    }
    Ok(())
}

/// Loads a value: it is as old as the moment at which its load had begun.
async fn load(space: &Space, history: &History, key: u8) -> Result<()> {
    let id = token();
    let begun = space
        .begin_for(&[key], &registers(key), id, LONG_MS)
        .await?;
    if !begun.is_granted {
        return Ok(());
    }
    let value = history.tick();
    history.age(key, value, value);
    linger().await;
    let text = value.to_le_bytes();
    space
        .commit(&[key], id, &text, &begun.stamps)
        .await
        .map(drop)
}

/// Invalidates and clears; also ends it all.
async fn invalidate(space: &Space, history: &History) -> Result<()> {
    for round in 0..INVALIDATIONS {
        let key = fastrand::u8(..KEYS);
        let (touched, register) = match fastrand::u8(..5) {
            0 => (key.into(), tag(&format!("group:{key}"))),
            1 => (ALL, subtree("group")),
            _ => (ALL, tag("all")),
        };
        if round % 50 == 49 {
            history.change(ALL, space.clear()).await?;
        } else {
            let registers = [register];
            history
                .change(touched, space.invalidate(&registers))
                .await?;
        }
        history.read(space, key).await?;
        linger().await;
        linger().await;
    }
    history.stop.store(true, Ordering::SeqCst);
    Ok(())
}

async fn pause() {
    for _ in 0..fastrand::u8(..4) {
        tokio::task::yield_now().await;
    }
    if fastrand::u8(..8) == 0 {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Waits so long that something may happen meanwhile.
async fn linger() {
    if fastrand::bool() {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..2000))).await;
    }
}

/// Under concurrent sets, loads, deletes, clears and invalidations, no read returns what was gone before it began.
pub async fn no_read_returns_what_was_gone(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    let history = Arc::new(History::default());
    together(WRITERS + READERS + 1, |task| {
        let (space, history) = (space.clone(), Arc::clone(&history));
        async move {
            if task == 0 {
                return invalidate(&space, &history).await;
            }
            if task <= WRITERS {
                return write(&space, &history).await;
            }
            while !history.stop.load(Ordering::SeqCst) {
                history.read(&space, fastrand::u8(..KEYS)).await?;
                pause().await;
            }
            Ok(())
        }
    })
    .await?;
    let happened = lock(&history.happened);
    assert_eq!(happened.outdated(), [], "of {} reads", happened.reads());
    assert!(
        happened.reads() > 0,
        "a store that forgets everything proves nothing"
    );
    Ok(())
}

/// After concurrent sets and invalidations, a quiet invalidation leaves nothing of its tag.
pub async fn quiet_invalidation_leaves_nothing(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    for _ in 0..3 {
        together(8, |task| {
            let space = space.clone();
            async move {
                for n in 0..40_u8 {
                    let key = [n % 16];
                    if task == 0 {
                        space.invalidate(&[tag("all")]).await?;
                    } else {
                        space.put_tagged(&key, b"v", &registers(n % KEYS)).await?;
                    }
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        })
        .await?;
        space.invalidate(&[tag("all")]).await?;
        for key in 0..16 {
            assert_eq!(space.get(&[key]).await?, None, "key {key}");
        }
    }
    Ok(())
}

/// A set that begins after an invalidation has returned is valid, however many others invalidate other tags.
pub async fn sets_after_an_invalidation_are_valid(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    together(8, |task| {
        let space = space.clone();
        async move {
            let own = [tag(&format!("own:{task}")), tag("all")];
            for n in 0..40_u8 {
                let key = [task as u8, n];
                space.invalidate(&own[..1]).await?;
                space.put_tagged(&key, &[n], &own).await?;
                let read = space.text(&key).await?;
                assert_eq!(read.as_deref(), Some(&[n][..]));
            }
            Ok(())
        }
    })
    .await?;
    Ok(())
}

/// A load that was granted stores a value that is read until something changes, though others load other keys.
pub async fn loads_beside_each_other_are_kept(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = fixture.tagged_space() else {
        return Ok(());
    };
    together(8, |task| {
        let space = space.clone();
        async move {
            for n in 0..20_u8 {
                let (key, id) = ([task as u8, n], token());
                let stamps = space.begun(&key, &[tag("all")], id).await?;
                assert!(space.commit(&key, id, &[n], &stamps).await?);
                let late = Write::put(&key, sealed(b"x"), Expiry::Never);
                let late = late.when(Condition::IfVacant);
                assert!(!space.write(late).await?);
                assert_eq!(space.text(&key).await?.as_deref(), Some(&[n][..]));
            }
            Ok(())
        }
    })
    .await?;
    Ok(())
}
