//! Reading any type from a raw document, in a fraction of the time that the `bson` crate takes.
//!
//! What documents usually hold is given to serde here, in the shapes that the `bson` crate gives
//! it. Where anything does not fit, the whole document is left to that crate: values of rare types
//! and all errors are its own.

use std::{fmt, iter::once};

use bson::{
    raw::RawDocument,
    spec::{BinarySubtype, ElementType},
};
use mongo_wire::{Element, Elements};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{BorrowedStrDeserializer, MapDeserializer},
    },
    forward_to_deserialize_any,
};

/// How deep documents and arrays may lie in each other. A server takes 180 levels and adds some to
/// an event; whoever recurses without a limit can be made to overflow the stack.
const MAX_DEPTH: u8 = 200;

/// The newtype as which a document is asked for whole: as the bytes that it is.
pub(super) const WHOLE_DOCUMENT: &str = "$mongo_change_stream::document";

/// Those of the `bson` crate. Were they others one day, that crate would read such fields itself.
const RAW_DOCUMENT: &str = "$__private__bson_RawDocument";
const RAW_ARRAY: &str = "$__private__bson_RawArray";

/// The document as a `T`, which may borrow from it.
pub(super) fn from_document<'de, T: Deserialize<'de>>(
    document: &'de RawDocument,
) -> Result<T, bson::error::Error> {
    let value = Value {
        source: Source::Document(document),
        levels: MAX_DEPTH,
    };
    T::deserialize(value).or_else(|Unfit| by_bson(document))
}

#[cold]
fn by_bson<'de, T: Deserialize<'de>>(document: &'de RawDocument) -> Result<T, bson::error::Error> {
    if is_deeper_than(document, MAX_DEPTH) {
        return Err(serde::de::Error::custom(format_args!(
            "documents and arrays lie in each other more than {MAX_DEPTH} levels deep"
        )));
    }
    bson::deserialize_from_slice(document.as_bytes())
}

fn is_deeper_than(document: &RawDocument, levels: u8) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return true;
    };
    Elements::of(document).flatten().any(|element| {
        let inner = element.as_document().or_else(|| element.as_array());
        let inner = inner.or_else(|| element.as_scope());
        inner.is_some_and(|inner| is_deeper_than(inner, below))
    })
}

/// Something is not in order, or of a rare type; the `bson` crate finds the words.
#[derive(Debug)]
struct Unfit;

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("does not fit")
    }
}

impl std::error::Error for Unfit {}

impl serde::de::Error for Unfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A document, or a value in one.
#[derive(Clone, Copy)]
struct Value<'de> {
    source: Source<'de>,
    /// How deep documents and arrays may lie in it.
    levels: u8,
}

