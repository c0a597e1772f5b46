//! How long locks are usually held in this process, so that an unusual hold can be noticed while it lasts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::duration_ms;
use crate::key::Key;

/// How many holds of each name are remembered.
const HOLDS: usize = 128;
/// With fewer, nothing is unusual.
const MIN_HOLDS: usize = 10;
/// How many names are remembered. If there are more, those with few holds make room, or else all.
const MAX_NAMES: usize = 1024;
/// A hold is long when it is so many times the 99th percentile..
const FACTOR: u64 = 2;
/// ..and at least this long, so that a pause of a scheduler is no news.
const MIN_LONG_MS: u64 = 1000;

/// The recent holds by name.
#[derive(Debug, Default)]
pub(super) struct Usual {
    names: Mutex<HashMap<Key, Holds>>,
}

#[derive(Debug, Default)]
struct Holds {
    recent_ms: Vec<u64>,
    next: usize,
}

impl Usual {
    /// Remembers a hold.
    pub(super) fn add(&self, name: &Key, held: Duration) {
        let mut names = self.names();
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            names.retain(|_, holds| holds.recent_ms.len() >= MIN_HOLDS);
            if names.len() >= MAX_NAMES {
                names.clear();
            }
        }
        let holds = names.entry(name.clone()).or_default();
        let held_ms = duration_ms(held);
        if holds.recent_ms.len() < HOLDS {
            holds.recent_ms.push(held_ms);
        } else {
            holds.recent_ms[holds.next] = held_ms;
        }
        holds.next = (holds.next + 1) % HOLDS;
    }

    /// Returns from when on a hold is long.
    pub(super) fn long_hold_ms(&self, name: &Key) -> Option<u64> {
        let names = self.names();
        let holds = &names.get(name)?.recent_ms;
        if holds.len() < MIN_HOLDS {
            return None;
        }
        // Of up to 128, the second longest is the 99th percentile; of up to 100, the longest.
        let (mut longest, mut second) = (0, 0);
        for &ms in holds {
            if ms >= longest {
                (longest, second) = (ms, longest);
            } else {
                second = second.max(ms);
            }
        }
        let p99 = if holds.len() > 100 { second } else { longest };
        Some(p99.saturating_mul(FACTOR).max(MIN_LONG_MS))
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Key, Holds>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_long_by_what_is_usual() {
        let usual = Usual::default();
        let name = Key::from("report");
        for _ in 0..MIN_HOLDS - 1 {
            usual.add(&name, Duration::from_secs(2));
        }
        assert_eq!(usual.long_hold_ms(&name), None);
        usual.add(&name, Duration::from_secs(3));
        assert_eq!(usual.long_hold_ms(&name), Some(6000));
        for _ in 0..HOLDS {
            usual.add(&name, Duration::from_millis(5));
        }
        usual.add(&name, Duration::from_secs(60));
        assert_eq!(usual.long_hold_ms(&name), Some(MIN_LONG_MS));
    }

    #[test]
    fn rare_names_make_room_for_frequent_ones() {
        let usual = Usual::default();
        for number in 0..3 * MAX_NAMES {
            usual.add(&Key::from(format!("order:{number}")), Duration::ZERO);
            assert!(usual.names().len() <= MAX_NAMES);
        }
        let report = Key::from("report");
        for number in 0..MIN_HOLDS {
            usual.add(&report, Duration::ZERO);
            usual.add(&Key::from(format!("user:{number}")), Duration::ZERO);
        }
        for number in 0..3 * MAX_NAMES {
            usual.add(&Key::from(format!("order:{number}")), Duration::ZERO);
        }
        assert!(usual.long_hold_ms(&report).is_some());
    }
}
