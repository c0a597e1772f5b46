//! `larder tag`: which tags entries depend on, and invalidating them.

mod cleanup;
mod list;
mod show;
mod stats;

pub(crate) mod invalidate;

use clap::Subcommand;

use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tags that entries may carry, or the groups of tags
    List(list::Args),
    /// List the keys of the entries with a tag
    Show(show::Args),
    /// Make all entries with a tag absent, also those that are being loaded
    Invalidate(invalidate::Args),
    /// Remove what invalidations left, and let tags go that nothing carries
    Cleanup(cleanup::Args),
    /// Print how many entries carry which tags
    Stats(stats::Args),
}

pub(crate) async fn run(command: Command, global: &GlobalArgs, output: &mut Output) -> Outcome {
    let mut session = Session::open(global, output).await?;
    let outcome = dispatch(command, &mut session).await;
    let closed = session.close().await;
    outcome.and_then(|exit| closed.map(|()| exit))
}

async fn dispatch(command: Command, session: &mut Session<'_>) -> Outcome {
    match command {
        Command::List(args) => list::run(&args, session).await,
        Command::Show(args) => show::run(&args, session).await,
        Command::Invalidate(args) => invalidate::run(args, session).await,
        Command::Cleanup(args) => cleanup::run(&args, session).await,
        Command::Stats(args) => stats::run(&args, session).await,
    }
}

/// Refuses early what needs tags, on a store that has none.
fn needs_tags(session: &Session<'_>) -> Outcome<()> {
    let is_switched_off = !session.larder.loaded().config.tags.enabled;
    if session.cache.capabilities().tags || is_switched_off {
        return Ok(());
    }
    let store = session.cache.store_name();
    let message = format!("the store {store} has no tags");
    Err(Failure::new(Exit::Failed, "unsupported", message))
}

/// As [`needs_tags`], for listings.
fn needs_tag_listing(session: &Session<'_>) -> Outcome<()> {
    needs_tags(session)?;
    if session.cache.capabilities().tag_listing {
        return Ok(());
    }
    let store = session.cache.store_name();
    let message = format!(
        "{store} cannot list its tags: `larder tag invalidate TAG` invalidates one by its name"
    );
    Err(Failure::new(Exit::Failed, "unsupported", message))
}
