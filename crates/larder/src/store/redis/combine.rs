//! Merging reads: what many tasks ask for at the same moment goes out as one `MGET` and comes back as one reply. It
//! costs server and client less than a command for each.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::Value;
use tokio::sync::oneshot;

use super::Inner;
use super::queue::{Duty, abandoned};
use super::read::{Asked, Found, mget};
use super::spaces::Space;
use crate::error::Result;
use crate::redis_conn::Call;

/// The most reads of one batch. Several small ones keep client and server busy at the same time, where one big one
/// would let each wait for the other.
pub(super) const MAX_BATCH: usize = 16;

/// A read, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    space: Arc<Space>,
    asked: Asked,
    tell: oneshot::Sender<Result<Found>>,
}

impl Inner {
    /// Reads one entry together with others.
    pub(super) async fn get_combined(
        self: &Arc<Self>,
        space: &Arc<Space>,
        asked: Asked,
    ) -> Result<Found> {
        let (tell, told) = oneshot::channel();
        let waiting = Waiting {
            space: Arc::clone(space),
            asked,
            tell,
        };
        if self.gets.push(waiting) {
            tokio::spawn(send(Duty::new(self, |inner| &inner.gets)));
        }
        told.await.unwrap_or_else(|gone| Err(abandoned(gone)))
    }
}

/// Sends what waits, after one turn of everybody else.
async fn send(mut duty: Duty<Waiting>) {
    tokio::task::yield_now().await;
    let mut batch = duty.take();
    batch.retain(|read| !read.tell.is_closed());
    while batch.len() > MAX_BATCH {
        let rest = batch.split_off(MAX_BATCH);
        tokio::spawn(exchange(Arc::clone(&duty.inner), batch));
        batch = rest;
    }
    exchange(Arc::clone(&duty.inner), batch).await;
}

async fn exchange(inner: Arc<Inner>, mut batch: Vec<Waiting>) {
    if batch.is_empty() {
        return;
    }
    let is_uniform = batch.windows(2).all(|pair| {
        pair[0].asked.bucket == pair[1].asked.bucket && Arc::ptr_eq(&pair[0].space, &pair[1].space)
    });
    if is_uniform {
        let reply = inner.link.one(&call(&inner, &batch)).await;
        return deal(&inner, batch, reply);
    }
    let mut groups: HashMap<(usize, usize), Vec<Waiting>> = HashMap::new();
    for read in batch.drain(..) {
        let of = (Arc::as_ptr(&read.space) as usize, read.asked.bucket);
        groups.entry(of).or_default().push(read);
    }
    let map = match inner.link.map().await {
        Ok(map) => map,
        Err(error) => {
            return groups
                .into_values()
                .for_each(|group| deal(&inner, group, Err(error.clone())));
        }
    };
    let mut servers: HashMap<_, Vec<Vec<Waiting>>> = HashMap::new();
    for group in groups.into_values() {
        let server = map.owner(inner.buckets.all()[group[0].asked.bucket].slot);
        let server = server.map(|node| Arc::as_ptr(node) as usize);
        servers.entry(server).or_default().push(group);
    }
    let servers = servers.into_values();
    join_all(servers.map(|groups| exchange_at_one_server(&inner, groups))).await;
}

/// Nobody waits for a server that has none of his keys.
async fn exchange_at_one_server(inner: &Inner, groups: Vec<Vec<Waiting>>) {
    let calls: Vec<_> = groups.iter().map(|group| call(inner, group)).collect();
    let replies = inner.link.many(&calls).await;
    for (group, reply) in groups.into_iter().zip(replies) {
        deal(inner, group, reply);
    }
}

/// Returns the `MGET` of reads of one bucket and namespace.
fn call(inner: &Inner, group: &[Waiting]) -> Call {
    let register = &group[0].space.register(group[0].asked.bucket).name;
    let command = mget(group.iter().map(|read| &read.asked), register);
    Call::new(inner.buckets.all()[group[0].asked.bucket].slot, command)
}

/// Gives everybody his own.
fn deal(inner: &Inner, group: Vec<Waiting>, reply: Result<Value>) {
    match reply {
        Err(error) => group.into_iter().for_each(|read| {
            // Whoever went away needs no answer.
            let _ = read.tell.send(Err(error.clone()));
        }),
        Ok(reply) => {
            let asked: Vec<_> = group.iter().map(|read| &read.asked).collect();
            let found = inner.met(&asked, reply);
            for (read, found) in group.into_iter().zip(found) {
                let _ = read.tell.send(Ok(found));
            }
        }
    }
}
