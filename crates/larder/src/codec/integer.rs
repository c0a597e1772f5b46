//! Recognises integers, so that what `set` wrote can be incremented.

use std::fmt;

use serde::Serialize;
use serde::ser::{Impossible, Serializer};

/// Returns the value as an `i64`, if that is what it serializes as.
///
/// Costs a few nanoseconds: any other type stops at its first call.
pub(crate) fn integer_value<V: Serialize + ?Sized>(value: &V) -> Option<i64> {
    value.serialize(IntegerProbe).ok()
}

/// Returns the decimal text of an integer, the body of an entry that can be incremented.
pub(crate) fn format_integer(value: i64) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Parses the canonical decimal text of an `i64`: no sign `+`, no leading zeros, no spaces.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (format_integer(value) == text).then_some(value)
}

#[derive(Debug)]
struct NotAnInteger;

impl fmt::Display for NotAnInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an integer")
    }
}

impl std::error::Error for NotAnInteger {}

impl serde::ser::Error for NotAnInteger {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A serializer that accepts one integer in the range of `i64` and refuses everything else.
struct IntegerProbe;

macro_rules! accept {
    ($($method:ident: $source:ty),*) => {$(
        fn $method(self, value: $source) -> Result<i64, NotAnInteger> {
            i64::try_from(value).map_err(|_out_of_range| NotAnInteger)
        }
    )*};
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) -> $output:ty),* $(,)?) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$output, NotAnInteger> {
            Err(NotAnInteger)
        }
    )*};
}

type No = Impossible<i64, NotAnInteger>;

impl Serializer for IntegerProbe {
    type Ok = i64;
    type Error = NotAnInteger;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    accept!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
            serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    refuse! {
        serialize_bool(bool) -> i64,
        serialize_f32(f32) -> i64,
        serialize_f64(f64) -> i64,
        serialize_char(char) -> i64,
        serialize_str(&str) -> i64,
        serialize_bytes(&[u8]) -> i64,
        serialize_none() -> i64,
        serialize_unit() -> i64,
        serialize_unit_struct(&'static str) -> i64,
        serialize_unit_variant(&'static str, u32, &'static str) -> i64,
        serialize_seq(Option<usize>) -> No,
        serialize_tuple(usize) -> No,
        serialize_tuple_struct(&'static str, usize) -> No,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No,
        serialize_map(Option<usize>) -> No,
        serialize_struct(&'static str, usize) -> No,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No,
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<i64, NotAnInteger> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<i64, NotAnInteger> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<i64, NotAnInteger> {
        Err(NotAnInteger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Count(u32);

    #[test]
    fn integers_of_every_width_are_recognised_and_nothing_else() {
        assert_eq!(integer_value(&5u8), Some(5));
        assert_eq!(integer_value(&i64::MIN), Some(i64::MIN));
        assert_eq!(integer_value(&Count(3)), Some(3));
        assert_eq!(integer_value(&Some(4)), Some(4));
        assert_eq!(integer_value(&u64::MAX), None);
        assert_eq!(integer_value("5"), None);
        assert_eq!(integer_value(&5.0), None);
        assert_eq!(integer_value(&[5]), None);
        assert_eq!(integer_value(&None::<i32>), None);
    }

    #[test]
    fn only_canonical_decimals_parse() {
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        for text in [
            "",
            "+1",
            "01",
            "1 ",
            "1.0",
            "-0",
            "9223372036854775808",
            "0x1",
        ] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
