//! Request bodies, within bounds.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::problem::{Kind, Problem};

/// The most that is allocated on the word of a `Content-Length`.
const MAX_TRUSTED_BYTES: usize = 1 << 20;
/// How much of a refused body is read so that its sender gets to see the reply.
const MAX_DRAINED_BYTES: usize = 64 << 20;
/// How long a refused body is read.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let encoding = parts.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let detail = "send the body as it is, without Content-Encoding";
        return Err(Problem::new(Kind::EncodedBody, detail));
    }
    let announced = announced_bytes(&parts.headers);
    if announced > limit && parts.headers.contains_key(EXPECT) {
        return Err(too_large(limit));
    }
    let mut chunks = body.into_data_stream();
    let mut read = BytesMut::with_capacity(announced.min(limit).min(MAX_TRUSTED_BYTES));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::new(Kind::BadBody, error.to_string()))?;
        if read.len() + chunk.len() > limit {
            drop(read);
            drain(chunks).await;
            return Err(too_large(limit));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

/// Refuses a request that has a body where none has a meaning.
pub(super) async fn refuse(body: Body) -> Result<(), Problem> {
    match read(Request::new(body), 0).await {
        Ok(_empty) => Ok(()),
        Err(_) => {
            let detail = "this request takes no body; its parameters go into the query";
            Err(Problem::new(Kind::BadBody, detail))
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is over the limit of {limit} bytes");
    Problem::new(Kind::TooLarge, detail)
}

fn announced_bytes(headers: &HeaderMap) -> usize {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
    length.and_then(Result::ok).map_or(0, |length| {
        length.parse::<u64>().map_or(0, |length| length as usize)
    })
}

/// Reads on and throws away. A connection closed on unread data is reset, and the reply with it.
async fn drain(mut chunks: BodyDataStream) {
    let read = async {
        let mut drained = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            drained += chunk.len();
            if drained > MAX_DRAINED_BYTES {
                break;
            }
        }
    };
    // Whether it ended or was given up makes no difference to the reply.
    let _ = tokio::time::timeout(DRAIN_PATIENCE, read).await;
}
