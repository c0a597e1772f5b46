//! A Redis Cluster of three masters with a replica each.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::super::resp::{Connection, Value};
use super::super::{Lifetime, Process};
use super::redis::{RedisServer, custom_launch, owned, usual_args};
use super::view::{self, Seen};
use super::{Daemon, new_home, wait_until};

/// Masters; as many replicas follow them in the list of nodes.
const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// How long the nodes may take to become a cluster; a second or three is usual.
const FORMED_WITHIN: Duration = Duration::from_secs(30);

/// Keys that move in one command, and how long they may take, in milliseconds.
const MOVED_AT_ONCE: &str = "100";
const MOVE_LIMIT: &str = "5000";

/// A Redis Cluster of three masters and three replicas, killed when dropped.
///
/// A node counts as lost after 2 seconds (`cluster-node-timeout`). Nodes are named by their index: at first 0 to 2 are
/// the masters of a third of the slots each, and 3 to 5 their replicas in the same order.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    // Dropped last: the nodes write to it.
    _home: Option<TempDir>,
}

impl RedisCluster {
    /// Starts a cluster and returns once it is whole.
    ///
    /// # Errors
    ///
    /// When a node does not get ready, or they do not agree.
    pub fn start() -> Result<Self> {
        Self::with_args(&[])
    }

    /// Starts a cluster whose nodes have more arguments, such as `["--appendonly", "yes"]`; passwords are not supported.
    ///
    /// # Errors
    ///
    /// When a node does not get ready, or they do not agree.
    pub fn with_args(args: &[&str]) -> Result<Self> {
        let home = new_home()?;
        let mut cluster = Self::start_in(home.path(), Lifetime::Program, args)?;
        cluster._home = Some(home);
        Ok(cluster)
    }

    pub(crate) fn start_in(dir: &Path, lifetime: Lifetime, args: &[&str]) -> Result<Self> {
        let nodes = (1..=NODES).map(|number| start_node(dir, number, lifetime, args));
        let cluster = Self {
            nodes: nodes.collect::<Result<_>>()?,
            _home: None,
        };
        cluster.form()?;
        Ok(cluster)
    }

