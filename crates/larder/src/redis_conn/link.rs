//! A link to Redis, whatever stands behind it: one server, the primary that sentinels name, or a cluster.
//!
//! ```text
//! call(slot) -> Map: slot -> Node -> reply
//!                ^                      | MOVED, ASK, TRYAGAIN, lost, silent
//!                |--- refresh <---------|      (and every 250 ms while a server is suspect; see `supervise`)
//! ```
//! The routing is our own. The cluster client of the `redis` crate retries on a silent server for ever and resends
//! commands on its own, where a late copy of "set if absent" could revive what has been invalidated: here, a
//! command is sent again only if a server has said that it did not execute it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, ServerError, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::call::Call;
use super::endpoint::{Endpoint, Template};
use super::failure::{self, Failure};
use super::map::Map;
use super::node::{Limits, Node};
use super::script::Script;
use super::{refresh, supervise};
use crate::error::{Error, ErrorKind, Result};

/// How often one call follows the cluster before it gives up.
const MAX_REDIRECTS: usize = 8;
/// The first pause before a call is tried again on a slot that is moving.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest one.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// What is known of the servers before the first contact.
#[derive(Debug)]
pub(crate) enum Topology {
    /// One server.
    Single(Endpoint),
    /// Sentinels, the name they know the primary by, and how to log in there.
    Sentinel {
        sentinels: Vec<Endpoint>,
        service: String,
        primary: Template,
    },
    /// Some nodes of a cluster.
    Cluster {
        seeds: Vec<Endpoint>,
        node: Template,
    },
}

/// A link; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(super) shared: Arc<Shared>,
}

