//! The operations, and how they are chosen.

use bytes::Bytes;
use larder::store::{Change, Condition, Expiry, SortedSetOp};
use larder::testing::{sealed, sealed_integer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Few keys, so that operations meet.
pub(crate) const KEYS: [u8; 4] = *b"abcd";
const MAX_OPS: usize = 40;

/// One operation.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(Vec<WriteOp>),
    Get(Vec<u8>),
    Increment(u8, i64, Expiry),
    SortedSet(u8, SortedSetOp),
    List(usize),
    Clear,
    Prune(usize),
    Advance(u64),
}

/// One write of a bulk call.
#[derive(Debug, Clone)]
pub(crate) struct WriteOp {
    pub(crate) key: u8,
    pub(crate) change: ChangeOp,
    pub(crate) expiry: Expiry,
    pub(crate) condition: ConditionOp,
}

#[derive(Debug, Clone)]
pub(crate) enum ChangeOp {
    Text(u8),
    Integer(i64),
    Delete,
    Touch,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ConditionOp {
    Always,
    IfAbsent,
    IfPresent,
    /// Compares with the write id seen before the call.
    IfUnchanged,
    /// Compares with another one.
    IfOther,
}

impl ChangeOp {
    pub(crate) fn build(&self) -> Change {
        match self {
            Self::Text(n) => Change::Put(sealed(&[b'=', *n])),
            Self::Integer(n) => Change::Put(sealed_integer(*n)),
            Self::Delete => Change::Delete,
            Self::Touch => Change::Touch,
        }
    }
}

impl ConditionOp {
    pub(crate) fn against(self, seen: u64) -> Condition {
        match self {
            Self::Always => Condition::Always,
            Self::IfAbsent => Condition::IfAbsent,
            Self::IfPresent => Condition::IfPresent,
            Self::IfUnchanged => Condition::IfUnchanged(seen),
            Self::IfOther => Condition::IfUnchanged(seen ^ 5),
        }
    }
}

/// Returns sequences of operations.
pub(crate) fn sequences() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..MAX_OPS)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => vec(write(), 1..5).prop_map(Op::Write),
        2 => vec(key(), 0..6).prop_map(Op::Get),
        4 => (key(), number(), expiry()).prop_map(|(key, by, expiry)| Op::Increment(key, by, expiry)),
        5 => (key(), set_op()).prop_map(|(key, op)| Op::SortedSet(key, op)),
        2 => (1..6_usize).prop_map(Op::List),
        1 => Just(Op::Clear),
        1 => (0..5_usize).prop_map(Op::Prune),
        4 => (1..40_u64).prop_map(Op::Advance),
    ]
}

fn key() -> impl Strategy<Value = u8> {
    select(&KEYS[..])
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -3..4_i64, 1 => select(&[i64::MAX, i64::MIN, i64::MAX - 1][..])]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        2 => (1..60_u64).prop_map(Expiry::After),
        1 => Just(Expiry::Never),
        1 => Just(Expiry::Keep),
    ]
}

fn write() -> impl Strategy<Value = WriteOp> {
    let change = prop_oneof![
        3 => any::<u8>().prop_map(ChangeOp::Text),
        2 => number().prop_map(ChangeOp::Integer),
        1 => Just(ChangeOp::Delete),
        1 => Just(ChangeOp::Touch),
    ];
    use ConditionOp::{Always, IfAbsent, IfOther, IfPresent, IfUnchanged};
    let condition = select(&[Always, Always, IfAbsent, IfPresent, IfUnchanged, IfOther][..]);
    (key(), change, expiry(), condition).prop_map(|(key, change, expiry, condition)| WriteOp {
        key,
        change,
        expiry,
        condition,
    })
}

fn member() -> impl Strategy<Value = Bytes> {
    select(&["x", "y", "z", "xx"][..]).prop_map(Bytes::from)
}

fn score() -> impl Strategy<Value = f64> {
    (-3..4_i8).prop_map(f64::from)
}

fn set_op() -> impl Strategy<Value = SortedSetOp> {
    let bounds = || (score(), score());
    prop_oneof![
        4 => (vec((score(), member()), 0..4), expiry())
            .prop_map(|(members, expiry)| SortedSetOp::Add { members, expiry }),
        2 => vec(member(), 0..4).prop_map(SortedSetOp::Remove),
        1 => bounds().prop_map(|(min, max)| SortedSetOp::RemoveByScore { min, max }),
        2 => (-5..6_i64, -5..6_i64, any::<bool>())
            .prop_map(|(start, stop, descending)| SortedSetOp::Range { start, stop, descending }),
        1 => bounds().prop_map(|(min, max)| SortedSetOp::RangeByScore { min, max }),
        1 => Just(SortedSetOp::Len),
        1 => member().prop_map(SortedSetOp::Score),
    ]
}
