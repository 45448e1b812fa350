use bson::raw::RawBsonRef;
use bson::{Bson, doc, rawdoc};
use proptest::prelude::*;

use super::*;
use crate::elements::Fault;
use crate::error::Defect;

/// As far as the `bson` crate can read a document, the elements say the same.
fn agree_with_bson(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(document) = RawDocument::from_bytes(bytes) else {
        return Ok(());
    };
    let mut elements = Elements::of(document);
    for field in document {
        let Ok((key, value)) = field else {
            return Ok(());
        };
        let element = match elements.next() {
            Some(Ok(element)) => element,
            // There the `bson` crate takes the zero that closes the document.
            Some(Err(Fault {
                defect: Defect::Unterminated { .. } | Defect::Truncated { left: 0, .. },
                ..
            })) => return Ok(()),
            other => {
                let message = format!("{other:?} where bson reads {key}: {value:?}");
                return Err(TestCaseError::fail(message));
            }
        };
        prop_assert_eq!(element.key(), key.as_str().as_bytes());
        prop_assert_eq!(element.element_type(), value.element_type());
        prop_assert_eq!(element.is_null(), value == RawBsonRef::Null);
        prop_assert_eq!(element.as_str(), value.as_str());
        prop_assert_eq!(element.as_i32(), value.as_i32());
        prop_assert_eq!(element.as_i64(), value.as_i64());
        let bits = |number: Option<f64>| number.map(f64::to_bits);
        prop_assert_eq!(bits(element.as_f64()), bits(value.as_f64()));
        prop_assert_eq!(element.as_bool(), value.as_bool());
        prop_assert_eq!(element.as_datetime(), value.as_datetime());
        prop_assert_eq!(element.as_timestamp(), value.as_timestamp());
        prop_assert_eq!(element.as_object_id(), value.as_object_id());
        prop_assert_eq!(element.as_document(), value.as_document());
        let binary = value
            .as_binary()
            .map(|binary| (binary.subtype, binary.bytes));
        prop_assert_eq!(element.as_binary(), binary);
        let array = value.as_array().map(|items| items.as_bytes());
        prop_assert_eq!(element.as_array().map(RawDocument::as_bytes), array);
        let scope = value.as_javascript_with_scope().map(|code| code.scope);
        prop_assert_eq!(element.as_scope(), scope);
        let copy = element.to_raw_bson().map(|copy| format!("{copy:?}"));
        prop_assert_eq!(copy.ok(), Some(format!("{:?}", RawBson::from(value))));
    }
    prop_assert!(elements.next().is_none());
    Ok(())
}

fn value() -> impl Strategy<Value = Bson> {
    let code = |code: String| bson::JavaScriptCodeWithScope {
        code,
        scope: doc! { "x": 1 },
    };
    prop_oneof![
        any::<i32>().prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        any::<f64>().prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        any::<String>().prop_map(Bson::from),
        any::<String>().prop_map(move |text| Bson::JavaScriptCodeWithScope(code(text))),
        Just(Bson::Null),
        Just(Bson::MinKey),
        any::<i64>().prop_map(|millis| Bson::from(DateTime::from_millis(millis))),
        any::<(u32, u32)>().prop_map(|(time, increment)| Timestamp { time, increment }.into()),
        any::<[u8; 12]>().prop_map(|bytes| ObjectId::from_bytes(bytes).into()),
        any::<[u8; 16]>().prop_map(|bytes| bson::Uuid::from_bytes(bytes).into()),
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
    fn values_are_those_that_bson_reads(bytes in document()) {
        agree_with_bson(&bytes)?;
    }

    #[test]
    fn broken_documents_are_read_as_far_as_bson_reads_them(
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
fn an_element_is_found_by_its_key_whatever_its_type() {
    let document = rawdoc! { "a": 1, "b": [1, 2], "c": { "d": "e" }, "a": 2 };
    let found = |key| Elements::find(&document, key);
    assert_eq!(found("a").and_then(|first| first.as_i32()), Some(1));
    assert!(found("b").is_some_and(|array| array.as_array().is_some()));
    assert!(found("c").is_some_and(|inner| inner.as_document().is_some()));
    assert!(found("d").is_none());
}
