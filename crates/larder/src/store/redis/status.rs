//! What the servers say about themselves: `INFO`, a few pings, the clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::Inner;
use super::read::array;
use crate::breaker::State;
use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::redis_conn::{Node, text};
use crate::store::node::median_us;
use crate::store::{NodeRole, NodeStatus, StoreStats};

/// Pings whose median is the latency.
const PINGS: usize = 5;
/// A clock that is off by more than this makes expiry visibly wrong.
const MAX_SKEW_MS: i64 = 1_000;

const NO_FIGURES: &str = "the user may not ask for its figures: allow +info";
const NEEDS_ALL_SLOTS: &str = "cluster-require-full-coverage is yes: when one primary is lost without a replica, \
     the others refuse all calls; set it to no";

type Info = HashMap<String, String>;

impl Inner {
    pub(super) async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        let map = self.link.map().await?;
        let primaries = map.primaries.iter().enumerate();
        let role = match self.link.is_cluster() {
            true => NodeRole::Primary,
            false => NodeRole::Single,
        };
        let primaries = primaries.map(|(index, node)| {
            let slots = map.slots_of(index);
            async move {
                let mut status = self.status(node, role).await;
                status.slots = slots;
                status
            }
        });
        let replicas = map
            .replicas
            .iter()
            .map(|node| self.status(node, NodeRole::Replica));
        let mut nodes = join_all(primaries).await;
        nodes.extend(join_all(replicas).await);
        nodes.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(nodes)
    }

    pub(super) async fn stats(&self) -> Result<StoreStats> {
        let map = self.link.map().await?;
        let mut stats = StoreStats::default();
        let (mut keys, mut bytes, mut limit) = (0, 0, 0);
        for info in join_all(map.primaries.iter().map(|node| self.info(node))).await {
            let info = info?;
            keys += keys_of(&info);
            bytes += number(&info, "used_memory").unwrap_or(0);
            limit += number(&info, "maxmemory").unwrap_or(0);
        }
        stats.bytes = Some(bytes);
        stats.capacity_bytes = (limit > 0).then_some(limit);
        let mut detail = |name: &str, value: String| stats.details.push((name.to_owned(), value));
        detail("servers", map.primaries.len().to_string());
        detail("keys of all applications", keys.to_string());
        let opened: u64 = map
            .primaries
            .iter()
            .map(|node| node.breaker_state().1)
            .sum();
        detail("circuit breaks", opened.to_string());
        Ok(stats)
    }

    /// Measures how far the clock of the servers is ahead.
    pub(super) async fn measure_clock(&self) -> Result<()> {
        let map = self.link.map().await?;
        let mut nodes: Vec<_> = map.primaries.iter().collect();
        nodes.sort_by_key(|node| node.address());
        match self.skew(nodes[0]).await {
            Ok(Some(ahead)) => self.ahead_ms.store(ahead, Ordering::Relaxed),
            Err(error) if error.is_retryable() => return Err(error),
            // It may be kept secret, and is most likely ours.
            Ok(None) | Err(_) => {}
        }
        Ok(())
    }

    /// Returns how far a server's clock is ahead, in ms, give or take half a round trip.
    async fn skew(&self, node: &Arc<Node>) -> Result<Option<i64>> {
        let clock = Clock::system();
        let began = (clock.now_ms(), Instant::now());
        let reply = array(self.link.at(node, &redis::cmd("TIME")).await?);
        let midway = began.0 as i64 + began.1.elapsed().as_millis() as i64 / 2;
        let mut parts = reply.iter().map(|part| text(part)?.parse::<i64>().ok());
        let mut part = || parts.next().flatten();
        let (seconds, micros) = (part(), part());
        let now = seconds.zip(micros);
        Ok(now.map(|(seconds, micros)| seconds * 1000 + micros / 1000 - midway))
    }

    async fn info(&self, node: &Arc<Node>) -> Result<Info> {
        let mut command = redis::cmd("INFO");
        command.arg("all");
        let reply = self.link.at(node, &command).await?;
        let text = text(&reply).unwrap_or_default();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    async fn status(&self, node: &Arc<Node>, role: NodeRole) -> NodeStatus {
        let mut status = NodeStatus::new(node.address(), role);
        let info = match self.info(node).await {
            Ok(info) => info,
            Err(error) if error.kind() == ErrorKind::InvalidConfig => {
                // It may well serve a user who must not ask.
                status.latency_us = self.latency(node).await;
                if status.latency_us.is_none() {
                    status.problem = Some(error.explained());
                } else {
                    status.warnings.push(NO_FIGURES.to_owned());
                }
                return status;
            }
            Err(error) => {
                status.problem = Some(error.explained());
                return status;
            }
        };
        if node.breaker_state().0 != State::Closed {
            status.problem =
                Some("it failed repeatedly and is tried again by one call at a time".to_owned());
        }
        fill(&mut status, &info);
        status.persistence = self.persistence(node, &info).await;
        status.latency_us = self.latency(node).await;
        status.clock_skew_ms = self.skew(node).await.ok().flatten();
        status.warnings = warnings(&status, &info);
        if self.needs_all_slots(node).await {
            status.warnings.push(NEEDS_ALL_SLOTS.to_owned());
        }
        status
    }

    async fn latency(&self, node: &Arc<Node>) -> Option<u64> {
        let mut round_trips: Vec<Duration> = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            self.link.at(node, &redis::cmd("PING")).await.ok()?;
            round_trips.push(began.elapsed());
        }
        median_us(round_trips)
    }

    /// Returns a setting of a server; `None` too where it keeps its settings to itself, as managed services do.
    async fn setting(&self, node: &Arc<Node>, name: &str) -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let reply = array(self.link.at(node, &command).await.ok()?);
        text(reply.get(1)?)
    }

    async fn persistence(&self, node: &Arc<Node>, info: &Info) -> Option<String> {
        let mut ways = Vec::new();
        if info.get("aof_enabled").is_some_and(|on| on == "1") {
            let how = self.setting(node, "appendfsync").await.unwrap_or_default();
            ways.push(format!("aof {how}").trim_end().to_owned());
        }
        match self.setting(node, "save").await {
            Some(save) if !save.is_empty() => ways.push("rdb".to_owned()),
            Some(_) if ways.is_empty() => ways.push("none".to_owned()),
            Some(_) | None => {}
        }
        (!ways.is_empty()).then(|| ways.join(" and "))
    }

    /// Returns whether the whole cluster refuses calls as soon as one of its slots has no server.
    async fn needs_all_slots(&self, node: &Arc<Node>) -> bool {
        let setting = "cluster-require-full-coverage";
        self.link.is_cluster() && self.setting(node, setting).await.as_deref() == Some("yes")
    }
}

