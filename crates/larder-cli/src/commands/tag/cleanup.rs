//! `larder tag cleanup`: removes what invalidations left, and lets tags go that nothing carries.

use std::time::Duration;

use larder::cache::CleanupReport;
use larder::{format_duration, parse_duration};
use serde_json::json;

use crate::escape;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::session::Session;

/// One process at a time does it; exit code 1 while another one does, or less than 10 seconds after one began.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long a tag that nothing carries is kept yet: at least 1h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "7d")]
    max_age: Duration,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    super::needs_tag_listing(session)?;
    let mut cleanup = session.cache.cleanup_tags().max_tag_age(args.max_age);
    if args.dry_run {
        cleanup = cleanup.dry_run();
    }
    let report = cleanup.await?;
    if session.output.is_json() {
        let printed = json!({
            "cache": session.cache.name(),
            "keys": report.keys,
            "tags": report.tags,
            "names": report.names,
            "dry_run": args.dry_run,
        });
        session.output.json(&printed)?;
        return Ok(Exit::Ok);
    }
    session.output.line(describe(&report, args))?;
    for name in &report.names {
        let name = escape::text(name.as_bytes());
        session.output.line(format!("  {name}"))?;
    }
    if (report.names.len() as u64) < report.tags {
        session.output.line("  and more")?;
    }
    Ok(Exit::Ok)
}

fn describe(report: &CleanupReport, args: &Args) -> String {
    let CleanupReport { keys, tags, .. } = report;
    let (verb, age) = match args.dry_run {
        true => ("would remove", format_duration(args.max_age)),
        false => ("removed", format_duration(args.max_age)),
    };
    match tags {
        0 => format!("{verb} {keys} entries; every tag is in use or goes by itself"),
        _ => format!(
            "{verb} {keys} entries; {tags} tags that nothing carries go in {age} unless they are used"
        ),
    }
}
