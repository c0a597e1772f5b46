//! The default key of a function: its name and its arguments, as a call is written: `shop::user(42,"Ann",none)`.
//!
//! Different arguments give different texts, which JSON does not promise: it writes `NaN` and infinity, `None` and
//! `Some(None)` alike. Every value is written so that its end and its sort can be told: numbers bare, text quoted,
//! variants with a dot, `none` and `some(..)`. What serializes alike counts as alike.

use std::fmt::{self, Display, Write as _};

use serde::ser::{self, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// A default key under construction.
#[derive(Debug)]
pub struct Arguments {
    text: String,
    count: usize,
    refused: Option<Refused>,
}

impl Arguments {
    /// Starts with the name of the function.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut text = String::with_capacity(name.len() + 32);
        text.push_str(name);
        text.push('(');
        Self {
            text,
            count: 0,
            refused: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn and<T: super::attribute::Argument + ?Sized>(mut self, argument: &T) -> Self {
        if self.count > 0 {
            self.text.push(',');
        }
        self.count += 1;
        if let Err(refused) = argument.serialize(Writer(&mut self.text)) {
            self.refused.get_or_insert(refused);
        }
        self
    }

    /// Returns the key.
    ///
    /// # Errors
    /// `InvalidKey`: an argument refused to be serialized.
    pub fn key(mut self) -> Result<Key> {
        if let Some(refused) = self.refused {
            let message = format!("an argument cannot be part of the key: {refused}");
            return Err(Error::new(ErrorKind::InvalidKey, message).key(self.text.as_bytes()));
        }
        self.text.push(')');
        Ok(Key::from(self.text))
    }
}

/// Why a value could not be serialized.
#[derive(Debug)]
struct Refused(String);

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<fmt::Error> for Refused {
    fn from(error: fmt::Error) -> Self {
        Self(error.to_string())
    }
}

type Written<T = ()> = std::result::Result<T, Refused>;

/// Writes one value.
struct Writer<'a>(&'a mut String);

impl<'a> Writer<'a> {
    fn show(self, value: impl Display) -> Written {
        Ok(write!(self.0, "{value}")?)
    }

    fn quoted(self, quote: char, text: &str) -> Written {
        self.0.push(quote);
        for letter in text.chars() {
            if letter == quote || letter == '\\' {
                self.0.push('\\');
            }
            self.0.push(letter);
        }
        self.0.push(quote);
        Ok(())
    }

    /// Writes the name of a variant, or of a field, so that no sign of the notation is in it.
    fn name(&mut self, name: &str) {
        for letter in name.chars() {
            if letter.is_alphanumeric() || letter == '_' {
                self.0.push(letter);
            } else {
                self.0.extend(letter.escape_unicode());
            }
        }
    }

    fn open(self, sign: char, close: char) -> Parts<'a> {
        self.0.push(sign);
        Parts {
            text: self.0,
            is_first: true,
            close,
        }
    }

    fn variant(mut self, name: &str) -> Self {
        self.0.push('.');
        self.name(name);
        self
    }
}

/// The parts of a compound value.
struct Parts<'a> {
    text: &'a mut String,
    is_first: bool,
    close: char,
}

impl Parts<'_> {
    fn next(&mut self) -> Writer<'_> {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        Writer(self.text)
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(self.next())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Written {
        self.next().name(name);
        self.text.push(':');
        value.serialize(Writer(self.text))
    }

    fn close(self) -> Written {
        self.text.push(self.close);
        Ok(())
    }
}