fn fill(status: &mut NodeStatus, info: &Info) {
    let word = |name: &str| info.get(name).cloned();
    if word("role").is_some_and(|role| role == "slave") {
        status.role = NodeRole::Replica;
    } else if number(info, "connected_slaves").is_some_and(|replicas| replicas > 0) {
        status.role = NodeRole::Primary;
    }
    let program =
        word("server_name").or_else(|| word("valkey_version").map(|_| "valkey".to_owned()));
    let version = word("valkey_version").or_else(|| word("redis_version"));
    status.version = version.map(|version| {
        format!(
            "{} {version}",
            program.unwrap_or_else(|| "redis".to_owned())
        )
    });
    status.uptime_s = number(info, "uptime_in_seconds");
    status.memory_bytes = number(info, "used_memory");
    status.memory_limit_bytes = number(info, "maxmemory").filter(|limit| *limit > 0);
    status.eviction_policy = word("maxmemory_policy");
    status.keys = Some(keys_of(info));
    status.hits = number(info, "keyspace_hits");
    status.misses = number(info, "keyspace_misses");
    status.evicted = number(info, "evicted_keys");
    status.connections = number(info, "connected_clients");
    status.operations_per_second = number(info, "instantaneous_ops_per_sec").map(|ops| ops as f64);
    status.response_time_us = response_time(info);
}

