//! One write on its way: what is sent for it, and what its replies mean. Pure but for the clock of the system.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::frame::{Frame, ItemKey};
use super::pipe::Reply;
use super::read::check_read;
use super::register::{stored, unexpected};
use super::reply::Code;
use super::request::{Batch, Item, Lifetime, Mode};
use crate::clock::duration_ms;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Change, Condition, Expiry, Write};

/// A write on its way.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub(super) write: &'a Write<'a>,
    pub(super) key: ItemKey<'a>,
    step: Step,
}

/// What is to be sent next for a write.
#[derive(Debug)]
enum Step {
    /// Store it, whatever is there.
    Put,
    /// Store it where there is no item.
    Add,
    /// Remove it, and find out whether it counted.
    Delete,
    /// Read what is there.
    Look,
    /// Store this in place of the item that was judged, or where there was none.
    Swap {
        mode: Mode,
        /// The register when the item was judged; `None`: there was none, so nothing counted.
        stamp: Option<u64>,
        value: Bytes,
        expires_at_ms: Option<u64>,
    },
    /// Remove the item that was judged.
    Remove { version: u64 },
    /// Decided.
    Done(bool),
}

/// What a round found out about the namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) register: Option<u64>,
    /// The stamp that puts and adds were sent with.
    pub(super) used: u64,
    pub(super) now_ms: u64,
}

