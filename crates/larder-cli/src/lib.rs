//! The `larder` program as a library: an application that calls [`run`] from its own `main` has the same commands.
//!
//! ```text
//! arguments -> colon -> cli (clap) -> commands::* -> larder
//!                                        |-> output (stdout: what was asked for)
//!                                        `-> Failure (stderr, exit code)
//! ```
//!
//! One command per file. This crate parses arguments, opens the library and prints; it decides nothing about caching.

mod cli;
mod colon;
mod commands;
mod confirm;
mod escape;
mod exit;
mod failure;
mod input;
mod interrupt;
mod json;
mod log;
mod nodes;
mod open;
mod output;
mod progress;
mod session;
mod table;
mod transfer;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Runs the program with these arguments, the program's own name first, and returns its exit code.
///
/// Prints to standard output and standard error, and blocks until the command is done.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = colon::rewrite(arguments.into_iter().collect());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments).into(),
    };
    log::init(&cli.global);
    let mut output = Output::new(&cli.global);
    let outcome = start(cli, &mut output).and_then(|exit| {
        output.flush()?;
        Ok(exit)
    });
    let exit = outcome.unwrap_or_else(|failure| {
        // What was printed before the failure is still owed to the reader; a closed pipe wants nothing more.
        let _ = output.flush();
        output.failure(&failure);
        failure.exit()
    });
    exit.into()
}

fn start(cli: Cli, output: &mut Output) -> Outcome {
    let mut builder = match cli.command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    let outcome = runtime.block_on(commands::run(cli, output));
    // A write that waits for another process must not keep the program from ending.
    runtime.shutdown_background();
    outcome
}

/// Prints help or a usage error.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> Exit {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    if wants_json && !is_help {
        let text = error.render().to_string();
        let what = text.split("\n\n").next().unwrap_or_default().trim();
        let message = what.trim_start_matches("error: ");
        output::print_json_error(&Failure::usage(message));
    } else {
        // Nobody reads it if it cannot be printed.
        let _ = error.print();
    }
    if is_help { Exit::Ok } else { Exit::Refused }
}
