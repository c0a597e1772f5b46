//! `larder lock release`: takes a lock from its holder.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use larder::lock::{HolderStatus, LockStatus};
use larder::{Glob, KeyRef};
use serde_json::json;
use tokio::time::timeout;

use super::shown::{self, NameFields};
use crate::confirm::{self, ConfirmArgs};
use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::decode_base64;
use crate::session::Session;

/// How long it may take to find out who holds the lock: a listing walks through the whole store, and an operator who
/// knows what to release must not wait for that.
const LOOK: Duration = Duration::from_secs(2);

/// Ends the lease of whoever holds the lock, and prints who that was. The holder's work is not stopped; it hears of the
/// loss at its next renewal or release, or from what refuses its fence. Exit code 3 if nobody holds it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the lock
    name: OsString,
    /// The name is given in base64
    #[arg(long)]
    name_base64: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let act = "this takes a lock from its holder";
    args.confirm.check(session.global, act, "who holds it")?;
    let name = args.name()?;
    let seen = Seen::look(session, &name).await?;
    if seen.is_free() {
        return Err(not_held(&name));
    }
    if args.confirm.dry_run {
        seen.print(session, Done::WouldRelease)?;
        return Ok(Exit::Ok);
    }
    if !args.confirm.yes {
        let what = format!("This takes away {}", seen.describe(session));
        confirm::ask(&what, "nothing was released")?;
        // The answer is about those who were shown, and it may have taken its time.
        if !Seen::look(session, &name).await?.has_same_holders(&seen) {
            let message = "the lock has another holder by now: nothing was released";
            return Err(Failure::refused(message));
        }
    }
    if !session.cache.locks().force_release(&name[..]).await? {
        return Err(not_held(&name));
    }
    seen.print(session, Done::Released)?;
    Ok(Exit::Ok)
}

impl Args {
    fn name(&self) -> Outcome<Vec<u8>> {
        let given = self.name.as_bytes();
        let name = if self.name_base64 {
            decode_base64(given, "the name")?
        } else {
            given.to_vec()
        };
        KeyRef::from(&name[..]).checked()?;
        Ok(name)
    }
}

fn not_held(name: &[u8]) -> Failure {
    let message = format!("nobody holds the lock {:?}", escape::text(name));
    Failure::new(Exit::Missing, "miss", message)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Released,
    WouldRelease,
}

/// A lock as it was found.
#[derive(Debug)]
struct Seen<'a> {
    name: &'a [u8],
    /// Holders and waiters; `None` where the store cannot list its locks, or not in time.
    known: Option<(Vec<HolderStatus>, u64)>,
}

impl<'a> Seen<'a> {
    async fn look(session: &Session<'_>, name: &'a [u8]) -> Outcome<Self> {
        let pattern = literally(name);
        let listing = timeout(LOOK, session.cache.locks().list_matching(&pattern));
        let Ok(listed) = listing.await else {
            return Ok(Self { name, known: None });
        };
        let known = super::if_listed(listed)?.map(|listed| {
            let is_it = |lock: &LockStatus| lock.name.as_bytes() == name;
            let found = listed.into_iter().find(is_it);
            found.map_or((Vec::new(), 0), |lock| (lock.holders, lock.waiters))
        });
        Ok(Self { name, known })
    }

    fn is_free(&self) -> bool {
        self.holders().is_some_and(<[_]>::is_empty)
    }

    fn holders(&self) -> Option<&[HolderStatus]> {
        self.known.as_ref().map(|(holders, _)| &holders[..])
    }

    /// Returns whether nobody else holds it now, as far as is known.
    fn has_same_holders(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.holders(), other.holders()) else {
            return true;
        };
        let fences = |holders: &[HolderStatus]| holders.iter().map(|holder| holder.fence).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = (fences(ours), fences(theirs));
        ours == theirs
    }

    /// Returns what is known of it as text of several lines.
    fn describe(&self, session: &Session<'_>) -> String {
        let (name, store) = (escape::text(self.name), session.cache.store_name());
        let Some((holders, waiters)) = &self.known else {
            return format!(
                "the lock {name} (store {store}); the store cannot tell who holds it now"
            );
        };
        let mut text = format!("the lock {name} (store {store})");
        for holder in holders {
            text.push_str(&format!("\n  held by {}", shown::holder(holder)));
        }
        text.push_str(&format!("\n  waiting: {waiters}"));
        text
    }

    fn print(&self, session: &mut Session<'_>, done: Done) -> Outcome<()> {
        let is_dry = done == Done::WouldRelease;
        let verb = if is_dry { "would release" } else { "released" };
        let text = format!("{verb} {}", self.describe(session));
        let mut printed = json!(NameFields::new(self.name));
        printed["store"] = json!(session.cache.store_name());
        printed["holders"] = json!(self.holders());
        printed["waiters"] = json!(self.known.as_ref().map(|(_, waiters)| waiters));
        printed["dry_run"] = json!(is_dry);
        Ok(session.output.result(text, &printed)?)
    }
}

/// Returns the pattern that matches this name; for one that is too long for it, the pattern that matches all.
fn literally(name: &[u8]) -> Glob {
    let mut pattern = Vec::with_capacity(2 * name.len());
    for &byte in name {
        if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    Glob::new(pattern).unwrap_or_else(|_too_long| Glob::all())
}
