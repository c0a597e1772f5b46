//! The short calls that laws of sorted sets are written in; each is about the key `set`.

use bytes::Bytes;

use super::space::Space;
use crate::error::{ErrorKind, Result};
use crate::store::{Expiry, SortedSetOp, SortedSetReply};

pub(super) type Members = Vec<(f64, Bytes)>;

pub(super) fn members(listed: &[(f64, &'static str)]) -> Members {
    let owned = |(score, member): &(f64, &'static str)| (*score, Bytes::from(*member));
    listed.iter().map(owned).collect()
}

pub(super) fn adding(listed: &[(f64, &'static str)], expiry: Expiry) -> SortedSetOp {
    let members = members(listed);
    SortedSetOp::Add { members, expiry }
}

pub(super) fn ranks(start: i64, stop: i64, descending: bool) -> SortedSetOp {
    SortedSetOp::Range {
        start,
        stop,
        descending,
    }
}

pub(super) fn names(listed: &[&'static str]) -> Vec<Bytes> {
    listed.iter().copied().map(Bytes::from).collect()
}

impl Space {
    pub(super) async fn add(&self, listed: &[(f64, &'static str)]) -> Result<u64> {
        self.set_count(adding(listed, Expiry::Never)).await
    }

    pub(super) async fn set_count(&self, op: SortedSetOp) -> Result<u64> {
        match self.sorted_set(b"set", op).await? {
            SortedSetReply::Count(count) => Ok(count),
            SortedSetReply::Members(_) => panic!("this operation counts"),
        }
    }

    pub(super) async fn set_members(&self, op: SortedSetOp) -> Result<Members> {
        match self.sorted_set(b"set", op).await? {
            SortedSetReply::Members(members) => Ok(members),
            SortedSetReply::Count(_) => panic!("this operation lists"),
        }
    }

    pub(super) async fn set_names(&self, op: SortedSetOp) -> Result<Vec<Bytes>> {
        let members = self.set_members(op).await?;
        Ok(members.into_iter().map(|(_, member)| member).collect())
    }

    pub(super) async fn set_kind(&self, op: SortedSetOp) -> Option<ErrorKind> {
        self.sorted_set(b"set", op)
            .await
            .err()
            .map(|error| error.kind())
    }
}
