//! Where a setting lives: `stores.main.url`, and the patterns that the schema uses for many of them.

use std::cmp::Ordering;
use std::fmt;

/// The place of a setting, one segment for each table on the way; elements of lists count from 0.
///
/// Ordered as people read: `nodes.2` before `nodes.10`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SettingPath(Vec<String>);

impl SettingPath {
    /// Splits dotted text. Names hold no dots, so nothing needs quoting.
    pub(super) fn parse(dotted: &str) -> Self {
        Self(dotted.split('.').map(Into::into).collect())
    }

    pub(super) fn from_segments(segments: Vec<String>) -> Self {
        Self(segments)
    }

    pub(super) fn child(&self, segment: impl Into<String>) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment.into());
        Self(segments)
    }

    pub(super) fn parent(&self) -> Self {
        let end = self.0.len().saturating_sub(1);
        Self(self.0[..end].to_vec())
    }

    pub(super) fn segments(&self) -> &[String] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    pub(super) fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// Returns whether `pattern` describes exactly this path; `*` stands for any one segment.
    pub(super) fn matches(&self, pattern: &str) -> bool {
        self.len() == pattern.split('.').count() && self.begins(pattern)
    }

    /// Returns whether this path is a table on the way to what `pattern` describes.
    pub(super) fn leads_to(&self, pattern: &str) -> bool {
        self.len() < pattern.split('.').count() && self.begins(pattern)
    }

    fn begins(&self, pattern: &str) -> bool {
        self.0
            .iter()
            .zip(pattern.split('.'))
            .all(|(segment, expected)| expected == "*" || expected == segment)
    }
}

impl PartialOrd for SettingPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SettingPath {
    fn cmp(&self, other: &Self) -> Ordering {
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            let order = match (mine.parse::<u32>(), theirs.parse::<u32>()) {
                (Ok(mine_number), Ok(theirs_number)) => {
                    mine_number.cmp(&theirs_number).then(mine.cmp(theirs))
                }
                _ => mine.cmp(theirs),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        self.0.len().cmp(&other.0.len())
    }
}

impl fmt::Display for SettingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_elements_are_in_the_order_of_their_numbers() {
        let [second, tenth] =
            ["stores.wide.nodes.2.url", "stores.wide.nodes.10.url"].map(SettingPath::parse);
        assert!(second < tenth);
    }

    #[test]
    fn a_star_matches_one_segment() {
        let path = SettingPath::parse("stores.main.local.capacity");
        assert!(path.matches("stores.*.local.capacity"));
        assert!(!path.matches("stores.*.capacity"));
        assert!(path.parent().leads_to("stores.*.local.capacity"));
        assert!(!path.leads_to("stores.*.local.capacity"));
    }
}
