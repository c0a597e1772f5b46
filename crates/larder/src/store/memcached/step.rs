//! One write on its way: what is sent for it, and what its replies mean. Pure but for the clock of the system.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::frame::{Frame, ItemKey};
use super::pipe::Reply;
use super::read::check_read;
use super::register::{stored, unexpected};
use super::reply::Code;
use super::request::{self, Batch, Lifetime, Mode};
use super::tags::{Fetched, Weighed};
use crate::clock::duration_ms;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Change, Condition, Expiry, Register, Write};

/// A write on its way.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub(super) write: &'a Write<'a>,
    pub(super) key: ItemKey<'a>,
    /// What the item that is there depends on, or is believed to.
    registers: Arc<[Register]>,
    step: Step,
    stored: Option<Stored>,
}

/// What a write has stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) value: Bytes,
    pub(super) expires_at_ms: Option<u64>,
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
    /// Read the registers that what was read depends on.
    Weigh(Item),
    /// Read the registers that what was removed depended on.
    WeighRemoved(Item),
    /// Store this in place of the item that was judged, or where there was none.
    Swap {
        mode: Mode,
        /// The register when the item was judged; `None`: there was none, so nothing counted.
        stamp: Option<u64>,
        value: Bytes,
        expires_at_ms: Option<u64>,
    },
    /// Remove the item that was judged; a load under way is none that counts.
    Remove { version: u64, counts: bool },
    /// Decided.
    Done(bool),
}

/// What is under a key, whether it counts or not.
#[derive(Debug, Clone)]
struct Item {
    /// How exactly this is replaced: by its version, or by an addition if there was nothing.
    mode: Mode,
    frame: Option<Frame>,
}

/// What a round found out about the namespace and its registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) register: Option<u64>,
    /// The stamp that puts and adds were sent with.
    pub(super) used: u64,
    pub(super) now_ms: u64,
    pub(super) fetched: &'a Fetched,
}

