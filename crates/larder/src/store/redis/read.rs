//! Reads: one `MGET` of the entries and the register of their namespace, to each server that has some of them.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::Inner;
use super::combine::Found;
use super::frame::{Frame, Kind};
use super::spaces::Space;
use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::Entry;

/// Keys of one `MGET`.
const MAX_KEYS: usize = 512;

impl Inner {
    pub(super) async fn get_many(
        self: &Arc<Self>,
        namespace: &Namespace,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Entry>>> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let mut entries = match keys {
            [] => return Ok(Vec::new()),
            [key] => vec![self.get_one(namespace, &space, key).await?],
            _ => self.get_several(namespace, &space, keys).await?,
        };
        for (entry, key) in entries.iter_mut().zip(keys) {
            if let Some((Kind::SortedSet, _)) = entry {
                *entry = self.whole_set(namespace, &space, key).await?;
            }
        }
        Ok(entries.into_iter().map(|found| Some(found?.1)).collect())
    }

    async fn get_one(
        self: &Arc<Self>,
        namespace: &Namespace,
        space: &Arc<Space>,
        key: &[u8],
    ) -> Result<Found> {
        let under_way = self.gets.begin();
        let place = self.place(space, namespace, key);
        if !under_way.is_alone {
            return self.get_combined(space, place.bucket, place.entry).await;
        }
        let mut command = redis::Cmd::with_capacity(3, 64 + place.entry.len() * 2);
        command
            .arg("MGET")
            .arg(&place.entry)
            .arg(&place.register.name);
        let reply = self.link.one(&Call::new(place.slot, command)).await?;
        let mut values = array(reply);
        let register = values.pop();
        Ok(values
            .pop()
            .and_then(|entry| live(entry, register.as_ref())))
    }

    async fn get_several(
        &self,
        namespace: &Namespace,
        space: &Arc<Space>,
        keys: &[&[u8]],
    ) -> Result<Vec<Found>> {
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); self.buckets.len()];
        for (index, key) in keys.iter().enumerate() {
            groups[self.buckets.index_of(namespace, key)].push(index);
        }
        let mut asked: Vec<Vec<usize>> = Vec::new();
        let mut calls = Vec::new();
        for group in groups {
            for members in group.chunks(MAX_KEYS) {
                let first = self.place(space, namespace, keys[members[0]]);
                let mut command = redis::Cmd::with_capacity(members.len() + 2, members.len() * 64);
                command.arg("MGET").arg(&first.entry);
                for &index in &members[1..] {
                    command.arg(self.place(space, namespace, keys[index]).entry);
                }
                command.arg(&first.register.name);
                calls.push(Call::new(first.slot, command));
                asked.push(members.to_vec());
            }
        }
        let mut entries = vec![None; keys.len()];
        for (members, reply) in asked.into_iter().zip(self.link.many(&calls).await) {
            let mut values = array(reply?);
            let register = values.pop();
            for (index, value) in members.into_iter().zip(values) {
                entries[index] = live(value, register.as_ref());
            }
        }
        Ok(entries)
    }
}

/// Returns the entry of a frame whose stamp is the register's.
pub(super) fn live(frame: Value, register: Option<&Value>) -> Found {
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
    Some((frame.kind, frame.into_entry()?))
}

/// Returns the elements of a reply.
pub(super) fn array(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}
