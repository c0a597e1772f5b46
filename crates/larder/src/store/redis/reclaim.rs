//! Reclaiming the memory of entries that a `clear` made invalid: in the background, a little at a time. What tags made
//! invalid goes with them, and when the store is pruned.
//!
//! Validity never depends on it. Entries with a TTL go by themselves as well; this is for those without.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use redis::Value;
use tokio::sync::Semaphore;

use super::Inner;
use super::keys;
use super::read::array;
use super::scripts::{PURGE, RECLAIM, RECLAIM_REGISTERS};
use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::{Call, slot};

/// Keys of one `SCAN` step, and pairs of keys of one script.
const STEP: usize = 500;
pub(super) const BATCH: usize = 50;
/// The names of an entry and of its members.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// An entry with tags, and the names of its registers.
pub(super) type Tagged<'a> = (&'a Pair, Vec<Vec<u8>>);

/// What becomes of an entry with tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Gone,
    /// It was the mark of a load.
    LoadGone,
}

/// For each time unit of work the task rests this many.
const REST: u32 = 4;

/// A namespace that waits for its sweep; another clear meanwhile needs none of its own.
struct Pending {
    inner: Weak<Inner>,
    namespace: Namespace,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(present) = self.inner.upgrade() {
            present.reclaiming().remove(&self.namespace);
        }
    }
}

/// Starts reclaiming a namespace, unless that is about to begin.
pub(super) fn start(inner: &Arc<Inner>, namespace: &Namespace) {
    if !inner.reclaiming().insert(namespace.clone()) {
        return;
    }
    let pending = Pending {
        inner: Arc::downgrade(inner),
        namespace: namespace.clone(),
    };
    tokio::spawn(run(pending, Arc::clone(&inner.reclaim_turn)));
}

async fn run(pending: Pending, turn: Arc<Semaphore>) {
    let Ok(_turn) = turn.acquire_owned().await else {
        return;
    };
    let (inner, namespace) = (Weak::clone(&pending.inner), pending.namespace.clone());
    // A clear during the sweep is seen by the script for all keys that are still to come, and by the next one.
    drop(pending);
    let Some(present) = inner.upgrade() else {
        return;
    };
    let mut pattern = keys::pattern(b'e', &namespace, b"");
    widen(&mut pattern);
    let addresses: Vec<_> = match present.link.map().await {
        Ok(map) => map.primaries.clone(),
        Err(_) => return,
    };
    drop(present);
    for node in addresses {
        let mut position = 0;
        loop {
            let Some(present) = inner.upgrade() else {
                return;
            };
            let began = Instant::now();
            let swept = present.sweep(&node, position, &pattern, u64::MAX).await;
            drop(present);
            match swept {
                Ok((0, _)) => break,
                Ok((next, _)) => position = next,
                Err(error) => {
                    tracing::debug!(%error, "reclaiming cleared entries stopped early");
                    return;
                }
            }
            tokio::time::sleep(began.elapsed() * REST).await;
        }
    }
}

/// Makes a pattern of entries one of entries, members and registers of tags.
fn widen(pattern: &mut Vec<u8>) {
    let kind = b"{*}e:";
    if pattern.starts_with(kind) {
        pattern.splice(..kind.len(), *b"{*}[ezr]:");
    }
}

impl Inner {
    /// Removes invalid entries of all namespaces, at most `limit` of them.
    pub(super) async fn prune(&self, limit: usize) -> Result<u64> {
        if limit == 0 {
            return Ok(0);
        }
        self.ready().await?;
        let map = self.link.map().await?;
        let mut removed = 0;
        for node in &map.primaries {
            let mut position = 0;
            loop {
                let left = limit as u64 - removed;
                let (next, now) = self
                    .sweep(node, position, b"{*}[ezr]:*:*:*:*", left)
                    .await?;
                removed += now;
                if removed >= limit as u64 {
                    return Ok(removed);
                }
                if next == 0 {
                    break;
                }
                position = next;
            }
        }
        Ok(removed)
    }

