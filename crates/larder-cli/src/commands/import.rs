//! `larder cache import`: reads entries from a file that `export` wrote.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use serde_json::json;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::progress::{self, Total};
use crate::session::Session;
use crate::transfer::{Batch, Conflict, Parser, Reader};

/// Stores one entry after the other; each keeps the TTL that it had left when it was exported.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Replace entries that are there already (the default)
    #[arg(long, conflicts_with = "skip_existing")]
    replace: bool,
    /// Leave entries alone that are there already
    #[arg(long)]
    skip_existing: bool,
}

/// What an import has done so far.
#[derive(Debug, Default)]
struct Progress {
    imported: u64,
    skipped: u64,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    let (reader, total) = open(args)?;
    let bar = progress::bar(session.global, "import", total);
    let mut done = Progress::default();
    let outcome = import(args, session, reader, &mut done, |bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    if let Err(failure) = outcome {
        let kept = format!(
            "{} entries were imported before and are kept",
            done.imported
        );
        return Err(failure.after(&kept));
    }
    let printed = json!({"imported": done.imported, "skipped": done.skipped});
    if session.output.is_json() {
        session.output.json(&printed)?;
    } else {
        let Progress { imported, skipped } = done;
        session.output.note(format_args!(
            "{imported} entries imported, {skipped} skipped"
        ));
    }
    Ok(Exit::Ok)
}

fn open(args: &Args) -> Outcome<(Reader, Total)> {
    if args.file.as_os_str() == "-" {
        return Ok((Reader::start(io::stdin())?, Total::Unknown));
    }
    let refuse = |error| Failure::failed(format!("cannot read {}: {error}", args.file.display()));
    let file = File::open(&args.file).map_err(refuse)?;
    let bytes = file.metadata().map_err(refuse)?.len();
    Ok((Reader::start(file)?, Total::Bytes(bytes)))
}

async fn import(
    args: &Args,
    session: &Session<'_>,
    mut reader: Reader,
    done: &mut Progress,
    advance: impl Fn(u64),
) -> Outcome<()> {
    let mut interrupt = Interrupt::listen()?;
    let mut parser = Parser::default();
    loop {
        let batch = tokio::select! {
            biased;
            () = interrupt.requested() => return Err(Failure::interrupted("interrupted")),
            batch = reader.next() => batch?,
        };
        let Some(batch) = batch else {
            return parser.finish();
        };
        advance(batch.bytes);
        store(args, session, &mut parser, batch, done).await?;
        // Lets the runtime notice a signal even while input never runs out.
        tokio::task::yield_now().await;
    }
}

async fn store(
    args: &Args,
    session: &Session<'_>,
    parser: &mut Parser,
    batch: Batch,
    done: &mut Progress,
) -> Outcome<()> {
    let conflict = if args.skip_existing {
        Conflict::Skip
    } else {
        Conflict::Replace
    };
    for line in batch.lines {
        let Some(entry) = parser.entry(&line)? else {
            continue;
        };
        let stored = entry.store(&session.cache, conflict).await;
        match stored.map_err(|failure| parser.place(&failure))? {
            true => done.imported += 1,
            false => done.skipped += 1,
        }
    }
    Ok(())
}