/// What all clones share, and the supervisor watches.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) topology: Topology,
    pub(super) limits: Limits,
    map: RwLock<Arc<Map>>,
    /// Every server ever met, so that a seed that is gone is no loss.
    known: Mutex<HashMap<String, Arc<Node>>>,
    epoch: Arc<AtomicU64>,
    /// Held while servers are asked; the latest failure, so that those who waited need not fail again one by one.
    pub(super) refreshing: tokio::sync::Mutex<Option<(Instant, Error)>>,
    pub(super) wake: Arc<Notify>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Creates a link that contacts nobody yet.
    pub(crate) fn new(topology: Topology, limits: Limits) -> Self {
        let epoch = Arc::new(AtomicU64::new(0));
        let map = match &topology {
            Topology::Single(endpoint) => {
                let node = Node::new(endpoint.clone(), limits, Arc::clone(&epoch));
                Map::single(Arc::new(node))
            }
            Topology::Sentinel { .. } | Topology::Cluster { .. } => Map::default(),
        };
        Self {
            shared: Arc::new(Shared {
                topology,
                limits,
                map: RwLock::new(Arc::new(map)),
                known: Mutex::default(),
                epoch,
                refreshing: tokio::sync::Mutex::default(),
                wake: Arc::default(),
                supervisor: Mutex::default(),
            }),
        }
    }

    /// Returns whether keys are spread over slots.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.shared.topology, Topology::Cluster { .. })
    }

    /// Returns how many connections each server has.
    pub(crate) fn lanes(&self) -> u64 {
        u64::from(self.shared.limits.connections.max(1))
    }

    /// Returns a number that changes whenever a connection was made, for the first time or anew, or somebody else took over
    /// what a server had served.
    pub(crate) fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// Finds the servers and checks that each primary answers.
    pub(crate) async fn connect(&self) -> Result<()> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let map = loop {
            match self.map().await {
                // Servers that are all too busy to say what they know may be so for a moment only.
                Err(error) if error.kind() == ErrorKind::Timeout && Instant::now() < deadline => {}
                found => break found?,
            }
        };
        let pings = map.primaries.iter().map(|node| async {
            let reply = node.one(0, &redis::cmd("PING")).await;
            accept(reply, node)
        });
        for reply in join_all(pings).await {
            reply?;
        }
        Ok(())
    }

    /// Returns the present servers, finding them first if need be.
    pub(crate) async fn map(&self) -> Result<Arc<Map>> {
        let map = self.shared.map();
        if !map.primaries.is_empty() {
            return Ok(map);
        }
        refresh::run(&self.shared).await?;
        supervise::ensure(&self.shared);
        Ok(self.shared.map())
    }

    /// Sends one command to a slot and follows it if the slot moves.
    pub(crate) async fn one(&self, call: &Call) -> Result<Value> {
        let node = self.owner(call.slot).await?;
        if node.was_silent() {
            supervise::alarm(&self.shared);
        }
        match node.one(call.lane, &call.command).await {
            Ok(Value::ServerError(error)) => self.follow(call, node, error, self.patience()).await,
            Ok(value) => Ok(value),
            Err(failure) => Err(self.lost(failure)),
        }
    }

    /// Sends commands to one slot as they are: error replies are values, and nobody follows a slot that moves.
    pub(crate) async fn pipeline(
        &self,
        slot: u16,
        lane: u64,
        commands: &Pipeline,
    ) -> Result<Vec<Value>> {
        let node = self.owner(slot).await?;
        let replies = node.many(lane, commands).await;
        replies.map_err(|failure| self.lost(failure))
    }

    /// As [`pipeline`](Self::pipeline), of commands that are made and handed on while `turn` is held.
    pub(crate) async fn pipeline_in_turn<T>(
        &self,
        slot: u16,
        lane: u64,
        turn: &Mutex<T>,
        make: impl FnOnce() -> Pipeline,
    ) -> Result<Vec<Value>> {
        let node = self.owner(slot).await?;
        let replies = node.many_in_turn(lane, turn, make).await;
        replies.map_err(|failure| self.lost(failure))
    }

    /// Sends many commands, one pipeline to each server, in parallel; one result each, same order.
    ///
    /// Commands to one slot are executed in order, except that one that had to follow a moving slot comes later.
    pub(crate) async fn many(&self, calls: &[Call]) -> Vec<Result<Value>> {
        self.many_followed(calls).await.0
    }

    /// As [`many`](Self::many), and tells which had to follow a moving slot.
    pub(crate) async fn many_followed(&self, calls: &[Call]) -> (Vec<Result<Value>>, Vec<usize>) {
        let mut followed = Vec::new();
        let mut results: Vec<Result<Value>> = Vec::with_capacity(calls.len());
        results.resize_with(calls.len(), || Ok(Value::Nil));
        let lanes = self.lanes();
        let mut groups: Vec<(Arc<Node>, u64, Vec<usize>)> = Vec::new();
        // Servers that cannot be found are looked for once, not once for each command.
        let map = match self.map().await {
            Ok(map) => map,
            Err(error) => return (calls.iter().map(|_| Err(error.clone())).collect(), followed),
        };
        for (index, call) in calls.iter().enumerate() {
            match self.owner_in(&map, call.slot) {
                Err(error) => results[index] = Err(error),
                Ok(node) => {
                    let lane = call.lane % lanes;
                    let same = |(known, other, _): &&mut (Arc<Node>, u64, Vec<usize>)| {
                        *other == lane && Arc::ptr_eq(known, &node)
                    };
                    match groups.iter_mut().find(same) {
                        Some((_, _, members)) => members.push(index),
                        None => groups.push((node, lane, vec![index])),
                    }
                }
            }
        }
        let sent = groups.iter().map(|(node, lane, members)| {
            let calls: Vec<&Call> = members.iter().map(|&index| &calls[index]).collect();
            async move { send(node, *lane, &calls).await }
        });
        let replies = join_all(sent).await;
        // One for all: they follow one after the other.
        let deadline = self.patience();
        for ((node, _, members), reply) in groups.into_iter().zip(replies) {
            match reply {
                Err(failure) => {
                    let error = self.lost(failure);
                    members
                        .iter()
                        .for_each(|&index| results[index] = Err(error.clone()));
                }
                Ok(values) => {
                    for (index, value) in members.into_iter().zip(values) {
                        results[index] = match value {
                            Value::ServerError(error) => {
                                followed.push(index);
                                let node = Arc::clone(&node);
                                self.follow(&calls[index], node, error, deadline).await
                            }
                            value => Ok(value),
                        };
                    }
                }
            }
        }
        (results, followed)
    }

    /// Sends a command to one server itself, such as a scan; error replies become errors.
    pub(crate) async fn at(&self, node: &Arc<Node>, command: &Cmd) -> Result<Value> {
        match node.one(0, command).await {
            Err(failure) => Err(self.lost(failure)),
            reply => accept(reply, node),
        }
    }

    async fn owner(&self, slot: u16) -> Result<Arc<Node>> {
        if let Some(node) = self.shared.map().owner(slot) {
            return Ok(Arc::clone(node));
        }
        self.owner_in(&*self.map().await?, slot)
    }

    fn owner_in(&self, map: &Map, slot: u16) -> Result<Arc<Node>> {
        let nobody = || {
            supervise::alarm(&self.shared);
            Error::new(
                ErrorKind::Unavailable,
                "nobody serves this part of the cluster",
            )
        };
        map.owner(slot).cloned().ok_or_else(nobody)
    }

    /// Notes that a server may be gone, and returns what to tell the caller.
    fn lost(&self, failure: Failure) -> Error {
        if failure.is_loss {
            supervise::alarm(&self.shared);
        }
        failure.error
    }

    /// Returns until when a call that began now may follow a cluster that changes.
    pub(crate) fn patience(&self) -> Instant {
        let limits = self.shared.limits;
        Instant::now() + limits.connect_timeout + limits.response_timeout
    }

    /// Goes where an error reply points, and waits for a slot on its way, until the deadline.
    async fn follow(
        &self,
        call: &Call,
        mut node: Arc<Node>,
        mut error: ServerError,
        deadline: Instant,
    ) -> Result<Value> {
        let (mut pause, mut redirects) = (FIRST_PAUSE, 0);
        loop {
            let reply = match error.kind() {
                Some(ServerErrorKind::TryAgain) if is_read(&call.command) => {
                    return self.read_apart(call, deadline).await;
                }
                Some(ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown) => {
                    if !rest(&mut pause, deadline).await {
                        break;
                    }
                    redirects = 0;
                    node = self.owner(call.slot).await?;
                    node.one(call.lane, &call.command).await
                }
                _ if redirects == MAX_REDIRECTS || Instant::now() >= deadline => break,
                Some(ServerErrorKind::Moved) => {
                    // Two servers that point at each other will soon agree.
                    if redirects > 1 && !rest(&mut pause, deadline).await {
                        break;
                    }
                    redirects += 1;
                    node = self.redirected(&node, &error)?;
                    self.shared.move_slot(call.slot, &node);
                    supervise::alarm(&self.shared);
                    node.one(call.lane, &call.command).await
                }
                Some(ServerErrorKind::Ask) => {
                    redirects += 1;
                    ask(&*self.redirected(&node, &error)?, call).await
                }
                Some(ServerErrorKind::NoScript) => {
                    redirects += 1;
                    let Some(script) = call.script else { break };
                    reload(&node, script, call).await
                }
                _ => break,
            };
            match reply {
                Ok(Value::ServerError(next)) => error = next,
                Ok(value) => return Ok(value),
                Err(failure) => return Err(self.lost(failure)),
            }
        }
        self.note(&error);
        Err(failure::server(&error, node.address()))
    }

    /// Looks where the work went if a server says that it is not the one.
    fn note(&self, error: &ServerError) {
        use ServerErrorKind::{ClusterDown, MasterDown, ReadOnly};
        if matches!(error.kind(), Some(ReadOnly | ClusterDown | MasterDown)) {
            supervise::alarm(&self.shared);
        }
    }

    /// Reads the keys of an `MGET` one by one, while its slot moves and the keys are in two places.
    ///
    /// Each is read after the call began, which is all that validity by stamps needs.
    async fn read_apart(&self, call: &Call, deadline: Instant) -> Result<Value> {
        let mut values = Vec::new();
        for key in call.command.args_iter().skip(1) {
            let redis::Arg::Simple(key) = key else {
                continue;
            };
            if Instant::now() >= deadline {
                let message = "the keys are moving to another server";
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            let mut get = redis::cmd("GET");
            get.arg(key);
            let get = Call::new(call.slot, get).lane(call.lane);
            values.push(Box::pin(self.one(&get)).await?);
        }
        Ok(Value::Array(values))
    }

    /// Returns the server that a `MOVED` or `ASK` names.
    fn redirected(&self, from: &Node, error: &ServerError) -> Result<Arc<Node>> {
        let place = error.details().and_then(|text| text.split_once(' '));
        let place = place.and_then(|(_slot, address)| address.rsplit_once(':'));
        let place = place.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = place.ok_or_else(|| failure::server(error, from.address()))?;
        let host = if host.is_empty() {
            from.address().rsplit_once(':').map_or("", |(host, _)| host)
        } else {
            host
        };
        self.shared.node(host, port)
    }
}

