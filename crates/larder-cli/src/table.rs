//! Columns for people.

use std::fmt::Write as _;

/// Rows of cells: the first column, or the first few, left, the others right aligned.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()],
            left: 1,
        }
    }

    /// Aligns the first `columns` to the left.
    pub(crate) fn left(mut self, columns: usize) -> Self {
        self.left = columns;
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Returns the rows as lines, without a line break at the end.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.rows[0].len()).map(|at| self.width(at)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                // Writing to a String cannot fail.
                let _ = if column < self.left {
                    write!(text, "{gap}{cell:<width$}")
                } else {
                    write!(text, "{gap}{cell:>width$}")
                };
            }
            text.truncate(text.trim_end_matches(' ').len());
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let widths = self
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        widths.max().unwrap_or_default()
    }
}

/// Returns names and what they stand for, a line each, without a line break at the end.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = pairs
        .iter()
        .map(|(name, what)| format!("{name:<width$}  {what}"))
        .collect();
    lines.join("\n")
}

/// Returns a number of bytes in the unit that suits it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{size:.1} {}", UNITS[unit]),
    }
}

/// Returns a ratio in percent.
pub(crate) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0))
}

/// Returns a number of bytes, or a dash where there is none.
pub(crate) fn size(size: Option<u64>) -> String {
    size.map_or_else(|| "-".to_owned(), bytes)
}

/// Returns a number, or a dash where there is none.
pub(crate) fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["CACHE", "HITS"]);
        table.row(vec!["default".into(), "12".into()]);
        assert_eq!(table.render(), "CACHE    HITS\ndefault    12");
        let mut table = Table::new(&["A", "B", "C"]).left(2);
        table.row(vec!["a".into(), "bb".into(), "cc".into()]);
        assert_eq!(table.render(), "A  B    C\na  bb  cc");
    }

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1 << 30), "1.0 GiB");
    }
}
