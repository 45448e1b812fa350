//! Whatever is read here, the `bson` crate reads the same.

use std::{collections::BTreeMap, fmt::Debug};

use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, RawBson, RawDocumentBuf,
    Regex, Timestamp, Uuid, cstr, doc,
    oid::ObjectId,
    raw::{RawArray, RawArrayBuf},
    serde_helpers::HumanReadable,
};
use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Types that ask for their parts in all the ways there are.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "its debug form is compared")]
struct Mixed<'a> {
    #[serde(borrow)]
    text: Option<&'a str>,
    number: Option<i64>,
    ratio: Option<f32>,
    is: Option<bool>,
    id: Option<ObjectId>,
    at: Option<DateTime>,
    time: Option<Timestamp>,
    exact: Option<Decimal128>,
    uuid: Option<Uuid>,
    bytes: Option<Binary>,
    any: Option<Bson>,
    raw: Option<RawBson>,
    #[serde(borrow)]
    lent: Option<&'a RawDocument>,
    list: Option<Vec<i32>>,
    pair: Option<(i32, String)>,
    choice: Option<Choice>,
    either: Option<Either>,
    #[serde(flatten)]
    rest: BTreeMap<String, Bson>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "its debug form is compared")]
enum Choice {
    Unit,
    New(i32),
    Tuple(i32, i32),
    Struct { a: i32 },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "its debug form is compared")]
enum Either {
    Id(ObjectId),
    Number(i32),
    Text { text: String },
}

const KEYS: [&str; 18] = [
    "text", "number", "ratio", "is", "id", "at", "time", "exact", "uuid", "bytes", "any", "raw",
    "lent", "list", "pair", "choice", "either", "other",
];

fn same<'a, T: Deserialize<'a> + Debug>(bytes: &'a [u8]) -> Result<(), TestCaseError> {
    let Ok(document) = RawDocument::from_bytes(bytes) else {
        return Ok(());
    };
    let found = from_document::<T>(document).map_err(|error| error.to_string());
    let expected = bson::deserialize_from_slice::<T>(bytes).map_err(|error| error.to_string());
    prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    Ok(())
}

fn same_in_all_types(bytes: &[u8]) -> Result<(), TestCaseError> {
    same::<Document>(bytes)?;
    same::<Mixed<'_>>(bytes)?;
    same::<BTreeMap<String, RawBson>>(bytes)?;
    same::<BTreeMap<&str, Option<Either>>>(bytes)?;
    same::<BTreeMap<String, Choice>>(bytes)?;
    same::<BTreeMap<String, IgnoredAny>>(bytes)?;
    same::<BTreeMap<String, HumanReadable<Bson>>>(bytes)?;
    same::<BTreeMap<String, &RawArray>>(bytes)?;
    same::<BTreeMap<String, RawArrayBuf>>(bytes)?;
    same::<BTreeMap<String, RawDocumentBuf>>(bytes)?;
    same::<BTreeMap<String, &[u8]>>(bytes)?;
    same::<BTreeMap<String, Option<i16>>>(bytes)?;
    same::<BTreeMap<String, Option<char>>>(bytes)?;
    same::<Choice>(bytes)?;
    same::<Option<Document>>(bytes)?;
    same::<&RawDocument>(bytes)?;
    same::<RawBson>(bytes)?;
    same::<i32>(bytes)
}

fn scalar() -> impl Strategy<Value = Bson> {
    let regex = || Regex {
        pattern: cstr!("a.*").into(),
        options: cstr!("i").into(),
    };
    prop_oneof![
        any::<i32>().prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        (0_i64..300).prop_map(Bson::from),
        any::<f64>().prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        "[a-zé]{0,12}".prop_map(Bson::from),
        Just(Bson::from("Unit")),
        Just(Bson::Null),
        Just(Bson::Undefined),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::RegularExpression(regex())),
        any::<i64>().prop_map(|millis| Bson::from(DateTime::from_millis(millis))),
        any::<(u32, u32)>().prop_map(|(time, increment)| Timestamp { time, increment }.into()),
        any::<[u8; 12]>().prop_map(|bytes| ObjectId::from_bytes(bytes).into()),
        any::<[u8; 16]>().prop_map(|bytes| Uuid::from_bytes(bytes).into()),
        any::<[u8; 16]>().prop_map(|bytes| Decimal128::from_bytes(bytes).into()),
        any::<Vec<u8>>().prop_map(|bytes| {
            let subtype = BinarySubtype::Generic;
            Bson::Binary(Binary { subtype, bytes })
        }),
        "[a-z]{0,5}".prop_map(Bson::Symbol),
        "[a-z]{0,5}".prop_map(Bson::JavaScriptCode),
        "[a-z]{0,5}".prop_map(|code| {
            let scope = doc! { "x": 1 };
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
        }),
    ]
}

