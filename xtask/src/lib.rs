//! The tasks of this repository, as a program instead of a pile of scripts: `cargo xtask <task>`.
//!
//! A task takes its arguments and returns the exit code; `run` finds the task, and is the only place that prints an
//! error that ended one. Nothing here knows the library that it tests: the crates are reached through `cargo` only.
//! Unix only; finding out whether a server still lives reads `/proc`, so servers need Linux.
//!
//! Exit codes: 0 all well, 1 the task failed, 2 it was called wrongly, 130 it was interrupted.

mod counts;
mod interrupt;
mod mutants;
mod pid;
mod process;
mod rehearsal;
pub mod servers;
mod tasks;
mod workspace;

use std::process::ExitCode;

use anyhow::{Error, Result};

/// One task: its name, its arguments as shown to users, what it does, and the function that does it.
struct Task {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&[String]) -> Result<ExitCode>,
}

const TASKS: &[Task] = &[
    Task {
        name: "test",
        arguments: "[--fast] [filters...]",
        summary: "start the servers, run all tests and doctests; --fast: no servers, no doctests",
        run: tasks::test::run,
    },
    Task {
        name: "servers",
        arguments: "up|down|status",
        summary: "keep the test servers running; up prints the exports for a shell",
        run: tasks::servers::run,
    },
    Task {
        name: "ci",
        arguments: "[--full]",
        summary: "fmt, clippy, docs, tests; --full: each feature alone, and the mutants",
        run: tasks::ci::run,
    },
    Task {
        name: "mutants",
        arguments: "[name]",
        summary: "break the code on purpose and require that the laws notice",
        run: tasks::mutants::run,
    },
    Task {
        name: "bench",
        arguments: "[args...]",
        summary: "compare with other caches, after printing the conditions",
        run: tasks::bench::run,
    },
    Task {
        name: "soak",
        arguments: "[name|storms|tags|coherence]",
        summary: "run the long tests on a release build; tags: a million operations on each store, and a table; coherence: the same with local tiers, and wide models",
        run: tasks::soak::run,
    },
];

/// Parts that the tests of this crate run as processes of their own; not listed to users.
const HIDDEN: &[Task] = &[
    Task {
        name: "__listen",
        arguments: "PORT [linger]",
        summary: "accept TCP connections until killed",
        run: rehearsal::listen,
    },
    Task {
        name: "__hold",
        arguments: "",
        summary: "start a server and wait to be interrupted",
        run: rehearsal::hold,
    },
    Task {
        name: "__hold_bound",
        arguments: "",
        summary: "start a server that dies with this program, and wait",
        run: rehearsal::hold_bound,
    },
];

/// A call that cannot be understood: the message says what was expected.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Runs the task that `args` name (without the program's own name) and returns the exit code of the process.
#[must_use]
pub fn run(args: Vec<String>) -> ExitCode {
    let mut args = args.into_iter();
    let Some(name) = args
        .next()
        .filter(|name| !matches!(name.as_str(), "--help" | "-h" | "help"))
    else {
        print!("{}", listing());
        return ExitCode::SUCCESS;
    };
    let Some(task) = TASKS.iter().chain(HIDDEN).find(|task| task.name == name) else {
        eprint!("error: there is no task `{name}`\n\n{}", listing());
        return ExitCode::from(2);
    };
    let args: Vec<String> = args.collect();
    interrupt::listen()
        .and_then(|()| (task.run)(&args))
        .unwrap_or_else(|error| report(task, &error))
}

/// Prints the error that ended a task and chooses the exit code.
fn report(task: &Task, error: &Error) -> ExitCode {
    if error.is::<interrupt::Interrupted>() {
        eprintln!("interrupted: everything that was started has been stopped");
        return ExitCode::from(130);
    }
    eprintln!("error: {error:#}");
    if error.is::<Usage>() {
        eprintln!("usage: cargo xtask {} {}", task.name, task.arguments);
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}

/// Lists the tasks, one line each.
fn listing() -> String {
    let mut text = "usage: cargo xtask <task> [arguments]\n\ntasks:\n".to_owned();
    for task in TASKS {
        let call = format!("{} {}", task.name, task.arguments);
        text.push_str(&format!("  {call:28} {}\n", task.summary));
    }
    text
}