#[derive(Clone, Copy)]
enum Source<'de> {
    Document(&'de RawDocument),
    Element(Element<'de>),
}

impl<'de> Value<'de> {
    fn inside(self, document: &'de RawDocument) -> Result<Inside<'de>, Unfit> {
        Ok(Inside {
            elements: Elements::of(document),
            value: None,
            levels: self.levels.checked_sub(1).ok_or(Unfit)?,
        })
    }

    fn as_document(self) -> Option<&'de RawDocument> {
        match self.source {
            Source::Document(document) => Some(document),
            Source::Element(element) => element.as_document(),
        }
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let element = match self.source {
            Source::Document(document) => return visitor.visit_map(self.inside(document)?),
            Source::Element(element) => element,
        };
        match element.element_type() {
            ElementType::String => visitor.visit_borrowed_str(element.as_str().ok_or(Unfit)?),
            ElementType::Int32 => visitor.visit_i32(element.as_i32().ok_or(Unfit)?),
            ElementType::Int64 => visitor.visit_i64(element.as_i64().ok_or(Unfit)?),
            ElementType::Double => visitor.visit_f64(element.as_f64().ok_or(Unfit)?),
            ElementType::Boolean => visitor.visit_bool(element.as_bool().ok_or(Unfit)?),
            ElementType::Null => visitor.visit_unit(),
            ElementType::EmbeddedDocument => {
                let document = element.as_document().ok_or(Unfit)?;
                visitor.visit_map(self.inside(document)?)
            }
            ElementType::Array => {
                let items = element.as_array().ok_or(Unfit)?;
                visitor.visit_seq(self.inside(items)?)
            }
            ElementType::ObjectId => {
                let id = element.as_object_id().ok_or(Unfit)?.to_hex();
                visitor.visit_map(MapDeserializer::new(once(("$oid", id))))
            }
            ElementType::DateTime => {
                let date = element.as_datetime().ok_or(Unfit)?;
                let millis = date.timestamp_millis().to_string();
                let millis = MapDeserializer::new(once(("$numberLong", millis)));
                visitor.visit_map(MapDeserializer::new(once(("$date", millis))))
            }
            ElementType::Timestamp => {
                let at = element.as_timestamp().ok_or(Unfit)?;
                let parts = [("t", at.time), ("i", at.increment)].into_iter();
                let parts = MapDeserializer::new(parts);
                visitor.visit_map(MapDeserializer::new(once(("$timestamp", parts))))
            }
            ElementType::Binary => match element.as_binary() {
                Some((BinarySubtype::Generic, data)) => visitor.visit_borrowed_bytes(data),
                _ => Err(Unfit),
            },
            _ => Err(Unfit),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.source {
            Source::Element(element) if element.is_null() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.source {
            Source::Element(element) if element.element_type() == ElementType::ObjectId => {
                let id = element.as_object_id().ok_or(Unfit)?;
                visitor.visit_bytes(&id.bytes())
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        let whole = match (name, self.source) {
            (WHOLE_DOCUMENT | RAW_DOCUMENT, _) => self.as_document(),
            (RAW_ARRAY, Source::Element(element)) => element.as_array(),
            // Something else that the `bson` crate has agreed upon with itself.
            _ if name.starts_with('$') => None,
            _ => return visitor.visit_newtype_struct(self),
        };
        visitor.visit_borrowed_bytes(whole.ok_or(Unfit)?.as_bytes())
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        if let Some(document) = self.as_document() {
            return visitor.visit_enum(self.inside(document)?);
        }
        let Source::Element(element) = self.source else {
            return Err(Unfit);
        };
        let variant = element.as_str().ok_or(Unfit)?;
        visitor.visit_enum(BorrowedStrDeserializer::new(variant))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

/// What lies in a document or an array.
struct Inside<'de> {
    elements: Elements<'de>,
    /// Of the last key.
    value: Option<Element<'de>>,
    levels: u8,
}

impl<'de> Inside<'de> {
    fn next_key(&mut self) -> Result<Option<BorrowedStrDeserializer<'de, Unfit>>, Unfit> {
        let Some(element) = self.elements.next() else {
            return Ok(None);
        };
        let element = element.map_err(|_| Unfit)?;
        let key = str::from_utf8(element.key()).map_err(|_| Unfit)?;
        self.value = Some(element);
        Ok(Some(BorrowedStrDeserializer::new(key)))
    }

    fn value(&self) -> Result<Value<'de>, Unfit> {
        let element = self.value.ok_or(Unfit)?;
        Ok(Value {
            source: Source::Element(element),
            levels: self.levels,
        })
    }
}

impl<'de> MapAccess<'de> for Inside<'de> {
    type Error = Unfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unfit> {
        self.next_key()?
            .map(|key| seed.deserialize(key))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unfit> {
        seed.deserialize(self.value()?)
    }
}

impl<'de> SeqAccess<'de> for Inside<'de> {
    type Error = Unfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unfit> {
        let Some(element) = self.elements.next() else {
            return Ok(None);
        };
        let element = element.map_err(|_| Unfit)?;
        // Nobody sees the keys of an array, but all text is to be in order.
        element.key().is_ascii().then_some(()).ok_or(Unfit)?;
        self.value = Some(element);
        seed.deserialize(self.value()?).map(Some)
    }
}

impl<'de> EnumAccess<'de> for Inside<'de> {
    type Error = Unfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self), Unfit> {
        let key = self.next_key()?.ok_or(Unfit)?;
        Ok((seed.deserialize(key)?, self))
    }
}

impl<'de> VariantAccess<'de> for Inside<'de> {
    type Error = Unfit;

    fn unit_variant(self) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Unfit> {
        seed.deserialize(self.value()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Unfit> {
        self.value()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        self.value()?.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests;
