//! Sorted sets as one entry: members ordered by score, then by bytes.
//!
//! The pure core ([`SortedSet`]) is shared by every store that has no native sorted sets; around it,
//! [`emulate`] reads the set, applies the operation and writes it back if unchanged.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{MAX_CAS_ATTEMPTS, Store, Write, conflict, swap};
use crate::codec::{Codec, Encoding};
use crate::envelope::{self, Envelope, Header, Kind, wrong_type};
use crate::error::{Error, Result};
use crate::key::Namespace;
use crate::store::{Condition, Expiry};

/// An operation on a sorted set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SortedSetOp {
    /// Adds members or changes their scores; a set created by this expires as said.
    Add {
        /// Scores (any number but NaN) and members.
        members: Vec<(f64, Bytes)>,
        /// The expiry of a new set.
        expiry: Expiry,
    },
    /// Removes members.
    Remove(Vec<Bytes>),
    /// Removes members with scores from `min` to `max`, both included.
    RemoveByScore {
        /// The lowest score.
        min: f64,
        /// The highest score.
        max: f64,
    },
    /// Lists members by rank from `start` to `stop`, both included; negative ranks count from the end.
    Range {
        /// The first rank.
        start: i64,
        /// The last rank.
        stop: i64,
        /// Whether rank 0 is the highest score.
        descending: bool,
    },
    /// Lists members with scores from `min` to `max`, both included, ascending.
    RangeByScore {
        /// The lowest score.
        min: f64,
        /// The highest score.
        max: f64,
    },
    /// Counts the members.
    Len,
    /// Finds the score of one member.
    Score(Bytes),
}

impl SortedSetOp {
    /// Returns whether the operation may change the set.
    pub(crate) fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Add { .. } | Self::Remove(_) | Self::RemoveByScore { .. }
        )
    }
}

/// The reply to a [`SortedSetOp`].
#[derive(Debug, Clone, PartialEq)]
pub enum SortedSetReply {
    /// Members added or removed, or the number of members.
    Count(u64),
    /// Scores and members, in the order asked for.
    Members(Vec<(f64, Bytes)>),
}

/// A sorted set in memory, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SortedSet {
    members: Vec<(f64, Bytes)>,
}

impl SortedSet {
    /// Applies an operation; the second value says whether the set changed.
    fn apply(&mut self, op: &SortedSetOp) -> Result<(SortedSetReply, bool)> {
        let before = self.members.len();
        Ok(match op {
            SortedSetOp::Add { members, .. } => {
                let changed = self.add(members)?;
                let added = self.members.len() - before;
                (SortedSetReply::Count(added as u64), changed)
            }
            SortedSetOp::Remove(members) => {
                let members: HashSet<_> = members.iter().collect();
                self.members.retain(|(_, member)| !members.contains(member));
                self.removed_since(before)
            }
            SortedSetOp::RemoveByScore { min, max } => {
                self.members
                    .retain(|(score, _)| !(*min..=*max).contains(score));
                self.removed_since(before)
            }
            SortedSetOp::Range {
                start,
                stop,
                descending,
            } => (
                SortedSetReply::Members(self.range(*start, *stop, *descending)),
                false,
            ),
            SortedSetOp::RangeByScore { min, max } => {
                let inside = |(score, _): &&(f64, Bytes)| (*min..=*max).contains(score);
                let members = self.members.iter().filter(inside).cloned().collect();
                (SortedSetReply::Members(members), false)
            }
            SortedSetOp::Len => (SortedSetReply::Count(before as u64), false),
            SortedSetOp::Score(wanted) => {
                let found = self.members.iter().filter(|(_, member)| member == wanted);
                (SortedSetReply::Members(found.cloned().collect()), false)
            }
        })
    }

    fn removed_since(&self, before: usize) -> (SortedSetReply, bool) {
        let removed = before - self.members.len();
        (SortedSetReply::Count(removed as u64), removed > 0)
    }

    fn add(&mut self, added: &[(f64, Bytes)]) -> Result<bool> {
        let mut changed = false;
        let places = self.members.iter().enumerate();
        let mut places: HashMap<Bytes, usize> = places
            .map(|(place, (_, member))| (member.clone(), place))
            .collect();
        for (score, member) in added {
            if score.is_nan() {
                return Err(Error::argument("a score must be a number").key(member));
            }
            // Makes 0 of -0, so that members with either are ordered by their bytes.
            let score = *score + 0.0;
            match places.entry(member.clone()) {
                Slot::Occupied(place) => {
                    let (present, _) = &mut self.members[*place.get()];
                    changed |= *present != score;
                    *present = score;
                }
                Slot::Vacant(place) => {
                    changed = true;
                    place.insert(self.members.len());
                    self.members.push((score, member.clone()));
                }
            }
        }
        self.members
            .sort_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| x.cmp(y)));
        Ok(changed)
    }

    fn range(&self, start: i64, stop: i64, descending: bool) -> Vec<(f64, Bytes)> {
        let len = self.members.len() as i64;
        let from_end = |rank: i64| {
            if rank < 0 {
                len.saturating_add(rank)
            } else {
                rank
            }
        };
        let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
        let ranks = start..=stop;
        let at = |rank: i64| if descending { len - 1 - rank } else { rank };
        ranks
            .filter_map(|rank| self.members.get(at(rank) as usize).cloned())
            .collect()
    }
}

