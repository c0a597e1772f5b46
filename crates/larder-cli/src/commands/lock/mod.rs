//! `larder lock`: who holds the locks of a store, and taking one from its holder.

mod list;
mod release;
mod shown;

use clap::Subcommand;
use larder::ErrorKind;

use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the locks in use: who holds them, and how many wait
    List(list::Args),
    /// Take a lock from its holder, whose work goes on
    Release(release::Args),
}

pub(crate) async fn run(command: &Command, global: &GlobalArgs, output: &mut Output) -> Outcome {
    let mut session = Session::open(global, output).await?;
    let outcome = dispatch(command, &mut session).await;
    let closed = session.close().await;
    outcome.and_then(|exit| closed.map(|()| exit))
}

async fn dispatch(command: &Command, session: &mut Session<'_>) -> Outcome {
    if !session.cache.capabilities().locks {
        let store = session.cache.store_name();
        let message = format!("the store {store} has no locks");
        return Err(Failure::new(Exit::Failed, "unsupported", message));
    }
    match command {
        Command::List(args) => list::run(args, session).await,
        Command::Release(args) => release::run(args, session).await,
    }
}

/// Returns `None` where a store cannot list its locks.
fn if_listed<T>(listed: larder::Result<T>) -> Outcome<Option<T>> {
    match listed {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        listed => Ok(Some(listed?)),
    }
}
