//! The servers of the stores: there, of a known version, well set up.

use larder::StoreNodes;
use larder::store::{NodeRole, NodeStatus};

use super::{Check, Status};
use crate::escape;
use crate::failure::Failure;
use crate::nodes::{address, known};

/// Addresses that a warning names.
const NAMED: usize = 3;

/// Checks the servers of a store; `is_open`: whether the store itself could be opened.
///
/// A store that could not has said why: when none of its servers answers, they add nothing.
pub(super) fn check(store: &StoreNodes, is_open: bool) -> Vec<Check> {
    let name = format!("servers of store {}", store.store);
    let nodes = match &store.nodes {
        Ok(nodes) => nodes,
        Err(_) if !is_open => return Vec::new(),
        Err(error) => {
            let failure = Failure::from(error.clone());
            return vec![Check::new(name, Status::Fail, failure.message())];
        }
    };
    if !is_open && nodes.iter().all(|node| node.problem.is_some()) {
        return Vec::new();
    }
    let mut checks: Vec<_> = nodes.iter().map(|node| state(&store.store, node)).collect();
    for (warning, addresses) in warnings(store) {
        let detail = format!("{warning} ({addresses})");
        checks.push(Check::new(name.clone(), Status::Warn, detail));
    }
    checks
}

/// Checks that a server answers and says what is known of it.
fn state(store: &str, node: &NodeStatus) -> Check {
    let role = match node.role {
        NodeRole::Single => String::new(),
        role => format!("{} ", role.as_str()),
    };
    let name = format!("{role}{} of store {store}", address(node));
    match &node.problem {
        Some(problem) => Check::new(name, Status::Fail, escape::text(problem.as_bytes())),
        None => Check::new(name, Status::Ok, describe(node)),
    }
}

fn describe(node: &NodeStatus) -> String {
    let mut facts = Vec::new();
    facts.extend(node.version.clone());
    facts.extend(
        node.latency_us
            .map(|us| format!("{:.1} ms", us as f64 / 1000.0)),
    );
    facts.extend(node.eviction_policy.clone());
    facts.extend(
        node.persistence
            .as_ref()
            .map(|how| format!("persistence {how}")),
    );
    facts.extend(node.clock_skew_ms.map(|ms| format!("clock {ms:+} ms")));
    escape::text(facts.join(", ").as_bytes())
}

/// Returns each warning once, with the servers that it is about.
fn warnings(store: &StoreNodes) -> Vec<(String, String)> {
    let mut found: Vec<(&str, Vec<String>)> = Vec::new();
    for node in known(store) {
        for warning in &node.warnings {
            match found.iter_mut().find(|(known, _)| known == warning) {
                Some((_, addresses)) => addresses.push(address(node)),
                None => found.push((warning, vec![address(node)])),
            }
        }
    }
    let shown = |(warning, addresses): (&str, Vec<String>)| {
        let mut text = addresses[..addresses.len().min(NAMED)].join(", ");
        if addresses.len() > NAMED {
            text.push_str(&format!(" and {} more", addresses.len() - NAMED));
        }
        (escape::text(warning.as_bytes()), text)
    };
    found.into_iter().map(shown).collect()
}
