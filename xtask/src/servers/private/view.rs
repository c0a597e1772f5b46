//! What a node of a cluster believes about the others: the reply to `CLUSTER NODES`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

/// One node, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) address: SocketAddr,
    pub(super) is_master: bool,
    /// Whether it is reachable, known for good and not suspected of anything.
    pub(super) is_well: bool,
    /// The id of the master that it replicates, or `-`.
    pub(super) master: String,
    /// The age of its claim to its slots: the highest wins.
    pub(super) epoch: u64,
    /// First and last slot of each range.
    pub(super) slots: Vec<(u16, u16)>,
}

impl Seen {
    pub(super) fn owns(&self, slot: u16) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|&(first, last)| (first..=last).contains(&slot))
    }
}

/// Reads `id host:port@bus flags master ping pong epoch link slot ...`, one line per node.
pub(super) fn parse(text: &str) -> Result<Vec<Seen>> {
    let lines = text
        .lines()
        .map(|line| parse_line(line).with_context(|| format!("{line:?} is no node of a cluster")));
    lines.collect()
}

fn parse_line(line: &str) -> Option<Seen> {
    let mut words = line.split_whitespace();
    let id = words.next()?.to_owned();
    let address = words.next()?.split('@').next()?.parse().ok()?;
    let flags: Vec<_> = words.next()?.split(',').collect();
    let master = words.next()?.to_owned();
    let epoch = words.nth(2)?.parse().ok()?;
    let is_linked = words.next()? == "connected";
    let is_doubtful = |flag: &&str| matches!(*flag, "fail?" | "fail" | "handshake" | "noaddr");
    Some(Seen {
        id,
        address,
        is_master: flags.contains(&"master"),
        is_well: is_linked && !flags.iter().any(is_doubtful),
        master,
        epoch,
        slots: words.filter_map(range).collect(),
    })
}

/// Reads `5` or `5-9`; a slot on the move (`[5->-id]`) is none.
fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_with_their_slots() {
        let text = "aa 127.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-9 12 [5->-bb]\n\
                    bb 127.0.0.1:7001@17001,host slave,fail? aa 0 0 3 connected\n";
        let nodes = parse(text).unwrap();
        assert!(nodes[0].is_master && nodes[0].is_well && nodes[0].epoch == 3);
        assert_eq!(nodes[0].slots, [(0, 9), (12, 12)]);
        assert!(nodes[0].owns(9) && !nodes[0].owns(10));
        assert!(!nodes[1].is_master && !nodes[1].is_well && nodes[1].master == "aa");
        assert_eq!(nodes[1].address.port(), 7001);
        assert!(parse("nonsense").is_err());
    }
}
