//! Reads: one `MGET` of the entries, the register of their namespace and the registers of tags that they are believed to
//! depend on, to each server that has some of them; a second one for registers that were not expected.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::Inner;
use super::frame::{Frame, Kind, Stamp};
use super::keys;
use super::spaces::Space;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::{Entry, Read, Register, reading, verdict};
use crate::tag::{Nonces, Verdict};

/// Keys of one `MGET`.
const MAX_KEYS: usize = 512;

/// What to read of one entry.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) bucket: usize,
    pub(super) entry: Vec<u8>,
    /// What it is believed to depend on, and the keys of that.
    pub(super) registers: Vec<(Register, Vec<u8>)>,
}

/// An entry of the present life of its namespace.
#[derive(Debug, Clone)]
pub(super) struct Met {
    pub(super) kind: Kind,
    pub(super) entry: Entry,
    /// The register of the namespace, which those of tags must have been made under.
    life: Stamp,
    /// It depends on a register that was not read with it: whether it is valid remains to be seen.
    is_open: bool,
    /// A register has made it invalid.
    is_invalid: bool,
}

/// An entry, if there is one.
pub(super) type Found = Option<Met>;

/// What a register holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    nonces: Nonces,
    /// The register of the namespace when this one was made.
    life: Stamp,
}

/// What registers hold, by bucket and name.
pub(super) type Seen = HashMap<(usize, Register), Held>;

impl Inner {
    pub(super) async fn read_many(
        self: &Arc<Self>,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<Read>> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let mut found = match keys {
            [] => return Ok(Vec::new()),
            [key] => vec![self.get_one(namespace, &space, key).await?],
            _ => self.get_several(namespace, &space, keys).await?,
        };
        if found.iter().flatten().any(|met| met.is_open) {
            self.settle(namespace, keys, &mut found).await?;
        }
        let mut reads = Vec::with_capacity(keys.len());
        for (met, key) in found.into_iter().zip(keys) {
            reads.push(match met {
                None => Read::Absent,
                Some(met) if met.is_invalid => Read::Invalid,
                Some(met) if met.kind == Kind::SortedSet => {
                    let whole = self.whole_set(namespace, &space, key, &met.entry).await?;
                    Read::from(whole)
                }
                Some(met) => Read::Entry(met.entry),
            });
        }
        Ok(reads)
    }

