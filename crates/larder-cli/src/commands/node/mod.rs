//! `larder node`: the servers behind the stores.

mod list;

use clap::Subcommand;

use crate::cli::GlobalArgs;
use crate::failure::Outcome;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the servers of all stores and how they are
    List(list::Args),
}

pub(crate) async fn run(command: &Command, global: &GlobalArgs, output: &mut Output) -> Outcome {
    match command {
        Command::List(args) => list::run(args, global, output).await,
    }
}
