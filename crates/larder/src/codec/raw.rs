//! Raw bodies read as typed values.
//!
//! What the program or the HTTP API stored is bytes with a content type. JSON reads as any type,
//! text as `String` (and canonical decimal text as an integer), anything as bytes. Nothing else is
//! guessed: asking for another type is a decode error, which the cache turns into a miss.

use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{Codec, decode_error, parse_integer};
use crate::error::Result;

/// Decodes a raw body as the asked type.
///
/// # Errors
/// `Codec`: the body cannot be read as this type.
pub(crate) fn decode_raw<V: DeserializeOwned>(content_type: &str, body: &[u8]) -> Result<V> {
    if is_json(content_type) {
        return Codec::Json.decode(body);
    }
    let text = is_text(content_type)
        .then(|| std::str::from_utf8(body).ok())
        .flatten();
    V::deserialize(Raw { body, text }).map_err(decode_error)
}

/// Returns the media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
}

fn is_text(content_type: &str) -> bool {
    essence(content_type)
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
}

struct Raw<'a> {
    body: &'a [u8],
    text: Option<&'a str>,
}

type RawError = serde::de::value::Error;

macro_rules! integer {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
            match self.text.and_then(|text| parse_integer(text.as_bytes())) {
                Some(value) => visitor.visit_i64(value),
                None => Err(RawError::custom("the stored bytes are no integer")),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Raw<'de> {
    type Error = RawError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        match self.text {
            Some(text) => visitor.visit_borrowed_str(text),
            None => visitor.visit_borrowed_bytes(self.body),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        match self.text {
            Some(text) => visitor.visit_borrowed_str(text),
            None => Err(RawError::custom("the stored bytes are not text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_borrowed_bytes(self.body)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_byte_buf(self.body.to_vec())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_seq(SeqDeserializer::new(
            self.body.iter().map(|byte| Byte(*byte)),
        ))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RawError> {
        visitor.visit_newtype_struct(self)
    }

    integer!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64
    );

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char unit unit_struct tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

/// One byte of a raw body; reads as `u8` only, so that bytes never pass for a list of wider numbers.
struct Byte(u8);

impl<'de> IntoDeserializer<'de, RawError> for Byte {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Byte {
    type Error = RawError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RawError> {
        Err(RawError::custom("raw bytes read as bytes only"))
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_u8(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn text_bytes_and_json_read_as_their_own_types_only() {
        let text = "text/plain; charset=utf-8";
        assert_eq!(decode_raw::<String>(text, b"hi").unwrap(), "hi");
        assert_eq!(
            decode_raw::<Option<String>>(text, b"hi").unwrap(),
            Some("hi".into())
        );
        assert_eq!(decode_raw::<i64>(text, b"42").unwrap(), 42);
        assert!(decode_raw::<i64>(text, b"4 2").is_err());
        assert!(decode_raw::<bool>(text, b"true").is_err());
        assert!(decode_raw::<String>(text, &[0xff]).is_err());

        let binary = "application/octet-stream";
        assert_eq!(decode_raw::<Vec<u8>>(binary, &[0, 255]).unwrap(), [0, 255]);
        assert_eq!(
            decode_raw::<Bytes>(binary, &[0, 255]).unwrap(),
            [0, 255].as_slice()
        );
        assert!(decode_raw::<String>(binary, b"hi").is_err());
        assert!(decode_raw::<Vec<u16>>(binary, b"hi").is_err());

        let json = "application/json";
        assert_eq!(
            decode_raw::<(u8, String)>(json, b"[1,\"a\"]").unwrap(),
            (1, "a".into())
        );
        assert!(decode_raw::<(u8, String)>(json, b"[1,").is_err());
    }
}
