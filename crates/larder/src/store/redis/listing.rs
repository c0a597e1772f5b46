//! Listings: `SCAN` on one primary after another, by prefix, and a look at the head of each key met.
//!
//! Costs O(keys of the whole database), in steps that leave the server free between them. A key that moves to another
//! server during the listing may be met twice, or be missed.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::Inner;
use super::frame::{Frame, HEAD_BYTES};
use super::keys;
use super::read::array;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::redis_conn::{Call, Node};
use crate::store::{ScanPage, ScannedKey};

/// Keys that a server looks at in one step.
pub(super) const STEP: usize = 1000;
/// Steps of one page, however few keys match.
const MAX_STEPS: usize = 100;

/// Where a listing is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The server; empty: the first one.
    address: String,
    /// Redis's own cursor there.
    position: u64,
    /// Keys that were met but did not fit the page.
    left: Vec<Vec<u8>>,
}

impl Inner {
    pub(super) async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        self.ready().await?;
        let mut cursor = cursor.map(Cursor::parse).transpose()?.unwrap_or_default();
        let limit = limit.max(1);
        let mut met = Vec::new();
        let mut more = true;
        for _ in 0..MAX_STEPS {
            let left = std::mem::take(&mut cursor.left);
            let take = left.into_iter().filter(|key| pattern.matches(key));
            met.extend(self.describe(namespace, take.collect()).await?);
            if met.len() >= limit || !more {
                break;
            }
            let step = limit.clamp(100, STEP);
            more = self.step(namespace, pattern, &mut cursor, step).await?;
        }
        let over = met.split_off(met.len().min(limit));
        cursor
            .left
            .extend(over.into_iter().map(|key| key.key.as_bytes().to_vec()));
        let is_over = !more && cursor.left.is_empty();
        Ok(ScanPage {
            keys: met,
            next: (!is_over).then(|| cursor.format()),
        })
    }

    pub(super) async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        self.ready().await?;
        let mut cursor = Cursor::default();
        let mut seen = HashSet::new();
        let mut more = true;
        while more {
            more = self.step(namespace, pattern, &mut cursor, STEP).await?;
            let names = std::mem::take(&mut cursor.left);
            for key in self.describe(namespace, names).await? {
                seen.insert(key.key);
            }
        }
        Ok(seen.len() as u64)
    }

    /// Makes one step: matching keys go to `left`. Returns whether there is more.
    async fn step(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: &mut Cursor,
        step: usize,
    ) -> Result<bool> {
        if cursor.position == DONE {
            return Ok(false);
        }
        let map = self.link.map().await?;
        let mut nodes: Vec<&Arc<Node>> = map.primaries.iter().collect();
        nodes.sort_by_key(|node| node.address());
        let index = if cursor.address.is_empty() {
            0
        } else {
            let found = nodes
                .iter()
                .position(|node| node.address() == cursor.address);
            found.ok_or_else(foreign)?
        };
        let Some(node) = nodes.get(index) else {
            return Ok(false);
        };
        let names = keys::pattern(b'e', namespace, &pattern.literal_prefix());
        let (position, met) = self.scan_node(node, cursor.position, &names, step).await?;
        for name in &met {
            let key = keys::user_key(&self.buckets, b'e', namespace, name);
            if let Some(key) = key.filter(|key| pattern.matches(key)) {
                cursor.left.push(key.to_vec());
            }
        }
        (cursor.address, cursor.position) = match nodes.get(index + 1) {
            _ if position != 0 => (node.address().to_owned(), position),
            Some(next) => (next.address().to_owned(), 0),
            None => (node.address().to_owned(), DONE),
        };
        Ok(cursor.position != DONE)
    }

    /// Makes one `SCAN`; returns the next position, 0 at the end, and the names met.
    pub(super) async fn scan_node(
        &self,
        node: &Arc<Node>,
        position: u64,
        pattern: &[u8],
        step: usize,
    ) -> Result<(u64, Vec<Vec<u8>>)> {
        let mut command = redis::cmd("SCAN");
        command
            .arg(position)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(step);
        let reply = array(self.link.at(node, &command).await?);
        // A position that cannot be read must not pass for the end.
        let Ok([position, names]) = <[Value; 2]>::try_from(reply) else {
            return Err(unexpected());
        };
        let position = crate::redis_conn::text(&position).and_then(|text| text.parse().ok());
        let names = array(names).into_iter().filter_map(|name| match name {
            Value::BulkString(name) => Some(name),
            _ => None,
        });
        Ok((position.ok_or_else(unexpected)?, names.collect()))
    }

    /// Returns what there is to say of keys, of those only that are valid entries; each once.
    async fn describe(&self, namespace: &Namespace, keys: Vec<Vec<u8>>) -> Result<Vec<ScannedKey>> {
        let space = self.spaces.of(namespace, &self.buckets);
        let mut seen = HashSet::new();
        let keys: Vec<_> = keys
            .into_iter()
            .filter(|key| seen.insert(key.clone()))
            .collect();
        let mut calls = Vec::with_capacity(keys.len() * 3);
        for key in &keys {
            let place = self.place(&space, namespace, key);
            let mut head = redis::cmd("GETRANGE");
            head.arg(&place.entry).arg(0).arg(HEAD_BYTES - 1);
            let mut size = redis::cmd("STRLEN");
            size.arg(&place.entry);
            let mut register = redis::cmd("GET");
            register.arg(&place.register.name);
            calls.extend([head, size, register].map(|command| Call::new(place.slot, command)));
        }
        let mut described = Vec::with_capacity(keys.len());
        let mut replies = self.link.many(&calls).await.into_iter();
        for key in keys {
            // What is under the name may be somebody else's.
            let mut next = || match replies.next() {
                Some(Err(error)) if error.kind() == ErrorKind::WrongType => Ok(None),
                reply => reply.transpose(),
            };
            let (head, size, register) = (next()?, next()?, next()?);
            if let (
                Some(Value::BulkString(head)),
                Some(Value::Int(size)),
                Some(Value::BulkString(register)),
            ) = (head, size, register)
            {
                let frame = Frame::parse(&head.into()).filter(|frame| register == frame.stamp);
                described.extend(frame.map(|frame| ScannedKey {
                    key: Key::from(key),
                    bytes: (size as u64).saturating_sub(HEAD_BYTES as u64),
                    expires_at_ms: frame.expires_at_ms,
                }));
            }
        }
        Ok(described)
    }
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "a scan answered something else")
}

