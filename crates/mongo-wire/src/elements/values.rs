//! What the elements of a document hold, read where somebody asks.

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawDocument, RawDocumentBuf};
use bson::spec::{BinarySubtype, ElementType};
use bson::{DateTime, Timestamp};

use super::{
    ARRAY, BINARY, BOOLEAN, CODE_WITH_SCOPE, DATE_TIME, DOCUMENT, DOUBLE, Element, Elements, INT32,
    INT64, NULL, OBJECT_ID, STRING, TIMESTAMP, find,
};

impl<'a> Elements<'a> {
    /// The elements of this document.
    #[inline]
    #[must_use]
    pub fn of(document: &'a RawDocument) -> Self {
        Self::new(document.as_bytes())
    }

    /// The first element with this key; `None` as well if something before it cannot be stepped
    /// over.
    #[inline]
    #[must_use]
    pub fn find(document: &'a RawDocument, key: &str) -> Option<Element<'a>> {
        find(document.as_bytes(), key).ok()?
    }
}

/// Each `as_` gives the value if it is of that type and in order.
impl<'a> Element<'a> {
    /// The bytes of the key, of which nobody has seen whether they are UTF-8: enough to compare.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The type of the value.
    #[inline]
    #[must_use]
    pub fn element_type(&self) -> ElementType {
        ElementType::from(self.kind).expect("other types are not stepped over")
    }

    /// Whether the value is null.
    #[inline]
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.kind == NULL
    }

    /// A string.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        let (end, text) = self.of_kind(STRING)?.get(4..)?.split_last()?;
        (*end == 0).then(|| str::from_utf8(text).ok())?
    }

    /// A 32-bit integer.
    #[inline]
    #[must_use]
    pub fn as_i32(&self) -> Option<i32> {
        self.fixed(INT32).map(i32::from_le_bytes)
    }

    /// A 64-bit integer.
    #[inline]
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.fixed(INT64).map(i64::from_le_bytes)
    }

    /// A floating-point number.
    #[inline]
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.fixed(DOUBLE).map(f64::from_le_bytes)
    }

    /// A boolean.
    #[inline]
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.fixed(BOOLEAN)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// A date.
    #[inline]
    #[must_use]
    pub fn as_datetime(&self) -> Option<DateTime> {
        let millis = self.fixed(DATE_TIME).map(i64::from_le_bytes)?;
        Some(DateTime::from_millis(millis))
    }

    /// A timestamp.
    #[inline]
    #[must_use]
    pub fn as_timestamp(&self) -> Option<Timestamp> {
        let (increment, time) = self.of_kind(TIMESTAMP)?.split_first_chunk()?;
        Some(Timestamp {
            time: u32::from_le_bytes(*time.first_chunk()?),
            increment: u32::from_le_bytes(*increment),
        })
    }

    /// An object identifier.
    #[inline]
    #[must_use]
    pub fn as_object_id(&self) -> Option<ObjectId> {
        self.fixed(OBJECT_ID).map(ObjectId::from_bytes)
    }

    /// Binary data: its subtype, and what stands behind that.
    #[inline]
    #[must_use]
    pub fn as_binary(&self) -> Option<(BinarySubtype, &'a [u8])> {
        let (subtype, data) = self.of_kind(BINARY)?.get(4..)?.split_first()?;
        Some((BinarySubtype::from(*subtype), data))
    }

    /// A document.
    #[inline]
    #[must_use]
    pub fn as_document(&self) -> Option<&'a RawDocument> {
        RawDocument::from_bytes(self.of_kind(DOCUMENT)?).ok()
    }

    /// An array, as the document that it is: its keys are numbers.
    #[inline]
    #[must_use]
    pub fn as_array(&self) -> Option<&'a RawDocument> {
        RawDocument::from_bytes(self.of_kind(ARRAY)?).ok()
    }

    /// The scope of code that has one.
    #[inline]
    #[must_use]
    pub fn as_scope(&self) -> Option<&'a RawDocument> {
        let (length, rest) = self
            .of_kind(CODE_WITH_SCOPE)?
            .get(4..)?
            .split_first_chunk()?;
        let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
        RawDocument::from_bytes(rest.get(length..)?).ok()
    }

    /// A copy of the value, whatever its type.
    ///
    /// # Errors
    /// Those of the `bson` crate, if the value is not in order.
    pub fn to_raw_bson(&self) -> bson::error::Result<RawBson> {
        let len = 4 + 2 + self.value.len() + 1;
        let len = i32::try_from(len).expect("no longer than the document that it is from");
        let parts = [&len.to_le_bytes()[..], &[self.kind, 0], self.value, &[0]];
        let alone = RawDocumentBuf::from_bytes(parts.concat())?;
        let (_, value) = alone.iter().next().expect("it was put there")?;
        Ok(value.into())
    }

    #[inline]
    fn of_kind(&self, kind: u8) -> Option<&'a [u8]> {
        (self.kind == kind).then_some(self.value)
    }

    #[inline]
    fn fixed<const N: usize>(&self, kind: u8) -> Option<[u8; N]> {
        self.of_kind(kind)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests;
