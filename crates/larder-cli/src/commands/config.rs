//! `larder config`: the effective configuration.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use larder::config::{Loaded, default_file};
use serde_json::{Value, json};

use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::open::{self, DEFAULT_FILE};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what is in effect, without secrets
    Show(ShowArgs),
    /// Say what is wrong with the configuration: exit code 0 or 1
    Check,
    /// Write a file with every setting, its meaning and its default
    Init(InitArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Print where each value came from
    #[arg(long)]
    origin: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// The file; `-` is standard output
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long, visible_alias = "yes")]
    force: bool,
}

pub(crate) fn run(command: &Command, global: &GlobalArgs, output: &mut Output) -> Outcome {
    match command {
        Command::Show(args) => show(args, &open::load(global)?, output),
        Command::Check => check(&open::load(global)?, output),
        Command::Init(args) => init(args, output),
    }
}

fn show(args: &ShowArgs, loaded: &Loaded, output: &mut Output) -> Outcome {
    if output.is_json() {
        let settings: Vec<Value> = loaded
            .settings()
            .map(|setting| {
                json!({
                    "key": setting.key,
                    "value": setting.value,
                    "origin": setting.origin.to_string(),
                })
            })
            .collect();
        output.json(&json!({"file": loaded.file, "settings": settings}))?;
    } else if args.origin {
        for setting in loaded.settings() {
            let (key, value) = (setting.key, setting.value);
            output.line(format_args!("{key} = {value}  # {}", setting.origin))?;
        }
    } else {
        output.bytes(loaded.to_toml().as_bytes())?;
    }
    warn(loaded, output);
    Ok(Exit::Ok)
}

fn check(loaded: &Loaded, output: &mut Output) -> Outcome {
    let file = loaded.file.as_deref().map(Path::display);
    let text = match &file {
        Some(file) => format!("{file} is well"),
        None => "there is no file; the defaults and the environment are well".to_owned(),
    };
    let printed = json!({"ok": true, "file": loaded.file, "warnings": loaded.warnings});
    output.result(text, &printed)?;
    warn(loaded, output);
    Ok(Exit::Ok)
}

fn warn(loaded: &Loaded, output: &Output) {
    for warning in &loaded.warnings {
        output.note(format_args!("warning: {warning}"));
    }
}

fn init(args: &InitArgs, output: &mut Output) -> Outcome {
    let text = default_file();
    if args.file.as_os_str() == "-" {
        output.bytes(text.as_bytes())?;
        return Ok(Exit::Ok);
    }
    let shown = args.file.display();
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::refused(format!("{shown} is there already; --force replaces it"))
        }
        _ => Failure::failed(format!("cannot write {shown}: {error}")),
    };
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(&args.file).map_err(refuse)?;
    file.write_all(text.as_bytes()).map_err(refuse)?;
    if output.is_json() {
        output.json(&json!({"written": args.file}))?;
    } else {
        output.note(format_args!("{shown} written"));
    }
    Ok(Exit::Ok)
}
