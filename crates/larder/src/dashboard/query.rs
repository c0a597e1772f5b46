//! Query parameters, strictly: an unknown, repeated or malformed one is an error.
//!
//! A mistyped `pattern` must not clear a cache, and a mistyped `ttl` must not store forever.

use axum::http::Uri;

use super::path::percent_decode;
use super::problem::{Kind, Problem};
use crate::ttl::{Ttl, parse_duration};

/// The one parameter that may be given several times.
const TAG: &str = "tag";

/// The parameters of a request, each given at most once, but for `tag`, and each one that the route knows.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Parses the query of a request to a route that knows the parameters `known`.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters = Vec::new();
        let pairs = uri.query().unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = String::from_utf8_lossy(&decode(name)?).into_owned();
            check(&name, known)?;
            if name != TAG && parameters.iter().any(|(earlier, _)| *earlier == name) {
                let detail = format!("the parameter {name:?} is given more than once");
                return Err(Problem::new(Kind::RepeatedParameter, detail));
            }
            parameters.push((name, decode(value)?));
        }
        Ok(Self(parameters))
    }

    /// Refuses any parameter.
    pub(super) fn none(uri: &Uri) -> Result<(), Problem> {
        Self::parse(uri, &[]).map(drop)
    }

    /// Returns a parameter as bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// Returns a parameter as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let text = self.bytes(name).map(std::str::from_utf8).transpose();
        text.map_err(|_not_utf8| bad_argument(name, "is not UTF-8"))
    }

    /// Returns an integer parameter.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Problem> {
        let text = self.text(name)?;
        let number = text.map(str::parse).transpose();
        number.map_err(|_malformed| bad_argument(name, "is not an integer of 64 bits"))
    }

    /// Returns the tags: those of `tags`, separated by commas, and each `tag`.
    pub(super) fn tags(&self) -> Result<Vec<String>, Problem> {
        let mut tags: Vec<String> = match self.text("tags")? {
            Some(tags) => tags.split(',').map(str::to_owned).collect(),
            None => Vec::new(),
        };
        let given = self.0.iter().filter(|(name, _)| name == TAG);
        for (name, tag) in given {
            let tag = std::str::from_utf8(tag);
            let tag = tag.map_err(|_not_utf8| bad_argument(name, "is not UTF-8"))?;
            tags.push(tag.to_owned());
        }
        Ok(tags)
    }

    /// Returns the parameter `ttl`, if there is one.
    pub(super) fn ttl(&self) -> Result<Option<Ttl>, Problem> {
        self.text("ttl")?.map(parse_ttl).transpose()
    }
}

/// Returns the problem of a parameter with an unusable value.
pub(super) fn bad_argument(name: &str, what: &str) -> Problem {
    Problem::new(Kind::BadArgument, format!("the parameter {name:?} {what}"))
}

/// Reads a TTL: a length of time over zero, or `forever`.
pub(super) fn parse_ttl(text: &str) -> Result<Ttl, Problem> {
    if text == "forever" {
        return Ok(Ttl::Forever);
    }
    let refused = |detail: String| Problem::new(Kind::BadTtl, detail);
    let duration = parse_duration(text).map_err(|error| refused(error.message().to_owned()))?;
    if duration.is_zero() {
        let detail = "a ttl of zero is refused; delete the entry instead";
        return Err(refused(detail.to_owned()));
    }
    Ok(Ttl::For(duration))
}

fn check(name: &str, known: &[&str]) -> Result<(), Problem> {
    if known.contains(&name) {
        return Ok(());
    }
    let detail = if known.is_empty() {
        format!("the parameter {name:?} is not known here; this request takes none")
    } else {
        let known = known.join(", ");
        format!("the parameter {name:?} is not known here; known are: {known}")
    };
    Err(Problem::new(Kind::UnknownParameter, detail))
}

/// Decodes a name or value, in which a `+` is a space, as in forms.
fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    percent_decode(&text.replace('+', " ")).ok_or_else(|| {
        let detail = "a % in the query must be followed by two hexadecimal digits";
        Problem::new(Kind::BadQuery, detail)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(query: &str) -> Result<Query, Kind> {
        let uri = format!("/x?{query}").parse().unwrap();
        Query::parse(&uri, &["a", "ttl"]).map_err(|problem| problem.kind())
    }

    #[test]
    fn names_and_values_are_decoded() {
        let query = parse("%61=x%20y+z%ff&&ttl").unwrap();
        assert_eq!(query.bytes("a").unwrap(), b"x y z\xff");
        assert!(query.text("a").is_err());
        assert_eq!(query.text("ttl").unwrap(), Some(""));
        assert!(query.ttl().is_err());
    }

    #[test]
    fn what_is_not_exactly_known_is_refused() {
        assert_eq!(parse("b=1").unwrap_err(), Kind::UnknownParameter);
        assert_eq!(parse("A=1").unwrap_err(), Kind::UnknownParameter);
        assert_eq!(parse("a=1&%61=1").unwrap_err(), Kind::RepeatedParameter);
        assert_eq!(parse("a=%zz").unwrap_err(), Kind::BadQuery);
        assert_eq!(parse("tags=x").unwrap_err(), Kind::UnknownParameter);
    }

    #[test]
    fn tags_are_split_at_commas_or_given_one_by_one() {
        let tags = |query: &str| {
            let uri = format!("/x?{query}").parse().unwrap();
            let query = Query::parse(&uri, &["tag", "tags"]);
            query.and_then(|query| query.tags())
        };
        assert!(tags("").unwrap().is_empty());
        assert_eq!(
            tags("tags=a,b&tag=c%2Cd&tag=e").unwrap(),
            ["a", "b", "c,d", "e"]
        );
        assert_eq!(tags("tags=").unwrap(), [""]);
        assert!(tags("tag=%FF").is_err());
        assert!(tags("tags=a&tags=b").is_err());
    }

    #[test]
    fn a_ttl_is_a_length_over_zero_or_forever() {
        let minute = Ttl::For(Duration::from_secs(60));
        for good in ["60s", "1m", "60", "60000ms"] {
            assert_eq!(parse_ttl(good).unwrap(), minute, "{good:?}");
        }
        assert_eq!(parse_ttl("forever").unwrap(), Ttl::Forever);
        for bad in ["", "0", "0s", "-1", "1x", "forever ", "Forever", "366000d"] {
            assert_eq!(parse_ttl(bad).unwrap_err().kind(), Kind::BadTtl, "{bad:?}");
        }
    }

    #[test]
    fn integers_are_exact() {
        let integer = |text: &str| parse(&format!("a={text}")).unwrap().integer("a");
        assert_eq!(integer("-9223372036854775808").unwrap(), Some(i64::MIN));
        assert_eq!(integer("9223372036854775807").unwrap(), Some(i64::MAX));
        for bad in ["", "1.0", "9223372036854775808", "1e3", "+1", "0x1"] {
            assert!(integer(bad).is_err(), "{bad:?}");
        }
    }
}