/// Performs an operation on a store that keeps a set as one entry. Cost: one read, and one write per attempt
/// when the operation changes the set; O(n) bytes.
pub(super) async fn emulate<S: Store + ?Sized>(
    store: &S,
    namespace: &Namespace,
    key: &[u8],
    op: &SortedSetOp,
) -> Result<SortedSetReply> {
    if !store.capabilities().sorted_sets {
        return Err(Error::unsupported("sorted sets").store(store.name()));
    }
    for _ in 0..MAX_CAS_ATTEMPTS {
        let present = store.get_many(namespace, &[key]).await?.pop().flatten();
        let old = present.as_ref().map(|entry| &entry.value);
        let opened = old.and_then(|entry| Envelope::open(entry).ok());
        let mut set = decode(opened.as_ref())?;
        let (reply, changed) = set.apply(op)?;
        if !changed {
            return Ok(reply);
        }
        let expiry = match op {
            SortedSetOp::Add { expiry, .. } => *expiry,
            _ => Expiry::Never,
        };
        let write = if set.members.is_empty() {
            let seen = Condition::IfUnchanged(old.map_or(0, |entry| envelope::write_id(entry)));
            Write::delete(key).when(seen)
        } else {
            swap(
                key,
                encode(&set, opened, store.clock().now_ms())?,
                old,
                expiry,
            )
        };
        if store.write_many(namespace, &[write]).await? == [true] {
            return Ok(reply);
        }
        tokio::task::yield_now().await;
    }
    Err(conflict(store.name(), key))
}

fn decode(opened: Option<&Envelope>) -> Result<SortedSet> {
    let Some(envelope) = opened else {
        return Ok(SortedSet::default());
    };
    if envelope.header.kind != Kind::SortedSet {
        return Err(wrong_type());
    }
    Codec::MessagePack.decode(&envelope.plain_body()?)
}

fn encode(set: &SortedSet, opened: Option<Envelope>, now_ms: u64) -> Result<Bytes> {
    let fresh = Header::new(Encoding::Codec(Codec::MessagePack), now_ms, None);
    let mut header = Header {
        kind: Kind::SortedSet,
        ..fresh
    };
    if let Some(envelope) = opened {
        let write_id = header.write_id;
        header = Header {
            write_id,
            ..envelope.header
        };
    }
    let body = Codec::MessagePack.encode(set)?;
    envelope::seal(&header, &body, body.len())
}

/// Returns the scores and members of a sealed set.
#[cfg(feature = "redis")]
pub(super) fn members(envelope: &Envelope) -> Result<Vec<(f64, Bytes)>> {
    decode(Some(envelope)).map(|set| set.members)
}

/// Returns a sealed set under the given header, whose kind is made that of a set.
#[cfg(feature = "redis")]
pub(super) fn seal(header: &Header, members: Vec<(f64, Bytes)>) -> Result<Bytes> {
    let header = Header {
        kind: Kind::SortedSet,
        encoding: Encoding::Codec(Codec::MessagePack),
        compression: crate::codec::Compression::None,
        ..header.clone()
    };
    let body = Codec::MessagePack.encode(&SortedSet { members })?;
    envelope::seal(&header, &body, body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(members: &[(f64, &'static str)]) -> SortedSet {
        let mut set = SortedSet::default();
        let members: Vec<_> = members.iter().map(|(s, m)| (*s, Bytes::from(*m))).collect();
        set.add(&members).unwrap();
        set
    }

    fn names(reply: SortedSetReply) -> Vec<Bytes> {
        match reply {
            SortedSetReply::Members(members) => members.into_iter().map(|(_, m)| m).collect(),
            SortedSetReply::Count(_) => panic!("expected members"),
        }
    }

    #[test]
    fn ranks_count_from_both_ends() {
        let mut board = set(&[(3.0, "c"), (1.0, "a"), (2.0, "b"), (2.0, "a2")]);
        let mut range = |start, stop, descending| {
            names(
                board
                    .apply(&SortedSetOp::Range {
                        start,
                        stop,
                        descending,
                    })
                    .unwrap()
                    .0,
            )
        };
        assert_eq!(range(0, -1, false), ["a", "a2", "b", "c"]);
        assert_eq!(range(0, 1, true), ["c", "b"]);
        assert_eq!(range(-2, -1, false), ["b", "c"]);
        assert!(range(4, 9, false).is_empty());
        assert!(range(i64::MIN, i64::MIN, false).is_empty());
        assert_eq!(range(i64::MIN, i64::MAX, false).len(), 4);
    }

    #[test]
    fn adding_the_same_again_changes_nothing() {
        let mut board = set(&[(1.0, "a")]);
        let again = SortedSetOp::Add {
            members: vec![(1.0, "a".into())],
            expiry: Expiry::Never,
        };
        assert_eq!(
            board.apply(&again).unwrap(),
            (SortedSetReply::Count(0), false)
        );
        let moved = SortedSetOp::Add {
            members: vec![(2.0, "a".into())],
            expiry: Expiry::Never,
        };
        assert_eq!(
            board.apply(&moved).unwrap(),
            (SortedSetReply::Count(0), true)
        );
        let nan = SortedSetOp::Add {
            members: vec![(f64::NAN, "b".into())],
            expiry: Expiry::Never,
        };
        assert!(board.apply(&nan).is_err());
    }
}
