//! The bearer token.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
pub(super) struct Token(Arc<[u8]>);

impl Token {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(secret.into())
    }

    /// Returns whether the value of an `Authorization` header carries this token.
    pub(super) fn is_in(&self, authorization: &[u8]) -> bool {
        let Some((scheme, given)) = authorization.split_at_checked(b"Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.matches(given.trim_ascii())
    }

    /// Compares; the time taken depends on the length of `given` only.
    fn matches(&self, given: &[u8]) -> bool {
        let mut difference = given.len() ^ self.0.len();
        for (index, byte) in given.iter().enumerate() {
            let expected = self.0.get(index).copied().unwrap_or(0);
            difference |= usize::from(byte ^ expected);
        }
        black_box(difference) == 0 && !self.0.is_empty()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_secret_behind_the_right_scheme_passes() {
        let token = Token::new(b"s3cret");
        for good in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            assert!(token.is_in(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            "s3cret",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3cret\0",
            "Bearer s3crets",
            "Bearer S3cret",
            "Basic s3cret",
        ] {
            assert!(!token.is_in(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn an_empty_secret_locks() {
        assert!(!Token::new(b"").is_in(b"Bearer "));
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", Token::new(b"s3cret")).contains("s3cret"));
    }
}
