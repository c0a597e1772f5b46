//! Checks after the fact that nothing outdated was read.
//!
//! Those who take part write down when they changed something, when they read, and as of which moment each value is right.
//! From that, a [`ReadHistory`] tells which reads returned what must have been gone. Whatever a change can be about is a
//! *subject*: a key, a tag, all there is. It knows nothing of stores, and moments are numbers of any clock that all share, so it
//! serves the laws, and tests with many processes, whose every moment is a version of the source.

use std::collections::HashMap;

/// A read that returned what must have been gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutdatedRead {
    /// What was read.
    pub value: u64,
    /// When the read began.
    pub began: u64,
    /// What the value depended on and the change was about.
    pub subject: u64,
    /// As of which moment the value was right.
    pub since: u64,
    /// When the latest of such changes began: after that moment, though it had ended before the read began.
    pub changed: u64,
}

/// Changes, values and reads, in any order.
///
/// A read is outdated if a change about something that its value depends on began after the moment as of which the value
/// was right, and had ended when the read began. What overlaps is right either way.
#[derive(Debug, Clone, Default)]
pub struct ReadHistory {
    /// By subject: when changes ended and began.
    changes: HashMap<u64, Vec<(u64, u64)>>,
    /// By value: subjects, and the moments as of which it is right about them.
    values: HashMap<u64, Vec<(u64, u64)>>,
    /// Values, and when their reads began.
    reads: Vec<(u64, u64)>,
}

impl ReadHistory {
    /// Adds a change about a subject that has succeeded. One that failed may have happened or not, and is left out.
    pub fn changed(&mut self, subject: u64, began: u64, ended: u64) {
        let changes = self.changes.entry(subject).or_default();
        changes.push((ended, began));
    }

    /// Adds that a value depends on a subject and is right about it as of a moment: for what was computed, when that began; for
    /// what was set, when that had ended, since it counts as new whenever it arrives.
    pub fn depends(&mut self, value: u64, subject: u64, since: u64) {
        let depends = self.values.entry(value).or_default();
        depends.push((subject, since));
    }

    /// Adds a read that returned a value. Values that nothing is known about are never outdated.
    pub fn read(&mut self, value: u64, began: u64) {
        self.reads.push((value, began));
    }

    /// Returns how many reads there are.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// Returns which reads were outdated, with one reason each.
    #[must_use]
    pub fn outdated(&self) -> Vec<OutdatedRead> {
        let latest: HashMap<_, _> = self
            .changes
            .iter()
            .map(|(subject, changes)| (*subject, latest_begins(changes.clone())))
            .collect();
        let outdated = |&(value, began): &(u64, u64)| {
            let depends = self.values.get(&value)?;
            depends.iter().find_map(|&(subject, since)| {
                let changes = latest.get(&subject)?;
                let over = changes.partition_point(|(ended, _)| *ended < began);
                let (_, changed) = *changes[..over].last()?;
                (changed > since).then_some(OutdatedRead {
                    value,
                    began,
                    subject,
                    since,
                    changed,
                })
            })
        };
        self.reads.iter().filter_map(outdated).collect()
    }
}

/// Sorts changes by their ends, and gives each the latest beginning of those up to it.
fn latest_begins(mut changes: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    changes.sort_unstable();
    let mut latest = 0;
    for (_, began) in &mut changes {
        latest = latest.max(*began);
        *began = latest;
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 1;
    const TAG: u64 = 2;

    /// A value that is right about the key and a tag as of moment 10, and a change about the tag.
    fn history(began: u64, ended: u64) -> ReadHistory {
        let mut history = ReadHistory::default();
        history.depends(7, KEY, 10);
        history.depends(7, TAG, 10);
        history.changed(TAG, began, ended);
        history
    }

    #[test]
    fn a_read_after_a_change_of_what_it_depends_on_is_outdated() {
        let mut history = history(11, 12);
        history.read(7, 13);
        let outdated = OutdatedRead {
            value: 7,
            began: 13,
            subject: TAG,
            since: 10,
            changed: 11,
        };
        assert_eq!(history.outdated(), [outdated]);
        assert_eq!(history.reads(), 1);
    }

    #[test]
    fn a_read_that_overlaps_the_change_is_right() {
        let mut history = history(11, 13);
        history.read(7, 12);
        history.read(7, 13);
        assert_eq!(history.outdated(), []);
    }

    #[test]
    fn a_value_that_was_computed_after_the_change_began_is_right() {
        let mut history = history(10, 12);
        history.read(7, 13);
        assert_eq!(history.outdated(), []);
    }

    #[test]
    fn changes_of_other_subjects_and_unknown_values_do_not_matter() {
        let mut history = history(1, 2);
        history.changed(3, 11, 12);
        history.read(7, 13);
        history.read(8, 13);
        assert_eq!(history.outdated(), []);
    }

    #[test]
    fn a_long_change_that_began_early_hides_no_short_one() {
        let mut history = history(1, 20);
        history.changed(TAG, 12, 13);
        history.read(7, 14);
        history.read(7, 21);
        assert_eq!(history.outdated().len(), 2);
    }
}
