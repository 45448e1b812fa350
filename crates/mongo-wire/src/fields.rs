//! A fast walk over the fields of a raw document.

use std::fmt;

use bson::oid::ObjectId;
use bson::raw::{RawBsonRef, RawDocument, RawIter};
use bson::{DateTime, Timestamp};

use crate::elements::{self, Elements};

/// The fields of a document in their order: what [`RawDocument::iter`] gives, in a fraction of the
/// time.
///
/// Values of the usual types are read here; all else, and everything that is not in order, is left
/// to the `bson` crate, so that values and errors are its own. The first error is the last item.
pub struct Fields<'a> {
    document: &'a RawDocument,
    walk: Walk,
    /// Of the next field.
    index: usize,
    /// What the `bson` crate reads, from its first field that nobody has asked it for, and which
    /// one that is: it only goes on, so that however many fields are left to it, all of them cost
    /// one walk.
    by_bson: Option<(usize, RawIter<'a>)>,
}

#[derive(Clone, Debug)]
enum Walk {
    /// Where the next field starts.
    At(usize),
    /// Behind something that cannot be stepped over here.
    ByBson,
    Done,
}

impl<'a> Fields<'a> {
    /// The fields of this document.
    #[must_use]
    pub fn of(document: &'a RawDocument) -> Self {
        Self {
            document,
            walk: Walk::At(4),
            index: 0,
            by_bson: None,
        }
    }

    /// The first field with this key; `None` as well if something before it cannot be read.
    #[must_use]
    pub fn find(document: &'a RawDocument, key: &str) -> Option<RawBsonRef<'a>> {
        let mut fields = Self::of(document);
        loop {
            let (name, value) = fields.next_by_bytes()?.ok()?;
            if name == key.as_bytes() {
                return Some(value);
            }
        }
    }

    /// The next field, with the bytes of its key, of which nobody has seen whether they are UTF-8:
    /// enough to compare keys.
    ///
    /// # Errors
    /// Those of the iteration, but for keys.
    #[inline]
    pub fn next_by_bytes(&mut self) -> Option<bson::error::Result<(&'a [u8], RawBsonRef<'a>)>> {
        let index = self.index;
        self.index += 1;
        match self.walk {
            Walk::At(position) => {
                let bytes = self.document.as_bytes();
                let rest = bytes.get(position..bytes.len() - 1)?;
                let (&kind, rest) = rest.split_first()?;
                if let Some((key, value, left)) = read(kind, rest) {
                    self.walk = Walk::At(bytes.len() - 1 - left);
                    return Some(Ok((key, value)));
                }
            }
            Walk::ByBson => {}
            Walk::Done => return None,
        }
        let field = self.by_bson(index)?;
        Some(field.map(|(key, value)| (key.as_bytes(), value)))
    }

    /// The field that cannot be read here, by the `bson` crate.
    #[cold]
    fn by_bson(&mut self, index: usize) -> Option<Field<'a>> {
        if let Walk::At(position) = self.walk {
            let mut rest = Elements::from(self.document.as_bytes(), position);
            let skipped = rest.next().is_some_and(|element| element.is_ok());
            self.walk = if skipped {
                Walk::At(rest.position())
            } else {
                Walk::ByBson
            };
        }
        let fields = || (0, self.document.iter_elements());
        let (next, fields) = self.by_bson.get_or_insert_with(fields);
        let field = fields.nth(index - *next).map(|field| {
            let field = field?;
            Ok((field.key().as_str(), field.value()?))
        });
        *next = index + 1;
        if !matches!(field, Some(Ok(_))) {
            self.walk = Walk::Done;
        }
        field
    }
}

/// A field, or why it cannot be read.
type Field<'a> = bson::error::Result<(&'a str, RawBsonRef<'a>)>;

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        let field = self.next_by_bytes()?;
        let (key, value) = match field {
            Ok(field) => field,
            Err(error) => return Some(Err(error)),
        };
        if let Ok(key) = str::from_utf8(key) {
            return Some(Ok((key, value)));
        }
        self.walk = Walk::ByBson;
        self.by_bson(index)
    }
}

/// Key and value of a field of one of the usual types, if it is in order, and how many bytes are
/// left behind it.
#[inline]
fn read(kind: u8, rest: &[u8]) -> Option<(&[u8], RawBsonRef<'_>, usize)> {
    let key_len = elements::zero_at(rest)?;
    let key = &rest[..key_len];
    let rest = &rest[key_len + 1..];
    let (value, rest) = match kind {
        elements::STRING => {
            let (text, rest) = prefixed(rest, 4)?;
            let (end, text) = text.split_last()?;
            (*end == 0).then_some(())?;
            (RawBsonRef::String(str::from_utf8(text).ok()?), rest)
        }
        elements::DOCUMENT => {
            let (document, rest) = prefixed(rest, 0)?;
            let document = RawDocument::from_bytes(document).ok()?;
            (RawBsonRef::Document(document), rest)
        }
        elements::INT32 => {
            let (value, rest) = rest.split_first_chunk()?;
            (RawBsonRef::Int32(i32::from_le_bytes(*value)), rest)
        }
        elements::INT64 => {
            let (value, rest) = rest.split_first_chunk()?;
            (RawBsonRef::Int64(i64::from_le_bytes(*value)), rest)
        }
        elements::DOUBLE => {
            let (value, rest) = rest.split_first_chunk()?;
            (RawBsonRef::Double(f64::from_le_bytes(*value)), rest)
        }
        elements::DATE_TIME => {
            let (value, rest) = rest.split_first_chunk()?;
            let date = DateTime::from_millis(i64::from_le_bytes(*value));
            (RawBsonRef::DateTime(date), rest)
        }
        elements::TIMESTAMP => {
            let (increment, rest) = rest.split_first_chunk()?;
            let (time, rest) = rest.split_first_chunk()?;
            let timestamp = Timestamp {
                time: u32::from_le_bytes(*time),
                increment: u32::from_le_bytes(*increment),
            };
            (RawBsonRef::Timestamp(timestamp), rest)
        }
        elements::OBJECT_ID => {
            let (value, rest) = rest.split_first_chunk()?;
            (RawBsonRef::ObjectId(ObjectId::from_bytes(*value)), rest)
        }
        elements::NULL => (RawBsonRef::Null, rest),
        elements::BOOLEAN => match rest.split_first()? {
            (0, rest) => (RawBsonRef::Boolean(false), rest),
            (1, rest) => (RawBsonRef::Boolean(true), rest),
            _ => return None,
        },
        _ => return None,
    };
    Some((key, value, rest.len()))
}

