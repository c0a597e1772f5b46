//! `larder cache`: the commands on one cache.

use clap::Subcommand;

use super::{
    clear, delete, expire, explain, export, get, has, import, incr, inspect, keys, prune, purge,
    set, stats, status, ttl,
};
use crate::cli::GlobalArgs;
use crate::failure::Outcome;
use crate::output::Output;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the value of a key
    Get(get::Args),
    /// Store a value
    Set(set::Args),
    /// Remove keys
    Delete(delete::Args),
    /// Print how many seconds a key will live
    Ttl(ttl::Args),
    /// Change how long a key will live
    Expire(expire::Args),
    /// Tell whether a key is there: exit code 0 or 3
    Has(has::Args),
    /// Add to a counter and print its value
    Incr(incr::Args),
    /// List keys
    Keys(keys::Args),
    /// Print what is stored about a key, besides its value
    Inspect(inspect::Args),
    /// Tell why a read finds or misses a key
    Explain(explain::Args),
    /// Remove every entry of the cache
    Clear(clear::Args),
    /// Remove the entries whose keys match a pattern
    Purge(purge::Args),
    /// Print the caches of the store and how well they do
    Status(status::Args),
    /// Print everything that is counted about the cache
    Stats(stats::Args),
    /// Remove the expired entries of the store now
    Prune(prune::Args),
    /// Write the entries to a file
    Export(export::Args),
    /// Read entries from a file that `export` wrote
    Import(import::Args),
}

pub(crate) async fn run(command: Command, global: &GlobalArgs, output: &mut Output) -> Outcome {
    let mut session = Session::open(global, output).await?;
    let outcome = dispatch(command, &mut session).await;
    let closed = session.close().await;
    outcome.and_then(|exit| closed.map(|()| exit))
}

async fn dispatch(command: Command, session: &mut Session<'_>) -> Outcome {
    match command {
        Command::Get(args) => get::run(&args, session).await,
        Command::Set(args) => set::run(args, session).await,
        Command::Delete(args) => delete::run(&args, session).await,
        Command::Ttl(args) => ttl::run(&args, session).await,
        Command::Expire(args) => expire::run(&args, session).await,
        Command::Has(args) => has::run(&args, session).await,
        Command::Incr(args) => incr::run(&args, session).await,
        Command::Keys(args) => keys::run(&args, session).await,
        Command::Inspect(args) => inspect::run(&args, session).await,
        Command::Explain(args) => explain::run(&args, session).await,
        Command::Clear(args) => clear::run(args, session).await,
        Command::Purge(args) => purge::run(&args, session).await,
        Command::Status(args) => status::run(&args, session).await,
        Command::Stats(args) => stats::run(&args, session).await,
        Command::Prune(args) => prune::run(args, session).await,
        Command::Export(args) => export::run(&args, session).await,
        Command::Import(args) => import::run(&args, session).await,
    }
}
