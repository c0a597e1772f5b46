//! `larder cache keys`: lists keys.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use larder::Cache;
use larder::store::ScannedKey;
use serde::Serialize;

use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::json::KeyFields;
use crate::session::Session;
use crate::table;

/// Keys asked for in one round trip.
const PAGE_KEYS: usize = 500;

/// Prints one key per line, as it is; on a terminal control characters are escaped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which keys: `*` any bytes, `?` one byte, `[a-z]` one of these, `\` takes the next one literally
    #[arg(default_value = "*")]
    pattern: OsString,
    /// Print at most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on where a listing with --limit ended
    #[arg(long)]
    cursor: Option<String>,
    /// Print size and TTL too
    #[arg(long)]
    long: bool,
}

#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    key: KeyFields,
    bytes: u64,
    ttl_ms: Option<u64>,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let cursor = args.cursor.as_deref().map(decode_cursor).transpose()?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    if left == 0 {
        return Err(Failure::usage("a limit of zero lists nothing"));
    }
    session.needs_listing("`larder cache get KEY` reads an entry by its name")?;
    let pattern = args.pattern.as_bytes();
    let page = async |cache: &Cache, cursor, left: usize| {
        cache.keys_page(pattern, cursor, left.min(PAGE_KEYS)).await
    };
    // A store that fails at once must not leave half a document behind.
    let (mut keys, mut cursor) = page(&session.cache, cursor, left).await?;
    let mut printer = Printer::start(args, session)?;
    loop {
        left = left.saturating_sub(keys.len());
        for key in &keys {
            printer.print(key)?;
        }
        if cursor.is_none() || left == 0 {
            return printer.finish(cursor.as_ref());
        }
        (keys, cursor) = page(&printer.session.cache, cursor, left).await?;
    }
}

/// Prints keys as they come; under `--json` as one object that is valid once finished.
struct Printer<'a, 's> {
    args: &'a Args,
    session: &'a mut Session<'s>,
    printed: u64,
    now_ms: u64,
}

impl<'a, 's> Printer<'a, 's> {
    fn start(args: &'a Args, session: &'a mut Session<'s>) -> Outcome<Self> {
        if session.output.is_json() {
            session.output.bytes(b"{\"keys\":[")?;
        } else if args.long {
            session
                .output
                .line(format_args!("{:>12}  {:>12}  KEY", "STORED", "TTL"))?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| now.as_millis() as u64);
        Ok(Self {
            args,
            session,
            printed: 0,
            now_ms,
        })
    }

    fn print(&mut self, scanned: &ScannedKey) -> Outcome<()> {
        let output = &mut self.session.output;
        let ttl_ms = scanned
            .expires_at_ms
            .map(|at| at.saturating_sub(self.now_ms));
        let key = scanned.key.as_bytes();
        self.printed += 1;
        if output.is_json() {
            if self.printed > 1 {
                output.bytes(b",")?;
            }
            return Ok(output.json(&Printed {
                key: KeyFields::new(key),
                bytes: scanned.bytes,
                ttl_ms,
            })?);
        }
        if self.args.long {
            let ttl = ttl_ms.map_or_else(|| "forever".to_owned(), |ms| format!("{}s", ms / 1000));
            let stored = table::bytes(scanned.bytes);
            output.bytes(format!("{stored:>12}  {ttl:>12}  ").as_bytes())?;
        }
        if output.is_terminal() {
            output.line(escape::text(key))?;
        } else {
            output.bytes(key)?;
            output.bytes(b"\n")?;
        }
        Ok(())
    }

    fn finish(self, cursor: Option<&Bytes>) -> Outcome {
        let output = &mut self.session.output;
        let cursor = cursor.map(|cursor| URL_SAFE_NO_PAD.encode(cursor));
        if output.is_json() {
            output.bytes(b"],\"cursor\":")?;
            output.json(&cursor)?;
            // `json` ends each line, so the object is closed on a line of its own.
            output.line("}")?;
        } else if let Some(cursor) = cursor {
            output.flush()?;
            output.note(format_args!("more with --cursor={cursor}"));
        }
        Ok(Exit::Ok)
    }
}

fn decode_cursor(cursor: &str) -> Outcome<Bytes> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor);
    bytes
        .map(Bytes::from)
        .map_err(|_not_base64| Failure::usage("this is no cursor of an earlier listing"))
}