impl Shared {
    /// Returns the present servers.
    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the present servers.
    pub(super) fn set_map(&self, map: Map) {
        let mut present = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if present.is_served_by_others(&map) {
            // Also where the connection to who serves them now is an old one.
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        *present = Arc::new(map);
    }

    fn move_slot(&self, slot: u16, node: &Arc<Node>) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if !map
            .owner(slot)
            .is_some_and(|owner| Arc::ptr_eq(owner, node))
        {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            *map = Arc::new(map.with_moved(slot, node));
        }
    }

    /// Returns the server at an address, known or new.
    pub(super) fn node(&self, host: &str, port: u16) -> Result<Arc<Node>> {
        let address = super::endpoint::join(host, port);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = known.get(&address) {
            return Ok(Arc::clone(node));
        }
        let node = match &self.topology {
            Topology::Single(endpoint) => self.new_node(endpoint.clone()),
            Topology::Cluster { node, .. } => self.new_node(node.at(host, port)?),
            Topology::Sentinel { primary, .. } => {
                self.new_node(primary.at(host, port)?).must_be_primary()
            }
        };
        let node = Arc::new(node);
        known.insert(address, Arc::clone(&node));
        Ok(node)
    }

    /// Returns a server that is not in the map, such as a seed or a sentinel.
    pub(super) fn bystander(&self, endpoint: &Endpoint) -> Arc<Node> {
        let name = format!("?{}", endpoint.address);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let node = known
            .entry(name)
            .or_insert_with(|| Arc::new(self.new_node(endpoint.clone())));
        Arc::clone(node)
    }