/// The position behind the last server.
const DONE: u64 = u64::MAX;

impl Cursor {
    /// Writes: position, address, keys left; each text behind its length.
    fn format(&self) -> Bytes {
        let mut bytes = self.position.to_le_bytes().to_vec();
        for text in
            std::iter::once(self.address.as_bytes()).chain(self.left.iter().map(Vec::as_slice))
        {
            bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
            bytes.extend_from_slice(text);
        }
        bytes.into()
    }

    fn parse(bytes: &Bytes) -> Result<Self> {
        let (position, mut rest) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
        let mut texts = Vec::new();
        while !rest.is_empty() {
            let (len, behind) = rest.split_first_chunk::<2>().ok_or_else(foreign)?;
            let len = usize::from(u16::from_le_bytes(*len));
            let (text, behind) = behind.split_at_checked(len).ok_or_else(foreign)?;
            texts.push(text.to_vec());
            rest = behind;
        }
        let mut texts = texts.into_iter();
        let address = texts.next().and_then(|text| String::from_utf8(text).ok());
        Ok(Self {
            address: address.ok_or_else(foreign)?,
            position: u64::from_le_bytes(*position),
            left: texts.filter(|key| !key.is_empty()).collect(),
        })
    }
}

fn foreign() -> Error {
    Error::argument("the cursor is of another listing, or its server left the cluster: begin again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_junk_is_refused() {
        let cursor = Cursor {
            address: "127.0.0.1:6379".into(),
            position: 77,
            left: vec![b"a".to_vec(), vec![0; 1024]],
        };
        assert_eq!(Cursor::parse(&cursor.format()).unwrap(), cursor);
        for junk in [&b""[..], b"1234567", b"12345678", b"12345678\x05\x00ab"] {
            assert!(Cursor::parse(&Bytes::from_static(junk)).is_err());
        }
    }
}
