//! `larder tag list`: the tags that entries may carry, and the groups of tags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use larder::Glob;
use serde_json::json;

use crate::escape;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::session::Session;

/// Prints one tag per line: all that entries carry, and some that only former ones did.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which tags, or groups: `*` any bytes, `?` one byte, `[a-z]` one of these, `\` takes the next one literally
    #[arg(default_value = "*")]
    pattern: OsString,
    /// List the groups of tags that are configured instead, with their tags
    #[arg(long)]
    groups: bool,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let pattern = Glob::new(args.pattern.as_bytes())?;
    if args.groups {
        let mut groups = session.cache.tag_groups();
        groups.retain(|name, _| pattern.matches(name.as_bytes()));
        return print_groups(&groups, session);
    }
    super::needs_tag_listing(session)?;
    let mut tags = session.cache.tag_names().await?;
    tags.retain(|tag| pattern.matches(tag.as_bytes()));
    if session.output.is_json() {
        session.output.json(&json!({"tags": tags}))?;
        return Ok(Exit::Ok);
    }
    for tag in &tags {
        session.output.line(escape::text(tag.as_bytes()))?;
    }
    if tags.is_empty() {
        session.output.note("no tag is in use");
    }
    Ok(Exit::Ok)
}

fn print_groups(groups: &BTreeMap<String, Vec<String>>, session: &mut Session<'_>) -> Outcome {
    if session.output.is_json() {
        session.output.json(&json!({"groups": groups}))?;
        return Ok(Exit::Ok);
    }
    for (name, tags) in groups {
        let (name, tags) = (name.as_bytes(), tags.join(", "));
        let line = format!("{}: {}", escape::text(name), escape::text(tags.as_bytes()));
        session.output.line(line)?;
    }
    if groups.is_empty() {
        session
            .output
            .note("there is no group of tags: [tags.groups] of the configuration defines them");
    }
    Ok(Exit::Ok)
}
