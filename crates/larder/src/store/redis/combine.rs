//! Merging reads: what many tasks ask for at the same moment goes out as one `MGET` and one reply.
//!
//! A lone read goes out at once. A read that begins while others are under way joins a batch; the batch leaves when
//! the tasks that are ready now have had their turn, so nobody waits for a reply but his own. It costs server and client
//! less than a command for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::Value;
use tokio::sync::oneshot;

use super::Inner;
use super::frame::Kind;
use super::read::{array, live};
use super::spaces::Space;
use crate::error::{Error, ErrorKind, Result};
use crate::redis_conn::Call;
use crate::store::Entry;

/// The most reads of one batch.
const MAX_BATCH: usize = 512;

pub(super) type Found = Option<(Kind, Entry)>;

/// Reads that wait for their batch to leave.
#[derive(Debug, Default)]
pub(super) struct Combiner {
    under_way: AtomicUsize,
    waiting: Mutex<Vec<Waiting>>,
}

/// A read, and who wants its result.
#[derive(Debug)]
struct Waiting {
    space: Arc<Space>,
    bucket: usize,
    entry: Vec<u8>,
    tell: oneshot::Sender<Result<Found>>,
}

/// A read that is under way, for as long as it lives.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    count: &'a AtomicUsize,
    /// Whether no other read was under way when this one began.
    pub(super) is_alone: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Combiner {
    /// Notes that a read begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        UnderWay {
            is_alone: self.under_way.fetch_add(1, Ordering::Relaxed) == 0,
            count: &self.under_way,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Reads one entry in a batch.
    pub(super) async fn get_combined(
        self: &Arc<Self>,
        space: &Arc<Space>,
        bucket: usize,
        entry: Vec<u8>,
    ) -> Result<Found> {
        let (tell, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.combiner.waiting();
            waiting.push(Waiting {
                space: Arc::clone(space),
                bucket,
                entry,
                tell,
            });
            waiting.len() == 1
        };
        if is_first {
            let inner = Arc::clone(self);
            tokio::spawn(send(Duty {
                inner,
                is_done: false,
            }));
        }
        told.await.unwrap_or_else(|_| {
            let message = "the runtime that read it has ended";
            Err(Error::new(ErrorKind::Unavailable, message))
        })
    }
}

/// The duty to send what waits. If the runtime ends before, those who wait are told, and the next read begins anew.
struct Duty {
    inner: Arc<Inner>,
    is_done: bool,
}

impl Duty {
    fn take(mut self) -> (Arc<Inner>, Vec<Waiting>) {
        self.is_done = true;
        let batch = std::mem::take(&mut *self.inner.combiner.waiting());
        (Arc::clone(&self.inner), batch)
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.is_done {
            self.inner.combiner.waiting().clear();
        }
    }
}

/// Sends what waits, after one turn of everybody else.
async fn send(duty: Duty) {
    tokio::task::yield_now().await;
    let (inner, mut batch) = duty.take();
    batch.retain(|read| !read.tell.is_closed());
    while batch.len() > MAX_BATCH {
        let rest = batch.split_off(MAX_BATCH);
        tokio::spawn(exchange(Arc::clone(&inner), batch));
        batch = rest;
    }
    exchange(inner, batch).await;
}

async fn exchange(inner: Arc<Inner>, mut batch: Vec<Waiting>) {
    if batch.is_empty() {
        return;
    }
    let is_uniform = batch.windows(2).all(|pair| {
        pair[0].bucket == pair[1].bucket && Arc::ptr_eq(&pair[0].space, &pair[1].space)
    });
    if is_uniform {
        let reply = inner.link.one(&call(&inner, &batch)).await;
        return deal(batch, reply);
    }
    let mut groups: HashMap<(usize, usize), Vec<Waiting>> = HashMap::new();
    for read in batch.drain(..) {
        let of = (Arc::as_ptr(&read.space) as usize, read.bucket);
        groups.entry(of).or_default().push(read);
    }
    let groups: Vec<_> = groups.into_values().collect();
    let calls: Vec<_> = groups.iter().map(|group| call(&inner, group)).collect();
    let replies = inner.link.many(&calls).await;
    for (group, reply) in groups.into_iter().zip(replies) {
        deal(group, reply);
    }
}

/// Returns the `MGET` of reads of one bucket and namespace.
fn call(inner: &Inner, group: &[Waiting]) -> Call {
    let bytes: usize = group.iter().map(|read| read.entry.len()).sum();
    let register = &group[0].space.register(group[0].bucket).name;
    let mut command = redis::Cmd::with_capacity(group.len() + 2, bytes + register.len() + 4);
    command.arg("MGET");
    for read in group {
        command.arg(&read.entry);
    }
    command.arg(register);
    Call::new(inner.buckets.all()[group[0].bucket].slot, command)
}

/// Gives everybody his own.
fn deal(group: Vec<Waiting>, reply: Result<Value>) {
    match reply {
        Err(error) => group.into_iter().for_each(|read| {
            // Whoever went away needs no answer.
            let _ = read.tell.send(Err(error.clone()));
        }),
        Ok(reply) => {
            let mut values = array(reply);
            let register = values.pop();
            for (read, value) in group.into_iter().zip(values) {
                let _ = read.tell.send(Ok(live(value, register.as_ref())));
            }
        }
    }
}
