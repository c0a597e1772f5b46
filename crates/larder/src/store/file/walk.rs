//! Walking the files of a namespace in the order of their hashes, from any hash on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::vec;

use super::fault::failed;
use super::layout::Layout;
use super::name::{Digest, is_level, is_temp, parse_namespace};
use crate::error::Result;

/// What a walk meets.
#[derive(Debug)]
pub(super) enum Step {
    /// The file of an entry.
    Entry(Digest),
    /// A temporary file, of a writer at work or of one that died.
    Temp(PathBuf),
    /// The end of a directory.
    Left(PathBuf),
}

/// An iterator over one namespace; holds the names of one directory per level in memory.
///
/// Names that are not of the layout are passed over. What goes away meanwhile is not there.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    layout: &'a Layout,
    levels: Vec<Level>,
    after: Option<String>,
}

#[derive(Debug)]
struct Level {
    dir: PathBuf,
    /// The hash digits that lead here.
    prefix: String,
    names: vec::IntoIter<String>,
}

impl<'a> Walk<'a> {
    /// Starts after the entry with this hash, or at the first one.
    ///
    /// # Errors
    /// `Unavailable`: the directory cannot be read.
    pub(super) fn new(
        layout: &'a Layout,
        namespace: Digest,
        after: Option<Digest>,
    ) -> Result<Self> {
        let mut walk = Self {
            layout,
            levels: Vec::with_capacity(1 + usize::from(layout.depth())),
            after: after.map(Digest::hex),
        };
        walk.enter(layout.namespace_dir(namespace), String::new())?;
        Ok(walk)
    }

    fn enter(&mut self, dir: PathBuf, prefix: String) -> Result<()> {
        let names = list(self.layout, &dir)?.into_iter();
        self.levels.push(Level { dir, prefix, names });
        Ok(())
    }

    /// Returns whether hashes that start with these digits are still to come.
    fn is_ahead(&self, digits: &str) -> bool {
        let after = self.after.as_deref();
        after.is_none_or(|after| digits >= &after[..digits.len()])
    }

    fn leaf_step(&self, level: &Level, name: &str) -> Option<Step> {
        if is_temp(name) {
            return Some(Step::Temp(level.dir.join(name)));
        }
        let digest = Digest::parse(name.as_bytes())?;
        let in_place = name.starts_with(&level.prefix);
        let ahead = self.after.as_deref().is_none_or(|after| name > after);
        (in_place && ahead).then_some(Step::Entry(digest))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut level = self.levels.pop()?;
            let Some(name) = level.names.next() else {
                return Some(Ok(Step::Left(level.dir)));
            };
            if self.levels.len() == usize::from(self.layout.depth()) {
                let step = self.leaf_step(&level, &name);
                self.levels.push(level);
                if step.is_some() {
                    return step.map(Ok);
                }
                continue;
            }
            let below = format!("{}{name}", level.prefix);
            let dir = level.dir.join(&name);
            self.levels.push(level);
            if is_level(&name)
                && self.is_ahead(&below)
                && let Err(error) = self.enter(dir, below)
            {
                return Some(Err(error));
            }
        }
    }
}

/// Returns the namespaces there are, in order.
///
/// # Errors
/// `Unavailable`: the root cannot be read.
pub(super) fn namespaces(layout: &Layout) -> Result<Vec<Digest>> {
    let names = list(layout, layout.root())?;
    Ok(names
        .iter()
        .filter_map(|name| parse_namespace(name))
        .collect())
}

/// Returns the sorted names in a directory; none if there is no such directory.
pub(super) fn list(layout: &Layout, dir: &Path) -> Result<Vec<String>> {
    let cannot = |error| failed("list a directory", layout.root(), error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(cannot(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(cannot)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
