//! `larder cache has`: tells whether an entry is there.

use larder::TimeLeft;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Outcome;
use crate::input::KeyArg;
use crate::json::KeyFields;
use crate::session::Session;

/// Prints `true` or `false`; exit code 0 or 3.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
}

#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    key: KeyFields,
    present: bool,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let key = args.key.bytes()?;
    let present = session.cache.ttl(&key).await? != TimeLeft::Missing;
    if !present {
        let failure = session.why_absent(&key).await;
        if failure.exit() != Exit::Missing {
            return Err(failure);
        }
    }
    let printed = Printed {
        key: KeyFields::new(&key),
        present,
    };
    session.output.result(present, &printed)?;
    Ok(if present { Exit::Ok } else { Exit::Missing })
}
