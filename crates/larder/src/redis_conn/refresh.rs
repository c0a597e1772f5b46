//! Finding out who serves what, from whoever answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::Value;
use tokio::time::{Instant, timeout};

use super::endpoint::{Endpoint, join};
use super::link::{Shared, Topology};
use super::map::{self, Map, Member, View};
use super::node::Node;
use crate::error::{Error, ErrorKind, Result};

/// How long one server may take to say what it knows.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// How many servers are asked at once.
const MAX_ASKED: usize = 8;

/// Asks, and replaces the map; one at a time, and who waited for another's does not ask again.
pub(super) async fn run(shared: &Shared) -> Result<()> {
    let (before, began) = (shared.map(), Instant::now());
    let mut latest_failure = shared.refreshing.lock().await;
    let now = shared.map();
    if !Arc::ptr_eq(&before, &now) && !now.primaries.is_empty() {
        return Ok(());
    }
    if let Some((_, error)) = latest_failure.as_ref().filter(|(at, _)| *at > began) {
        return Err(error.clone());
    }
    let outcome = ask(shared).await;
    if let Err(error) = &outcome {
        *latest_failure = Some((Instant::now(), error.clone()));
    }
    outcome
}

async fn ask(shared: &Shared) -> Result<()> {
    match &shared.topology {
        Topology::Single(_) => Ok(()),
        Topology::Cluster { seeds, node } => cluster(shared, seeds, node.is_encrypted()).await,
        Topology::Sentinel {
            sentinels, service, ..
        } => sentinel(shared, sentinels, service).await,
    }
}

async fn cluster(shared: &Shared, seeds: &[Endpoint], by_name: bool) -> Result<()> {
    let views = views(candidates(shared, &[]), by_name).await;
    let (views, failure) = match views {
        (views, _) if !views.is_empty() => (views, None),
        // Everybody known is gone, or nobody is known yet: back to the beginning.
        _ => self::views(candidates(shared, seeds), by_name).await,
    };
    let map = map::merge(&views, |host, port| shared.node(host, port).ok());
    match map {
        Some(mut map) => {
            map.keep_newer(&shared.map(), |node| is_silent(&views, node));
            shared.set_map(map);
            Ok(())
        }
        None => Err(failure.unwrap_or_else(|| {
            let message = "the servers are no cluster, or a cluster without slots";
            Error::new(ErrorKind::InvalidConfig, message)
        })),
    }
}

/// Returns whether a server is still known to others, and has not spoken for itself.
fn is_silent(views: &[View], node: &Node) -> bool {
    let is_it = |member: &&Member| join(&member.host, member.port) == node.address();
    let members = views.iter().flat_map(|view| &view.members);
    let mut mentions = members.filter(is_it).peekable();
    mentions.peek().is_some() && mentions.all(|member| !member.is_speaker)
}

/// Returns servers to ask: those of the map in random order, or the seeds.
fn candidates(shared: &Shared, seeds: &[Endpoint]) -> Vec<Arc<Node>> {
    let mut nodes: Vec<_> = if seeds.is_empty() {
        let map = shared.map();
        map.primaries.iter().chain(&map.replicas).cloned().collect()
    } else {
        seeds.iter().map(|seed| shared.bystander(seed)).collect()
    };
    fastrand::shuffle(&mut nodes);
    nodes.sort_by_key(|node| node.is_suspect());
    nodes.truncate(MAX_ASKED);
    nodes
}

/// Asks each, and returns what they say, and why one of them said nothing.
async fn views(nodes: Vec<Arc<Node>>, by_name: bool) -> (Vec<View>, Option<Error>) {
    let mut command = redis::cmd("CLUSTER");
    command.arg("NODES");
    let asked = nodes.iter().map(|node| async {
        match timeout(ANSWER_WITHIN, node.one(0, &command)).await {
            Err(_late) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{} is silent", node.address()),
            )),
            Ok(Err(failure)) => Err(failure.error),
            Ok(Ok(Value::ServerError(error))) => {
                Err(super::failure::server(&error, node.address()))
            }
            Ok(Ok(reply)) => {
                let host = node.address().rsplit_once(':').map_or("", |(host, _)| host);
                let text = text(&reply).unwrap_or_default();
                Ok(View::parse(&text, host, by_name))
            }
        }
    });
    let mut views = Vec::new();
    let mut failure = None;
    for answer in join_all(asked).await {
        match answer {
            Ok(view) => views.push(view),
            Err(error) => failure = Some(error),
        }
    }
    (views, failure)
}

/// Takes the address that most sentinels name.
async fn sentinel(shared: &Shared, sentinels: &[Endpoint], service: &str) -> Result<()> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(service);
    let asked = sentinels.iter().map(|sentinel| {
        let node = shared.bystander(sentinel);
        let command = &command;
        async move {
            match timeout(ANSWER_WITHIN, node.one(0, command)).await {
                Ok(Ok(Value::ServerError(error))) => {
                    Err(super::failure::server(&error, node.address()))
                }
                Ok(Ok(reply)) => Ok(address(&reply)),
                Ok(Err(failure)) => Err(failure.error),
                Err(_late) => Err(Error::new(
                    ErrorKind::Timeout,
                    format!("{} is silent", node.address()),
                )),
            }
        }
    });
    let mut named: Vec<((String, u16), usize)> = Vec::new();
    let mut failure = None;
    for answer in join_all(asked).await {
        match answer {
            Err(error) => failure = Some(error),
            Ok(None) => {}
            Ok(Some(place)) => match named.iter_mut().find(|(known, _)| *known == place) {
                Some((_, votes)) => *votes += 1,
                None => named.push((place, 1)),
            },
        }
    }
    let Some(((host, port), _)) = named.into_iter().max_by_key(|(_, votes)| *votes) else {
        let unknown = || {
            let message = format!("the sentinels know no service {service:?}");
            Error::new(ErrorKind::InvalidConfig, message)
        };
        return Err(failure.unwrap_or_else(unknown));
    };
    let primary = shared.node(&host, port)?;
    let is_present = shared
        .map()
        .owner(0)
        .is_some_and(|owner| Arc::ptr_eq(owner, &primary));
    if !is_present {
        shared.set_map(Map::single(primary));
    }
    Ok(())
}

fn address(reply: &Value) -> Option<(String, u16)> {
    let Value::Array(fields) = reply else {
        return None;
    };
    let host = text(fields.first()?)?;
    let port = text(fields.get(1)?)?.parse().ok()?;
    Some((host, port))
}

/// Returns a reply that is text.
pub(crate) fn text(reply: &Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}
