//! `larder cache expire`: changes how long an entry will live.

use larder::Ttl;

use super::ttl::Printed;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::{KeyArg, parse_ttl};
use crate::json::{KeyFields, ttl_ms};
use crate::session::Session;

/// Counts from now on; exit code 3 if there is no entry.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
    /// Seconds, 250ms, 10m, 1h30m, 7d or `forever`
    #[arg(value_parser = parse_ttl, allow_negative_numbers = true)]
    ttl: Ttl,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    if !session.cache.expire(&key, args.ttl).await? {
        return Err(Failure::missing(&key));
    }
    if session.output.is_json() {
        let left = session.cache.ttl(&key).await?;
        session.output.json(&Printed {
            key: KeyFields::new(&key),
            ttl_ms: ttl_ms(left),
        })?;
    }
    Ok(Exit::Ok)
}
