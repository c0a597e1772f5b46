//! `larder doctor`: checks everything the cache needs.

mod disk;
mod probe;
mod servers;
mod stores;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder::config::Loaded;
use larder::{Larder, StoreNodes};
use serde::Serialize;
use serde_json::json;

use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::nodes;
use crate::open;
use crate::output::Output;

/// The first second of 2025: a clock before it is wrong.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

/// Reads the configuration, opens every store, looks at its servers or directories, and writes, reads and removes an
/// entry in the cache. Exit code 6 if a check fails.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    detail: String,
}

impl Check {
    fn new(name: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            detail: detail.into(),
        }
    }
}

pub(crate) async fn run(_args: &Args, global: &GlobalArgs, output: &mut Output) -> Outcome {
    let (checks, asked) = examine(global).await;
    let healthy = checks.iter().all(|check| check.status != Status::Fail);
    if output.is_json() {
        let nodes = nodes::fields(&asked);
        output.json(&json!({"healthy": healthy, "checks": checks, "nodes": nodes}))?;
    } else {
        for check in &checks {
            output.line(describe(check, global.color.for_stdout()))?;
        }
    }
    Ok(if healthy { Exit::Ok } else { Exit::Unhealthy })
}

/// Makes the checks in the order in which one needs the other.
async fn examine(global: &GlobalArgs) -> (Vec<Check>, Vec<StoreNodes>) {
    let mut checks = vec![clock()];
    let loaded = match open::load(global) {
        Ok(loaded) => loaded,
        Err(failure) => {
            checks.push(Check::new("configuration", Status::Fail, failure.message()));
            return (checks, Vec::new());
        }
    };
    checks.extend(configuration(&loaded));
    let places = disk::places(&loaded.config);
    let asked = Larder::nodes_of(&loaded).await;
    let stores = stores::check_all(&loaded, &asked, &global.cache).await;
    // After opening, which creates the directories.
    checks.extend(places.iter().flat_map(disk::check));
    checks.extend(stores);
    (checks, asked)
}

fn configuration(loaded: &Loaded) -> Vec<Check> {
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no file; the defaults and the environment".to_owned(),
    };
    let mut checks = vec![Check::new("configuration", Status::Ok, file)];
    let warnings = loaded.warnings.iter();
    checks.extend(warnings.map(|warning| Check::new("configuration", Status::Warn, warning)));
    checks
}

fn clock() -> Check {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(now) if now >= EARLIEST => Check::new("clock", Status::Ok, "plausible"),
        _ => Check::new(
            "clock",
            Status::Fail,
            "the system's clock is years behind: entries will expire at the wrong time",
        ),
    }
}

fn describe(check: &Check, colored: bool) -> String {
    let (word, color) = match check.status {
        Status::Ok => ("ok  ", 32),
        Status::Warn => ("warn", 33),
        Status::Fail => ("fail", 31),
    };
    let word = if colored {
        format!("\x1b[{color}m{word}\x1b[0m")
    } else {
        word.to_owned()
    };
    format!("{word}  {}: {}", check.name, check.detail)
}
