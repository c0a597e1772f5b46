//! The commands, one per file.

pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod lock;
pub(crate) mod node;
pub(crate) mod serve;
pub(crate) mod tag;

mod clear;
mod delete;
mod expire;
mod explain;
mod export;
mod get;
mod has;
mod import;
mod incr;
mod inspect;
mod keys;
mod prune;
mod purge;
mod set;
mod stats;
mod status;
mod ttl;

use crate::cli::{Cli, Command};
use crate::failure::Outcome;
use crate::output::Output;

/// Runs what was asked for.
pub(crate) async fn run(cli: Cli, output: &mut Output) -> Outcome {
    let global = &cli.global;
    match cli.command {
        Command::Cache(command) => Box::pin(cache::run(*command, global, output)).await,
        Command::Config(command) => config::run(&command, global, output),
        Command::Lock(command) => Box::pin(lock::run(&command, global, output)).await,
        Command::Node(command) => Box::pin(node::run(&command, global, output)).await,
        Command::Tag(command) => Box::pin(tag::run(command, global, output)).await,
        Command::Doctor(args) => Box::pin(doctor::run(&args, global, output)).await,
        Command::Serve(args) => Box::pin(serve::run(args, global, output)).await,
        Command::Completions(args) => completions::run(&args, output),
    }
}
