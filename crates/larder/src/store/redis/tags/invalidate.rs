//! Invalidation: in each bucket, the registers go. It costs the same however many entries depend on them.

use redis::Value;

use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::redis::Inner;
use crate::store::redis::keys::{self, Bucket};
use crate::store::redis::notes::{self, Note};
use crate::store::redis::read::array;
use crate::store::redis::scripts::SOFTEN;
use crate::store::redis::spaces::{Space, fresh, stamp};
use crate::store::{Invalidated, Invalidation, Register};

impl Inner {
    pub(in crate::store::redis) async fn invalidate(
        &self,
        namespace: &Namespace,
        names: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let (mut calls, mut notes) = (Vec::new(), Vec::new());
        for (index, bucket) in self.buckets.all().iter().enumerate() {
            let key = |name: &Register| keys::name(bucket, b'r', namespace, name.as_bytes());
            let named: Vec<_> = names.iter().map(key).collect();
            let any = key(&Register::any());
            match how {
                Invalidation::Hard => {
                    calls.extend(removal(bucket, &space, index, (&any, &named)));
                    notes.extend(note(bucket, &space.journal(index).name, names));
                }
                Invalidation::Soft => calls.push(softening(bucket, &space, index, (&any, &named))),
            }
        }
        self.pass();
        let per_bucket = calls.len() / self.buckets.len();
        let (replies, noted) = self.many_noted(calls, notes).await;
        let (mut replies, mut noted) = (replies.into_iter(), noted.into_iter());
        let parts = self.buckets.len();
        let mut told = Invalidated {
            had: vec![false; names.len()],
            parts,
            missing: 0,
        };
        let mut failure = None;
        for _ in 0..parts {
            let of_bucket: Vec<_> = replies.by_ref().take(per_bucket).collect();
            let replies = of_bucket.into_iter().collect::<Result<Vec<Value>>>();
            let noted = noted.next().unwrap_or(Ok(()));
            match replies.and_then(|replies| noted.map(|()| replies)) {
                Ok(replies) => {
                    let had = match how {
                        Invalidation::Hard => were_removed(&replies),
                        Invalidation::Soft => were_softened(replies),
                    };
                    told.had
                        .iter_mut()
                        .zip(had)
                        .for_each(|(had, it)| *had |= it);
                }
                Err(error) => {
                    told.missing += 1;
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if told.missing == parts => Err(error),
            _ => Ok(told),
        }
    }
}

/// Returns what removes registers of one bucket: what all invalidations change first, then each, with what it held.
///
/// Commands of their own, and no script: they work on a server that has forgotten all scripts, and while a slot moves.
fn removal(
    bucket: &Bucket,
    space: &Space,
    index: usize,
    (any, named): (&[u8], &[Vec<u8>]),
) -> Vec<Call> {
    let command = |word: &str, key: &[u8]| {
        let mut command = redis::cmd(word);
        command.arg(key);
        Call::new(bucket.slot, command)
    };
    let mut calls = vec![command("DEL", any)];
    calls.extend(named.iter().map(|key| command("GETDEL", key)));
    calls.push(command("GET", &space.register(index).name));
    calls
}

/// Returns what notes the registers of one bucket, also those that were not there: copies may depend on them.
fn note(bucket: &Bucket, journal: &[u8], names: &[Register]) -> Option<Note> {
    let command = notes::registers(journal, names.iter().map(Register::as_bytes));
    (!names.is_empty()).then(|| Note {
        journal: journal.to_vec(),
        look: None,
        call: Call::new(bucket.slot, command),
    })
}

/// Returns which registers were there, and no remains of before the namespace was cleared.
fn were_removed(replies: &[Value]) -> Vec<bool> {
    let [_any, removed @ .., life] = replies else {
        return Vec::new();
    };
    let life = stamp(life);
    let was_there = |value: &Value| match value {
        Value::BulkString(bytes) => life.is_some_and(|life| bytes.get(16..) == Some(&life)),
        _ => false,
    };
    removed.iter().map(was_there).collect()
}

fn softening(
    bucket: &Bucket,
    space: &Space,
    index: usize,
    (any, named): (&[u8], &[Vec<u8>]),
) -> Call {
    let mut keys = vec![
        &space.register(index).name[..],
        any,
        &space.journal(index).name,
    ];
    keys.extend(named.iter().map(Vec::as_slice));
    let mut command = SOFTEN.command(&keys);
    for _ in named {
        command.arg(&fresh()[..]);
    }
    Call::script(bucket.slot, &SOFTEN, command)
}

fn were_softened(replies: Vec<Value>) -> Vec<bool> {
    let told = replies.into_iter().flat_map(array);
    told.map(|value| value == Value::Int(1)).collect()
}
