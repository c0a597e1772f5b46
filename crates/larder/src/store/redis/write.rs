//! Writes. A plain put is `SET` and a look at the register behind it; everything else is one script.
//!
//! Both tell the journal: see `notes`. The plain put guesses the stamp. If the namespace was cleared since, what it wrote is not
//! valid, the register says so in the same round trip, and the script writes again with the right stamp before the put is
//! acknowledged.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::Inner;
use super::frame::{self, Framed, Stamp};
use super::known::{MAX_ATTEMPTS, asked_for};
use super::notes::{self, Note};
use super::place::Place;
use super::puts::{Outcome, Put};
use super::read::array;
use super::scripts::WRITE;
use super::spaces::{Space, fresh, stamp};
use crate::envelope::{self, Envelope};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::{Change, Condition, Expiry, Register, Write, conflict, sorted_set};

/// The most commands and bytes of one pipeline.
const MAX_COMMANDS: usize = 512;
pub(super) const MAX_BYTES: usize = 4 << 20;
/// The longest TTL: Redis takes more, but numbers of Lua are exact, and are written out, only so far.
const MAX_TTL_MS: u64 = 1 << 53;

/// Scores and members.
type Members = Vec<(f64, Bytes)>;

/// A write and the bytes of the entry to store.
struct Step<'a> {
    place: Place<'a>,
    write: &'a Write<'a>,
    /// The stamp of a plain put; `None`: the script writes.
    guess: Option<Stamp>,
    /// What the entry to store depends on.
    registers: Vec<Register>,
}

impl Step<'_> {
    /// Returns what the journal is told of a put.
    fn told(&self) -> Vec<u8> {
        let write_id = match &self.write.change {
            Change::Put(entry) => envelope::write_id(entry),
            Change::Delete | Change::Touch => 0,
        };
        notes::of_key(write_id, self.place.key())
    }
}

