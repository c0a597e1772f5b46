//! The arguments of the program.

use std::env;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::exit;

/// Inspect, edit and serve caches.
#[derive(Debug, Parser)]
#[command(name = "larder", version, after_help = exit::HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Read this configuration file; default larder.toml, if the working directory has it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The cache to work on
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    pub(crate) cache: String,
    /// Print JSON, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no messages besides errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Show what the library does; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to colour messages
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Never ask
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Decides for messages. `NO_COLOR` and a terminal without abilities are respected.
    pub(crate) fn for_stderr(self) -> bool {
        self.decide(&io::stderr())
    }

    /// Decides for data.
    pub(crate) fn for_stdout(self) -> bool {
        self.decide(&io::stdout())
    }

    fn decide(self, stream: &impl IsTerminal) -> bool {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if is_set("NO_COLOR") => false,
            Self::Auto if is_set("CLICOLOR_FORCE") => true,
            Self::Auto => stream.is_terminal() && env::var_os("TERM").is_none_or(|t| t != "dumb"),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read and change the entries of a cache
    #[command(subcommand, after_help = exit::HELP)]
    Cache(Box<commands::cache::Command>),
    /// Print, check or write the configuration
    #[command(subcommand)]
    Config(commands::config::Command),
    /// Look at the locks of applications, and end one
    #[command(subcommand, after_help = exit::HELP)]
    Lock(commands::lock::Command),
    /// Look at the tags of entries, and invalidate them
    #[command(subcommand, after_help = exit::HELP)]
    Tag(commands::tag::Command),
    /// Look at the servers behind the stores
    #[command(subcommand, after_help = exit::HELP)]
    Node(commands::node::Command),
    /// Check that everything the cache needs is well
    Doctor(commands::doctor::Args),
    /// Serve the HTTP API and the status page
    Serve(commands::serve::Args),
    /// Print the completions of a shell
    Completions(commands::completions::Args),
}
