//! How many tests passed, failed and were skipped, read from what the test runners print.
//!
//! Both formats are meant for people, so the parsers accept only the one line they know and count every word they do
//! not know as a failure: a new kind of bad ending must not look green.

use std::fmt;
use std::ops::AddAssign;

/// Tests by outcome; displays as the one line that ends a test run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Tells whether tests ran, all of them, and all passed.
    pub(crate) fn is_green(self) -> bool {
        self.passed > 0 && self.failed == 0 && self.skipped == 0
    }

    /// Says what is wrong, if anything is.
    pub(crate) fn complaint(self) -> Option<String> {
        match self {
            _ if self.is_green() => None,
            Self { failed: 1.., .. } => Some(format!("{} failed", self.failed)),
            Self { skipped: 1.., .. } => Some(format!(
                "{} skipped or ignored, and no test may be",
                self.skipped
            )),
            Self { .. } => Some("no test ran".to_owned()),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Reads the line that ends a nextest run: `Summary [ 0.1s] 3 tests run: 2 passed (1 slow), 1 failed, 0 skipped`.
pub(crate) fn of_nextest(line: &str) -> Option<Counts> {
    let line = without_colors(line);
    let (_, rest) = line.trim().strip_prefix("Summary [")?.split_once("] ")?;
    let (run, outcomes) = rest.split_once("run: ")?;
    let mut counts = Counts {
        skipped: not_run(run)?,
        ..Counts::default()
    };
    for (number, outcome) in items(&outcomes_only(outcomes)) {
        match outcome.as_str() {
            "passed" => counts.passed += number,
            "skipped" => counts.skipped += number,
            _ => counts.failed += number,
        }
    }
    Some(counts)
}

/// Reads the line that ends one libtest binary: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
pub(crate) fn of_libtest(line: &str) -> Option<Counts> {
    let line = without_colors(line);
    let (_, outcomes) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for (number, outcome) in items(outcomes) {
        match outcome.as_str() {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            "ignored" => counts.skipped += number,
            _ => {}
        }
    }
    Some(counts)
}

/// Returns how many tests an early end left out: 7 for `5/12 tests`, 0 for `12 tests`.
fn not_run(text: &str) -> Option<u64> {
    let number = text.split_whitespace().next()?;
    let Some((run, total)) = number.split_once('/') else {
        return Some(0);
    };
    total.parse::<u64>().ok()?.checked_sub(run.parse().ok()?)
}

/// Drops what nextest adds in parentheses, such as `(1 slow, 1 leaky)`: those tests are already counted.
fn outcomes_only(text: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::new();
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(letter),
            _ => {}
        }
    }
    kept
}

/// Splits `2 passed, 1 timed out` or `2 passed; 1 failed` into numbers and words.
fn items(text: &str) -> Vec<(u64, String)> {
    let parts = text
        .split([',', ';'])
        .filter_map(|item| item.trim().split_once(' '));
    parts
        .filter_map(|(number, word)| Some((number.parse().ok()?, word.trim().to_owned())))
        .collect()
}

/// Drops the ANSI colour sequences: escape, `[`, parameters, a letter.
fn without_colors(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(
            part.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic())
                .get(1..)
                .unwrap_or_default(),
        );
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
        Some(Counts {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn nextest_summary_is_read_with_all_its_variants() {
        let read = |text: &str| of_nextest(&format!("     Summary [   0.068s] {text}"));
        assert_eq!(read("12 tests run: 12 passed, 0 skipped"), counts(12, 0, 0));
        assert_eq!(read("1 test run: 1 passed, 3 skipped"), counts(1, 0, 3));
        assert_eq!(
            read("3 tests run: 2 passed (1 slow, 1 leaky), 1 failed, 2 skipped"),
            counts(2, 1, 2)
        );
        assert_eq!(
            read("4 tests run: 1 passed, 1 exec failed, 2 timed out, 0 skipped"),
            counts(1, 3, 0)
        );
        assert_eq!(
            read("5/12 tests run: 4 passed, 1 failed, 1 skipped"),
            counts(4, 1, 8)
        );
        assert_eq!(read("0 tests run: 0 passed, 4 skipped"), counts(0, 0, 4));
    }

    #[test]
    fn colors_do_not_matter() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.004s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \
                    \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        assert_eq!(of_nextest(line), counts(2, 0, 0));
        let line = "test result: \u{1b}[32mok\u{1b}[0m. 1 passed; 0 failed; 0 ignored";
        assert_eq!(of_libtest(line), counts(1, 0, 0));
    }

    #[test]
    fn libtest_result_is_read_and_filtered_tests_do_not_count() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 40 filtered out; finished in 0.01s";
        assert_eq!(of_libtest(line), counts(3, 2, 1));
    }

    #[test]
    fn other_lines_are_no_result() {
        for line in [
            "",
            "running 3 tests",
            "test a ... ok",
            "    test result: ok. 1 passed",
            "Summary of changes",
        ] {
            assert_eq!(of_libtest(line), None);
            assert_eq!(of_nextest(line), None);
        }
    }

    #[test]
    fn only_tests_that_all_passed_are_green() {
        assert!(counts(1, 0, 0).is_some_and(Counts::is_green));
        for bad in [counts(0, 0, 0), counts(5, 1, 0), counts(5, 0, 1)] {
            assert!(bad.is_some_and(|counts| !counts.is_green() && counts.complaint().is_some()));
        }
    }

    #[test]
    fn summary_line_has_three_numbers() {
        let mut total = Counts {
            passed: 1,
            failed: 2,
            skipped: 3,
        };
        total += Counts {
            passed: 10,
            failed: 20,
            skipped: 30,
        };
        assert_eq!(total.to_string(), "11 passed, 22 failed, 33 skipped");
    }
}