    fn new_node(&self, endpoint: Endpoint) -> Node {
        Node::new(endpoint, self.limits, Arc::clone(&self.epoch))
    }

    /// Runs the supervisor, unless it runs.
    pub(super) fn supervise(&self, start: impl FnOnce() -> JoinHandle<()>) {
        let mut running = self
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_none_or(JoinHandle::is_finished) {
            *running = Some(start());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Waits a little, longer each time; `false`: there is no time left.
async fn rest(pause: &mut Duration, deadline: Instant) -> bool {
    if Instant::now() + *pause >= deadline {
        return false;
    }
    sleep(*pause).await;
    *pause = (*pause * 2).min(LAST_PAUSE);
    true
}

/// Sends commands as one pipeline; those whose script the server did not know once more, behind their scripts.
async fn send(node: &Node, lane: u64, calls: &[&Call]) -> Result<Vec<Value>, Failure> {
    let commands = |calls: &mut dyn Iterator<Item = &&Call>, pipeline: &mut Pipeline| {
        calls.for_each(|call| {
            pipeline.add_command(call.command.clone());
        });
    };
    let mut pipeline = Pipeline::with_capacity(calls.len());
    commands(&mut calls.iter(), &mut pipeline);
    let mut replies = node.many(lane, &pipeline).await?;
    let refused = |reply: &Value| matches!(reply, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript));
    let refused: Vec<usize> = (0..replies.len())
        .filter(|&at| refused(&replies[at]))
        .collect();
    if refused.is_empty() {
        return Ok(replies);
    }
    let mut scripts: Vec<&Script> = Vec::new();
    for script in refused.iter().filter_map(|&at| calls[at].script) {
        if !scripts.iter().any(|known| std::ptr::eq(*known, script)) {
            scripts.push(script);
        }
    }
    let mut pipeline = Pipeline::with_capacity(scripts.len() + refused.len());
    for script in &scripts {
        pipeline.add_command(script.load());
    }
    commands(&mut refused.iter().map(|&at| &calls[at]), &mut pipeline);
    let again = node.many(lane, &pipeline).await?;
    for (at, reply) in refused
        .into_iter()
        .zip(again.into_iter().skip(scripts.len()))
    {
        replies[at] = reply;
    }
    Ok(replies)
}

/// Sends a command to where its slot is going, which need not know the script.
async fn ask(node: &Node, call: &Call) -> Result<Value, Failure> {
    let asking = redis::cmd("ASKING");
    let reply = last(node, call, &[&asking, &call.command]).await?;
    match (&reply, call.script) {
        (Value::ServerError(error), Some(script))
            if error.kind() == Some(ServerErrorKind::NoScript) =>
        {
            last(node, call, &[&script.load(), &asking, &call.command]).await
        }
        _ => Ok(reply),
    }
}

/// Makes a script known and runs it.
async fn reload(node: &Node, script: &Script, call: &Call) -> Result<Value, Failure> {
    last(node, call, &[&script.load(), &call.command]).await
}

/// Sends commands as one pipeline and returns the reply to the last.
async fn last(node: &Node, call: &Call, commands: &[&Cmd]) -> Result<Value, Failure> {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command((*command).clone());
    }
    let mut replies = node.many(call.lane, &pipeline).await?;
    Ok(replies.pop().unwrap_or_default())
}

fn is_read(command: &Cmd) -> bool {
    matches!(
        command.args_iter().next(),
        Some(redis::Arg::Simple(b"MGET"))
    )
}

/// Turns an error reply into an error.
fn accept(reply: Result<Value, Failure>, node: &Node) -> Result<Value> {
    match reply {
        Ok(Value::ServerError(error)) => Err(failure::server(&error, node.address())),
        Ok(value) => Ok(value),
        Err(failure) => Err(failure.error),
    }
}
