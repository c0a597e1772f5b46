//! `larder cache export`: writes the entries of a cache to a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::json;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::progress::{self, Total};
use crate::session::Session;
use crate::transfer::{self, EntryLine, Header, Trailer};

/// Keys asked for in one round trip.
const PAGE_KEYS: usize = 256;

/// Writes one JSON object per line. A file appears under its name only when it is complete.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Only the entries whose keys match
    #[arg(long, default_value = "*")]
    pattern: OsString,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    session.needs_listing("its entries can only be read one by one, by their names")?;
    if args.file.as_os_str() == "-" {
        session.output.flush()?;
        let mut stdout = BufWriter::new(io::stdout());
        let entries = write(args, session, &mut stdout).await?;
        stdout.flush()?;
        session
            .output
            .note(format_args!("{entries} entries exported"));
        return Ok(Exit::Ok);
    }
    let partial = partial_name(&args.file);
    let written = write_file(args, session, &partial).await;
    let entries = match written {
        Ok(entries) => entries,
        Err(failure) => {
            // The file has no other use; a failure to remove it is not the news.
            let _ = fs::remove_file(&partial);
            return Err(failure);
        }
    };
    let shown = args.file.display().to_string();
    let text = format!("{entries} entries exported to {shown}");
    if session.output.is_json() {
        let printed = json!({"exported": entries, "file": shown});
        session.output.json(&printed)?;
    } else {
        session.output.note(text);
    }
    Ok(Exit::Ok)
}

fn partial_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    name.into()
}

async fn write_file(args: &Args, session: &Session<'_>, partial: &Path) -> Outcome<u64> {
    let create = |error| Failure::failed(format!("cannot write {}: {error}", args.file.display()));
    let mut file = BufWriter::new(File::create(partial).map_err(create)?);
    let entries = write(args, session, &mut file).await?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(partial, &args.file).map_err(create)?;
    Ok(entries)
}

/// Writes header, entries and trailer; returns how many entries there are.
async fn write(args: &Args, session: &Session<'_>, sink: &mut impl Write) -> Outcome<u64> {
    let mut interrupt = Interrupt::listen()?;
    let (cache, pattern) = (&session.cache, args.pattern.as_bytes());
    let bar = progress_bar(session, pattern).await?;
    // A store that fails at once must not leave half a file behind.
    let (mut keys, mut cursor) = cache.keys_page(pattern, None, PAGE_KEYS).await?;
    transfer::write_line(sink, &Header::new(cache.name()))?;
    let mut entries = 0;
    loop {
        for scanned in keys {
            // An entry that expired since the listing is left out.
            if let Some(line) = EntryLine::read(cache, scanned.key.as_bytes()).await? {
                transfer::write_line(sink, &line)?;
                entries += 1;
            }
        }
        bar.set_position(entries);
        if cursor.is_none() {
            break;
        }
        if interrupt.has_come().await {
            let message = "interrupted: the export is incomplete";
            return Err(Failure::interrupted(message));
        }
        (keys, cursor) = cache.keys_page(pattern, cursor, PAGE_KEYS).await?;
    }
    transfer::write_line(sink, &Trailer { entries })?;
    bar.finish_and_clear();
    Ok(entries)
}

/// Starts a bar; entries are counted only for someone who watches.
async fn progress_bar(session: &Session<'_>, pattern: &[u8]) -> Outcome<ProgressBar> {
    let bar = progress::bar(session.global, "export", Total::Entries(0));
    if !bar.is_hidden() {
        bar.set_length(session.cache.count(pattern).await?);
    }
    Ok(bar)
}
