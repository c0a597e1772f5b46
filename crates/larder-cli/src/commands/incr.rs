//! `larder cache incr`: adds to a counter.

use larder::Ttl;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Outcome;
use crate::input::{KeyArg, parse_ttl};
use crate::json::KeyFields;
use crate::session::Session;

/// Adds atomically and prints the new value; an absent counter starts at 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
    /// How much to add; may be negative
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    by: i64,
    /// How long a counter lives that this creates; default the cache's
    #[arg(long, value_parser = parse_ttl, allow_hyphen_values = true)]
    ttl: Option<Ttl>,
}

#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    key: KeyFields,
    value: i64,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    let increment = session.cache.increment(&key, args.by);
    let value = increment.ttl(args.ttl.unwrap_or_default()).await?;
    let printed = Printed {
        key: KeyFields::new(&key),
        value,
    };
    session.output.result(value, &printed)?;
    Ok(Exit::Ok)
}
