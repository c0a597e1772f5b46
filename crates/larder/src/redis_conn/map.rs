//! Who serves which slot: read from `CLUSTER NODES`, merged over several answers by config epoch.
//!
//! Answers may be of different ages: a node that was paused still believes what it last knew. Redis settles such
//! conflicts by the higher config epoch, and so does the merge, slot by slot.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::Node;
use super::slot::SLOTS;

/// A slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// The servers of a link and their slots.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// Servers that take calls.
    pub(crate) primaries: Vec<Arc<Node>>,
    /// Servers that copy them.
    pub(crate) replicas: Vec<Arc<Node>>,
    /// The config epoch of each primary, as old as its claim to its slots; 0: not known.
    epochs: Vec<u64>,
    /// For each slot an index of `primaries`; empty: the first one serves all.
    owners: Vec<u16>,
}

impl Map {
    /// Creates the map of one server.
    pub(crate) fn single(node: Arc<Node>) -> Self {
        Self {
            primaries: vec![node],
            ..Self::default()
        }
    }

    /// Returns the server of a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        if self.owners.is_empty() {
            return self.primaries.first();
        }
        self.primaries
            .get(usize::from(self.owners[usize::from(slot)]))
    }

    /// Returns whether a slot that is served here is served by another server there.
    pub(crate) fn is_served_by_others(&self, newer: &Self) -> bool {
        let differs = |slot| match (self.owner(slot), newer.owner(slot)) {
            (Some(one), Some(other)) => !Arc::ptr_eq(one, other),
            (before, _) => before.is_some(),
        };
        match self.owners.is_empty() && newer.owners.is_empty() {
            true => differs(0),
            false => (0..SLOTS).any(differs),
        }
    }

    /// Returns how many slots a primary serves; `None` where there are none to serve.
    pub(crate) fn slots_of(&self, index: usize) -> Option<u32> {
        if self.owners.is_empty() {
            return None;
        }
        let own = self
            .owners
            .iter()
            .filter(|owner| usize::from(**owner) == index);
        Some(own.count() as u32)
    }

    /// Returns a copy in which one slot has moved.
    pub(crate) fn with_moved(&self, slot: u16, node: &Arc<Node>) -> Self {
        let mut moved = Self {
            primaries: self.primaries.clone(),
            replicas: self.replicas.clone(),
            epochs: self.epochs.clone(),
            owners: self.owners.clone(),
        };
        let index = moved.index_of(node, 0);
        if let Some(owner) = moved.owners.get_mut(usize::from(slot)) {
            *owner = index;
        }
        moved
    }

    /// Gives slots back to primaries of an older map that are silent now but whose claim is newer.
    ///
    /// Otherwise a server that was paused, and is the first to answer, would have its slots again for a moment.
    pub(crate) fn keep_newer(&mut self, older: &Self, is_silent: impl Fn(&Arc<Node>) -> bool) {
        for (index, node) in older.primaries.iter().enumerate() {
            let Some(epoch) = older.epochs.get(index).copied() else {
                continue;
            };
            if !is_silent(node) {
                continue;
            }
            for slot in 0..self.owners.len() {
                let present = self.epochs.get(usize::from(self.owners[slot]));
                let is_newer = present.is_none_or(|present| *present < epoch);
                if is_newer && usize::from(older.owners[slot]) == index {
                    self.owners[slot] = self.index_of(node, epoch);
                }
            }
        }
    }

    /// Returns the index of a primary, which is made one if need be.
    fn index_of(&mut self, node: &Arc<Node>, epoch: u64) -> u16 {
        let mut primaries = self.primaries.iter();
        let index = primaries.position(|known| Arc::ptr_eq(known, node));
        let index = index.unwrap_or_else(|| {
            self.replicas.retain(|known| !Arc::ptr_eq(known, node));
            self.primaries.push(Arc::clone(node));
            self.epochs.push(epoch);
            self.primaries.len() - 1
        });
        index as u16
    }
}

/// What one node says about the cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) members: Vec<Member>,
}

/// One line of `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether this is the one that was asked.
    pub(crate) is_speaker: bool,
    pub(crate) epoch: u64,
    /// First and last slot of each range.
    pub(crate) ranges: Vec<(u16, u16)>,
}

impl View {
    /// Reads the reply; lines that cannot be used (no address yet, being forgotten) are left out.
    ///
    /// `asked` is the host that answered, for a node that does not know its own address; `by_name` prefers announced
    /// host names, which certificates are made for.
    pub(crate) fn parse(text: &str, asked: &str, by_name: bool) -> Self {
        let members = text.lines().filter_map(|line| member(line, asked, by_name));
        Self {
            members: members.collect(),
        }
    }
}

fn member(line: &str, asked: &str, by_name: bool) -> Option<Member> {
    let mut fields = line.split(' ');
    let (_id, address, flags) = (fields.next()?, fields.next()?, fields.next()?);
    let (_primary, _ping, _pong) = (fields.next()?, fields.next()?, fields.next()?);
    let epoch = fields.next()?.parse().ok()?;
    let _link_state = fields.next()?;
    let flags: Vec<&str> = flags.split(',').collect();
    if flags
        .iter()
        .any(|flag| matches!(*flag, "noaddr" | "handshake"))
    {
        return None;
    }
    let (address, name) = match address.split_once(',') {
        Some((address, names)) => (address, names.split(',').next()),
        None => (address, None),
    };
    let (address, _bus) = address.split_once('@').unwrap_or((address, ""));
    let (ip, port) = address.rsplit_once(':')?;
    let ip = if ip.is_empty() { asked } else { ip };
    let name = name.filter(|name| by_name && !name.is_empty());
    Some(Member {
        host: name.unwrap_or(ip).to_owned(),
        port: port.parse().ok()?,
        is_speaker: flags.contains(&"myself"),
        epoch,
        ranges: fields.filter_map(range).collect(),
    })
}

