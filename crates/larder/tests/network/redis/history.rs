//! A record of what several clients did and read, and the judge of whether all of it can be true.
//!
//! Every value is written once. What matters is the order of calls that do not overlap: a read that began after an
//! acknowledged change had ended returns nothing that had ended before that change began.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Operations of several clients, on one time line.
#[derive(Debug, Default)]
pub(super) struct History {
    now: AtomicU64,
    next_version: AtomicU64,
    events: Mutex<Vec<Event>>,
}

/// One operation on one key.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) key: usize,
    pub(super) what: What,
    pub(super) began: u64,
    /// `None`: it failed, and may take effect at any time later.
    pub(super) ended: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The key has this version now.
    Wrote(u64),
    /// The key has none; a clear is one of these for every key.
    Removed,
    Read(Option<u64>),
    /// A counter: this is the sum.
    Counted(i64),
}

impl History {
    pub(super) fn tick(&self) -> u64 {
        self.now.fetch_add(1, SeqCst)
    }

    pub(super) fn version(&self) -> u64 {
        self.next_version.fetch_add(1, SeqCst) + 1
    }

    pub(super) fn note(&self, key: usize, what: What, began: u64, ended: Option<u64>) {
        self.events.lock().unwrap().push(Event {
            key,
            what,
            began,
            ended,
        });
    }

    /// Returns what cannot be true.
    pub(super) fn judge(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let mut keys: HashMap<usize, Vec<&Event>> = HashMap::new();
        for event in events.iter() {
            keys.entry(event.key).or_default().push(event);
        }
        let judged = keys.values().map(|events| {
            let mut wrong = stale(events);
            wrong.extend(lost(events));
            wrong.extend(miscounted(events));
            wrong
        });
        judged.flatten().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.events.lock().unwrap().len()
    }
}

/// Acknowledged changes by their end, each with the latest beginning of those that ended by then.
fn changes(events: &[&Event], is_change: impl Fn(What) -> bool) -> Vec<(u64, u64)> {
    let mut changes: Vec<_> = events
        .iter()
        .filter(|event| is_change(event.what))
        .filter_map(|event| Some((event.ended?, event.began)))
        .collect();
    changes.sort_unstable();
    let mut latest = 0;
    for (_, began) in &mut changes {
        latest = latest.max(*began);
        *began = latest;
    }
    changes
}

/// Returns the latest beginning of the changes that had ended before `time`.
fn latest_before(changes: &[(u64, u64)], time: u64) -> Option<u64> {
    let count = changes.partition_point(|(ended, _)| *ended < time);
    Some(changes[..count].last()?.1)
}

/// Reads of what had been overwritten or removed before they began.
fn stale(events: &[&Event]) -> Vec<String> {
    let changes = changes(events, |what| {
        matches!(what, What::Wrote(_) | What::Removed)
    });
    let writes: HashMap<u64, &Event> = events
        .iter()
        .filter_map(|event| match event.what {
            What::Wrote(version) => Some((version, *event)),
            _ => None,
        })
        .collect();
    let mut wrong = Vec::new();
    for event in events {
        let What::Read(Some(version)) = event.what else {
            continue;
        };
        let Some(write) = writes.get(&version) else {
            wrong.push(format!("{event:?} was never written"));
            continue;
        };
        let floor = latest_before(&changes, event.began);
        if write.ended.is_some_and(|ended| floor > Some(ended)) {
            wrong.push(format!(
                "{event:?} is older than a change that began at {floor:?}: {write:?}"
            ));
        }
    }
    wrong
}

/// Reads of nothing, although the latest change by then was a write, with no other change near.
fn lost(events: &[&Event]) -> Vec<String> {
    let others: Vec<_> = events
        .iter()
        .filter(|event| matches!(event.what, What::Wrote(_) | What::Removed))
        .collect();
    let is_lost = |read: &&&Event| {
        if read.what != What::Read(None) {
            return false;
        }
        // The latest write that was over, and whether anything can have happened since it began.
        let over = others
            .iter()
            .filter(|event| matches!(event.what, What::Wrote(_)))
            .filter(|event| event.ended.is_some_and(|ended| ended < read.began));
        over.max_by_key(|event| event.began).is_some_and(|write| {
            let (end, until) = (write.began, read.ended.unwrap_or(u64::MAX));
            !others.iter().any(|other| {
                !std::ptr::eq(**other, **write)
                    && other.began < until
                    && other.ended.is_none_or(|ended| ended > end)
            })
        })
    };
    let lost = events.iter().filter(is_lost);
    lost.map(|read| format!("{read:?} although it was there"))
        .collect()
}

/// Sums that repeat, or that went on from before a removal.
fn miscounted(events: &[&Event]) -> Vec<String> {
    let removals = changes(events, |what| what == What::Removed);
    let sums: Vec<_> = events
        .iter()
        .filter_map(|event| match event.what {
            What::Counted(sum) => Some((sum, *event)),
            _ => None,
        })
        .collect();
    let mut wrong = Vec::new();
    for (sum, event) in &sums {
        let floor = latest_before(&removals, event.began).unwrap_or(0);
        let until = event.ended.unwrap_or(u64::MAX);
        let counted = sums.iter().filter(|(_, other)| {
            other.began < until && other.ended.is_none_or(|ended| ended > floor)
        });
        if *sum > counted.count() as i64 {
            wrong.push(format!("{event:?} counts what was removed at {floor}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judge_knows_right_from_wrong() {
        let judge = |events: &[(What, u64, u64)]| {
            let history = History::default();
            for (what, began, ended) in events {
                history.note(0, *what, *began, Some(*ended));
            }
            history.judge().len()
        };
        use What::{Counted, Read, Removed, Wrote};
        assert_eq!(judge(&[(Wrote(1), 0, 1), (Read(Some(1)), 2, 3)]), 0);
        assert_eq!(judge(&[(Read(Some(1)), 2, 3)]), 1);
        let overwritten = [(Wrote(1), 0, 1), (Wrote(2), 2, 3), (Read(Some(1)), 4, 5)];
        assert_eq!(judge(&overwritten), 1);
        let overlapping = [(Wrote(1), 0, 3), (Wrote(2), 2, 4), (Read(Some(1)), 5, 6)];
        assert_eq!(judge(&overlapping), 0);
        let removed = [(Wrote(1), 0, 1), (Removed, 2, 3), (Read(Some(1)), 4, 5)];
        assert_eq!(judge(&removed), 1);
        assert_eq!(judge(&[(Wrote(1), 0, 1), (Read(None), 2, 3)]), 1);
        assert_eq!(
            judge(&[(Wrote(1), 0, 1), (Removed, 2, 4), (Read(None), 3, 5)]),
            0
        );
        let counted = [(Counted(1), 0, 1), (Removed, 2, 3), (Counted(2), 4, 5)];
        assert_eq!(judge(&counted), 1);
        assert_eq!(judge(&[(Counted(1), 0, 1), (Counted(2), 2, 3)]), 0);
    }
}
