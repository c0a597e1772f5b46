//! A progress bar on standard error, for people only.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::GlobalArgs;

const ENTRIES: &str = "{msg} {wide_bar} {human_pos}/{human_len} {eta}";
const BYTES: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
const UNKNOWN: &str = "{msg} {spinner} {human_pos}";

/// What a bar counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Total {
    Entries(u64),
    Bytes(u64),
    /// Entries, nobody knows how many.
    Unknown,
}

/// Starts a bar; a hidden one unless a person watches.
pub(crate) fn bar(global: &GlobalArgs, message: &'static str, total: Total) -> ProgressBar {
    if global.quiet || global.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (length, template) = match total {
        Total::Entries(length) => (Some(length), ENTRIES),
        Total::Bytes(length) => (Some(length), BYTES),
        Total::Unknown => (None, UNKNOWN),
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message(message)
}