    pub(super) async fn get_many(
        self: &Arc<Self>,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Entry>>> {
        let reads = self.read_many(namespace, keys).await?;
        Ok(reading::entries(reads))
    }

    /// Returns what to read of an entry.
    fn asked(&self, space: &Space, namespace: &Namespace, key: &[u8]) -> Asked {
        let place = self.place(space, namespace, key);
        let registers = match self.known.registers(&place.entry) {
            None => Vec::new(),
            Some(known) => known
                .iter()
                .map(|name| (name.clone(), place.tag_register(name)))
                .collect(),
        };
        Asked {
            bucket: place.bucket,
            entry: place.entry,
            registers,
        }
    }

    async fn get_one(
        self: &Arc<Self>,
        namespace: &Namespace,
        space: &Arc<Space>,
        key: &[u8],
    ) -> Result<Found> {
        let under_way = self.gets.begin();
        let asked = self.asked(space, namespace, key);
        if !under_way.is_alone {
            return self.get_combined(space, asked).await;
        }
        let command = mget([&asked], &space.register(asked.bucket).name);
        let slot = self.buckets.all()[asked.bucket].slot;
        let reply = self.link.one(&Call::new(slot, command)).await?;
        Ok(self.met(&[&asked], reply).pop().flatten())
    }

    async fn get_several(
        &self,
        namespace: &Namespace,
        space: &Arc<Space>,
        keys: &[&[u8]],
    ) -> Result<Vec<Found>> {
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); self.buckets.len()];
        let asked = keys.iter().map(|key| self.asked(space, namespace, key));
        let asked: Vec<_> = asked.collect();
        for (index, asked) in asked.iter().enumerate() {
            groups[asked.bucket].push(index);
        }
        let mut sent: Vec<Vec<usize>> = Vec::new();
        let mut calls = Vec::new();
        for (bucket, group) in groups.into_iter().enumerate() {
            for members in group.chunks(MAX_KEYS) {
                let of_members = members.iter().map(|&index| &asked[index]);
                let command = mget(of_members, &space.register(bucket).name);
                calls.push(Call::new(self.buckets.all()[bucket].slot, command));
                sent.push(members.to_vec());
            }
        }
        let mut found = vec![None; keys.len()];
        for (members, reply) in sent.into_iter().zip(self.link.many(&calls).await) {
            let of_members: Vec<_> = members.iter().map(|&index| &asked[index]).collect();
            for (index, met) in members.iter().zip(self.met(&of_members, reply?)) {
                found[*index] = met;
            }
        }
        Ok(found)
    }

    /// Takes the reply to an `MGET` apart: one result for each entry, same order.
    pub(super) fn met(&self, asked: &[&Asked], reply: Value) -> Vec<Found> {
        let mut values = array(reply).into_iter();
        let entries: Vec<_> = values.by_ref().take(asked.len()).collect();
        let register = values.next();
        let registers = registers(asked.iter().copied());
        let seen: HashMap<&Register, Option<Held>> = registers
            .into_iter()
            .zip(values)
            .map(|((name, _), value)| (name, Held::parse(&value)))
            .collect();
        let mut entries = entries.into_iter();
        let found = asked.iter().map(|asked| {
            let met = live(entries.next()?, register.as_ref())?;
            let met = judged(met, &seen);
            if !met.is_invalid && (met.is_open || !asked.registers.is_empty()) {
                self.known.learn_from(&asked.entry, &met.entry.value);
            }
            Some(met)
        });
        found.collect()
    }

    /// Looks at the registers that were not read together with their entries.
    ///
    /// That an entry was read before its registers does no harm: a register that has the stamped value now had it
    /// already when the entry was written, and ever since.
    async fn settle(
        &self,
        namespace: &Namespace,
        keys: &[&[u8]],
        found: &mut [Found],
    ) -> Result<()> {
        let bucket = |index: usize| self.buckets.index_of(namespace, keys[index]);
        let mut wanted = BTreeSet::new();
        for (index, met) in found.iter().enumerate() {
            if let Some(met) = met.as_ref().filter(|met| met.is_open) {
                let registers = envelope::registers(&met.entry.value).into_iter();
                wanted.extend(registers.map(|name| (bucket(index), name)));
            }
        }
        let seen = self.seen(namespace, wanted).await?;
        for (index, found) in found.iter_mut().enumerate() {
            let Some(met) = found.as_mut().filter(|met| met.is_open) else {
                continue;
            };
            met.is_open = false;
            let live = |name: &Register| seen.get(&(bucket(index), name.clone()))?.of(met.life);
            met.judge(verdict(&met.entry.value, live));
        }
        Ok(())
    }

    /// Reads registers.
    pub(super) async fn seen(
        &self,
        namespace: &Namespace,
        wanted: BTreeSet<(usize, Register)>,
    ) -> Result<Seen> {
        let mut groups: BTreeMap<usize, Vec<Register>> = BTreeMap::new();
        for (bucket, name) in wanted {
            groups.entry(bucket).or_default().push(name);
        }
        let mut sent = Vec::new();
        let mut calls = Vec::new();
        for (bucket, names) in &groups {
            let within = &self.buckets.all()[*bucket];
            for names in names.chunks(MAX_KEYS) {
                let mut command = redis::cmd("MGET");
                for name in names {
                    command.arg(keys::name(within, b'r', namespace, name.as_bytes()));
                }
                calls.push(Call::new(within.slot, command));
                sent.push((*bucket, names));
            }
        }
        let mut seen = Seen::new();
        for ((bucket, names), reply) in sent.into_iter().zip(self.link.many(&calls).await) {
            for (name, value) in names.iter().zip(array(reply?)) {
                if let Some(held) = Held::parse(&value) {
                    seen.insert((bucket, name.clone()), held);
                }
            }
        }
        Ok(seen)
    }
}

