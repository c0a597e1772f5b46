//! What is said about the state: figures, nodes, messages.

use std::sync::atomic::Ordering;

use super::Inner;
use super::phase::Phase;
use crate::store::{NodeRole, NodeStatus, StoreStats};

impl Inner {
    /// Adds the state to a store's figures.
    pub(super) fn describe(&self, stats: &mut StoreStats) {
        let mut add = |name: &str, value: String| stats.details.push((name.into(), value));
        let state = match self.gate.peek() {
            _ if self.gate.is_primary() => "primary".to_owned(),
            Some(Phase::Unknown) => match self.gate.trouble() {
                Some(trouble) => format!("none, {}", trouble.message()),
                None if self.gate.outage().is_some() => "returning".to_owned(),
                None => "primary".to_owned(),
            },
            Some(Phase::Primary(_)) => "primary".to_owned(),
            Some(Phase::Standby(_)) => format!("standby, {}", self.why()),
            None => "returning".to_owned(),
        };
        add("fallback", state);
        add("fallback store", self.standby.name().to_owned());
        add(
            "fallback outages",
            self.outages.load(Ordering::Relaxed).to_string(),
        );
        add("fallback journal", self.journal.len().to_string());
        add(
            "fallback calls",
            self.standby_calls.load(Ordering::Relaxed).to_string(),
        );
    }

    /// Returns the standby as a node.
    pub(super) fn standby_node(&self) -> NodeStatus {
        let mut node = NodeStatus::new(self.standby.name(), NodeRole::Fallback);
        node.problem = self
            .gate
            .trouble()
            .map(|trouble| trouble.message().to_owned());
        if self.gate.outage().is_some() {
            node.warnings.push(format!(
                "in use, {}: locks, counters and conditional writes fail until the store is back",
                self.why()
            ));
        }
        node
    }

    fn why(&self) -> String {
        match self.gate.outage() {
            Some(outage) => format!(
                "for {} s, since {} did not answer ({}: {})",
                outage.since.elapsed().as_secs(),
                self.primary.name(),
                outage.error.kind(),
                outage.error.message()
            ),
            None => "for a moment".to_owned(),
        }
    }
}