    /// Makes one step over a server's keys and removes at most `limit` entries; returns the next position and how many
    /// went.
    async fn sweep(
        &self,
        node: &Arc<crate::redis_conn::Node>,
        position: u64,
        pattern: &[u8],
        limit: u64,
    ) -> Result<(u64, u64)> {
        let (next, names) = self.scan_node(node, position, pattern, STEP).await?;
        let is_ours = |name: &&Vec<u8>| {
            let mut tags = self.buckets.all().iter().map(|bucket| &bucket.tag);
            tags.any(|tag| name.starts_with(tag))
        };
        self.sweep_registers(names.iter().filter(is_ours)).await?;
        let mut removed = 0;
        for (register, pairs) in &pairs_by_life(names.iter().filter(is_ours)) {
            for pairs in pairs.chunks(BATCH) {
                let left = limit - removed;
                let (now, tagged) = self.reclaim(register, pairs, left, true).await?;
                removed += now;
                removed += self.purge(register, tagged, limit - removed).await?;
                if removed >= limit {
                    return Ok((next, removed));
                }
            }
        }
        Ok((next, removed))
    }

    /// Removes those of some entries that are not of the present life of their namespace, at most `limit`, or only counts
    /// them; returns how many, and the others that have tags.
    pub(super) async fn reclaim<'a>(
        &self,
        life: &[u8],
        pairs: &'a [Pair],
        limit: u64,
        removes: bool,
    ) -> Result<(u64, Vec<Tagged<'a>>)> {
        let mut keys: Vec<&[u8]> = vec![life];
        let both = |(entry, members): &'a Pair| [&entry[..], &members[..]];
        keys.extend(pairs.iter().flat_map(both));
        let mut command = RECLAIM.command(&keys);
        command.arg(limit).arg(mode(removes));
        let call = Call::script(slot(life), &RECLAIM, command);
        let mut reply = array(self.link.one(&call).await?).into_iter();
        let removed = reply.next().as_ref().map_or(0, number);
        let tagged = reply.next().map(array).unwrap_or_default().into_iter();
        let tagged = tagged.filter_map(|tagged| {
            let [at, names] = <[Value; 2]>::try_from(array(tagged)).ok()?;
            let pair = pairs.get(usize::try_from(number(&at)).ok()?)?;
            let names = array(names).into_iter().filter_map(|name| match name {
                Value::BulkString(name) => Some(name),
                _ => None,
            });
            Some((pair, names.collect()))
        });
        Ok((removed, tagged.collect()))
    }

    /// Removes those of some entries with tags that are invalid by one of these, at most `limit`.
    async fn purge(&self, life: &[u8], tagged: Vec<Tagged<'_>>, limit: u64) -> Result<u64> {
        let mut removed = 0;
        let mut rest = &tagged[..];
        while removed < limit && !rest.is_empty() {
            let most = usize::try_from(limit - removed).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(most.min(rest.len()));
            let fates = self.purge_these(life, now, true).await?;
            removed += fates.iter().filter(|fate| **fate == Fate::Gone).count() as u64;
            rest = later;
        }
        Ok(removed)
    }

    /// Removes those of some entries with tags that are invalid by one of these, or only looks; tells what becomes of each.
    pub(super) async fn purge_these(
        &self,
        life: &[u8],
        tagged: &[Tagged<'_>],
        removes: bool,
    ) -> Result<Vec<Fate>> {
        let journal = journal_of(life);
        let calls = tagged.iter().map(|((entry, members), names)| {
            let registers = names.iter().filter_map(|name| register_of(life, name));
            let registers: Vec<_> = registers.collect();
            let mut keys: Vec<&[u8]> = vec![entry, life, members, &journal];
            keys.extend(registers.iter().map(Vec::as_slice));
            let mut command = PURGE.command(&keys);
            command.arg(mode(removes));
            Call::script(slot(life), &PURGE, command)
        });
        let calls: Vec<_> = calls.collect();
        let replies = self.link.many(&calls).await.into_iter();
        let fate = |reply: Result<Value>| {
            Ok(match reply? {
                Value::Int(0) => Fate::Stays,
                Value::Int(1) => Fate::Gone,
                _ => Fate::LoadGone,
            })
        };
        replies.map(fate).collect()
    }

    /// Removes those of some names that are registers of tags of a namespace as it was before it was cleared.
    async fn sweep_registers(&self, names: impl Iterator<Item = &Vec<u8>>) -> Result<()> {
        let mut groups: BTreeMap<Vec<u8>, Vec<&[u8]>> = BTreeMap::new();
        for name in names {
            if let Some(life) = life_of(name) {
                groups.entry(life).or_default().push(name);
            }
        }
        for (life, registers) in &groups {
            for registers in registers.chunks(BATCH) {
                let mut keys: Vec<&[u8]> = vec![life];
                keys.extend(registers);
                let command = RECLAIM_REGISTERS.command(&keys);
                let call = Call::script(slot(life), &RECLAIM_REGISTERS, command);
                self.link.one(&call).await?;
            }
        }
        Ok(())
    }
}

