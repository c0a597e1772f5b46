//! The file format of `export` and `import`: one JSON object per line.
//!
//! ```text
//! {"larder_export":1,"cache":"default","created_ms":1767225600000}
//! {"key":"user:1","kind":"raw","value":"Ann","content_type":"text/plain; charset=utf-8","ttl_ms":3599000}
//! {"key":"/w==","key_encoding":"base64","kind":"typed","content_type":"application/vnd.msgpack","sealed":"TFJE.."}
//! {"entries":2}
//! ```
//!
//! The last line tells a complete file from one that was cut off. `docs/program.md` describes every field.

mod entry;
mod parser;
mod reader;

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub(crate) use self::entry::{Conflict, EntryLine};
pub(crate) use self::parser::Parser;
pub(crate) use self::reader::{Batch, Reader};

/// The version of the format that we write and read.
const VERSION: u32 = 1;
/// The longest line that is read: a value of 64 MiB, escaped.
const MAX_LINE_BYTES: u64 = 160 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    larder_export: u32,
    cache: String,
    created_ms: u64,
}

impl Header {
    pub(crate) fn new(cache: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            larder_export: VERSION,
            cache: cache.to_owned(),
            created_ms: now.map_or(0, |now| now.as_millis() as u64),
        }
    }
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trailer {
    pub(crate) entries: u64,
}

pub(crate) fn write_line(sink: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *sink, line)?;
    sink.write_all(b"\n")
}
