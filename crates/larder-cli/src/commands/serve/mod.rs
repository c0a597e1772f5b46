//! `larder serve`: the HTTP API and the status page.

mod demo;
mod listener;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use larder::config::Config;
use larder::dashboard::Dashboard;
use serde_json::json;
use tokio::time::timeout;

use self::demo::Demo;
use self::listener::Listener;
use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::open;
use crate::output::Output;

/// How long requests may take to end once the server was told to stop.
const DRAIN: Duration = Duration::from_millis(1400);
/// How long the end of locks, for which the library takes up to two seconds, and the last figures may take to reach the
/// store.
const FLUSH: Duration = Duration::from_millis(2400);

/// Answers until Ctrl-C or SIGTERM, then ends with exit code 0: within two seconds, or within four if the store is
/// slow.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one. Other than loopback only with --token-file
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7878")]
    listen: String,
    /// Demand the token in this file of every request
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Refuse every change
    #[arg(long)]
    read_only: bool,
    /// Make up some load on the default cache, to see the figures move
    #[arg(long)]
    demo: bool,
}

pub(crate) async fn run(args: Args, global: &GlobalArgs, output: &mut Output) -> Outcome {
    let mut interrupt = Interrupt::listen()?;
    let token = args.token_file.as_deref().map(token::read).transpose()?;
    let listener = Listener::bind(&args.listen, token.is_some()).await?;
    let loaded = open::load(global)?;
    if args.demo {
        refuse_real_stores(&loaded.config)?;
    }
    let larder = open::open_loaded(loaded).await?;
    let mut dashboard = Dashboard::new(larder.clone()).read_only(args.read_only);
    if let Some(token) = token {
        dashboard = dashboard.token(token);
    }
    let router = dashboard.router();
    announce(&args, &listener, output)?;
    let demo = args.demo.then(|| Demo::start(&larder.default_cache()));
    listener.serve(router, interrupt.requested(), DRAIN).await;
    output.note("stopping");
    if let Some(demo) = demo {
        demo.stop().await;
    }
    match timeout(FLUSH, larder.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last figures are lost"),
        Err(_) => tracing::warn!("the store took too long; the last figures are lost"),
    }
    Ok(Exit::Ok)
}

/// Made-up load belongs on no store that others depend on.
fn refuse_real_stores(config: &Config) -> Outcome<()> {
    let real = config
        .stores
        .iter()
        .find(|(_, store)| !store.driver.is_embedded());
    match real {
        None => Ok(()),
        Some((name, store)) => Err(Failure::refused(format!(
            "--demo is only for embedded stores, and the store {name} is {}",
            store.driver
        ))),
    }
}

fn announce(args: &Args, listener: &Listener, output: &mut Output) -> Outcome<()> {
    let url = format!("http://{}", listener.address());
    if output.is_json() {
        output.json(&json!({"listening": url}))?;
        output.flush()?;
    }
    output.note(format_args!("listening on {url}"));
    if args.demo {
        output.note(
            "demo: a few hundred made-up reads a second under `demo:` in the default cache; \
             they are gone a minute after the end",
        );
    }
    Ok(())
}
