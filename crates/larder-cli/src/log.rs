//! Diagnostics of the library on standard error.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::GlobalArgs;

/// Says what is shown, over `-q` and `-v`: a level, or `larder=debug,hyper=info`.
const VARIABLE: &str = "LARDER_LOG";

/// Shows warnings; with `-q` errors, with `-v` more the more often it is given.
pub(crate) fn init(global: &GlobalArgs) {
    let asked = std::env::var(VARIABLE).ok();
    let asked = asked.and_then(|directives| directives.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(level(global)));
    let format = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(global.color.for_stderr())
        .with_target(global.verbose > 1);
    // An application that embeds the program may have a subscriber already; it keeps it.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(format)
        .try_init();
}

fn level(global: &GlobalArgs) -> LevelFilter {
    match global.verbose {
        _ if global.quiet => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
