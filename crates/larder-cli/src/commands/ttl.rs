//! `larder cache ttl`: prints how long an entry will live.

use larder::TimeLeft;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Outcome;
use crate::input::KeyArg;
use crate::json::{KeyFields, ttl_ms};
use crate::session::Session;

/// Prints whole seconds, rounded down, or `forever`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
}

/// The output of `--json` of `ttl` and `expire`.
#[derive(Debug, Serialize)]
pub(super) struct Printed {
    #[serde(flatten)]
    pub(super) key: KeyFields,
    pub(super) ttl_ms: Option<u64>,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    let left = session.cache.ttl(&key).await?;
    let text = match left {
        TimeLeft::Remaining(left) => left.as_secs().to_string(),
        TimeLeft::Forever => "forever".to_owned(),
        TimeLeft::Missing => return Err(session.why_absent(&key).await),
    };
    let printed = Printed {
        key: KeyFields::new(&key),
        ttl_ms: ttl_ms(left),
    };
    session.output.result(text, &printed)?;
    Ok(Exit::Ok)
}
