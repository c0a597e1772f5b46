//! The servers of a store as a table.

use larder::StoreNodes;
use larder::store::NodeStatus;

use crate::escape;
use crate::failure::Failure;
use crate::nodes::{self, Totals};
use crate::table::{self, Table};

const HEADER: [&str; 11] = [
    "SERVER",
    "ROLE",
    "MEMORY",
    "LIMIT",
    "HIT RATIO",
    "KEYS",
    "EVICTED",
    "CONNECTIONS",
    "OPS/S",
    "RESPONSE",
    "LATENCY",
];
/// The columns of words.
const WORDS: usize = 2;

/// Returns a line per server, and a line of totals where there are several.
pub(super) fn describe(store: &StoreNodes) -> String {
    let title = format!("servers of store {} ({})", store.store, store.driver);
    let nodes = match &store.nodes {
        Ok(nodes) => nodes,
        Err(error) => {
            let failure = Failure::from(error.clone());
            return format!("{title}\n{}", escape::text(failure.message().as_bytes()));
        }
    };
    let mut table = Table::new(&HEADER).left(WORDS);
    for node in nodes {
        table.row(row(node));
    }
    if nodes.len() > 1 {
        table.row(sum(&Totals::of(nodes)));
    }
    let mut text = format!("{title}\n{}", table.render());
    for node in nodes {
        if let Some(problem) = &node.problem {
            let problem = escape::text(problem.as_bytes());
            text.push_str(&format!("\ndown: {}: {problem}", nodes::address(node)));
        }
    }
    text
}

fn row(node: &NodeStatus) -> Vec<String> {
    vec![
        nodes::address(node),
        node.role.as_str().to_owned(),
        table::size(node.memory_bytes),
        table::size(node.memory_limit_bytes),
        table::percent(node.hit_ratio()),
        table::number(node.keys),
        table::number(node.evicted),
        table::number(node.connections),
        nodes::rate(node.operations_per_second),
        nodes::milliseconds(node.response_time_us),
        nodes::milliseconds(node.latency_us.map(|us| us as f64)),
    ]
}

fn sum(totals: &Totals) -> Vec<String> {
    vec![
        "total".to_owned(),
        "no replicas".to_owned(),
        table::size(totals.memory_bytes),
        table::size(totals.memory_limit_bytes),
        table::percent(totals.hit_ratio),
        table::number(totals.keys),
        table::number(totals.evicted),
        table::number(totals.connections),
        nodes::rate(totals.operations_per_second),
        nodes::milliseconds(totals.response_time_us),
        "-".to_owned(),
    ]
}