impl<'a> Task<'a> {
    /// Starts a write; `registers` gives what an item is believed to depend on.
    pub(super) fn new(
        namespace: &'a Namespace,
        write: &'a Write<'a>,
        registers: impl FnOnce(&ItemKey<'_>) -> Option<Arc<[Register]>>,
    ) -> Self {
        let key = ItemKey::entry(namespace, write.key);
        let step = match (&write.change, write.condition, write.expiry) {
            (Change::Delete, Condition::Always, _) => Step::Delete,
            (Change::Put(_), Condition::Always, Expiry::After(_) | Expiry::Never) => Step::Put,
            (Change::Put(_), Condition::IfAbsent | Condition::IfVacant, _) => Step::Add,
            _ => Step::Look,
        };
        let registers = match step {
            Step::Put => None,
            _ => registers(&key),
        };
        Self {
            write,
            key,
            registers: registers.unwrap_or_default(),
            step,
            stored: None,
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

    /// Returns the registers that are to be read with the step, after its own commands.
    pub(super) fn registers(&self) -> &[Register] {
        match self.step {
            Step::Look | Step::Delete | Step::Weigh(_) | Step::WeighRemoved(_) => &self.registers,
            _ => &[],
        }
    }

    /// Returns what was stored, once.
    pub(super) fn take_stored(&mut self) -> Option<Stored> {
        self.stored.take()
    }

    /// How many commands, and so replies, the step takes, those of registers not counted.
    pub(super) fn commands(&self) -> usize {
        match self.step {
            Step::Delete => 2,
            Step::Weigh(_) | Step::WeighRemoved(_) | Step::Done(_) => 0,
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
        400 + 64 * self.registers().len() + Frame::len(&self.key, value)
    }

    pub(super) fn write_to(&self, batch: &mut Batch, stamp: u64, now_ms: u64) {
        let item = |value, expires_at_ms, stamp| request::Item {
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
            (Step::Remove { version, .. }, _) => batch.delete(&self.key, Some(*version)),
            (Step::Look, _) => batch.get_with_version(&self.key),
            _ => {}
        }
    }

    /// Decides, or finds the next step.
    pub(super) fn settle(&mut self, replies: &[Reply], seen: &Seen<'_>) -> Result<()> {
        let visible = seen.register == Some(seen.used);
        let step = std::mem::replace(&mut self.step, Step::Look);
        self.step = match (step, replies) {
            (Step::Put, [set]) => match stored(set)? {
                true if visible => self.stored_new(seen),
                _ => Step::Put,
            },
            (Step::Add, [set]) => match stored(set)? {
                true if visible => self.stored_new(seen),
                _ => Step::Look,
            },
            (
                Step::Swap {
                    stamp,
                    value,
                    expires_at_ms,
                    ..
                },
                [set],
            ) => match stored(set)? {
                true if stamp.is_some() || visible => self.stored(value, expires_at_ms),
                _ => Step::Look,
            },
            (Step::Remove { counts, .. }, [removed]) => match removed.code {
                Code::Done => Step::Done(counts),
                Code::Exists | Code::NotFound => Step::Look,
                _ => return Err(unexpected()),
            },
            (Step::Delete, [item, removed]) => match (removed.code, self.item(item)?) {
                // What is removed though there was nothing to read was put in between.
                (Code::Done, item) if item.mode == Mode::Add => Step::Done(true),
                (Code::Done, item) => self.weigh_removed(item, seen),
                (Code::NotFound, _) => Step::Done(false),
                _ => return Err(unexpected()),
            },
            (Step::Look, [item]) => {
                let item = self.item(item)?;
                self.weigh(item, seen)
            }
            (Step::Weigh(item), []) => self.weigh(item, seen),
            (Step::WeighRemoved(item), []) => self.weigh_removed(item, seen),
            _ => return Err(unexpected()),
        };
        Ok(())
    }

    /// Notes that the value was stored as it was given.
    fn stored_new(&mut self, seen: &Seen<'_>) -> Step {
        let Change::Put(value) = &self.write.change else {
            return Step::Done(true);
        };
        self.stored(value.clone(), self.write.expiry.at(seen.now_ms, None))
    }

    fn stored(&mut self, value: Bytes, expires_at_ms: Option<u64>) -> Step {
        self.stored = Some(Stored {
            value,
            expires_at_ms,
        });
        Step::Done(true)
    }

    fn item(&self, reply: &Reply) -> Result<Item> {
        check_read(reply)?;
        Ok(Item {
            mode: match reply.code {
                Code::Value => Mode::Swap(reply.cas),
                _ => Mode::Add,
            },
            frame: Frame::parse(&self.key, reply.body.clone()),
        })
    }

    fn weigh(&mut self, item: Item, seen: &Seen<'_>) -> Step {
        match present(&item, seen) {
            Ok(present) => self.judge(item.mode, present, seen),
            Err(registers) => {
                self.registers = registers.into();
                Step::Weigh(item)
            }
        }
    }

    fn weigh_removed(&mut self, item: Item, seen: &Seen<'_>) -> Step {
        match present(&item, seen) {
            Ok(present) => Step::Done(present.is_some_and(is_entry)),
            Err(registers) => {
                self.registers = registers.into();
                Step::WeighRemoved(item)
            }
        }
    }

    /// Checks the condition against what was read, and says what to do about it.
    fn judge(&self, mode: Mode, present: Option<&Frame>, seen: &Seen<'_>) -> Step {
        let condition = self.write.condition;
        if !condition.holds(present.map(|frame| &frame.value)) {
            return Step::Done(false);
        }
        let entry = present.filter(|frame| is_entry(frame));
        // A load under way has no expiry to keep, and only its loader may touch it.
        let kept = match (&self.write.change, condition) {
            (Change::Touch, Condition::IfUnchanged(_)) => present,
            _ => entry,
        };
        let value = match (&self.write.change, kept) {
            (Change::Put(value), _) => value.clone(),
            (Change::Touch, Some(frame)) => frame.value.clone(),
            (Change::Delete, _) => {
                return match (present, mode) {
                    (Some(_), Mode::Swap(version)) => Step::Remove {
                        version,
                        counts: entry.is_some(),
                    },
                    _ => Step::Done(false),
                };
            }
            (Change::Touch, None) => return Step::Done(false),
        };
        let kept_expiry = kept.and_then(|frame| frame.expires_at_ms);
        Step::Swap {
            mode,
            stamp: seen.register,
            value,
            expires_at_ms: self.write.expiry.at(seen.now_ms, kept_expiry),
        }
    }
}

/// Returns the entry that counts, a load under way included; an error is the registers that must be read to know.
fn present<'b>(item: &'b Item, seen: &Seen<'_>) -> Result<Option<&'b Frame>, Vec<Register>> {
    let live = |frame: &&Frame| frame.is_live(seen.register, seen.now_ms);
    let Some(frame) = item.frame.as_ref().filter(live) else {
        return Ok(None);
    };
    match seen.fetched.weigh(&frame.value, seen.register) {
        Weighed::Valid | Weighed::Stale => Ok(Some(frame)),
        Weighed::Invalid => Ok(None),
        Weighed::Open(registers) => Err(registers),
    }
}

/// Returns whether it is no load under way.
fn is_entry(frame: &Frame) -> bool {
    !envelope::is_load(&frame.value)
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
            fetched: &Fetched::default(),
        };
        for (removed, expected) in [(Code::Done, true), (Code::NotFound, false)] {
            let mut task = Task::new(&namespace, &delete, |_| None);
            let replies = [reply(Code::Missing), reply(removed)];
            task.settle(&replies, &seen).unwrap();
            assert!(!task.is_undecided());
            assert_eq!(task.was_applied(), expected, "{removed:?}");
        }
    }
}
