//! `larder lock list`: the locks in use.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use larder::Glob;
use larder::lock::LockStatus;
use serde_json::json;

use super::shown::{self, LockFields};
use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::table::{self, Table};

const HEADER: [&str; 6] = ["NAME", "OWNER", "FENCE", "HELD FOR", "TTL LEFT", "WAITERS"];
/// The columns of words.
const WORDS: usize = 2;

/// Prints a line for each holder; a name that some wait for and nobody holds has dashes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which names: `*` any bytes, `?` one byte, `[a-z]` one of these, `\` takes the next one literally
    #[arg(default_value = "*")]
    pattern: OsString,
    /// List semaphores instead of locks
    #[arg(long)]
    semaphores: bool,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let pattern = Glob::new(args.pattern.as_bytes())?;
    let locks = session.cache.locks();
    let listed = if args.semaphores {
        locks.list_semaphores().await
    } else {
        locks.list_matching(&pattern).await
    };
    let Some(mut listed) = super::if_listed(listed)? else {
        let store = session.cache.store_name();
        let message = format!(
            "{store} cannot list its locks: `larder lock release NAME` takes one from its holder by its name"
        );
        return Err(Failure::new(Exit::Failed, "unsupported", message));
    };
    listed.retain(|lock| pattern.matches(lock.name.as_bytes()));
    if session.output.is_json() {
        let fields: Vec<_> = listed.iter().map(LockFields::new).collect();
        session.output.json(&json!({"locks": fields}))?;
    } else if listed.is_empty() {
        let what = if args.semaphores { "semaphore" } else { "lock" };
        session.output.note(format_args!("no {what} is in use"));
    } else {
        session.output.line(table(&listed).render())?;
    }
    Ok(Exit::Ok)
}

fn table(locks: &[LockStatus]) -> Table {
    let mut table = Table::new(&HEADER).left(WORDS);
    for lock in locks {
        let name = escape::text(lock.name.as_bytes());
        let waiters = lock.waiters.to_string();
        let row = |cells: [String; 4]| {
            let [owner, fence, held, left] = cells;
            vec![name.clone(), owner, fence, held, left, waiters.clone()]
        };
        for holder in &lock.holders {
            table.row(row([
                shown::owner(holder),
                table::number(Some(holder.fence)),
                shown::time(holder.held_ms),
                shown::time(holder.left_ms),
            ]));
        }
        if lock.holders.is_empty() {
            table.row(row(std::array::from_fn(|_| "-".to_owned())));
        }
    }
    table
}
