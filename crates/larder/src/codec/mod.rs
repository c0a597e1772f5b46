//! Values to bytes and back.
//!
//! A typed value is written by a [`Codec`] and may be compressed; an integer is written as decimal
//! JSON whatever the codec, so that it can be incremented in place; raw bytes (from the program or
//! the HTTP API) are stored as they are, with their content type. Reading follows what the entry's
//! header says, so caches with different settings read each other's entries.

mod compression;
mod integer;
mod raw;

use serde::Deserialize as _;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

pub use compression::Compression;
pub(crate) use compression::{MAX_PLAIN_BYTES, compress, decompress};
pub(crate) use integer::{format_integer, integer_value, parse_integer};
pub(crate) use raw::decode_raw;

use crate::error::{Error, ErrorKind, Result};

/// The deepest nesting a MessagePack value may have.
const MAX_DEPTH: usize = 64;

/// How typed values become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Codec {
    /// MessagePack with field names: survives added and reordered fields. The default.
    #[default]
    MessagePack,
    /// JSON: for readers in other languages.
    Json,
    /// Postcard: the smallest and fastest, but any change of a type makes its stored values
    /// unreadable. Needs the feature `postcard`.
    Postcard,
}

/// How the body of a stored entry is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Raw,
    Codec(Codec),
}

impl Encoding {
    pub(crate) const fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Codec(Codec::MessagePack) => 1,
            Self::Codec(Codec::Json) => 2,
            Self::Codec(Codec::Postcard) => 3,
        }
    }

    pub(crate) const fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::Raw,
            1 => Self::Codec(Codec::MessagePack),
            2 => Self::Codec(Codec::Json),
            3 => Self::Codec(Codec::Postcard),
            _ => return None,
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Codec(Codec::MessagePack) => "messagepack",
            Self::Codec(Codec::Json) => "json",
            Self::Codec(Codec::Postcard) => "postcard",
        }
    }
}

impl Codec {
    /// Returns the codec of this name: `messagepack`, `json` or `postcard`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "messagepack" | "msgpack" => Self::MessagePack,
            "json" => Self::Json,
            "postcard" => Self::Postcard,
            _ => return None,
        })
    }

    /// Encodes a value.
    ///
    /// # Errors
    /// `Codec`: the type refuses to be serialized, or the codec is not built in.
    pub(crate) fn encode<V: Serialize + ?Sized>(self, value: &V) -> Result<Vec<u8>> {
        match self {
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(encode_error),
            Self::Json => serde_json::to_vec(value).map_err(encode_error),
            Self::Postcard => encode_postcard(value),
        }
    }

    /// Decodes a value; trailing bytes are an error.
    ///
    /// # Errors
    /// `Codec`: the bytes are not a value of this type.
    pub(crate) fn decode<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V> {
        match self {
            Self::MessagePack => decode_messagepack(bytes),
            Self::Json => serde_json::from_slice(bytes).map_err(decode_error),
            Self::Postcard => decode_postcard(bytes),
        }
    }
}

fn decode_messagepack<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(MAX_DEPTH);
    let value = V::deserialize(&mut reader).map_err(decode_error)?;
    // Nothing is left when not even the first byte of one more value can be read.
    match IgnoredAny::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(Error::new(ErrorKind::Codec, "bytes follow the value")),
    }
}

#[cfg(feature = "postcard")]
fn encode_postcard<V: Serialize + ?Sized>(value: &V) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(encode_error)
}

#[cfg(feature = "postcard")]
fn decode_postcard<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(decode_error)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(Error::new(ErrorKind::Codec, "bytes follow the value"))
    }
}

#[cfg(not(feature = "postcard"))]
fn encode_postcard<V: ?Sized>(_: &V) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `postcard`"))
}

#[cfg(not(feature = "postcard"))]
fn decode_postcard<V>(_: &[u8]) -> Result<V> {
    Err(Error::unsupported("built without the feature `postcard`"))
}

fn encode_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Codec, "the value cannot be encoded").caused_by(error)
}

fn decode_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::Codec,
        "the stored value is not of the asked type",
    )
    .caused_by(error)
}

/// Returns a typed value as JSON text, for people and for other languages.
///
/// # Errors
/// `Codec`: damaged bytes. `Unsupported`: postcard does not describe itself.
pub(crate) fn to_json(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>> {
    let value: serde_json::Value = match codec {
        Codec::Json => return Ok(bytes.to_vec()),
        Codec::MessagePack => codec.decode(bytes)?,
        Codec::Postcard => {
            return Err(Error::unsupported(
                "postcard values do not describe themselves; ask for the stored bytes",
            ));
        }
    };
    serde_json::to_vec(&value).map_err(encode_error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        id: u64,
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        id: u64,
        #[serde(default)]
        email: Option<String>,
        name: String,
    }

    fn old() -> Old {
        Old {
            id: 7,
            name: "ann".into(),
        }
    }

    #[test]
    fn every_codec_round_trips() {
        for codec in [Codec::MessagePack, Codec::Json, Codec::Postcard] {
            let bytes = codec.encode(&old()).unwrap();
            assert_eq!(codec.decode::<Old>(&bytes).unwrap(), old(), "{codec:?}");
            let mut longer = bytes.clone();
            longer.push(b'1');
            assert!(codec.decode::<Old>(&longer).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn named_codecs_survive_a_field_inserted_in_the_middle() {
        for codec in [Codec::MessagePack, Codec::Json] {
            let bytes = codec.encode(&old()).unwrap();
            let new: New = codec.decode(&bytes).unwrap();
            assert_eq!((new.id, new.email, new.name), (7, None, "ann".into()));
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = vec![0x91; MAX_DEPTH * 4];
        bytes.push(0xc0);
        assert!(
            Codec::MessagePack
                .decode::<serde_json::Value>(&bytes)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn decoding_junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in [Codec::MessagePack, Codec::Json, Codec::Postcard] {
                let _ = codec.decode::<New>(&bytes);
                let _ = to_json(codec, &bytes);
            }
        }
    }
}