/// Returns how scripts are told whether to remove what they find.
fn mode(removes: bool) -> &'static str {
    if removes { "R" } else { "C" }
}

/// Returns the entries that names belong to, each once, by the registers of their namespaces.
pub(super) fn pairs_by_life<'a>(
    names: impl Iterator<Item = &'a Vec<u8>>,
) -> BTreeMap<Vec<u8>, Vec<Pair>> {
    let mut groups: BTreeMap<Vec<u8>, Vec<Pair>> = BTreeMap::new();
    for (register, entry, members) in names.filter_map(|name| related(name)) {
        let group = groups.entry(register).or_default();
        if !group.iter().any(|(known, _)| *known == entry) {
            group.push((entry, members));
        }
    }
    groups
}

fn number(value: &Value) -> u64 {
    match value {
        Value::Int(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// Returns the key of the journal in the bucket and namespace of the latter's register.
fn journal_of(life: &[u8]) -> Vec<u8> {
    let close = life.iter().position(|&byte| byte == b'}').unwrap_or(0);
    let (tag, rest) = life.split_at(close + 1);
    let namespace = rest.strip_prefix(b"g:").unwrap_or(rest);
    [tag, b"j:", namespace].concat()
}

/// Returns the key of the register of a tag in the bucket and namespace of the latter's register.
fn register_of(life: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let close = life.iter().position(|&byte| byte == b'}')?;
    let (tag, rest) = life.split_at(close + 1);
    let namespace = rest.strip_prefix(b"g:")?;
    Some([tag, b"r:", namespace, b":", name].concat())
}

/// Returns the register of the namespace that a register of a tag belongs to.
fn life_of(name: &[u8]) -> Option<Vec<u8>> {
    let close = name.iter().position(|&byte| byte == b'}')?;
    let (tag, rest) = name.split_at(close + 1);
    let rest = rest.strip_prefix(b"r:")?;
    let colons = rest.iter().enumerate().filter(|(_, byte)| **byte == b':');
    let (third, _) = colons.map(|(at, _)| (at, ())).nth(2)?;
    Some([tag, b"g:", &rest[..third]].concat())
}

/// Returns the register, the entry and the members that belong to a name of either kind.
fn related(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let close = name.iter().position(|&byte| byte == b'}')?;
    let (tag, rest) = name.split_at(close + 1);
    let rest = rest
        .strip_prefix(b"e:")
        .or_else(|| rest.strip_prefix(b"z:"))?;
    let colons = rest.iter().enumerate().filter(|(_, byte)| **byte == b':');
    let (third, _) = colons.map(|(at, _)| (at, ())).nth(2)?;
    let named = |kind: &[u8], text: &[u8]| [tag, kind, b":", text].concat();
    Some((
        named(b"g", &rest[..third]),
        named(b"e", rest),
        named(b"z", rest),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_relatives() {
        let (register, entry, members) = related(b"{a}z:app:main:v1:k:1").unwrap();
        assert_eq!(register, b"{a}g:app:main:v1");
        assert_eq!(entry, b"{a}e:app:main:v1:k:1");
        assert_eq!(members, b"{a}z:app:main:v1:k:1");
        assert_eq!(journal_of(&register), b"{a}j:app:main:v1");
        assert_eq!(related(b"{a}e:app:main"), None);
        assert_eq!(related(b"other"), None);
        assert_eq!(life_of(b"{a}r:app:main:v1:=t:1").unwrap(), register);
        assert_eq!(related(b"{a}r:app:main:v1:=t:1"), None);
        let of_tag = register_of(&register, b"=t:1").unwrap();
        assert_eq!(of_tag, b"{a}r:app:main:v1:=t:1");
    }
}