fn value() -> impl Strategy<Value = Bson> {
    let keys = prop::sample::select(vec!["New", "Tuple", "Struct", "text", "a", "$oid", "t"]);
    scalar().prop_recursive(3, 12, 4, move |inner| {
        let field = (keys.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Bson::Array),
            prop::collection::vec(0_i32..9, 0..4)
                .prop_map(|items| Bson::Array(items.into_iter().map(Bson::from).collect())),
            prop::collection::vec(field, 0..4).prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Bson::Document(fields.collect())
            }),
        ]
    })
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    let field = (prop::sample::select(KEYS.to_vec()), value());
    prop::collection::vec(field, 0..5).prop_map(|fields| {
        let fields = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let document: Document = fields.collect();
        RawDocumentBuf::try_from(&document).unwrap().into_bytes()
    })
}

proptest! {
    #[test]
    fn documents_are_read_as_bson_reads_them(bytes in document()) {
        same_in_all_types(&bytes)?;
    }

    #[test]
    fn broken_documents_fail_as_bson_says(
        mut bytes in document(), changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4)
    ) {
        let inner = 4..bytes.len() - 1;
        for (at, byte) in changes {
            if !inner.is_empty() {
                bytes[inner.start + at.index(inner.len())] = byte;
            }
        }
        same_in_all_types(&bytes)?;
    }
}

#[test]
fn each_type_is_read_where_it_belongs() {
    let document = doc! {
        "text": "a", "number": 5, "ratio": 0.5, "is": true, "id": ObjectId::from_bytes([1; 12]),
        "at": DateTime::from_millis(7), "time": Timestamp { time: 1, increment: 2 },
        "any": { "x": [1, "y"] }, "raw": 9, "lent": { "z": 1 }, "list": [1, 2], "pair": [3, "b"],
        "choice": { "Struct": { "a": 4 } }, "either": ObjectId::from_bytes([2; 12]), "more": 6,
    };
    let bytes = RawDocumentBuf::try_from(&document).unwrap().into_bytes();
    let mixed: Mixed<'_> = from_document(RawDocument::from_bytes(&bytes).unwrap()).unwrap();
    assert_eq!((mixed.text, mixed.number), (Some("a"), Some(5)));
    assert!(matches!(mixed.choice, Some(Choice::Struct { a: 4 })));
    assert!(matches!(mixed.either, Some(Either::Id(_))));
    assert_eq!(mixed.rest["more"], Bson::from(6));
    same_in_all_types(&bytes).unwrap();
}

/// A document in a document in a document, or an array in an array.
fn nested(levels: usize, kind: u8) -> Vec<u8> {
    let mut bytes = vec![5, 0, 0, 0, 0];
    for _ in 1..levels {
        let len = u32::try_from(bytes.len() + 8).unwrap().to_le_bytes();
        bytes = [&len[..], &[kind, b'0', 0], &bytes, &[0]].concat();
    }
    let len = u32::try_from(bytes.len() + 8).unwrap().to_le_bytes();
    [&len[..], &[kind, b'a', 0], &bytes, &[0]].concat()
}

#[test]
fn what_lies_too_deep_is_an_error_and_no_overflow_of_the_stack() {
    // Without optimisation 200 levels of the `bson` crate's visitor take some 2 MiB.
    let thread = std::thread::Builder::new().stack_size(8 << 20);
    let read = thread.spawn(read_documents_of_many_levels).unwrap();
    read.join().unwrap();
}

fn read_documents_of_many_levels() {
    for kind in [0x03, 0x04] {
        let deep = nested(usize::from(MAX_DEPTH) - 1, kind);
        let deep = RawDocument::from_bytes(&deep).unwrap();
        from_document::<Document>(deep).unwrap();
        for levels in [usize::from(MAX_DEPTH), 20_000] {
            let deeper = nested(levels, kind);
            let deeper = RawDocument::from_bytes(&deeper).unwrap();
            let error = from_document::<Document>(deeper).unwrap_err().to_string();
            assert!(error.contains("more than 200 levels deep"), "{error}");
        }
    }
}
