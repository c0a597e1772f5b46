//! How long storms are, and the row that each of them prints.

use std::fmt::Display;
use std::io::Write as _;

/// Says how many trials the longest of the long forms has.
const TRIALS: &str = "LARDER_TEST_COHERENCE_TRIALS";
/// Names a file that gets a row for each storm.
const ROWS: &str = "LARDER_TEST_STORM_ROWS";

/// Returns how many trials there are: few in the suite, in the long form this part of all.
pub(crate) fn trials(few: u64, part: u64) -> u64 {
    let all = std::env::var(TRIALS).ok();
    all.map_or(few, |all| all.parse::<u64>().unwrap().div_ceil(part))
}

/// Returns whether times mean something.
pub(crate) fn is_long() -> bool {
    std::env::var_os(TRIALS).is_some()
}

/// Prints a row.
pub(crate) fn row(name: impl Display, figures: impl Display) {
    let row = format!("{name:<44} {figures}");
    println!("{row}");
    let Some(rows) = std::env::var_os(ROWS) else {
        return;
    };
    let mut options = std::fs::OpenOptions::new();
    let mut rows = options.create(true).append(true).open(rows).unwrap();
    writeln!(rows, "{row}").unwrap();
}

/// Returns the median and the greatest of some durations in ns, in ms.
pub(crate) fn times(mut times_ns: Vec<u64>) -> String {
    times_ns.sort_unstable();
    let ms = |ns: Option<&u64>| ns.map_or(0.0, |ns| *ns as f64 / 1e6);
    let median = ms(times_ns.get(times_ns.len() / 2));
    format!(
        "median {median:.1} ms, longest {:.1} ms",
        ms(times_ns.last())
    )
}