/// A value with its length in front; the first `uncounted` bytes are neither counted in that
/// length nor part of the value.
#[inline]
fn prefixed(rest: &[u8], uncounted: usize) -> Option<(&[u8], &[u8])> {
    let length = i32::from_le_bytes(*rest.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    rest.get(uncounted..)?.split_at_checked(length)
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Fields({:?} of {} bytes)",
            self.walk,
            self.document.as_bytes().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, RawDocumentBuf, doc, rawdoc};
    use proptest::prelude::*;

    use super::*;

    fn agree_with_bson(bytes: &[u8]) -> Result<(), TestCaseError> {
        let Ok(document) = RawDocument::from_bytes(bytes) else {
            return Ok(());
        };
        let fields: Vec<_> = Fields::of(document).collect();
        let expected = document.iter();
        let mut expected: Vec<_> = expected
            .map(|field| field.map(|(key, value)| (key.as_str(), value)))
            .collect();
        if let Some(error) = expected.iter().position(Result::is_err) {
            expected.truncate(error + 1);
        }
        prop_assert_eq!(fields.len(), expected.len(), "{:?} {:?}", fields, expected);
        for (field, expected) in fields.iter().zip(&expected) {
            prop_assert_eq!(format!("{field:?}"), format!("{expected:?}"));
        }
        Ok(())
    }

    fn value() -> impl Strategy<Value = Bson> {
        prop_oneof![
            any::<i32>().prop_map(Bson::from),
            any::<i64>().prop_map(Bson::from),
            any::<f64>().prop_map(Bson::from),
            any::<bool>().prop_map(Bson::from),
            any::<String>().prop_map(Bson::from),
            Just(Bson::Null),
            Just(Bson::MinKey),
            any::<i64>().prop_map(|millis| Bson::from(DateTime::from_millis(millis))),
            any::<(u32, u32)>().prop_map(|(time, increment)| Timestamp { time, increment }.into()),
            any::<[u8; 12]>().prop_map(|bytes| ObjectId::from_bytes(bytes).into()),
            any::<Vec<i32>>()
                .prop_map(|items| Bson::Array(items.into_iter().map(Bson::from).collect())),
            any::<String>().prop_map(|text| Bson::Document(doc! { "text": text })),
        ]
    }

    fn document() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(("[a-z]{0,20}", value()), 0..12).prop_map(|fields| {
            let document: bson::Document = fields.into_iter().collect();
            let raw = RawDocumentBuf::try_from(&document).expect("keys without zeros");
            raw.into_bytes()
        })
    }

    proptest! {
        #[test]
        fn fields_are_those_that_bson_reads(bytes in document()) {
            agree_with_bson(&bytes)?;
        }

        #[test]
        fn broken_documents_fail_where_bson_says_so(
            mut bytes in document(), changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4)
        ) {
            let inner = 4..bytes.len() - 1;
            for (at, byte) in changes {
                if !inner.is_empty() {
                    bytes[inner.start + at.index(inner.len())] = byte;
                }
            }
            agree_with_bson(&bytes)?;
        }
    }

    #[test]
    fn fields_of_rarer_types_cost_one_walk_however_many_there_are() {
        // Of 100,000 fields, each read by a walk of its own, nobody would see the end.
        let mut document = RawDocumentBuf::new();
        for _ in 0..100_000 {
            document.append(bson::cstr!("m"), bson::RawBson::MinKey);
        }
        let fields =
            Fields::of(&document).filter(|field| matches!(field, Ok(("m", RawBsonRef::MinKey))));
        assert_eq!(fields.count(), 100_000);
    }

    #[test]
    fn a_field_is_found_by_its_key_whatever_its_type() {
        let document = rawdoc! { "a": 1, "b": [1, 2], "c": { "d": "e" }, "a": 2 };
        assert_eq!(Fields::find(&document, "a"), Some(RawBsonRef::Int32(1)));
        assert!(matches!(
            Fields::find(&document, "b"),
            Some(RawBsonRef::Array(_))
        ));
        assert!(matches!(
            Fields::find(&document, "c"),
            Some(RawBsonRef::Document(_))
        ));
        assert_eq!(Fields::find(&document, "d"), None);
    }
}
