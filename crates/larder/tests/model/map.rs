//! The map that stores are compared with: as simple as it can be said.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder::ErrorKind;
use larder::store::{Change, Condition, Expiry, SortedSetOp, SortedSetReply, Write};
use larder::testing::{body, write_id};

/// What an entry holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// The body of a value, which may be an integer.
    Body(Bytes),
    /// Scores by member.
    Set(BTreeMap<Bytes, f64>),
}

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) value: Value,
    pub(crate) expires_at_ms: Option<u64>,
    /// Not known until it is read, where the store chose it.
    pub(crate) write_id: Option<u64>,
}

/// Entries by key, and the time.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) now_ms: u64,
    slots: BTreeMap<u8, Slot>,
}

impl Value {
    /// Returns the body, where it is known.
    pub(crate) fn body(&self) -> Option<Bytes> {
        match self {
            Self::Body(body) => Some(body.clone()),
            Self::Set(_) => None,
        }
    }

    fn integer(&self) -> Option<i64> {
        let Self::Body(body) = self else { return None };
        std::str::from_utf8(body).ok()?.parse().ok()
    }
}

impl Map {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            slots: BTreeMap::new(),
        }
    }

    /// Returns the live entry of a key.
    pub(crate) fn live(&mut self, key: u8) -> Option<&mut Slot> {
        let now_ms = self.now_ms;
        self.slots
            .retain(|_, slot| slot.expires_at_ms.is_none_or(|at| at > now_ms));
        self.slots.get_mut(&key)
    }

    pub(crate) fn live_keys(&mut self) -> Vec<u8> {
        self.live(0);
        self.slots.keys().copied().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    fn at(&mut self, key: u8, expiry: Expiry) -> Option<u64> {
        match expiry {
            Expiry::After(ttl_ms) => Some(self.now_ms + ttl_ms),
            Expiry::Never => None,
            Expiry::Keep => self.live(key).and_then(|slot| slot.expires_at_ms),
        }
    }

    pub(crate) fn write(&mut self, write: &Write<'_>) -> bool {
        let key = write.key[0];
        let present = self.live(key).map(|slot| slot.write_id);
        let holds = match write.condition {
            Condition::Always => true,
            Condition::IfAbsent | Condition::IfVacant => present.is_none(),
            Condition::IfPresent => present.is_some(),
            Condition::IfUnchanged(id) => present == Some(Some(id)),
        };
        if !holds {
            return false;
        }
        let expires_at_ms = self.at(key, write.expiry);
        match &write.change {
            Change::Put(entry) => {
                let value = Value::Body(body(entry).expect("sealed by the test"));
                let write_id = Some(write_id(entry));
                self.slots.insert(
                    key,
                    Slot {
                        value,
                        expires_at_ms,
                        write_id,
                    },
                );
                true
            }
            Change::Delete => self.slots.remove(&key).is_some(),
            Change::Touch => match self.live(key) {
                Some(slot) => {
                    slot.expires_at_ms = expires_at_ms;
                    true
                }
                None => false,
            },
        }
    }

    pub(crate) fn increment(&mut self, key: u8, by: i64, expiry: Expiry) -> Result<i64, ErrorKind> {
        let (old, expires_at_ms) = match self.live(key) {
            Some(slot) => (
                slot.value.integer().ok_or(ErrorKind::WrongType)?,
                slot.expires_at_ms,
            ),
            None => (0, self.at(key, expiry)),
        };
        let sum = old.checked_add(by).ok_or(ErrorKind::Overflow)?;
        let value = Value::Body(sum.to_string().into());
        self.slots.insert(
            key,
            Slot {
                value,
                expires_at_ms,
                write_id: None,
            },
        );
        Ok(sum)
    }

    pub(crate) fn sorted_set(
        &mut self,
        key: u8,
        op: &SortedSetOp,
    ) -> Result<SortedSetReply, ErrorKind> {
        let (mut set, mut expires_at_ms) = match self.live(key) {
            Some(Slot {
                value: Value::Set(set),
                expires_at_ms,
                ..
            }) => (set.clone(), *expires_at_ms),
            Some(_) => return Err(ErrorKind::WrongType),
            None => (BTreeMap::new(), None),
        };
        if let (SortedSetOp::Add { expiry, .. }, None) = (op, self.live(key)) {
            expires_at_ms = self.at(key, *expiry);
        }
        let reply = apply(&mut set, op);
        if set.is_empty() {
            self.slots.remove(&key);
        } else {
            // A store may or may not write a set that ends as it was.
            let (value, write_id) = (Value::Set(set), None);
            self.slots.insert(
                key,
                Slot {
                    value,
                    expires_at_ms,
                    write_id,
                },
            );
        }
        Ok(reply)
    }
}

fn apply(set: &mut BTreeMap<Bytes, f64>, op: &SortedSetOp) -> SortedSetReply {
    let before = set.len();
    let mut ordered: Vec<_> = set
        .iter()
        .map(|(member, score)| (*score, member.clone()))
        .collect();
    ordered.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    match op {
        SortedSetOp::Add { members, .. } => {
            set.extend(
                members
                    .iter()
                    .map(|(score, member)| (member.clone(), *score)),
            );
            SortedSetReply::Count((set.len() - before) as u64)
        }
        SortedSetOp::Remove(members) => {
            set.retain(|member, _| !members.contains(member));
            SortedSetReply::Count((before - set.len()) as u64)
        }
        SortedSetOp::RemoveByScore { min, max } => {
            set.retain(|_, score| *score < *min || *score > *max);
            SortedSetReply::Count((before - set.len()) as u64)
        }
        SortedSetOp::Range {
            start,
            stop,
            descending,
        } => {
            if *descending {
                ordered.reverse();
            }
            let len = before as i64;
            let rank = |rank: i64| if rank < 0 { len + rank } else { rank };
            let (start, stop) = (rank(*start).max(0), rank(*stop).min(len - 1));
            let inside = |at: usize| (start..=stop).contains(&(at as i64));
            let members = ordered
                .into_iter()
                .enumerate()
                .filter(|(at, _)| inside(*at));
            SortedSetReply::Members(members.map(|(_, member)| member).collect())
        }
        SortedSetOp::RangeByScore { min, max } => {
            ordered.retain(|(score, _)| score >= min && score <= max);
            SortedSetReply::Members(ordered)
        }
        SortedSetOp::Score(wanted) => {
            ordered.retain(|(_, member)| member == wanted);
            SortedSetReply::Members(ordered)
        }
        _ => SortedSetReply::Count(before as u64),
    }
}
