//! `larder cache set`: stores a value.

use std::ffi::OsString;

use larder::Ttl;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::{KeyArg, decode_base64, parse_ttl, value_bytes};
use crate::json::KeyFields;
use crate::session::Session;

/// Stores bytes as they are given. Applications read text as a string, JSON as any type, other bytes as bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
    /// The value; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    /// How long it lives: seconds, 250ms, 10m, 1h30m, 7d or `forever`; default the cache's
    #[arg(long, value_parser = parse_ttl, allow_hyphen_values = true)]
    ttl: Option<Ttl>,
    /// The value is given in base64
    #[arg(long, conflicts_with = "json_value")]
    base64: bool,
    /// The value is JSON: refuse it if it is not, and store it as application/json
    #[arg(long, conflicts_with = "content_type")]
    json_value: bool,
    /// The media type of the value; default text if it is UTF-8, else binary
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// What the entry depends on, separated by commas: see `larder tag invalidate`
    #[arg(long, value_name = "TAG,..", value_delimiter = ',')]
    tags: Vec<String>,
    /// As --tags, one tag that may hold commas; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tag: Vec<String>,
    /// Store only if there is no entry; else exit code 1
    #[arg(long)]
    if_absent: bool,
}

#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    key: KeyFields,
    stored: bool,
}

pub(crate) async fn run(args: Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    let value = value(&args)?;
    let mut set = session.cache.set_raw(&key, value);
    let tags = args.tags.iter().chain(&args.tag);
    set = set.tags(tags);
    if let Some(ttl) = args.ttl {
        set = set.ttl(ttl);
    }
    if args.if_absent {
        set = set.if_absent();
    }
    if args.json_value {
        set = set.content_type("application/json");
    } else if let Some(content_type) = args.content_type {
        set = set.content_type(content_type);
    }
    if !set.await? {
        let message = format!("there is an entry {:?} already", escape::text(&key));
        return Err(Failure::new(Exit::Failed, "present", message));
    }
    if session.output.is_json() {
        let key = KeyFields::new(&key);
        session.output.json(&Printed { key, stored: true })?;
    }
    Ok(Exit::Ok)
}

fn value(args: &Args) -> Outcome<Vec<u8>> {
    let value = value_bytes(&args.value)?;
    if args.base64 {
        return decode_base64(&value, "the value");
    }
    if args.json_value {
        serde_json::from_slice::<IgnoredAny>(&value)
            .map_err(|error| Failure::usage(format!("the value is not JSON: {error}")))?;
    }
    Ok(value)
}