macro_rules! shown {
    ($($method:ident: $value:ty,)*) => {$(
        fn $method(self, value: $value) -> Written {
            self.show(value)
        }
    )*};
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    shown! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
    }

    fn serialize_f32(self, value: f32) -> Written {
        self.show(format_args!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Written {
        self.show(format_args!("{value:?}"))
    }

    fn serialize_char(self, value: char) -> Written {
        self.quoted('\'', value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Written {
        self.quoted('"', value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.0.push('x');
        for byte in value {
            write!(self.0, "{byte:02x}")?;
        }
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.show("none")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        self.0.push_str("some");
        let mut parts = self.open('(', ')');
        parts.part(value)?;
        parts.close()
    }

    fn serialize_unit(self) -> Written {
        self.show("()")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Written {
        self.variant(name);
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Written {
        self.variant(name);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Written {
        let mut parts = self.variant(name).open('(', ')');
        parts.part(value)?;
        parts.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Written<Parts<'a>> {
        Ok(self.open('[', ']'))
    }

    fn serialize_tuple(self, _: usize) -> Written<Parts<'a>> {
        Ok(self.open('(', ')'))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Written<Parts<'a>> {
        Ok(self.open('(', ')'))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Written<Parts<'a>> {
        Ok(self.variant(name).open('(', ')'))
    }

    fn serialize_map(self, _: Option<usize>) -> Written<Parts<'a>> {
        Ok(self.open('{', '}'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Written<Parts<'a>> {
        Ok(self.open('{', '}'))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Written<Parts<'a>> {
        Ok(self.variant(name).open('{', '}'))
    }
}

macro_rules! lists {
    ($($name:ident: $method:ident,)*) => {$(
        impl ser::$name for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.part(value)
            }

            fn end(self) -> Written {
                self.close()
            }
        }
    )*};
}
lists! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! records {
    ($($name:ident,)*) => {$(
        impl ser::$name for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Written {
                self.field(name, value)
            }

            fn end(self) -> Written {
                self.close()
            }
        }
    )*};
}
records! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.text.push(':');
        value.serialize(Writer(self.text))
    }

    fn end(self) -> Written {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    fn key<T: Serialize>(value: &T) -> String {
        Arguments::of("f").and(value).key().unwrap().to_string()
    }

    #[derive(Serialize)]
    enum Sort {
        Up,
        By(&'static str),
        Range { from: i32, to: i32 },
        Pair(bool, char),
    }

    #[derive(Serialize)]
    #[expect(
        clippy::option_option,
        reason = "JSON writes both kinds of nothing alike"
    )]
    #[serde(untagged)]
    enum Loose {
        Number(i64),
        Text(&'static str),
        Letter(char),
        Maybe(Option<Option<bool>>),
        Real(f64),
        Unit(()),
        List(Vec<i32>),
        Pair((i32, i32)),
        Named(Sort),
    }

    #[test]
    fn keys_look_like_calls() {
        let arguments = Arguments::of("shop::user").and(&42).and("Ann \"A\"");
        let call = arguments.and(&None::<u8>).key().unwrap();
        assert_eq!(call, Key::from(r#"shop::user(42,"Ann \"A\"",none)"#));
        assert_eq!(Arguments::of("now").key().unwrap(), Key::from("now()"));
        let range = Sort::Range { from: 1, to: 2 };
        let sorts = [Sort::Up, Sort::By("n"), range, Sort::Pair(true, '\'')];
        let expected = r#"f((.Up,.By("n"),.Range{from:1,to:2},.Pair(true,'\'')))"#;
        assert_eq!(key(&sorts), expected);
        let map = BTreeMap::from([(1, Some("a")), (2, None)]);
        assert_eq!(key(&map), r#"f({1:some("a"),2:none})"#);
    }

    #[test]
    fn values_that_json_writes_alike_differ() {
        let values = [
            Loose::Number(1),
            Loose::Text("1"),
            Loose::Letter('1'),
            Loose::Real(1.0),
            Loose::Real(f64::NAN),
            Loose::Real(f64::INFINITY),
            Loose::Maybe(None),
            Loose::Maybe(Some(None)),
            Loose::Maybe(Some(Some(true))),
            Loose::Text("none"),
            Loose::Text(".Up"),
            Loose::Named(Sort::Up),
            Loose::Unit(()),
            Loose::List(vec![]),
            Loose::List(vec![1, 2]),
            Loose::Pair((1, 2)),
        ];
        let keys: std::collections::BTreeSet<_> = values.iter().map(key).collect();
        assert_eq!(keys.len(), values.len(), "{keys:?}");
    }

    #[test]
    fn a_value_that_refuses_is_an_error_and_no_key() {
        struct Never;
        impl Serialize for Never {
            fn serialize<S: serde::Serializer>(
                &self,
                _: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                Err(ser::Error::custom("never"))
            }
        }
        let error = Arguments::of("f").and(&1).and(&Never).key().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
    }

    proptest! {
        #[test]
        fn different_lists_of_text_give_different_keys(
            a in proptest::collection::vec("[a\"\\\\,()\\[\\]]{0,3}", 0..3),
            b in proptest::collection::vec("[a\"\\\\,()\\[\\]]{0,3}", 0..3),
        ) {
            prop_assert_eq!(key(&a) == key(&b), a == b);
            let join = |parts: &[String]| {
                let all = parts.iter().fold(Arguments::of("f"), |all, part| all.and(part));
                all.key().unwrap()
            };
            prop_assert_eq!(join(&a) == join(&b), a == b);
        }
    }
}
