//! `larder tag stats`: how many entries carry which tags.

use serde_json::json;

use crate::escape;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::session::Session;
use crate::table::Table;

/// Reads every entry of the cache. The tags with the most entries come first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print at most so many tags
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    super::needs_tags(session)?;
    session.needs_listing("`larder cache inspect KEY` prints the tags of an entry")?;
    let mut stats = session.cache.tag_stats().await?;
    let total_tags = stats.tags.len();
    stats.tags.truncate(args.top);
    if session.output.is_json() {
        let printed = json!({
            "cache": session.cache.name(),
            "total_tags": total_tags,
            "total_tagged_keys": stats.tagged_keys,
            "tags": stats.tags,
        });
        session.output.json(&printed)?;
        return Ok(Exit::Ok);
    }
    if total_tags > 0 {
        let mut table = Table::new(&["TAG", "KEYS"]);
        for tag in &stats.tags {
            let name = escape::text(tag.tag.as_bytes());
            table.row(vec![name, tag.keys.to_string()]);
        }
        session.output.line(table.render())?;
        session.output.flush()?;
    }
    let entries = stats.tagged_keys;
    let note = format!("{total_tags} tags on {entries} entries");
    session.output.note(note);
    Ok(Exit::Ok)
}
