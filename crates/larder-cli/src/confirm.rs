//! Removals ask first: on a terminal by a question, elsewhere by a flag.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use larder::Key;
use serde_json::json;

use crate::cli::GlobalArgs;
use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::json::KeyFields;
use crate::session::Session;

/// Keys that a question shows.
pub(crate) const SAMPLE_KEYS: usize = 5;

/// The flags of commands that remove more than what was named, or take something from others.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    pub(crate) yes: bool,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl ConfirmArgs {
    /// Refuses early where nobody can be asked; `act` says what the command does, `shows` what a dry run shows.
    pub(crate) fn check(self, global: &GlobalArgs, act: &str, shows: &str) -> Outcome<()> {
        if self.yes || self.dry_run || can_ask(global) {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "{act} and nobody can be asked here: add --yes, or --dry-run to see {shows}"
        )))
    }

    /// As [`ConfirmArgs::check`], for commands that remove entries.
    pub(crate) fn check_removal(self, global: &GlobalArgs) -> Outcome<()> {
        self.check(global, "this removes entries", "what it removes")
    }
}

/// What is about to be removed.
#[derive(Debug)]
pub(crate) struct Removal {
    /// How many; `None` where the store cannot tell.
    pub(crate) entries: Option<u64>,
    pub(crate) sample: Vec<Key>,
}

impl Removal {
    /// Looks up what matches; where keys cannot be listed, nothing is known of it.
    pub(crate) async fn of(session: &Session<'_>, pattern: &[u8]) -> Outcome<Self> {
        if !session.cache.capabilities().enumeration {
            return Ok(Self {
                entries: None,
                sample: Vec::new(),
            });
        }
        let entries = Some(session.cache.count(pattern).await?);
        let (keys, _) = session.cache.keys_page(pattern, None, SAMPLE_KEYS).await?;
        let sample = keys.into_iter().map(|scanned| scanned.key).collect();
        Ok(Self { entries, sample })
    }

    /// Returns what is removed as text of several lines.
    pub(crate) fn describe(&self, session: &Session<'_>) -> String {
        let cache = session.cache.name();
        let store = session.cache.store_name();
        let Some(entries) = self.entries else {
            return format!(
                "every entry of the cache {cache}; the store {store} cannot tell how many there are"
            );
        };
        let mut text = format!("{entries} entries of the cache {cache} (store {store})");
        for key in &self.sample {
            text.push_str(&format!("\n  {}", escape::text(key.as_bytes())));
        }
        if entries > self.sample.len() as u64 {
            let more = entries - self.sample.len() as u64;
            text.push_str(&format!("\n  and {more} more"));
        }
        text
    }

    /// Prints what a command without `--dry-run` would remove.
    pub(crate) fn show(&self, session: &mut Session<'_>) -> Outcome {
        let sample: Vec<_> = self
            .sample
            .iter()
            .map(|key| KeyFields::new(key.as_bytes()))
            .collect();
        let printed = json!({
            "cache": session.cache.name(),
            "store": session.cache.store_name(),
            "would_remove": self.entries,
            "sample": sample,
            "dry_run": true,
        });
        let text = format!("would remove {}", self.describe(session));
        session.output.result(text, &printed)?;
        Ok(Exit::Ok)
    }

    /// Asks whether to go on.
    pub(crate) fn ask(&self, session: &Session<'_>) -> Outcome<()> {
        let what = format!("This removes {}", self.describe(session));
        ask(&what, "nothing was removed")
    }
}

/// Says what is to be done and asks whether to go on; `otherwise` says that nothing was done.
pub(crate) fn ask(what: &str, otherwise: &str) -> Outcome<()> {
    let mut stderr = io::stderr();
    writeln!(stderr, "{what}")?;
    write!(stderr, "Go on? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::refused(otherwise)),
    }
}

fn can_ask(global: &GlobalArgs) -> bool {
    !global.no_input && !global.json && io::stdin().is_terminal() && io::stderr().is_terminal()
}