/// Reads `5`, `0-5460`; slots on their way (`[5->-id]`) still belong to where they stand.
fn range(text: &str) -> Option<(u16, u16)> {
    if text.starts_with('[') {
        return None;
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some((first, last))
}

/// Merges views into a map; `node` finds or makes the server of an address. `None`: no view names any slot.
pub(crate) fn merge(
    views: &[View],
    mut node: impl FnMut(&str, u16) -> Option<Arc<Node>>,
) -> Option<Map> {
    let mut claims: Vec<Option<(u64, &Member)>> = vec![None; usize::from(SLOTS)];
    for member in views.iter().flat_map(|view| &view.members) {
        for (first, last) in &member.ranges {
            for claim in &mut claims[usize::from(*first)..=usize::from(*last)] {
                if claim.is_none_or(|(epoch, _)| epoch < member.epoch) {
                    *claim = Some((member.epoch, member));
                }
            }
        }
    }
    let mut primaries: Vec<Arc<Node>> = Vec::new();
    let mut epochs = Vec::new();
    let mut indexes: HashMap<(&str, u16), u16> = HashMap::new();
    let mut owners = vec![NOBODY; usize::from(SLOTS)];
    for (owner, claim) in owners.iter_mut().zip(&claims) {
        let Some((epoch, member)) = claim else {
            continue;
        };
        let place = (member.host.as_str(), member.port);
        *owner = match indexes.get(&place) {
            Some(index) => *index,
            None => {
                let Some(found) = node(place.0, place.1) else {
                    continue;
                };
                primaries.push(found);
                epochs.push(*epoch);
                indexes.insert(place, primaries.len() as u16 - 1);
                primaries.len() as u16 - 1
            }
        };
    }
    if primaries.is_empty() {
        return None;
    }
    let mut replicas: Vec<Arc<Node>> = Vec::new();
    for member in views.iter().flat_map(|view| &view.members) {
        if indexes.contains_key(&(member.host.as_str(), member.port)) {
            continue;
        }
        let found = node(&member.host, member.port);
        let known = |node: &Arc<Node>| replicas.iter().any(|known| Arc::ptr_eq(known, node));
        if let Some(found) = found.filter(|node| !known(node)) {
            replicas.push(found);
        }
    }
    Some(Map {
        primaries,
        replicas,
        epochs,
        owners,
    })
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{Template, TlsFiles};
    use super::super::node::Limits;
    use super::*;

    const TEXT: &str = "\
07c 127.0.0.1:30004@31004,hostname4 slave e7d 0 1426238317239 4 connected
67e 127.0.0.1:30002@31002,hostname2 master - 0 1426238316232 2 connected 5461-10922 [77->-292]
e7d :30001@31001 myself,master - 0 0 1 connected 0-5459 5460
aaa 127.0.0.1:0@0 master,noaddr - 0 0 9 disconnected
junk
";

    #[test]
    fn lines_are_read_and_junk_is_left_out() {
        let view = View::parse(TEXT, "10.0.0.9", false);
        assert_eq!(view.members.len(), 3);
        assert!(!view.members[0].is_speaker && view.members[2].is_speaker);
        assert_eq!(view.members[1].ranges, [(5461, 10922)]);
        assert_eq!(view.members[2].host, "10.0.0.9");
        assert_eq!(view.members[2].ranges, [(0, 5459), (5460, 5460)]);
        assert_eq!(View::parse(TEXT, "", true).members[1].host, "hostname2");
    }

    fn node(port: u16) -> Arc<Node> {
        let template = Template::new("redis://h", None, &TlsFiles::default()).unwrap();
        let endpoint = template.at("h", port).unwrap();
        Arc::new(Node::new(endpoint, Limits::default(), Arc::default()))
    }

    #[test]
    fn old_claim_wins_nothing_while_the_holder_of_the_newer_one_is_silent() {
        let nodes = [node(1), node(2)];
        let find = |_: &str, port: u16| Some(Arc::clone(&nodes[usize::from(port) - 1]));
        let view = |text| View::parse(text, "h", false);
        let now = view("b h:2@1 myself,master - 0 0 7 connected 0-16383\na h:1@1 slave b 0 0 7 -");
        let before = merge(&[now], find).unwrap();
        let old = view("a h:1@1 myself,master - 0 0 1 connected 0-16383\nb h:2@1 slave a 0 0 1 -");
        let mut merged = merge(&[old], find).unwrap();
        assert_eq!(merged.owner(5).unwrap().address(), "h:1");
        merged.keep_newer(&before, |_| false);
        assert_eq!(
            merged.owner(5).unwrap().address(),
            "h:1",
            "it spoke for itself"
        );
        merged.keep_newer(&before, |node| node.address() == "h:2");
        assert_eq!(merged.owner(5).unwrap().address(), "h:2");
        assert!(merged.replicas.is_empty());
    }

    #[test]
    fn ranges_out_of_bounds_are_refused() {
        assert_eq!(range("5-16384"), None);
        assert_eq!(range("9-5"), None);
        assert_eq!(range("x"), None);
    }
}
