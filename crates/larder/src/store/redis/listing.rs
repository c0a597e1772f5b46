//! Listings: `SCAN` on one primary after another, by prefix, and a look at the head of each key met.
//!
//! Costs O(keys of the whole database), in steps that leave the server free between them; entries with tags, two more
//! round trips a step, to read and judge their stamps. A key that moves to another
//! server during the listing may be met twice, or be missed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::Inner;
use super::frame::{Frame, HEAD_BYTES, Kind};
use super::keys;
use super::read::array;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::redis_conn::{Call, Node};
use crate::store::{Register, ScanPage, ScannedKey, verdict};
use crate::tag::Verdict;

/// Keys that a server looks at in one step.
pub(super) const STEP: usize = 1000;
/// Steps of one page, however few keys match.
const MAX_STEPS: usize = 100;

/// What is read of a frame at first: enough to tell whether its envelope has stamps, behind the text of a counter too.
const START_BYTES: usize = 128;
/// Where an envelope says how long its header is.
const HEADER_LEN_AT: usize = 52;

/// Which entries are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) pattern: &'a Glob,
    /// Those that carry a stamp of this register.
    pub(super) register: Option<&'a Register>,
}

/// Where a listing is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The server; empty: the first one.
    address: String,
    /// Redis's own cursor there.
    position: u64,
    /// Keys that were met but did not fit the page.
    pub(super) left: Vec<Vec<u8>>,
}

