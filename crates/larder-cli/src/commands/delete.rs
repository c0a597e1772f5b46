//! `larder cache delete`: removes the named entries.

use std::ffi::OsString;

use serde_json::json;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::key_bytes;
use crate::session::Session;

/// Prints how many entries there were; exit code 3 if there was none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<OsString>,
    /// The keys are given in base64
    #[arg(long)]
    key_base64: bool,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let keys = args.keys.iter().map(|key| key_bytes(key, args.key_base64));
    let keys = keys.collect::<Outcome<Vec<_>>>()?;
    let deleted = session.cache.delete_many(&keys).await?;
    session
        .output
        .result(deleted, &json!({"deleted": deleted}))?;
    match keys.as_slice() {
        _ if deleted > 0 => Ok(Exit::Ok),
        [key] => Err(Failure::missing(key)),
        _ => Err(Failure::new(
            Exit::Missing,
            "miss",
            "there is none of these entries",
        )),
    }
}
