//! `larder tag invalidate`, and `larder cache clear --tag`: makes the entries with some tags absent.

use larder::Key;
use serde_json::{Value, json};

use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::json::KeyFields;
use crate::session::Session;

/// At once, however many entries there are. Never asks: what is gone is loaded again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tags; `user:123:*` for all tags below `user:123`, or any other pattern
    #[arg(value_name = "TAG", required_unless_present = "groups")]
    tags: Vec<String>,
    /// The tags of this group of the configuration, too
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// List up to so many keys that depended on each tag
    #[arg(long, value_name = "N")]
    keys: Option<usize>,
    /// Only mark the entries stale: they may be served while one caller loads them anew
    #[arg(long)]
    stale: bool,
    /// Only list the keys that would go
    #[arg(long)]
    dry_run: bool,
}

/// What is about to be invalidated.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) tags: Vec<String>,
    /// How many keys to list; `None`: all in a dry run, else none.
    pub(crate) keys: Option<usize>,
    pub(crate) stale: bool,
    pub(crate) dry_run: bool,
}

/// What becomes of a tag, or would.
struct Done {
    tag: String,
    existed: bool,
    keys: Option<Vec<Key>>,
}

pub(crate) async fn run(args: Args, session: &mut Session<'_>) -> Outcome {
    let mut tags = args.tags;
    for group in &args.groups {
        tags.extend(session.cache.group_tags(group)?);
    }
    let request = Request {
        tags,
        keys: args.keys,
        stale: args.stale,
        dry_run: args.dry_run,
    };
    invalidate(request, session).await
}

/// Invalidates tags, or shows what would go, and prints the outcome.
pub(crate) async fn invalidate(mut request: Request, session: &mut Session<'_>) -> Outcome {
    super::needs_tags(session)?;
    if request.keys == Some(0) {
        let message = "a list of zero keys shows nothing: leave --keys out";
        return Err(Failure::usage(message));
    }
    if request.dry_run || request.keys.is_some() {
        super::needs_tag_listing(session)?;
    }
    let mut seen = Vec::new();
    request.tags.retain(|tag| {
        let is_new = !seen.contains(tag);
        seen.push(tag.clone());
        is_new
    });
    // One more than is shown, to know whether there are more.
    let listed = request.keys.map(|limit| limit.saturating_add(1));
    let (done, parts) = if request.dry_run {
        let would = look(session, &request.tags, listed.unwrap_or(usize::MAX)).await?;
        (would, None)
    } else {
        let mut invalidation = match request.stale {
            true => session.cache.mark_stale_tags(&request.tags),
            false => session.cache.invalidate_tags(&request.tags),
        };
        if let Some(limit) = listed {
            invalidation = invalidation.with_keys(limit);
        }
        let outcome = invalidation.await?;
        let done = outcome.tags.into_iter().map(|done| Done {
            tag: done.tag,
            existed: done.existed,
            keys: done.keys,
        });
        (done.collect(), Some(outcome.parts))
    };
    print(&request, &done, parts, session)
}

/// Lists what depends on the tags.
async fn look(session: &Session<'_>, tags: &[String], limit: usize) -> Outcome<Vec<Done>> {
    let mut found = Vec::with_capacity(tags.len());
    for tag in tags {
        let keys = session.cache.tag_keys(tag, limit).await?;
        found.push(Done {
            tag: tag.clone(),
            existed: !keys.is_empty(),
            keys: Some(keys),
        });
    }
    Ok(found)
}

fn print(
    request: &Request,
    done: &[Done],
    parts: Option<usize>,
    session: &mut Session<'_>,
) -> Outcome {
    let limit = request.keys.unwrap_or(usize::MAX);
    let dry_run = request.dry_run;
    if session.output.is_json() {
        let tags: Vec<_> = done.iter().map(|tag| tag.json(limit)).collect();
        let cache = session.cache.name().to_owned();
        let printed = json!({"cache": cache, "tags": tags, "parts": parts, "dry_run": dry_run});
        session.output.json(&printed)?;
        return Ok(Exit::Ok);
    }
    let verb = match (dry_run, request.stale) {
        (true, false) => "would invalidate",
        (true, true) => "would mark stale",
        (false, false) => "invalidated",
        (false, true) => "marked stale",
    };
    for tag in done {
        session.output.line(tag.describe(verb, limit))?;
    }
    Ok(Exit::Ok)
}

impl Done {
    fn json(&self, limit: usize) -> Value {
        let fields = |key: &Key| json!(KeyFields::new(key.as_bytes()));
        let shown = |keys: &Vec<Key>| keys.iter().take(limit).map(fields).collect::<Vec<_>>();
        let has_more = self.keys.as_ref().map(|keys| keys.len() > limit);
        json!({
            "tag": self.tag,
            "existed": self.existed,
            "keys": self.keys.as_ref().map(shown),
            "more": has_more,
        })
    }

    /// Returns a line on the tag, and one on each key.
    fn describe(&self, verb: &str, limit: usize) -> String {
        let mut text = format!("{verb} {}", escape::text(self.tag.as_bytes()));
        if !self.existed {
            text.push_str(": nothing depends on it");
        }
        for key in self.keys.iter().flatten().take(limit) {
            text.push_str(&format!("\n  {}", escape::text(key.as_bytes())));
        }
        if self.keys.as_ref().is_some_and(|keys| keys.len() > limit) {
            text.push_str("\n  and more");
        }
        text
    }
}
