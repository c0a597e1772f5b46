//! Loads whose loaders ask for other keys: which waits for which, so that none waits for itself.
//!
//! ```text
//! load of a: remember b --waits for--> load of b: remember a --would wait for--> load of a: refused
//! ```
//!
//! A loader's task knows its load. Whoever asks there for a key, and is about to wait for the load of that, notes so in a table
//! of the process, unless the way from that load leads back. Loads whose loaders ask for nothing are not in it. What a loader
//! asks for in tasks of its own is not seen, nor what waits for other processes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// A load of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadId {
    number: u64,
    key: Key,
}

tokio::task_local! {
    /// The loads that the loader of this task loads for.
    static OWN: Arc<[LoadId]>;
}

/// What the loads that wait for others wait for, by their numbers.
static WAITS: Mutex<BTreeMap<u64, Vec<LoadId>>> = Mutex::new(BTreeMap::new());

impl LoadId {
    pub(super) fn new(key: &[u8]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            key: Key::from(key),
        }
    }
}

/// Runs a loader as that of these loads.
pub(super) async fn within<T>(loads: Vec<LoadId>, loader: impl Future<Output = T>) -> T {
    OWN.scope(loads.into(), loader).await
}

/// Notes that the load whose loader runs in this task, if any does, waits for another, until what is returned is dropped.
///
/// # Errors
/// `Load`: that other one waits for this one.
pub(super) fn wait_for(load: &LoadId) -> Result<Option<Waiting>> {
    let Ok(own) = OWN.try_with(Arc::clone) else {
        return Ok(None);
    };
    let mut waits = waits();
    if let Some(way) = way(&waits, load, &own) {
        return Err(circle(&way));
    }
    for id in own.iter() {
        waits.entry(id.number).or_default().push(load.clone());
    }
    drop(waits);
    Ok(Some(Waiting {
        own,
        number: load.number,
    }))
}

/// See [`wait_for`].
#[derive(Debug)]
pub(super) struct Waiting {
    own: Arc<[LoadId]>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = waits();
        for id in self.own.iter() {
            let Some(others) = waits.get_mut(&id.number) else {
                continue;
            };
            if let Some(at) = others.iter().position(|load| load.number == self.number) {
                others.swap_remove(at);
            }
            if others.is_empty() {
                waits.remove(&id.number);
            }
        }
    }
}

fn waits() -> MutexGuard<'static, BTreeMap<u64, Vec<LoadId>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the way from a load, by what it waits for, to one of `own`, which it begins and ends with.
fn way(waits: &BTreeMap<u64, Vec<LoadId>>, from: &LoadId, own: &[LoadId]) -> Option<Vec<Key>> {
    let mut ways = vec![vec![from]];
    let mut seen = vec![from.number];
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        if own.contains(last) {
            let keys = way.iter().map(|load| load.key.clone());
            return Some(std::iter::once(last.key.clone()).chain(keys).collect());
        }
        for next in waits.get(&last.number).into_iter().flatten() {
            if !seen.contains(&next.number) {
                seen.push(next.number);
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

fn circle(way: &[Key]) -> Error {
    let keys: Vec<String> = way.iter().map(short).collect();
    let first = keys.first().map_or("", String::as_str);
    let message = format!(
        "the load of {first} waits for itself: {}",
        keys.join(" -> ")
    );
    Error::new(ErrorKind::Load, message).retryable(false)
}

fn short(key: &Key) -> String {
    const SHOWN: usize = 64;
    let text = key.to_string();
    match text.chars().count() > SHOWN {
        true => format!("{:?}..", text.chars().take(SHOWN).collect::<String>()),
        false => format!("{text:?}"),
    }
}
