//! `larder node list`: every server, with its state.

use larder::store::NodeStatus;
use larder::{Larder, StoreNodes};
use serde_json::json;

use crate::cli::GlobalArgs;
use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::nodes;
use crate::open;
use crate::output::Output;
use crate::table::{self, Table};

const HEADER: [&str; 11] = [
    "STORE",
    "ADDRESS",
    "ROLE",
    "STATE",
    "VERSION",
    "SLOTS",
    "MEMORY",
    "KEYS",
    "CONNECTIONS",
    "OPS/S",
    "LATENCY",
];
/// The columns of words.
const WORDS: usize = 5;

/// Asks every server. Exit code 4 if some are down, 5 if none of a store can be reached.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: &Args, global: &GlobalArgs, output: &mut Output) -> Outcome {
    let loaded = open::load(global)?;
    let stores = Larder::nodes_of(&loaded).await;
    if output.is_json() {
        output.json(&json!({"nodes": nodes::fields(&stores), "stores": summaries(&stores)}))?;
        return Ok(exit(&stores));
    }
    if stores.is_empty() {
        let names: Vec<_> = loaded.config.stores.keys().map(String::as_str).collect();
        let names = names.join(", ");
        output.note(format_args!(
            "there are no servers: what is configured is embedded ({names})"
        ));
        return Ok(Exit::Ok);
    }
    print(&stores, output)?;
    Ok(exit(&stores))
}

fn summaries(stores: &[StoreNodes]) -> Vec<serde_json::Value> {
    let summary = |store: &StoreNodes| {
        let problem = store.nodes.as_ref().err().map(text);
        json!({"name": store.store, "driver": store.driver.name(), "problem": problem})
    };
    stores.iter().map(summary).collect()
}

/// Prints the table, then what is wrong, a line each.
fn print(stores: &[StoreNodes], output: &mut Output) -> Outcome<()> {
    let mut table = Table::new(&HEADER).left(WORDS);
    let mut problems = Vec::new();
    for store in stores {
        for node in nodes::known(store) {
            table.row(row(&store.store, node));
            if let Some(problem) = &node.problem {
                let problem = escape::text(problem.as_bytes());
                problems.push(format!(
                    "down: {} of store {}: {problem}",
                    nodes::address(node),
                    store.store
                ));
            }
        }
        if let Err(error) = &store.nodes {
            table.row(unknown(store));
            problems.push(format!("down: store {}: {}", store.store, text(error)));
        }
    }
    output.line(table.render())?;
    for problem in problems {
        output.line(problem)?;
    }
    Ok(())
}

fn row(store: &str, node: &NodeStatus) -> Vec<String> {
    let state = if node.problem.is_some() { "down" } else { "ok" };
    let version = node.version.as_deref().unwrap_or("-");
    vec![
        store.to_owned(),
        nodes::address(node),
        node.role.as_str().to_owned(),
        state.to_owned(),
        escape::text(version.as_bytes()),
        table::number(node.slots.map(u64::from)),
        table::size(node.memory_bytes),
        table::number(node.keys),
        table::number(node.connections),
        nodes::rate(node.operations_per_second),
        nodes::milliseconds(node.latency_us.map(|us| us as f64)),
    ]
}

/// Returns the row of a store whose servers nobody could name.
fn unknown(store: &StoreNodes) -> Vec<String> {
    let mut cells = vec!["-".to_owned(); HEADER.len()];
    cells[0] = store.store.clone();
    cells[3] = "down".to_owned();
    cells
}

fn text(error: &larder::Error) -> String {
    escape::text(Failure::from(error.clone()).message().as_bytes())
}

fn exit(stores: &[StoreNodes]) -> Exit {
    let is_down = |node: &NodeStatus| node.problem.is_some();
    let mut all = stores.iter().flat_map(nodes::known);
    if stores
        .iter()
        .any(|store| nodes::known(store).iter().all(is_down))
    {
        Exit::Unreachable
    } else if all.any(is_down) {
        Exit::Partial
    } else {
        Exit::Ok
    }
}
