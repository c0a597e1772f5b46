//! Refusals and failures as `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
//!
//! What the client did wrong is said in full. What went wrong behind the API is logged, and the client is told only of
//! which kind it was: paths, addresses and passwords stay here.

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Error, ErrorKind};

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
/// The longest detail that is sent, in characters.
const MAX_DETAIL_CHARS: usize = 400;
/// How long an overloaded server asks to be left alone, in seconds.
const RETRY_AFTER_S: &str = "1";

macro_rules! kinds {
    ($($variant:ident => $slug:literal, $status:ident, $title:literal;)*) => {
        /// What is wrong, as a client's code tells it apart: the member `type` of the reply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Kind { $($variant,)* }

        impl Kind {
            fn facts(self) -> (&'static str, StatusCode, &'static str) {
                match self {
                    $(Self::$variant => ($slug, StatusCode::$status, $title),)*
                }
            }
        }
    };
}

kinds! {
    BadBody => "invalid-body", BAD_REQUEST, "The body cannot be used";
    BadKey => "invalid-key", BAD_REQUEST, "The key cannot be used";
    BadArgument => "invalid-argument", BAD_REQUEST, "An argument is out of bounds";
    BadTag => "invalid-tag", BAD_REQUEST, "A tag cannot be used";
    BadTtl => "invalid-ttl", BAD_REQUEST, "The ttl cannot be used";
    BadQuery => "invalid-query", BAD_REQUEST, "The query is not well formed";
    UnknownParameter => "unknown-parameter", BAD_REQUEST, "There is no such parameter";
    RepeatedParameter => "repeated-parameter", BAD_REQUEST, "A parameter is given twice";
    MissingParameter => "missing-parameter", BAD_REQUEST, "A parameter is missing";
    TooManyKeys => "too-many-keys", BAD_REQUEST, "Too many keys at once";
    Unauthorized => "unauthorized", UNAUTHORIZED, "The token is missing or wrong";
    CrossOrigin => "cross-origin", FORBIDDEN, "Other sites may not change a cache";
    ReadOnly => "read-only", FORBIDDEN, "Changes are switched off";
    Miss => "miss", NOT_FOUND, "There is no such entry";
    UnknownCache => "unknown-cache", NOT_FOUND, "There is no such cache";
    UnknownRoute => "unknown-route", NOT_FOUND, "There is nothing here";
    WrongMethod => "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    WrongType => "wrong-type", CONFLICT, "The entry holds another kind of value";
    Overflow => "overflow", CONFLICT, "The counter would overflow";
    Conflict => "conflict", CONFLICT, "Another change came first";
    Present => "present", PRECONDITION_FAILED, "There is an entry already";
    TooLarge => "too-large", PAYLOAD_TOO_LARGE, "Too large";
    EncodedBody => "unsupported-encoding", UNSUPPORTED_MEDIA_TYPE, "Encoded bodies are not supported";
    WrongHost => "misdirected-host", MISDIRECTED_REQUEST, "This host name is not served";
    Internal => "internal", INTERNAL_SERVER_ERROR, "Internal error";
    Unsupported => "unsupported", NOT_IMPLEMENTED, "The store cannot do this";
    Unavailable => "unavailable", SERVICE_UNAVAILABLE, "The store is unavailable";
    Partial => "partial", SERVICE_UNAVAILABLE, "Done in part: some of the store has not acknowledged it";
    Overloaded => "overloaded", SERVICE_UNAVAILABLE, "Overloaded";
    Timeout => "timeout", GATEWAY_TIMEOUT, "The store did not answer in time";
}

/// A reply that says why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
}

impl Problem {
    /// Creates a problem; the detail is for people and is shortened when it is very long.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_CHARS) {
            detail.truncate(end);
            detail.push_str("..");
        }
        Self { kind, detail }
    }

    /// Returns the problem of an entry that is not there.
    pub(super) fn miss() -> Self {
        Self::new(Kind::Miss, "the cache has no entry under this key")
    }

    /// Returns the reply to a method that a path does not have; `allow` lists those it has.
    pub(super) fn wrong_method(allow: Option<HeaderValue>) -> Response {
        let detail = "the header Allow lists the methods of this path";
        let mut response = Self::new(Kind::WrongMethod, detail).into_response();
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::InvalidKey => Kind::BadKey,
            ErrorKind::InvalidArgument => Kind::BadArgument,
            ErrorKind::TooLarge => Kind::TooLarge,
            ErrorKind::WrongType => Kind::WrongType,
            ErrorKind::Overflow => Kind::Overflow,
            ErrorKind::Unsupported => Kind::Unsupported,
            ErrorKind::Conflict => Kind::Conflict,
            ErrorKind::Unavailable => Kind::Unavailable,
            ErrorKind::Timeout => Kind::Timeout,
            ErrorKind::Partial => Kind::Partial,
            ErrorKind::Overloaded => Kind::Overloaded,
            ErrorKind::Codec
            | ErrorKind::InvalidConfig
            | ErrorKind::Corrupted
            | ErrorKind::LockLost
            | ErrorKind::Load
            | ErrorKind::Internal => Kind::Internal,
        };
        let (_, status, title) = kind.facts();
        if status.is_server_error() && kind != Kind::Unsupported {
            tracing::warn!(%error, "a request failed");
            return Self::new(kind, format!("{title}; the server's log says more"));
        }
        Self::new(kind, error.message())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (slug, status, title) = self.kind.facts();
        let body = json!({
            "type": slug, "title": title, "status": status.as_u16(), "detail": self.detail,
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::Overloaded | Kind::Partial => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(kind: ErrorKind) -> (u16, Kind) {
        let problem = Problem::from(Error::new(kind, "m"));
        (problem.kind.facts().1.as_u16(), problem.kind)
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        assert_eq!(status(ErrorKind::InvalidKey), (400, Kind::BadKey));
        assert_eq!(status(ErrorKind::InvalidArgument), (400, Kind::BadArgument));
        assert_eq!(status(ErrorKind::WrongType), (409, Kind::WrongType));
        assert_eq!(status(ErrorKind::Overflow), (409, Kind::Overflow));
        assert_eq!(status(ErrorKind::TooLarge), (413, Kind::TooLarge));
        assert_eq!(status(ErrorKind::Internal), (500, Kind::Internal));
        assert_eq!(status(ErrorKind::Unsupported), (501, Kind::Unsupported));
        assert_eq!(status(ErrorKind::Unavailable), (503, Kind::Unavailable));
        assert_eq!(status(ErrorKind::Overloaded), (503, Kind::Overloaded));
        assert_eq!(status(ErrorKind::Partial), (503, Kind::Partial));
        assert_eq!(status(ErrorKind::Timeout), (504, Kind::Timeout));
    }

    #[test]
    fn an_overloaded_server_says_when_to_come_back() {
        let response = Problem::from(Error::new(ErrorKind::Overloaded, "m")).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], RETRY_AFTER_S);
    }

    #[test]
    fn what_failed_behind_the_api_is_not_told() {
        let secret = "cannot reach redis://user:hunter2@10.0.0.1";
        for kind in [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Internal,
        ] {
            let error = Error::new(kind, secret).store(secret);
            assert!(!Problem::from(error).detail.contains("hunter2"));
        }
    }

    #[test]
    fn long_details_are_cut_between_characters() {
        let problem = Problem::new(Kind::BadBody, "\u{e4}".repeat(1 << 20));
        assert_eq!(problem.detail.chars().count(), MAX_DETAIL_CHARS + 2);
    }
}