impl Inner {
    pub(super) async fn scan(
        &self,
        namespace: &Namespace,
        wanted: Wanted<'_>,
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
            let take = left.into_iter().filter(|key| wanted.pattern.matches(key));
            let take = take.collect();
            met.extend(self.describe(namespace, wanted.register, take).await?);
            if met.len() >= limit || !more {
                break;
            }
            let step = limit.clamp(100, STEP);
            more = self
                .step(namespace, wanted.pattern, &mut cursor, step)
                .await?;
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
            for key in self.describe(namespace, None, names).await? {
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
        let names = keys::pattern(b'e', namespace, &pattern.literal_prefix());
        let Some(met) = self.advance(cursor, &names, step).await? else {
            return Ok(false);
        };
        for name in &met {
            let key = keys::user_key(&self.buckets, b'e', namespace, name);
            if let Some(key) = key.filter(|key| pattern.matches(key)) {
                cursor.left.push(key.to_vec());
            }
        }
        Ok(!cursor.is_at_end())
    }

    /// Makes one `SCAN` where the cursor is and moves it on; returns the names met, `None` behind the last server.
    pub(super) async fn advance(
        &self,
        cursor: &mut Cursor,
        names: &[u8],
        step: usize,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        if cursor.is_at_end() {
            return Ok(None);
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
            return Ok(None);
        };
        let (position, met) = self.scan_node(node, cursor.position, names, step).await?;
        (cursor.address, cursor.position) = match nodes.get(index + 1) {
            _ if position != 0 => (node.address().to_owned(), position),
            Some(next) => (next.address().to_owned(), 0),
            None => (node.address().to_owned(), DONE),
        };
        Ok(Some(met))
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

    /// Returns what there is to say of keys, of those only that are valid entries, with a stamp of the register; each
    /// once.
    async fn describe(
        &self,
        namespace: &Namespace,
        register: Option<&Register>,
        keys: Vec<Vec<u8>>,
    ) -> Result<Vec<ScannedKey>> {
        let mut seen = HashSet::new();
        let keys = keys.into_iter();
        let keys: Vec<_> = keys.filter(|key| seen.insert(key.clone())).collect();
        let mut described = Vec::with_capacity(keys.len());
        let mut tagged = Vec::new();
        for (frame, key) in self.frames(namespace, keys).await? {
            let envelope = frame.envelope();
            if !envelope::has_stamps(&envelope) {
                described.extend(register.is_none().then_some(key));
            } else {
                tagged.push((envelope, key));
            }
        }
        described.extend(self.judge(namespace, register, tagged).await?);
        Ok(described)
    }

    /// Reads the beginnings of frames; those that are not of the present life of the namespace are left out, and so are
    /// marks of loads.
    async fn frames(
        &self,
        namespace: &Namespace,
        keys: Vec<Vec<u8>>,
    ) -> Result<Vec<(Frame, ScannedKey)>> {
        let space = self.spaces.of(namespace, &self.buckets);
        let mut calls = Vec::with_capacity(keys.len() * 3);
        for key in &keys {
            let place = self.place(&space, namespace, key);
            let mut size = redis::cmd("STRLEN");
            size.arg(&place.entry);
            let mut register = redis::cmd("GET");
            register.arg(&place.register.name);
            let start = start(&place.entry, START_BYTES);
            calls.extend([start, size, register].map(|command| Call::new(place.slot, command)));
        }
        let mut frames = Vec::with_capacity(keys.len());
        let mut replies = self.link.many(&calls).await.into_iter();
        for key in keys {
            // What is under the name may be somebody else's.
            let mut next = || match replies.next() {
                Some(Err(error)) if error.kind() == ErrorKind::WrongType => Ok(None),
                reply => reply.transpose(),
            };
            let (start, size, register) = (next()?, next()?, next()?);
            if let (
                Some(Value::BulkString(start)),
                Some(Value::Int(size)),
                Some(Value::BulkString(register)),
            ) = (start, size, register)
            {
                let frame = Frame::parse(&start.into()).filter(|frame| register == frame.stamp);
                let frame = frame.filter(|frame| frame.kind != Kind::Load);
                frames.extend(frame.map(|frame| {
                    let scanned = ScannedKey {
                        key: Key::from(key),
                        bytes: (size as u64).saturating_sub(HEAD_BYTES as u64),
                        expires_at_ms: frame.expires_at_ms,
                    };
                    (frame, scanned)
                }));
            }
        }
        Ok(frames)
    }

    /// Returns those of entries with stamps that are valid and, if one is asked for, carry a stamp of the register.
    async fn judge(
        &self,
        namespace: &Namespace,
        register: Option<&Register>,
        tagged: Vec<(Bytes, ScannedKey)>,
    ) -> Result<Vec<ScannedKey>> {
        if tagged.is_empty() {
            return Ok(Vec::new());
        }
        let space = self.spaces.of(namespace, &self.buckets);
        let whole = tagged.iter().map(|(envelope, scanned)| {
            let place = self.place(&space, namespace, scanned.key.as_bytes());
            let header = envelope.get(HEADER_LEN_AT..).and_then(<[u8]>::first_chunk);
            let header = header.map_or(0, |bytes| usize::from(u16::from_le_bytes(*bytes)));
            Call::new(place.slot, start(&place.entry, START_BYTES + header))
        });
        let whole: Vec<_> = whole.collect();
        let mut stamped = Vec::with_capacity(tagged.len());
        let mut wanted = BTreeSet::new();
        for ((_, scanned), reply) in tagged.into_iter().zip(self.link.many(&whole).await) {
            // Gone or replaced by now, as by a mark.
            let Ok(Value::BulkString(bytes)) = reply else {
                continue;
            };
            let frame = Frame::parse(&bytes.into()).filter(|frame| frame.kind != Kind::Load);
            let Some((envelope, life)) = frame.map(|frame| (frame.envelope(), frame.stamp)) else {
                continue;
            };
            if register.is_none_or(|register| envelope::carries(&envelope, register)) {
                let bucket = self.buckets.index_of(namespace, scanned.key.as_bytes());
                let registers = envelope::registers(&envelope).into_iter();
                wanted.extend(registers.map(|name| (bucket, name)));
                stamped.push((bucket, life, envelope, scanned));
            }
        }
        let seen = self.seen(namespace, wanted).await?;
        let valid = stamped.into_iter().filter(|(bucket, life, envelope, _)| {
            let live = |name: &Register| seen.get(&(*bucket, name.clone()))?.of(*life);
            verdict(envelope, live) != Verdict::Invalid
        });
        Ok(valid.map(|(_, _, _, scanned)| scanned).collect())
    }
}

/// Returns the command that reads the first bytes of a frame.
fn start(entry: &[u8], bytes: usize) -> Cmd {
    let mut start = redis::cmd("GETRANGE");
    start.arg(entry).arg(0).arg(bytes - 1);
    start
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "a scan answered something else")
}

/// The position behind the last server.
const DONE: u64 = u64::MAX;

impl Cursor {
    /// Returns whether all servers were listed.
    pub(super) fn is_at_end(&self) -> bool {
        self.position == DONE
    }

    /// Writes: position, address, keys left; each text behind its length.
    pub(super) fn format(&self) -> Bytes {
        let mut bytes = self.position.to_le_bytes().to_vec();
        for text in
            std::iter::once(self.address.as_bytes()).chain(self.left.iter().map(Vec::as_slice))
        {
            bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
            bytes.extend_from_slice(text);
        }
        bytes.into()
    }

    pub(super) fn parse(bytes: &Bytes) -> Result<Self> {
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