    /// Returns all nodes, running or not.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns the addresses of all nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address()).collect()
    }

    /// Returns the slot of a key.
    ///
    /// # Errors
    ///
    /// When no node answers.
    pub fn slot_of(&self, key: &str) -> Result<u16> {
        let node = self.running().next().context("no node runs")?;
        let slot = node.call(&["CLUSTER", "KEYSLOT", key])?;
        Ok(slot.text().parse()?)
    }

    /// Returns the node that is the master of a slot: of all claims that running nodes know, the newest.
    ///
    /// # Errors
    ///
    /// When no running node knows one.
    pub fn master_of(&self, slot: u16) -> Result<usize> {
        let views = self.running().filter_map(|node| look(node).ok()).flatten();
        let claims = views.filter(|seen| seen.is_master && seen.owns(slot));
        let newest = claims.max_by_key(|seen| seen.epoch);
        self.index_of(&newest.with_context(|| format!("slot {slot} has no master"))?)
    }

    /// Returns a node that replicates the master with this index.
    ///
    /// # Errors
    ///
    /// When no running node knows one.
    pub fn replica_of(&self, master: usize) -> Result<usize> {
        let address = self.nodes[master].address();
        let view = look(self.running().next().context("no node runs")?)?;
        let id = &find(&view, address)?.id;
        let replica = view.iter().find(|seen| seen.master == *id);
        self.index_of(replica.with_context(|| format!("node {master} has no replica"))?)
    }

    /// Waits until all nodes run, agree on each other and on all slots, and every master has its replica.
    ///
    /// # Errors
    ///
    /// When that takes longer than `within`.
    pub fn wait_until_whole(&self, within: Duration) -> Result<()> {
        wait_until("a whole cluster", within, || {
            for node in &self.nodes {
                if !node.is_running() || !is_content(node)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Moves slots and their keys from one master to another while both serve, as `redis-cli --cluster reshard` does.
    ///
    /// # Errors
    ///
    /// When `from` does not own the slots, or a node does not answer.
    pub fn move_slots(&self, from: usize, to: usize, slots: RangeInclusive<u16>) -> Result<()> {
        let view = look(&self.nodes[from])?;
        let id = |index: usize| -> Result<String> {
            Ok(find(&view, self.nodes[index].address())?.id.clone())
        };
        let (from_id, to_id) = (id(from)?, id(to)?);
        let mut source = self.nodes[from].connect()?;
        let mut target = self.nodes[to].connect()?;
        let bystanders = self.nodes.iter().filter(|node| {
            let is_master = find(&view, node.address()).is_ok_and(|seen| seen.is_master);
            let address = node.address();
            is_master
                && node.is_running()
                && address != self.nodes[from].address()
                && address != self.nodes[to].address()
        });
        let mut bystanders = bystanders
            .map(RedisServer::connect)
            .collect::<Result<Vec<_>>>()?;
        for slot in slots {
            let slot = slot.to_string();
            target.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])?;
            source.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])?;
            move_keys(&mut source, self.nodes[to].address(), &slot)?;
            // The new owner first: were it told last, the slot would have none for a moment.
            let owner = ["CLUSTER", "SETSLOT", &slot, "NODE", &to_id];
            target.call(&owner)?;
            source.call(&owner)?;
            for master in &mut bystanders {
                master.call(&owner)?;
            }
        }
        Ok(())
    }

    pub(crate) fn into_processes(self) -> Vec<Process> {
        let nodes = self.nodes.into_iter();
        nodes.map(RedisServer::into_process).collect()
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn index_of(&self, seen: &Seen) -> Result<usize> {
        let mut nodes = self.nodes.iter();
        let index = nodes.position(|node| node.address() == seen.address);
        index.with_context(|| format!("{} is no node of this cluster", seen.address))
    }

    /// Makes a cluster of nodes that do not know each other.
    fn form(&self) -> Result<()> {
        let (masters, replicas) = self.nodes.split_at(MASTERS);
        for (number, node) in self.nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            node.call(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
        }
        for (number, master) in masters.iter().enumerate() {
            let first = (SLOTS * number / MASTERS).to_string();
            let last = (SLOTS * (number + 1) / MASTERS - 1).to_string();
            master.call(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        }
        self.introduce()?;
        for (master, replica) in masters.iter().zip(replicas) {
            let id = master.call(&["CLUSTER", "MYID"])?.text();
            replica.call(&["CLUSTER", "REPLICATE", &id])?;
        }
        self.wait_until_whole(FORMED_WITHIN)
    }

    /// Introduces every node to every other, which is faster than waiting for gossip.
    fn introduce(&self) -> Result<()> {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut connection = node.connect()?;
            for other in &self.nodes[number + 1..] {
                let (address, bus) = (other.address(), other.second_address());
                let host = address.ip().to_string();
                let (port, bus) = (address.port().to_string(), bus.port().to_string());
                connection.call(&["CLUSTER", "MEET", &host, &port, &bus])?;
            }
        }
        wait_until("acquaintance of all nodes", FORMED_WITHIN, || {
            for node in &self.nodes {
                let view = look(node)?;
                if view.len() != NODES || !view.iter().all(|seen| seen.is_well) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

fn start_node(dir: &Path, number: usize, lifetime: Lifetime, args: &[&str]) -> Result<RedisServer> {
    let (name, extra) = (format!("cluster-{number}"), owned(args));
    let launch = custom_launch(&name, lifetime, move |place| {
        let bus = place.second_port.to_string();
        let cluster = [
            ["--cluster-enabled", "yes"],
            ["--cluster-port", &bus],
            ["--cluster-announce-ip", "127.0.0.1"],
            ["--cluster-node-timeout", "2000"],
            // Replicas stay with their masters, so that tests know the shape of the cluster.
            ["--cluster-allow-replica-migration", "no"],
        ];
        let cluster = owned(cluster.as_flattened());
        Ok([usual_args(place), cluster, extra.clone()].concat())
    });
    Ok(RedisServer::from(Daemon::start_in(dir, launch)?))
}

/// Asks a node what it believes about all nodes.
fn look(node: &RedisServer) -> Result<Vec<Seen>> {
    view::parse(&node.call(&["CLUSTER", "NODES"])?.text())
}

fn find(view: &[Seen], address: SocketAddr) -> Result<&Seen> {
    let seen = view.iter().find(|seen| seen.address == address);
    seen.with_context(|| format!("{address} is not known to the cluster"))
}

/// Tells whether a node sees a whole cluster and is itself a good part of it.
fn is_content(node: &RedisServer) -> Result<bool> {
    let mut connection = node.connect()?;
    let info = connection.call(&["CLUSTER", "INFO"])?.text();
    if !info.contains("cluster_state:ok") {
        return Ok(false);
    }
    let view = view::parse(&connection.call(&["CLUSTER", "NODES"])?.text())?;
    let masters = view.iter().filter(|seen| seen.is_master);
    let covered: usize = masters
        .clone()
        .flat_map(|seen| &seen.slots)
        .map(|&(first, last)| usize::from(last) - usize::from(first) + 1)
        .sum();
    let replication = connection.call(&["INFO", "replication"])?.text();
    let is_replicated =
        replication.contains("state=online") || replication.contains("master_link_status:up");
    Ok(view.len() == NODES
        && view.iter().all(|seen| seen.is_well)
        && masters.count() == MASTERS
        && covered == SLOTS
        && is_replicated)
}

/// Moves the keys of one slot; keys that expire or are deleted meanwhile are no error.
fn move_keys(source: &mut Connection, target: SocketAddr, slot: &str) -> Result<()> {
    let (host, port) = (target.ip().to_string(), target.port().to_string());
    loop {
        let keys = source.call(&["CLUSTER", "GETKEYSINSLOT", slot, MOVED_AT_ONCE])?;
        if keys.items().is_empty() {
            return Ok(());
        }
        let mut command = ["MIGRATE", &host, &port, "", "0", MOVE_LIMIT, "KEYS"]
            .map(|word| word.as_bytes().to_vec())
            .to_vec();
        for key in keys.items() {
            let Value::Bytes(key) = key else {
                bail!("{key:?} is no key");
            };
            command.push(key.clone());
        }
        source.call(&command)?;
    }
}
