//! The servers of stores as commands show them.

use larder::StoreNodes;
use larder::store::{NodeRole, NodeStatus};
use serde::Serialize;

use crate::escape;

/// A server under `--json`: its store and all that is known of it.
#[derive(Debug, Serialize)]
pub(crate) struct NodeFields<'a> {
    store: &'a str,
    #[serde(flatten)]
    node: &'a NodeStatus,
    hit_ratio: Option<f64>,
}

/// Returns the servers of all stores.
pub(crate) fn fields(stores: &[StoreNodes]) -> Vec<NodeFields<'_>> {
    let with_store = |store| known(store).iter().map(move |node| (store, node));
    let all = stores.iter().flat_map(with_store);
    all.map(|(store, node)| NodeFields {
        store: &store.store,
        node,
        hit_ratio: node.hit_ratio(),
    })
    .collect()
}

/// Returns the servers of a store; none where not even their list could be had.
pub(crate) fn known(store: &StoreNodes) -> &[NodeStatus] {
    store.nodes.as_deref().unwrap_or_default()
}

/// Returns an address as it may stand on a terminal.
pub(crate) fn address(node: &NodeStatus) -> String {
    escape::text(node.address.as_bytes())
}

/// Returns microseconds in milliseconds, or a dash.
pub(crate) fn milliseconds(micros: Option<f64>) -> String {
    micros.map_or_else(|| "-".to_owned(), |us| format!("{:.3} ms", us / 1000.0))
}

/// Returns a rate, or a dash.
pub(crate) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
}

/// What the servers of a store come to. Replicas hold copies and a fallback
/// is another store, so nothing of theirs is added.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) servers: usize,
    pub(crate) down: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) keys: Option<u64>,
    hits: Option<u64>,
    misses: Option<u64>,
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) evicted: Option<u64>,
    pub(crate) connections: Option<u64>,
    pub(crate) operations_per_second: Option<f64>,
    /// The mean of the servers.
    pub(crate) response_time_us: Option<f64>,
}

impl Totals {
    pub(crate) fn of(nodes: &[NodeStatus]) -> Self {
        let originals: Vec<&NodeStatus> = nodes
            .iter()
            .filter(|node| !matches!(node.role, NodeRole::Replica | NodeRole::Fallback))
            .collect();
        let sum = |figure: fn(&NodeStatus) -> Option<u64>| {
            let figures: Vec<u64> = originals.iter().filter_map(|node| figure(node)).collect();
            (!figures.is_empty()).then(|| figures.iter().sum())
        };
        let limits = originals.iter().map(|node| node.memory_limit_bytes);
        let (hits, misses) = (sum(|node| node.hits), sum(|node| node.misses));
        let reads = hits.unwrap_or(0) + misses.unwrap_or(0);
        let times: Vec<f64> = originals
            .iter()
            .filter_map(|node| node.response_time_us)
            .collect();
        let rates: Vec<f64> = originals
            .iter()
            .filter_map(|node| node.operations_per_second)
            .collect();
        Self {
            servers: nodes
                .iter()
                .filter(|node| node.role != NodeRole::Fallback)
                .count(),
            down: nodes.iter().filter(|node| node.problem.is_some()).count(),
            memory_bytes: sum(|node| node.memory_bytes),
            // One server without a bound is a store without one.
            memory_limit_bytes: limits.sum::<Option<u64>>().filter(|limit| *limit > 0),
            keys: sum(|node| node.keys),
            hits,
            misses,
            hit_ratio: (reads > 0).then(|| hits.unwrap_or(0) as f64 / reads as f64),
            evicted: sum(|node| node.evicted),
            connections: sum(|node| node.connections),
            operations_per_second: (!rates.is_empty()).then(|| rates.iter().sum()),
            response_time_us: (!times.is_empty())
                .then(|| times.iter().sum::<f64>() / times.len() as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_counted_once_and_unbounded_memory_has_no_total() {
        let mut primary = NodeStatus::new("a:1", NodeRole::Primary);
        (primary.keys, primary.memory_bytes) = (Some(5), Some(100));
        (primary.hits, primary.misses) = (Some(3), Some(1));
        primary.memory_limit_bytes = Some(1000);
        let mut other = primary.clone();
        other.memory_limit_bytes = None;
        let mut replica = primary.clone();
        replica.role = NodeRole::Replica;
        replica.problem = Some("gone".to_owned());
        let totals = Totals::of(&[primary.clone(), other, replica.clone()]);
        assert_eq!((totals.servers, totals.down), (3, 1));
        assert_eq!((totals.keys, totals.memory_bytes), (Some(10), Some(200)));
        assert_eq!(totals.memory_limit_bytes, None);
        assert_eq!(totals.hit_ratio, Some(0.75));
        assert_eq!(
            Totals::of(&[primary, replica]).memory_limit_bytes,
            Some(1000)
        );
    }
}
