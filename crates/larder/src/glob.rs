//! Patterns over keys: `*`, `?`, `[a-z]`, `[!x]` and `\` before a literal.
//!
//! Matching is linear in practice and never exponential: only the last star is ever retried. Users' patterns
//! never become regular expressions.

use crate::error::{Error, Result};

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// The most stars in a pattern; runs of stars count once.
const MAX_STARS: usize = 16;

/// A compiled pattern that matches whole keys, byte by byte.
///
/// ```
/// use larder::Glob;
/// let users = Glob::new("user:*:profile")?;
/// assert!(users.matches(b"user:7:profile"));
/// assert!(!users.matches(b"user:7:posts"));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyByte,
    Star,
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// `InvalidArgument`: empty, over 1 KiB, more than 16 stars, an unclosed or empty class, a
    /// trailing `\`.
    pub fn new(pattern: impl AsRef<[u8]>) -> Result<Self> {
        let pattern = pattern.as_ref();
        if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
            return Err(refused("it must have 1 to 1024 bytes", pattern));
        }
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let token = match first {
                b'*' => Token::Star,
                b'?' => Token::AnyByte,
                b'[' => parse_class(&mut rest)
                    .ok_or_else(|| refused("a class [..] is not closed or empty", pattern))?,
                b'\\' => {
                    let (&escaped, after) = rest
                        .split_first()
                        .ok_or_else(|| refused("a \\ stands at its end", pattern))?;
                    rest = after;
                    Token::Byte(escaped)
                }
                literal => Token::Byte(literal),
            };
            if token != Token::Star || tokens.last() != Some(&Token::Star) {
                tokens.push(token);
            }
        }
        let stars = tokens.iter().filter(|token| **token == Token::Star).count();
        if stars > MAX_STARS {
            return Err(refused("it has more than 16 stars", pattern));
        }
        Ok(Self { tokens })
    }

    /// Returns the pattern that matches every key.
    #[must_use]
    pub fn all() -> Self {
        Self {
            tokens: vec![Token::Star],
        }
    }

    /// Returns whether this pattern matches every key.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.tokens == [Token::Star]
    }

    /// Returns the bytes that every matching key starts with.
    #[must_use]
    pub fn literal_prefix(&self) -> Vec<u8> {
        self.tokens
            .iter()
            .map_while(|token| match token {
                Token::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect()
    }

    /// Returns whether the whole key matches. Cost: O(key x tokens after the last star) at worst.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let (mut at, mut token) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < key.len() {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    retry = Some((token + 1, at));
                    token += 1;
                }
                Some(single) if single.accepts(key[at]) => {
                    at += 1;
                    token += 1;
                }
                _ => {
                    let Some((after_star, consumed)) = retry else {
                        return false;
                    };
                    retry = Some((after_star, consumed + 1));
                    (token, at) = (after_star, consumed + 1);
                }
            }
        }
        self.tokens[token..].iter().all(|left| *left == Token::Star)
    }
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Byte(expected) => *expected == byte,
            Self::AnyByte => true,
            Self::Star => false,
            Self::Class { negated, ranges } => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&byte));
                inside != *negated
            }
        }
    }
}

/// Parses what follows `[` up to its `]`; a `]` directly after the start is a literal.
fn parse_class(rest: &mut &[u8]) -> Option<Token> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let body = &rest[usize::from(negated)..];
    let end = 1 + body.get(1..)?.iter().position(|byte| *byte == b']')?;
    let (members, after) = (&body[..end], &body[end + 1..]);
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        let is_range = at + 2 < members.len() && members[at + 1] == b'-';
        let high = if is_range {
            members[at + 2]
        } else {
            members[at]
        };
        ranges.push((members[at], high));
        at += if is_range { 3 } else { 1 };
    }
    *rest = after;
    Some(Token::Class { negated, ranges })
}

fn refused(why: &str, pattern: &[u8]) -> Error {
    let shown = pattern.get(..64).unwrap_or(pattern).escape_ascii();
    Error::argument(format!("the pattern \"{shown}\" is refused: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_match_what_they_say() {
        for (pattern, key, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[a-]", "-", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("*a*b*", "xxaxxbxx", true),
            ("user:*", "user", false),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(key.as_bytes()), expected, "{pattern} on {key}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        let stars = "*a".repeat(MAX_STARS + 1);
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        for pattern in ["", "[", "[]", "[!]", "[a", "\\", &stars, &long] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
        assert!(Glob::new("*".repeat(100)).unwrap().is_all());
    }

    #[test]
    fn a_hostile_pattern_stays_fast() {
        let glob = Glob::new("a*".repeat(16) + "b").unwrap();
        assert!(!glob.matches(&[b'a'; 1024]));
    }

    /// The definition, by plain recursion.
    fn naive(tokens: &[Token], key: &[u8]) -> bool {
        match tokens.split_first() {
            None => key.is_empty(),
            Some((Token::Star, rest)) => (0..=key.len()).any(|skip| naive(rest, &key[skip..])),
            Some((single, rest)) => key
                .split_first()
                .is_some_and(|(byte, after)| single.accepts(*byte) && naive(rest, after)),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in r"[ab*?]{1,8}", key in "[ab]{0,8}") {
            let glob = Glob::new(&pattern).unwrap();
            prop_assert_eq!(glob.matches(key.as_bytes()), naive(&glob.tokens, key.as_bytes()));
        }

        #[test]
        fn compiling_never_panics(pattern in proptest::collection::vec(any::<u8>(), 0..40), key in ".{0,10}") {
            if let Ok(glob) = Glob::new(&pattern) {
                let prefix = glob.literal_prefix();
                prop_assert!(!glob.matches(key.as_bytes()) || key.as_bytes().starts_with(&prefix));
            }
        }
    }
}