impl<'a> Task<'a> {
    pub(super) fn new(namespace: &'a Namespace, write: &'a Write<'a>) -> Self {
        let step = match (&write.change, write.condition, write.expiry) {
            (Change::Delete, Condition::Always, _) => Step::Delete,
            (Change::Put(_), Condition::Always, Expiry::After(_) | Expiry::Never) => Step::Put,
            (Change::Put(_), Condition::IfAbsent, _) => Step::Add,
            _ => Step::Look,
        };
        Self {
            write,
            key: ItemKey::entry(namespace, write.key),
            step,
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        !matches!(self.step, Step::Done(_))
    }

    pub(super) fn was_applied(&self) -> bool {
        matches!(self.step, Step::Done(true))
    }

    pub(super) fn needs_stamp(&self) -> bool {
        matches!(
            self.step,
            Step::Put | Step::Add | Step::Swap { stamp: None, .. }
        )
    }

    /// How many commands, and so replies, the step takes.
    pub(super) fn commands(&self) -> usize {
        match self.step {
            Step::Delete => 2,
            Step::Done(_) => 0,
            _ => 1,
        }
    }

    /// How many bytes the step sends, roughly.
    pub(super) fn bytes(&self) -> usize {
        let value = match (&self.step, &self.write.change) {
            (Step::Put | Step::Add, Change::Put(value)) => value.len(),
            (Step::Swap { value, .. }, _) => value.len(),
            _ => 0,
        };
        400 + Frame::len(&self.key, value)
    }

    pub(super) fn write_to(&self, batch: &mut Batch, stamp: u64, now_ms: u64) {
        let item = |value, expires_at_ms, stamp| Item {
            stamp,
            expires_at_ms,
            lifetime: lifetime(expires_at_ms, now_ms),
            value,
        };
        match (&self.step, &self.write.change) {
            (Step::Put | Step::Add, Change::Put(value)) => {
                let expires_at_ms = self.write.expiry.at(now_ms, None);
                let mode = match self.step {
                    Step::Put => Mode::Set,
                    _ => Mode::Add,
                };
                batch.set(&self.key, mode, item(value, expires_at_ms, stamp));
            }
            (
                Step::Swap {
                    mode,
                    stamp: judged,
                    value,
                    expires_at_ms,
                },
                _,
            ) => {
                let stamp = judged.unwrap_or(stamp);
                batch.set(&self.key, *mode, item(value, *expires_at_ms, stamp));
            }
            (Step::Delete, _) => {
                batch.get(&self.key);
                batch.delete(&self.key, None);
            }
            (Step::Remove { version }, _) => batch.delete(&self.key, Some(*version)),
            _ => batch.get_with_version(&self.key),
        }
    }

    /// Decides, or finds the next step.
    pub(super) fn settle(&mut self, replies: &[Reply], seen: &Seen) -> Result<()> {
        let visible = seen.register == Some(seen.used);
        self.step = match (&self.step, replies) {
            (Step::Put, [set]) => match stored(set)? {
                true if visible => Step::Done(true),
                _ => Step::Put,
            },
            (Step::Add, [set]) => match stored(set)? {
                true if visible => Step::Done(true),
                _ => Step::Look,
            },
            (Step::Swap { stamp, .. }, [set]) => match stored(set)? {
                true if stamp.is_some() || visible => Step::Done(true),
                _ => Step::Look,
            },
            (Step::Remove { .. }, [removed]) => match removed.code {
                Code::Done => Step::Done(true),
                Code::Exists | Code::NotFound => Step::Look,
                _ => return Err(unexpected()),
            },
            (Step::Delete, [item, removed]) => {
                check_read(item)?;
                // What is removed though there was nothing to read was put in between.
                let counted = item.code == Code::Missing || self.live(item, seen).is_some();
                match removed.code {
                    Code::Done => Step::Done(counted),
                    Code::NotFound => Step::Done(false),
                    _ => return Err(unexpected()),
                }
            }
            (Step::Look, [item]) => {
                check_read(item)?;
                self.judge(item, seen)
            }
            _ => return Err(unexpected()),
        };
        Ok(())
    }

    fn live(&self, item: &Reply, seen: &Seen) -> Option<Frame> {
        let frame = Frame::parse(&self.key, item.body.clone())?;
        frame.is_live(seen.register, seen.now_ms).then_some(frame)
    }

    /// Checks the condition against what was read, and says what to do about it.
    fn judge(&self, item: &Reply, seen: &Seen) -> Step {
        let present = self.live(item, seen);
        let entry = present.as_ref().map(|frame| &frame.value);
        if !self.write.condition.holds(entry) {
            return Step::Done(false);
        }
        let value = match (&self.write.change, &present) {
            (Change::Put(value), _) => value.clone(),
            (Change::Touch, Some(frame)) => frame.value.clone(),
            (Change::Delete, Some(_)) => return Step::Remove { version: item.cas },
            (Change::Touch | Change::Delete, None) => return Step::Done(false),
        };
        let present_expiry = present.and_then(|frame| frame.expires_at_ms);
        Step::Swap {
            mode: match item.code {
                Code::Value => Mode::Swap(item.cas),
                _ => Mode::Add,
            },
            stamp: seen.register,
            value,
            expires_at_ms: self.write.expiry.at(seen.now_ms, present_expiry),
        }
    }
}

/// Returns how long Memcached is to keep an item, by its own clock: the system's, not the store's.
fn lifetime(expires_at_ms: Option<u64>, now_ms: u64) -> Lifetime {
    let Some(at) = expires_at_ms else {
        return Lifetime::ENDLESS;
    };
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Lifetime::ending_in(at.saturating_sub(now_ms), epoch.map_or(0, duration_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: Code) -> Reply {
        Reply {
            code,
            cas: 0,
            ttl_s: None,
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_delete_counts_what_was_put_between_its_two_commands() {
        let namespace = Namespace::new("app", "cache", 1);
        let delete = Write::delete(b"k");
        let seen = Seen {
            register: Some(7),
            used: 7,
            now_ms: 1,
        };
        for (removed, expected) in [(Code::Done, true), (Code::NotFound, false)] {
            let mut task = Task::new(&namespace, &delete);
            let replies = [reply(Code::Missing), reply(removed)];
            task.settle(&replies, &seen).unwrap();
            assert!(!task.is_undecided());
            assert_eq!(task.was_applied(), expected, "{removed:?}");
        }
    }
}
