//! JSON in and out: bodies, keys and values.

use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::{Kind, Problem};
use super::{body, media};
use crate::key::{Key, KeyRef};

/// Reads a body as JSON of the given shape, whatever its content type says.
pub(super) async fn read<T: DeserializeOwned>(
    request: Request,
    limit: usize,
) -> Result<T, Problem> {
    let body = body::read(request, limit).await?;
    serde_json::from_slice(&body).map_err(|error| Problem::new(Kind::BadBody, error.to_string()))
}

/// Returns a reply of JSON.
pub(super) fn reply(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(CONTENT_TYPE, media::JSON)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a reply cannot be encoded");
            Problem::new(Kind::Internal, "the reply cannot be encoded").into_response()
        }
    }
}

/// How the keys of a JSON document are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum KeyEncoding {
    /// As text.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// As base64 of any bytes.
    #[serde(rename = "base64")]
    Base64,
}

impl KeyEncoding {
    /// Returns whether this need not be said.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub(super) fn is_text(&self) -> bool {
        *self == Self::Utf8
    }

    /// Reads a key within the bounds.
    pub(super) fn decode(self, text: &str) -> Result<Key, Problem> {
        let bytes = match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Base64 => BASE64.decode(text).map_err(|error| {
                let detail = format!("the key {text:?} is not base64: {error}");
                Problem::new(Kind::BadKey, detail)
            })?,
        };
        Ok(KeyRef::from(bytes).to_key()?)
    }

    /// Writes a key with the encoding it needs.
    pub(super) fn encode(key: &Key) -> (String, Self) {
        match key.as_str() {
            Some(text) => (text.to_owned(), Self::Utf8),
            None => (encode_bytes(key.as_bytes()), Self::Base64),
        }
    }
}

/// Writes bytes as base64.
pub(super) fn encode_bytes(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads the value of a key from base64.
pub(super) fn decode_value(key: &str, value: &str) -> Result<bytes::Bytes, Problem> {
    let decoded = BASE64.decode(value);
    let decoded = decoded.map_err(|error| {
        let detail = format!("the value of {key:?} is not base64: {error}");
        Problem::new(Kind::BadBody, detail)
    });
    decoded.map(bytes::Bytes::from)
}