fn warnings(status: &NodeStatus, info: &Info) -> Vec<String> {
    let mut warnings = Vec::new();
    let evicts = status
        .eviction_policy
        .as_deref()
        .is_some_and(|policy| policy != "noeviction");
    match status.memory_limit_bytes {
        None => warnings.push("maxmemory is not set: a growing cache takes all memory of the machine; set it, and maxmemory-policy allkeys-lfu".to_owned()),
        Some(_) if !evicts => warnings.push(
            "maxmemory-policy is noeviction: writes fail once the memory is full; set allkeys-lfu".to_owned(),
        ),
        Some(_) => {}
    }
    if let Some(skew) = status.clock_skew_ms.filter(|skew| skew.abs() > MAX_SKEW_MS) {
        warnings.push(format!(
            "its clock is {skew} ms ahead of this machine's: keep both in step with NTP"
        ));
    }
    if info
        .get("master_link_status")
        .is_some_and(|link| link == "down")
    {
        warnings.push(
            "it has lost its primary: see that the primary runs and is reachable from there"
                .to_owned(),
        );
    }
    warnings
}

fn number(info: &Info, name: &str) -> Option<u64> {
    info.get(name)?.parse().ok()
}

/// Adds up the keys of all databases: `db0:keys=5,expires=0,avg_ttl=0`.
fn keys_of(info: &Info) -> u64 {
    let counts = info.iter().filter_map(|(name, value)| {
        name.strip_prefix("db")?.parse::<u32>().ok()?;
        value
            .strip_prefix("keys=")?
            .split(',')
            .next()?
            .parse::<u64>()
            .ok()
    });
    counts.sum()
}

/// Averages `cmdstat_get:calls=21,usec=175,..` over all commands.
fn response_time(info: &Info) -> Option<f64> {
    let (mut calls, mut micros) = (0, 0);
    for (_, value) in info.iter().filter(|(name, _)| name.starts_with("cmdstat_")) {
        for (name, number) in value.split(',').filter_map(|field| field.split_once('=')) {
            let number: u64 = number.parse().unwrap_or(0);
            match name {
                "calls" => calls += number,
                "usec" => micros += number,
                _ => {}
            }
        }
    }
    (calls > 0).then(|| micros as f64 / calls as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &[(&str, &str)]) -> Info {
        lines
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn figures_are_read_from_info() {
        let info = info(&[
            ("redis_version", "7.0.15"),
            ("db0", "keys=5,expires=1,avg_ttl=0"),
            ("db3", "keys=2,expires=0,avg_ttl=0"),
            ("dbsize_hint", "keys=9"),
            ("cmdstat_get", "calls=2,usec=10,usec_per_call=5.00"),
            ("cmdstat_set", "calls=2,usec=30,usec_per_call=15.00"),
            ("maxmemory", "0"),
            ("maxmemory_policy", "noeviction"),
        ]);
        let mut status = NodeStatus::new("h:1", NodeRole::Single);
        fill(&mut status, &info);
        assert_eq!(status.role, NodeRole::Single);
        assert_eq!(status.version.as_deref(), Some("redis 7.0.15"));
        assert_eq!(status.keys, Some(7));
        assert_eq!(status.response_time_us, Some(10.0));
        assert_eq!(status.memory_limit_bytes, None);
        assert_eq!(warnings(&status, &info).len(), 1);
        status.memory_limit_bytes = Some(1);
        assert!(warnings(&status, &info)[0].contains("noeviction"));
        status.eviction_policy = Some("allkeys-lfu".into());
        status.clock_skew_ms = Some(-5000);
        assert_eq!(warnings(&status, &info).len(), 1);
    }

    #[test]
    fn a_server_with_replicas_is_a_primary_and_a_copy_is_a_replica() {
        for (line, role) in [
            (("connected_slaves", "0"), NodeRole::Single),
            (("connected_slaves", "1"), NodeRole::Primary),
            (("role", "slave"), NodeRole::Replica),
        ] {
            let mut status = NodeStatus::new("h:1", NodeRole::Single);
            fill(&mut status, &info(&[line]));
            assert_eq!(status.role, role);
        }
    }
}