/// Returns the `MGET` of entries of one bucket and namespace.
pub(super) fn mget<'a>(asked: impl IntoIterator<Item = &'a Asked> + Clone, register: &[u8]) -> Cmd {
    let registers = registers(asked.clone());
    let lengths = asked.clone().into_iter().map(|asked| asked.entry.len());
    let of_registers = registers.iter().map(|(_, name)| name.len());
    let bytes: usize = lengths.chain(of_registers).sum();
    let count = asked.clone().into_iter().count() + registers.len() + 2;
    let mut command = Cmd::with_capacity(count, bytes + register.len() + 4);
    command.arg("MGET");
    for asked in asked {
        command.arg(&asked.entry);
    }
    command.arg(register);
    for (_, name) in registers {
        command.arg(name);
    }
    command
}

/// Returns the registers that entries are believed to depend on, each once.
fn registers<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> Vec<&'a (Register, Vec<u8>)> {
    let all = asked.into_iter().flat_map(|asked| &asked.registers);
    let mut seen = HashSet::new();
    all.filter(|(name, _)| seen.insert(name)).collect()
}

impl Held {
    /// Reads the value of a register: hard number, soft number, life.
    fn parse(value: &Value) -> Option<Self> {
        let Value::BulkString(bytes) = value else {
            return None;
        };
        let bytes: &[u8; 24] = bytes.as_slice().try_into().ok()?;
        Some(Self {
            nonces: numbers(&bytes[..16])?,
            life: bytes[16..].try_into().ok()?,
        })
    }

    /// Returns the numbers, if the register was made in this life of its namespace.
    ///
    /// Otherwise an entry that somebody computed before a `clear`, and stores after it, would be valid.
    pub(super) fn of(&self, life: Stamp) -> Option<Nonces> {
        (self.life == life).then_some(self.nonces)
    }
}

/// Returns the numbers of a register, hard before soft.
pub(super) fn numbers(bytes: &[u8]) -> Option<Nonces> {
    let (hard, soft) = bytes.split_at_checked(8)?;
    Some(Nonces {
        hard: u64::from_le_bytes(hard.try_into().ok()?),
        soft: u64::from_le_bytes(soft.try_into().ok()?),
    })
}

/// Returns the entry of a frame whose stamp is the register's.
fn live(frame: Value, register: Option<&Value>) -> Option<Met> {
    let Value::BulkString(frame) = frame else {
        return None;
    };
    let frame = Frame::parse(&Bytes::from(frame))?;
    let Some(Value::BulkString(register)) = register else {
        return None;
    };
    if *register != frame.stamp {
        return None;
    }
    Some(Met {
        kind: frame.kind,
        life: frame.stamp,
        entry: frame.into_entry()?,
        is_open: false,
        is_invalid: false,
    })
}

/// Judges an entry by the registers that were read with it.
fn judged(mut met: Met, seen: &HashMap<&Register, Option<Held>>) -> Met {
    if !envelope::has_stamps(&met.entry.value) {
        return met;
    }
    let registers = envelope::registers(&met.entry.value);
    met.is_open = registers.iter().any(|name| !seen.contains_key(name));
    if met.is_open {
        return met;
    }
    let live = |name: &Register| seen.get(name).copied().flatten()?.of(met.life);
    met.judge(verdict(&met.entry.value, live));
    met
}

impl Met {
    fn judge(&mut self, verdict: Verdict) {
        self.is_invalid = verdict == Verdict::Invalid;
        self.entry.is_stale = verdict == Verdict::Stale;
    }
}

/// Returns the elements of a reply.
pub(super) fn array(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}