impl Inner {
    pub(super) async fn write_many(
        self: &Arc<Self>,
        namespace: &Namespace,
        writes: &[Write<'_>],
    ) -> Result<Vec<bool>> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        if let [write] = writes {
            return Ok(vec![self.write_one(namespace, &space, write).await?]);
        }
        self.pass();
        let mut applied = Vec::with_capacity(writes.len());
        let mut rest = writes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(portion(rest));
            applied.extend(self.write_portion(namespace, &space, now).await?);
            rest = later;
        }
        Ok(applied)
    }

    async fn write_one(
        self: &Arc<Self>,
        namespace: &Namespace,
        space: &Arc<Space>,
        write: &Write<'_>,
    ) -> Result<bool> {
        let step = self.prepared(namespace, space, write);
        if let (Some(stamp), Change::Put(entry)) = (step.guess, &write.change) {
            let (place, call) = (&step.place, self.plain_put(&step, stamp));
            let put = Put {
                space: Arc::clone(space),
                bucket: place.bucket,
                slot: place.slot,
                lane: place.lane,
                command: call.command,
                note: step.told(),
                bytes: entry.len(),
                guess: stamp,
            };
            match self.put(put).await? {
                Outcome::Done => return Ok(true),
                Outcome::Unseen if self.sees(place, stamp).await? => {
                    self.note_again(&note([&step], place, None)).await?;
                    return Ok(true);
                }
                Outcome::Unseen | Outcome::Stale => {}
                Outcome::Refused => {
                    self.pass();
                    let write = std::slice::from_ref(write);
                    return Ok(self.write_portion(namespace, space, write).await? == [true]);
                }
            }
        }
        let reply = self.on_entry(&step.place, |known| self.scripted(&step, known));
        let applied = outcome(&step.place, reply.await?)?;
        self.learn(&step, applied);
        Ok(applied)
    }

    fn prepared<'a>(
        &'a self,
        namespace: &'a Namespace,
        space: &'a Space,
        write: &'a Write<'a>,
    ) -> Step<'a> {
        let registers = match &write.change {
            Change::Put(entry) if envelope::has_stamps(entry) => envelope::registers(entry),
            _ => Vec::new(),
        };
        let place = self.place(space, namespace, write.key);
        // Registers must outlive what depends on them: only the script sees to it.
        let is_plain = registers.is_empty() && is_plain(write);
        Step {
            guess: place.register.guess().filter(|_| is_plain),
            place,
            write,
            registers,
        }
    }

    /// Remembers what an entry that was stored depends on.
    fn learn(&self, step: &Step<'_>, applied: bool) {
        if applied && !step.registers.is_empty() {
            self.known.learn(&step.place.entry, &step.registers);
        }
    }

    /// Returns whether the register still has the stamp that a put carried.
    async fn sees(&self, place: &Place<'_>, guess: Stamp) -> Result<bool> {
        let mut get = redis::cmd("GET");
        get.arg(&place.register.name);
        Ok(stamp(&self.link.one(&place.call(get)).await?) == Some(guess))
    }

    async fn write_portion(
        &self,
        namespace: &Namespace,
        space: &Space,
        writes: &[Write<'_>],
    ) -> Result<Vec<bool>> {
        let steps = writes.iter();
        let steps: Vec<_> = steps
            .map(|write| self.prepared(namespace, space, write))
            .collect();
        let mut calls = Vec::with_capacity(steps.len() + 1);
        for step in &steps {
            calls.push(match step.guess {
                Some(stamp) => self.plain_put(step, stamp),
                None => self.scripted_by_guess(step)?,
            });
        }
        let looks = looks(&steps);
        calls.extend(looks.iter().map(|&index| {
            let place = &steps[index].place;
            place.call(space.look(place.bucket))
        }));
        let (mut replies, noted) = self.many_noted(calls, notes(&steps, &looks)).await;
        let registers = replies.split_off(steps.len());
        let mut seen: Vec<(usize, u64, Option<Stamp>)> = Vec::with_capacity(registers.len());
        for (index, reply) in looks.into_iter().zip(registers) {
            let place = &steps[index].place;
            let look = space.seen(place.bucket, &reply?);
            seen.push((place.bucket, place.lane, look.stamp));
        }
        let mut applied = vec![true; steps.len()];
        let (mut again, mut asking) = (Vec::new(), Vec::new());
        for (index, (step, reply)) in steps.iter().zip(replies).enumerate() {
            let reply = reply?;
            let Some(guess) = step.guess else {
                match asked_for(&reply) {
                    Some(registers) => asking.push((index, registers)),
                    None => applied[index] = outcome(&step.place, reply)?,
                }
                continue;
            };
            let lane = step.place.lane;
            let now = seen
                .iter()
                .find(|(bucket, other, _)| *bucket == step.place.bucket && *other == lane);
            if now.is_none_or(|(_, _, now)| *now != Some(guess)) {
                again.push(index);
            }
        }
        noted.into_iter().collect::<Result<Vec<()>>>()?;
        self.repeat(&steps, again).await?;
        self.answer(&steps, asking, &mut applied).await?;
        for (step, applied) in steps.iter().zip(&applied) {
            self.learn(step, *applied);
        }
        Ok(applied)
    }

    /// Comes again with the registers that scripts have asked for.
    async fn answer(
        &self,
        steps: &[Step<'_>],
        mut asking: Vec<(usize, Vec<Register>)>,
        applied: &mut [bool],
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            if asking.is_empty() {
                return Ok(());
            }
            let calls = asking.iter().map(|(index, registers)| {
                let step = &steps[*index];
                self.known.learn(&step.place.entry, registers);
                self.scripted(step, registers)
            });
            let calls = calls.collect::<Result<Vec<_>>>()?;
            let mut still = Vec::new();
            for ((index, _), reply) in asking.into_iter().zip(self.link.many(&calls).await) {
                let reply = reply?;
                match asked_for(&reply) {
                    Some(registers) => still.push((index, registers)),
                    None => applied[index] = outcome(&steps[index].place, reply)?,
                }
            }
            asking = still;
        }
        match asking.first() {
            Some((index, _)) => Err(conflict("redis", steps[*index].place.key())),
            None => Ok(()),
        }
    }

    /// Writes again what carries a stamp of before a `clear`.
    async fn repeat(&self, steps: &[Step<'_>], again: Vec<usize>) -> Result<()> {
        if again.is_empty() {
            return Ok(());
        }
        let calls = again
            .iter()
            .map(|&index| self.scripted_by_guess(&steps[index]));
        let calls = calls.collect::<Result<Vec<_>>>()?;
        for (index, reply) in again.into_iter().zip(self.link.many(&calls).await) {
            outcome(&steps[index].place, reply?)?;
        }
        Ok(())
    }

    fn plain_put(&self, step: &Step<'_>, stamp: Stamp) -> Call {
        let Change::Put(entry) = &step.write.change else {
            unreachable!("only puts are plain")
        };
        let ttl_ms = ttl_ms(step.write.expiry);
        let frame = Framed::new(stamp, self.expires_at(ttl_ms), entry);
        let mut command = Cmd::with_capacity(5, frame.len() + step.place.entry.len() + 64);
        command.arg("SET").arg(&step.place.entry).arg(frame);
        if let Some(ttl_ms) = ttl_ms {
            command.arg("PX").arg(ttl_ms);
        }
        step.place.call(command)
    }

    fn scripted_by_guess(&self, step: &Step<'_>) -> Result<Call> {
        let known = self.known.registers(&step.place.entry);
        self.scripted(step, known.as_deref().unwrap_or_default())
    }

    /// Returns the run of the script, with what the present entry is believed to depend on.
    fn scripted(&self, step: &Step<'_>, known: &[Register]) -> Result<Call> {
        let (place, write) = (&step.place, step.write);
        let (members, ttl_ms) = (place.members(), ttl_ms(write.expiry));
        let others = known.iter().filter(|name| !step.registers.contains(name));
        let mut command = place.command(&WRITE, &members, step.registers.iter().chain(others));
        let change: &[u8] = match write.change {
            Change::Put(_) => b"P",
            Change::Delete => b"D",
            Change::Touch => b"T",
        };
        let (condition, same): (&[u8], _) = match write.condition {
            Condition::Always => (b"A", 0),
            Condition::IfAbsent => (b"N", 0),
            Condition::IfVacant => (b"V", 0),
            Condition::IfPresent => (b"X", 0),
            Condition::IfUnchanged(write_id) => (b"S", write_id),
        };
        command
            .arg(change)
            .arg(condition)
            .arg(&same.to_le_bytes()[..]);
        command
            .arg(&fresh()[..])
            .arg(letter(write.expiry))
            .arg(ttl_ms.unwrap_or(0));
        command.arg(&self.expires_at(ttl_ms).unwrap_or(0).to_le_bytes()[..]);
        command.arg(step.registers.len());
        if let Change::Put(entry) = &write.change {
            let write_id = envelope::write_id(entry).to_le_bytes();
            match set_of(entry)? {
                None => {
                    command
                        .arg(&[frame::letter(entry)][..])
                        .arg(&write_id[..])
                        .arg(&entry[..]);
                }
                Some((members, empty)) => {
                    command.arg("Z").arg(&write_id[..]).arg(&empty[..]);
                    for (score, member) in members {
                        command.arg(score).arg(&member[..]);
                    }
                }
            }
        }
        Ok(place.script(&WRITE, command))
    }

    /// Returns when an entry expires that is written now.
    pub(super) fn expires_at(&self, ttl_ms: Option<u64>) -> Option<u64> {
        Expiry::from_ttl_ms(ttl_ms).at(self.clock.now_ms(), None)
    }

    /// Writes the frame of a counter, if the present entry is unchanged.
    pub(super) async fn replace_counter(
        &self,
        place: &Place<'_>,
        rest: &[u8],
        same: u64,
        write_id: u64,
    ) -> Result<bool> {
        let members = place.members();
        let replacing = |known: &[Register]| {
            let mut command = place.command(&WRITE, &members, known);
            command
                .arg("P")
                .arg("S")
                .arg(&same.to_le_bytes()[..])
                .arg(&fresh()[..]);
            command.arg("K").arg(0).arg(&[0_u8; 8][..]).arg(0);
            command.arg("C").arg(&write_id.to_le_bytes()[..]).arg(rest);
            Ok(place.script(&WRITE, command))
        };
        outcome(place, self.on_entry(place, replacing).await?)
    }
}

/// Returns how many of the writes fit one pipeline, which has each key once: a write that has to be repeated, or to
/// follow a slot that moves, must not overtake a later one of its key.
fn portion(writes: &[Write<'_>]) -> usize {
    let (mut bytes, mut seen) = (0, HashSet::new());
    let fits = writes.iter().take(MAX_COMMANDS).take_while(|write| {
        let had_room = bytes < MAX_BYTES && (writes.len() == 1 || seen.insert(write.key));
        bytes += match &write.change {
            Change::Put(entry) => entry.len(),
            Change::Delete | Change::Touch => 0,
        };
        had_room
    });
    fits.count().max(1)
}

/// Returns whether `SET` alone can do it.
fn is_plain(write: &Write<'_>) -> bool {
    write.condition == Condition::Always
        && write.expiry != Expiry::Keep
        && matches!(&write.change, Change::Put(entry) if !envelope::is_sorted_set(entry))
}

/// Returns one plain put per bucket and lane: behind them, the register is read.
fn looks(steps: &[Step<'_>]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let plain = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.guess.is_some());
    plain
        .filter(|(_, step)| seen.insert((step.place.bucket, step.place.lane)))
        .map(|(index, _)| index)
        .collect()
}

/// Returns the notes of plain puts, one for each bucket and lane: those of these steps. The looks come behind all steps.
fn notes(steps: &[Step<'_>], firsts: &[usize]) -> Vec<Note> {
    let of_first = |(at, &first): (usize, &usize)| {
        let place = &steps[first].place;
        let is_beside = |step: &&Step<'_>| {
            let other = (step.place.bucket, step.place.lane);
            step.guess.is_some() && other == (place.bucket, place.lane)
        };
        let look = (!place.journal.is_followed()).then_some(steps.len() + at);
        note(steps.iter().filter(is_beside), place, look)
    };
    firsts.iter().enumerate().map(of_first).collect()
}

/// Returns the note of plain puts of one bucket and lane.
fn note<'a>(
    steps: impl IntoIterator<Item = &'a Step<'a>>,
    place: &Place<'_>,
    look: Option<usize>,
) -> Note {
    let told: Vec<_> = steps.into_iter().map(Step::told).collect();
    let told = told.iter().map(Vec::as_slice);
    Note {
        journal: place.journal.name.clone(),
        call: place.call(notes::keys(&place.journal.name, told)),
        look,
    }
}

/// Returns the members of a sealed sorted set, and its envelope without them.
fn set_of(entry: &Bytes) -> Result<Option<(Members, Bytes)>> {
    if !envelope::is_sorted_set(entry) {
        return Ok(None);
    }
    let Ok(envelope) = Envelope::open(entry) else {
        return Ok(None);
    };
    let members = sorted_set::members(&envelope)?;
    Ok(Some((
        members,
        sorted_set::seal(&envelope.header, Vec::new())?,
    )))
}

/// Reads the reply of the write script, and remembers the register.
fn outcome(place: &Place<'_>, reply: Value) -> Result<bool> {
    let values = array(reply);
    let [Value::Int(applied), register] = values.as_slice() else {
        return Err(Error::new(
            ErrorKind::Internal,
            "the write script answered something else",
        ));
    };
    if let Some(stamp) = stamp(register) {
        place.register.learn(stamp);
    }
    Ok(*applied == 1)
}

/// Returns the TTL as Redis takes it.
pub(super) fn ttl_ms(expiry: Expiry) -> Option<u64> {
    match expiry {
        Expiry::After(ttl_ms) => Some(ttl_ms.clamp(1, MAX_TTL_MS)),
        Expiry::Never | Expiry::Keep => None,
    }
}

/// Returns the word of the scripts for an expiry.
pub(super) fn letter(expiry: Expiry) -> &'static str {
    match expiry {
        Expiry::After(_) => "A",
        Expiry::Never => "N",
        Expiry::Keep => "K",
    }
}
