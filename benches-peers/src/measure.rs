//! Rounds, medians and the table.

use std::time::Instant;

/// Figures of one peer over the rounds.
pub struct Row {
    pub name: String,
    pub samples: Vec<f64>,
}

impl Row {
    pub fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn range(&self) -> (f64, f64) {
        let fold = |pick: fn(f64, f64) -> f64, start| self.samples.iter().copied().fold(start, pick);
        (fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY))
    }
}

/// Something to time: returns its figure for one round.
pub type Peer<'a> = (&'a str, Box<dyn FnMut() -> f64 + 'a>);

/// Runs each peer once per round, in turn.
pub fn rounds(rounds: usize, peers: &mut [Peer<'_>]) -> Vec<Row> {
    let mut rows: Vec<Row> = peers.iter().map(|(name, _)| Row { name: (*name).to_owned(), samples: Vec::new() }).collect();
    for _ in 0..rounds {
        for ((_, run), row) in peers.iter_mut().zip(&mut rows) {
            // Once before, so that each finds its own data in the processor's caches and not its predecessor's.
            run();
            row.samples.push(run());
        }
    }
    rows
}

/// Prints the rows with ratios to the first one.
pub fn print(title: &str, unit: &str, rows: &[Row]) {
    println!("\n{title} [{unit}]");
    let limit = rows[0].median();
    for row in rows {
        let (low, high) = row.range();
        let median = row.median();
        println!("  {:44} {median:10.2} ({low:.2}..{high:.2})   {:6.2} x", row.name, median / limit);
    }
}

/// Nanoseconds per operation.
pub fn nanos_per_op(ops: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / ops as f64
}

/// Prints whether a target is met.
pub fn target(what: &str, value: f64, bound: f64, at_most: bool) {
    let met = if at_most { value <= bound } else { value >= bound };
    let sign = if at_most { "<=" } else { ">=" };
    println!("  target: {what}: {value:.2} {sign} {bound:.2}: {}", if met { "met" } else { "MISSED" });
}
