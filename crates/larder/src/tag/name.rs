//! The names of tags and of their registers.

use std::fmt;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::glob::Glob;

/// The longest tag.
pub const MAX_TAG_BYTES: usize = 200;
/// The most tags of an entry.
pub const MAX_TAGS: usize = 24;
/// The most parts of a tag, between separators.
pub const MAX_TAG_DEPTH: usize = 6;
const SEPARATOR: u8 = b':';
/// What patterns are made of; no part of a tag.
const PATTERN: &[char] = &['*', '?', '[', ']'];

/// The name of a register: `=tag` of a tag itself, `/path` of all tags below a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Register(Bytes);

impl Register {
    /// The kind of register of one tag.
    pub(crate) const EXACT: u8 = b'=';
    /// The kind of register of a subtree.
    pub(crate) const SUBTREE: u8 = b'/';

    pub(crate) fn new(kind: u8, name: &[u8]) -> Self {
        Self([&[kind], name].concat().into())
    }

    /// Returns the register that every invalidation changes: whoever finds it unchanged knows that there was none.
    #[must_use]
    pub fn any() -> Self {
        Self::new(b'*', b"")
    }

    /// Returns the register of a tag.
    ///
    /// # Errors
    /// `InvalidArgument`: it is no tag.
    pub fn exact(tag: &str) -> Result<Self> {
        check(tag)?;
        Ok(Self::new(Self::EXACT, tag.as_bytes()))
    }

    /// Returns the register with this whole name, as a store kept it; `None`: it is none.
    #[must_use]
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        let is_known = matches!(name.first(), Some(&(Self::EXACT | Self::SUBTREE | b'*')));
        is_known.then(|| Self(Bytes::copy_from_slice(name)))
    }

    /// Returns the whole name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[0]
    }

    /// Returns the tag or path.
    pub(crate) fn path(&self) -> Bytes {
        self.0.slice(1..)
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Register({})", self.0.escape_ascii())
    }
}

/// Returns the registers that an entry with these tags depends on, each once.
///
/// # Errors
/// `InvalidArgument`: a tag is empty, too long, too deep or holds what patterns are made of, or there are too many.
pub(crate) fn registers<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Result<Vec<Register>> {
    let mut distinct: Vec<String> = Vec::new();
    for tag in tags {
        check(tag.as_ref())?;
        if !distinct.iter().any(|known| known == tag.as_ref()) {
            distinct.push(tag.as_ref().to_owned());
        }
    }
    if let Some(first) = distinct.get(MAX_TAGS) {
        let message = format!("an entry takes at most {MAX_TAGS} tags, and {first:?} is one more");
        return Err(Error::argument(message));
    }
    let mut registers = Vec::new();
    for tag in &distinct {
        let all = subtrees(tag).chain([Register::new(Register::EXACT, tag.as_bytes())]);
        for register in all {
            if !registers.contains(&register) {
                registers.push(register);
            }
        }
    }
    Ok(registers)
}

fn subtrees(tag: &str) -> impl Iterator<Item = Register> {
    let ends = tag.match_indices(char::from(SEPARATOR)).map(|(at, _)| at);
    ends.map(|end| Register::new(Register::SUBTREE, &tag.as_bytes()[..end]))
}

fn check(tag: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::argument(format!("the tag {:?} {why}", shown(tag))));
    if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
        return refuse(format!("has {} bytes, not 1 to {MAX_TAG_BYTES}", tag.len()));
    }
    if tag.contains(PATTERN) {
        return refuse("holds one of * ? [ ], which patterns are made of".to_owned());
    }
    if tag.split(char::from(SEPARATOR)).count() > MAX_TAG_DEPTH {
        return refuse(format!("has more than {MAX_TAG_DEPTH} parts"));
    }
    Ok(())
}

fn shown(tag: &str) -> String {
    tag.chars().take(48).collect()
}

/// Which tags an invalidation means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// One tag, or all below a path: one register, whether it is there or not.
    Register(Register),
    /// The tags whose registers have such names.
    Pattern(Glob),
}

impl Selector {
    /// Reads a tag, a path followed by `:*`, or any other pattern.
    ///
    /// # Errors
    /// `InvalidArgument`: none of them.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (path, kind) = match text.strip_suffix(":*") {
            Some(path) => (path, Register::SUBTREE),
            None => (text, Register::EXACT),
        };
        if path.contains(PATTERN) {
            let kind = char::from(Register::EXACT);
            return Glob::new(format!("{kind}{text}")).map(Self::Pattern);
        }
        check(path)?;
        Ok(Self::Register(Register::new(kind, path.as_bytes())))
    }

    /// Returns whether it means an entry with this register.
    pub(crate) fn means(&self, register: &Register) -> bool {
        match self {
            Self::Register(own) => own == register,
            Self::Pattern(pattern) => pattern.matches(register.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn names(tags: &[&str]) -> Vec<String> {
        let registers = registers(tags).unwrap();
        let text = |register: &Register| String::from_utf8(register.as_bytes().to_vec()).unwrap();
        registers.iter().map(text).collect()
    }

    #[test]
    fn tags_depend_on_themselves_and_on_the_subtrees_above() {
        assert_eq!(names(&["users"]), ["=users"]);
        assert_eq!(
            names(&["user:1:photo", "user:1", "user:1:photo"]),
            ["/user", "/user:1", "=user:1:photo", "=user:1"]
        );
        assert_eq!(names(&["a::{b}"]), ["/a", "/a:", "=a::{b}"]);
    }

    #[test]
    fn selectors_name_one_register_or_a_pattern() {
        let register = |text| match Selector::parse(text).unwrap() {
            Selector::Register(register) => register,
            Selector::Pattern(pattern) => panic!("{text} became {pattern:?}"),
        };
        assert_eq!(register("user:1").as_bytes(), b"=user:1");
        assert_eq!(register("user:1:*").as_bytes(), b"/user:1");
        let means = |pattern, tag| {
            let selector = Selector::parse(pattern).unwrap();
            assert!(matches!(selector, Selector::Pattern(_)), "{pattern}");
            selector.means(&Register::exact(tag).unwrap())
        };
        for (pattern, tag) in [("*", "a:b"), ("us?r", "user"), ("a:[bc]:*", "a:c:d")] {
            assert!(means(pattern, tag), "{pattern} {tag}");
        }
        for (pattern, tag) in [("user*", "uses"), ("*:photo", "photo"), ("a:*:c", "a:b:d")] {
            assert!(!means(pattern, tag), "{pattern} {tag}");
        }
        let many_stars = "*a".repeat(17);
        for refused in ["", ":*", "a[", &many_stars, &"x".repeat(201)] {
            let error = Selector::parse(refused).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{refused}");
        }
    }

    #[test]
    fn bounds_name_what_is_over_them() {
        let many: Vec<_> = (0..=MAX_TAGS).map(|n| format!("tag{n}")).collect();
        assert!(registers(&many[1..]).is_ok());
        let error = registers(&many).unwrap_err();
        assert!(error.message().contains("\"tag24\""), "{error}");
        assert!(registers(["a:b:c:d:e:f"]).is_ok());
        assert!(registers(["a:b:c:d:e:f:g"]).is_err());
        assert!(registers(["x".repeat(MAX_TAG_BYTES)]).is_ok());
        assert!(registers(["x".repeat(MAX_TAG_BYTES + 1)]).is_err());
    }
}
