//! The list of mutants, and how one of them changes a source text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// One fault and the law that must notice it; the fields are described in `mutants.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) file: String,
    find: String,
    replace: String,
    pub(super) kills: String,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    mutant: Vec<Mutant>,
}

impl Mutant {
    /// Returns the test filters of the laws that must notice.
    pub(super) fn laws(&self) -> impl Iterator<Item = &str> {
        self.kills.split_whitespace()
    }

    /// Returns `source` with the fault.
    ///
    /// # Errors
    ///
    /// When the text to break does not occur exactly once: the source has moved on without its mutant.
    pub(super) fn apply(&self, source: &str) -> Result<String> {
        match source.matches(&self.find).count() {
            1 => Ok(source.replacen(&self.find, &self.replace, 1)),
            0 => bail!("mutant {}: its text is not in {}", self.name, self.file),
            count => bail!(
                "mutant {}: its text is {count} times in {}",
                self.name,
                self.file
            ),
        }
    }

    /// Refuses an entry that could never be a fault that a law notices.
    fn validate(&self) -> Result<()> {
        let is_inside = Path::new(&self.file)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if self.name.is_empty()
            || self.file.is_empty()
            || self.find.is_empty()
            || self.laws().next().is_none()
        {
            bail!(
                "mutant {:?}: name, file, find and kills must not be empty",
                self.name
            );
        }
        if !is_inside {
            bail!(
                "mutant {}: {} is not below the root of the workspace",
                self.name,
                self.file
            );
        }
        if self.find == self.replace {
            bail!("mutant {}: it changes nothing", self.name);
        }
        Ok(())
    }
}

/// Reads the list.
pub(super) fn load(path: &Path) -> Result<Vec<Mutant>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is wrong", path.display()))
}

/// Returns the mutant called `name`, or all.
pub(super) fn select(mutants: Vec<Mutant>, name: Option<&str>) -> Result<Vec<Mutant>> {
    let Some(name) = name else { return Ok(mutants) };
    match mutants.into_iter().find(|mutant| mutant.name == name) {
        Some(mutant) => Ok(vec![mutant]),
        None => bail!("there is no mutant {name}"),
    }
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let list: List = toml::from_str(text)?;
    let mut names = BTreeSet::new();
    for mutant in &list.mutant {
        mutant.validate()?;
        if !names.insert(&mutant.name) {
            bail!("there are two mutants {}", mutant.name);
        }
    }
    Ok(list.mutant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(find: &str, replace: &str) -> Mutant {
        Mutant {
            name: "sample".to_owned(),
            file: "src/lib.rs".to_owned(),
            find: find.to_owned(),
            replace: replace.to_owned(),
            kills: "law_one  law_two".to_owned(),
        }
    }

    #[test]
    fn text_that_occurs_once_is_replaced() {
        assert_eq!(
            mutant("a <= b", "false").apply("if a <= b {}").unwrap(),
            "if false {}"
        );
    }

    #[test]
    fn text_that_is_missing_or_ambiguous_is_an_error() {
        assert!(mutant("x", "y").apply("abc").is_err());
        assert!(mutant("a", "y").apply("aba").is_err());
    }

    #[test]
    fn laws_are_separated_by_spaces() {
        assert_eq!(
            mutant("a", "b").laws().collect::<Vec<_>>(),
            ["law_one", "law_two"]
        );
    }

    #[test]
    fn list_of_the_repository_is_valid() {
        assert!(parse(include_str!("../../mutants.toml")).unwrap().len() >= 10);
    }

    #[test]
    fn entries_that_cannot_work_are_refused() {
        let entry = |name: &str, file: &str, find: &str, kills: &str| {
            format!(
                "[[mutant]]\nname = '{name}'\nfile = '{file}'\nfind = '{find}'\nreplace = 'b'\nkills = '{kills}'\n"
            )
        };
        let good = entry("n", "src/lib.rs", "a", "law");
        assert_eq!(parse(&good).unwrap().len(), 1);
        assert!(parse(&format!("{good}{good}")).is_err(), "same name twice");
        assert!(
            parse(&format!("{good}extra = 1\n")).is_err(),
            "unknown field"
        );
        for (file, find, kills) in [
            ("../x", "a", "law"),
            ("/x", "a", "law"),
            ("x", "b", "law"),
            ("x", "a", " "),
        ] {
            assert!(
                parse(&entry("n", file, find, kills)).is_err(),
                "{file} {find} {kills}"
            );
        }
    }

    #[test]
    fn one_mutant_can_be_chosen_by_name() {
        assert_eq!(
            select(vec![mutant("a", "b")], Some("sample"))
                .unwrap()
                .len(),
            1
        );
        assert!(select(vec![mutant("a", "b")], Some("other")).is_err());
        assert_eq!(select(vec![mutant("a", "b")], None).unwrap().len(), 1);
    }
}
