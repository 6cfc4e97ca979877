//! A serde serialiser that writes nothing and refuses numbers which JSON would change.
//!
//! serde_json turns NaN and infinities into `null`, and RFC 8785 carries every number as an IEEE 754 double, so that
//! integers beyond 2^53 - 1 lose digits. Two different configurations would then share a hash. This pass walks the
//! value first and names the number that cannot be carried.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{
        self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// The largest integer that a double carries together with both of its neighbours.
const INTEGER_MAX: u128 = (1 << 53) - 1;

/// Why a value has no exact JSON form, and in which field, as far as fields have names.
#[derive(Debug)]
pub(super) struct Inexact {
    /// The names of the fields that lead to it, the innermost first.
    fields: Vec<&'static str>,
    reason: String,
}

impl Inexact {
    fn new(reason: String) -> Self {
        Self { fields: Vec::new(), reason }
    }

    fn within(mut self, field: &'static str) -> Self {
        self.fields.push(field);
        self
    }
}

impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, field) in self.fields.iter().rev().enumerate() {
            write!(f, "{}{field}", if depth > 0 { "." } else { "" })?;
        }
        write!(f, "{}{}", if self.fields.is_empty() { "" } else { ": " }, self.reason)
    }
}

impl std::error::Error for Inexact {}

impl ser::Error for Inexact {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

/// Checks every number in `value`.
pub(super) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), Inexact> {
    value.serialize(Exact)
}

struct Exact;

fn integer(text: impl fmt::Display, magnitude: u128) -> Result<(), Inexact> {
    if magnitude > INTEGER_MAX {
        return Err(Inexact::new(format!(
            "the integer {text} is beyond 2^53 - 1 and would lose digits; write it as a string"
        )));
    }
    Ok(())
}

fn float(value: f64) -> Result<(), Inexact> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Inexact::new(format!("{value} is not a JSON number")))
}

macro_rules! integers {
    ($($method:ident($type:ty, $magnitude:expr);)*) => {
        $(fn $method(self, v: $type) -> Result<(), Inexact> {
            let magnitude: fn($type) -> u128 = $magnitude;
            integer(v, magnitude(v))
        })*
    };
}

macro_rules! nothing_to_check {
    ($($method:ident($($type:ty),*);)*) => {
        $(fn $method(self $(, _: $type)*) -> Result<(), Inexact> { Ok(()) })*
    };
}

impl Serializer for Exact {
    type Ok = ();
    type Error = Inexact;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    integers! {
        serialize_i64(i64, |v| v.unsigned_abs().into());
        serialize_u64(u64, Into::into);
        serialize_i128(i128, i128::unsigned_abs);
        serialize_u128(u128, |v| v);
    }

    nothing_to_check! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_f32(self, v: f32) -> Result<(), Inexact> {
        float(v.into())
    }

    fn serialize_f64(self, v: f64) -> Result<(), Inexact> {
        float(v)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Inexact> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Inexact> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Inexact> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Inexact> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Inexact> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Inexact> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Inexact> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Inexact> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Inexact> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Inexact> {
        Ok(self)
    }
}

macro_rules! compound {
    ($($compound:ident { $($method:ident);* })*) => {
        $(impl $compound for Exact {
            type Ok = ();
            type Error = Inexact;

            $(fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Inexact> {
                value.serialize(Exact)
            })*

            fn end(self) -> Result<(), Inexact> {
                Ok(())
            }
        })*
    };
}

compound! {
    SerializeSeq { serialize_element }
    SerializeTuple { serialize_element }
    SerializeTupleStruct { serialize_field }
    SerializeTupleVariant { serialize_field }
    SerializeMap { serialize_key; serialize_value }
}

macro_rules! named_fields {
    ($($compound:ident)*) => {
        $(impl $compound for Exact {
            type Ok = ();
            type Error = Inexact;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Inexact> {
                value.serialize(Exact).map_err(|err| err.within(name))
            }

            fn end(self) -> Result<(), Inexact> {
                Ok(())
            }
        })*
    };
}

named_fields! { SerializeStruct SerializeStructVariant }
