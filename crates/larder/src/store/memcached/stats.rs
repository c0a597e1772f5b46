//! What the server says of itself, for stores, operators and `ping`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Memcached;
use super::pipe::Reply;
use super::reply::Code;
use super::request::Batch;
use crate::breaker::State;
use crate::error::Result;
use crate::store::node::median_us;
use crate::store::{NodeRole, NodeStatus, StoreStats};

/// Pings whose median is the latency of a node.
const PINGS: usize = 5;
/// The time over which commands are counted for a rate.
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// The counters that make up the commands served.
const COMMANDS: [&str; 8] = [
    "cmd_get",
    "cmd_set",
    "cmd_touch",
    "cmd_meta",
    "delete_hits",
    "delete_misses",
    "incr_hits",
    "incr_misses",
];
/// The figures that `stats` passes on to people.
const DETAILS: [&str; 7] = [
    "version",
    "uptime",
    "curr_items",
    "evictions",
    "get_hits",
    "get_misses",
    "curr_connections",
];

/// Names and values of one answer.
struct Figures(HashMap<String, String>);

impl Figures {
    fn of(replies: &[Reply]) -> Self {
        let lines = replies.iter().filter(|reply| reply.code == Code::Stat);
        let named = lines.filter_map(|line| {
            let line = String::from_utf8_lossy(&line.body);
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Self(named.collect())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn commands(&self) -> u64 {
        COMMANDS.iter().filter_map(|name| self.number(name)).sum()
    }
}

impl Memcached {
    /// Sends a no-op. Cost: one round trip.
    pub(super) async fn send_ping(&self) -> Result<()> {
        self.inner.server.call(0, |_| Batch::ping()).await.map(drop)
    }

    /// Returns the figures of the server. Items are of all applications, so their count is a detail.
    pub(super) async fn read_stats(&self) -> Result<StoreStats> {
        let figures = self.figures(Batch::stats()).await?;
        let detail = |name: &&str| Some(((*name).to_owned(), figures.text(name)?.to_owned()));
        let mut details: Vec<_> = DETAILS.iter().filter_map(detail).collect();
        details.push((
            "breaker_opened".into(),
            self.inner.server.breaker_state().1.to_string(),
        ));
        Ok(StoreStats {
            bytes: figures.number("bytes"),
            capacity_bytes: figures.number("limit_maxbytes"),
            details,
            ..StoreStats::default()
        })
    }

    /// Returns what is known of the server, or why nothing is. Cost: nine round trips and 100 ms.
    pub(super) async fn node(&self) -> NodeStatus {
        let mut node = NodeStatus::new(self.inner.server.address(), NodeRole::Single);
        node.persistence = Some("none".into());
        if let Err(error) = self.describe(&mut node).await {
            node.problem = Some(match self.inner.server.breaker_state().0 {
                State::Open => format!("{} (calls fail at once for now)", error.explained()),
                State::Closed | State::HalfOpen => error.explained(),
            });
        }
        node
    }

    async fn describe(&self, node: &mut NodeStatus) -> Result<()> {
        let mut round_trips = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let start = Instant::now();
            self.send_ping().await?;
            round_trips.push(start.elapsed());
        }
        node.latency_us = median_us(round_trips);
        let settings = self.figures(Batch::settings()).await?;
        let before = self.figures(Batch::stats()).await?;
        let start = Instant::now();
        tokio::time::sleep(RATE_WINDOW).await;
        let figures = self.figures(Batch::stats()).await?;
        let commands = figures.commands().saturating_sub(before.commands());
        node.operations_per_second = Some(commands as f64 / start.elapsed().as_secs_f64());
        node.version = figures.text("version").map(|v| format!("memcached {v}"));
        node.uptime_s = figures.number("uptime");
        node.memory_bytes = figures.number("bytes");
        node.memory_limit_bytes = figures.number("limit_maxbytes");
        node.keys = figures.number("curr_items");
        node.hits = figures.number("get_hits");
        node.misses = figures.number("get_misses");
        node.evicted = figures.number("evictions");
        node.connections = figures.number("curr_connections");
        let evicts = settings.text("evictions") != Some("off");
        node.eviction_policy = Some(if evicts { "lru" } else { "none" }.into());
        if !evicts {
            let warning = "it runs with -M, so writes fail once it is full; start it without";
            node.warnings.push(warning.into());
        }
        Ok(())
    }

    async fn figures(&self, batch: Batch) -> Result<Figures> {
        let replies = self.inner.server.call(0, |_| batch).await?;
        Ok(Figures::of(&replies))
    }
}
